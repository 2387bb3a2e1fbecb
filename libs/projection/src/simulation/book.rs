//! What a partition says, read plainly and apart from the code under test: the design's rules once
//! more, one record after the other.

use std::collections::BTreeSet;

use runledger_domain::digest::{self, Digest};
use runledger_domain::log::Kind;
use uuid::Uuid;

use crate::cursor::Cursor;

/// A record's identity in its partition: its key, and its id.
pub(super) type Identity = (Vec<u8>, Uuid);

/// A partition as far as it goes.
#[derive(Clone, Default)]
pub(super) struct Book {
    pub(super) lines: Vec<Line>,
}

/// One record, and what the partition has come to with it.
#[derive(Clone)]
pub(super) struct Line {
    /// `None`: read and left out.
    pub(super) applies: Option<Identity>,
    digest: Digest,
    rolling_hash: Digest,
    chain_head: Digest,
    voids_in_a_row: u32,
}

/// What is to be written down.
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) prev: Option<Digest>,
    pub(super) id: Uuid,
}

impl Book {
    /// Writes the next record down. Whether it is a void decision.
    pub(super) fn write(&mut self, entry: &Entry<'_>) -> bool {
        let last = self.lines.last();
        let digest = digest::of_parts(&[entry.key, entry.value]);
        let rolled = last.map_or([0; 32], |last| last.rolling_hash);
        let head = last.map_or_else(|| digest::of(entry.value), |last| last.chain_head);
        let voids = last.map_or(0, |last| last.voids_in_a_row);
        let in_force = entry.kind == Kind::Decision && entry.prev == Some(head);
        let void = entry.kind == Kind::Decision && !in_force;
        let applies = entry.kind == Kind::Fact || in_force;
        self.lines.push(Line {
            applies: applies.then(|| (entry.key.to_vec(), entry.id)),
            digest,
            rolling_hash: digest::of_parts(&[&rolled, &digest]),
            chain_head: if in_force {
                link(&head, entry.key, entry.value)
            } else {
                head
            },
            voids_in_a_row: match (void, in_force) {
                (true, _) => voids + 1,
                (_, true) => 0,
                _ => voids,
            },
        });
        void
    }

    pub(super) fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    pub(super) fn chain_head(&self) -> Option<Digest> {
        self.lines.last().map(|line| line.chain_head)
    }

    /// What is wrong with a cursor.
    pub(super) fn fault(&self, cursor: &Cursor) -> Option<String> {
        let next = cursor.next_offset;
        let told = |what: &str| Some(format!("{}: at {next}: {what}", cursor.partition));
        if cursor.record_count != next {
            return told(&format!("{} records are counted", cursor.record_count));
        }
        let Some(line) = next.checked_sub(1) else {
            let is_new = *cursor == Cursor::new(cursor.partition);
            return if is_new { None } else { told("not new") };
        };
        let Some(line) = self.lines.get(line as usize) else {
            return told("the log is not that long");
        };
        if cursor.rolling_hash != line.rolling_hash || cursor.last_digest != Some(line.digest) {
            return told("other records were read than the log holds");
        }
        if cursor.chain_head != Some(line.chain_head)
            || cursor.voids_in_a_row != line.voids_in_a_row
        {
            return told("the chain of decisions is another");
        }
        None
    }

    /// Offsets of the records that are in force, each identity once.
    pub(super) fn rows(&self) -> Vec<u64> {
        let mut kept = BTreeSet::new();
        let lines = (0..).zip(&self.lines);
        let first = lines.filter_map(|(offset, line)| Some((offset, line.applies.as_ref()?)));
        first
            .filter_map(|(offset, identity)| kept.insert(identity).then_some(offset))
            .collect()
    }
}

/// Design, section 5: SHA-256(`prev` ‖ length of key ‖ key ‖ value as stored).
fn link(prev: &Digest, key: &[u8], value: &[u8]) -> Digest {
    let mut bytes = prev.to_vec();
    bytes.extend((key.len() as u64).to_be_bytes());
    bytes.extend(key);
    bytes.extend(value);
    digest::of(&bytes)
}
