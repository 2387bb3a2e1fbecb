use std::collections::BTreeMap;

use runledger_domain::log::{Kind, Partition};
use runledger_domain::time::Timestamp;
use runledger_eventlog::Stored;
use tracing::Span;

use super::attendant::Seen;
use super::worker::Owned;
use super::{Error, Goal};
use crate::apply::Applied;
use crate::cursor::{Cursor, Verdict, decision_hash};
use crate::item::Item;
use crate::trace;

/// Records read in one go, and what they make of the cursors.
pub(crate) struct Batch {
    /// Cursors of the partitions touched, as they stand in the database; sorted.
    pub(crate) before: Vec<Cursor>,
    /// The same, as they will stand.
    pub(crate) after: Vec<Cursor>,
    pub(crate) items: Vec<Item>,
    /// How many records were read, those left out included.
    pub(super) records: usize,
    /// Of all of them, void decisions included; empty unless commands are read.
    pub(super) seen: Vec<Seen>,
    /// W3C `traceparent`s of sampled records, with their index in `items`.
    traces: Vec<(usize, Box<str>)>,
}

impl Batch {
    /// Judges and decodes `records`. `None` when there is nothing to commit. The owned cursors stay
    /// as they are: they move when the batch is committed. What lies behind `goal` is let fall.
    pub(super) fn read(
        owned: &mut BTreeMap<Partition, Owned>,
        goal: Option<&Goal>,
        with_commands: bool,
        records: Vec<Stored>,
    ) -> Result<Option<Self>, Error> {
        let mut after: BTreeMap<Partition, Cursor> = BTreeMap::new();
        let mut batch = Self {
            before: Vec::new(),
            after: Vec::new(),
            items: Vec::new(),
            records: 0,
            seen: Vec::new(),
            traces: Vec::new(),
        };
        for stored in records {
            let Some(owned) = owned.get_mut(&stored.position.partition) else {
                continue; // revoked while it was queued
            };
            if !owned.recognised {
                owned.cursor.recognise(&stored)?;
                owned.recognised = true;
                continue;
            }
            let end = goal.and_then(|goal| goal.get(&stored.position.partition));
            if end.is_some_and(|end| stored.position.offset >= *end) {
                continue;
            }
            let cursor = after
                .entry(stored.position.partition)
                .or_insert_with(|| owned.cursor.clone());
            batch.records += 1;
            let applies = cursor.advance(&stored)? == Verdict::Applies;
            let seen = with_commands
                .then(|| see(&stored, applies, cursor))
                .flatten();
            batch.seen.extend(seen);
            if applies || seen.is_some_and(|seen| seen.kind == Kind::Command) {
                batch.push(&stored, owned);
            }
        }
        batch.after = after.into_values().collect();
        batch.before = batch
            .after
            .iter()
            .filter_map(|cursor| Some(owned.get(&cursor.partition)?.cursor.clone()))
            .collect();
        Ok((!batch.after.is_empty()).then_some(batch))
    }

    fn push(&mut self, stored: &Stored, owned: &Owned) {
        let Some(mut item) = Item::read(stored, owned.partitions) else {
            return;
        };
        item.left_out = owned.left_out.contains(&stored.position.offset);
        let headers = stored.headers.as_ref().ok();
        let trace = headers.and_then(|headers| headers.trace.as_ref());
        if let Some(trace) = trace.filter(|trace| trace::is_sampled(trace)) {
            self.traces.push((self.items.len(), trace.clone()));
        }
        self.items.push(item);
    }

    /// Whether a fact of it tells `projection` to leave a record out.
    pub(super) fn has_orders(&self, projection: &str) -> bool {
        self.items.iter().any(|item| item.orders(projection))
    }

    /// Continues the trace of each record that has one, as a span of its own with a link to the batch.
    pub(super) fn trace(&self, span: &Span) {
        for (index, trace) in &self.traces {
            let item = self.items.get(*index);
            if let Some(applied) = item.and_then(|item| item.applied.as_ref()) {
                trace::continue_in(trace, span, applied);
            }
        }
    }

    /// When the oldest record of it was appended.
    pub(super) fn oldest_recorded_at(&self) -> Option<Timestamp> {
        let recorded_at = |applied: &Applied| applied.record.recorded_at;
        self.items
            .iter()
            .filter_map(|item| item.applied.as_ref().map(recorded_at).or(item.recorded_at))
            .min()
    }

    pub(super) fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.before
            .retain(|cursor| !partitions.contains(&cursor.partition));
        self.after
            .retain(|cursor| !partitions.contains(&cursor.partition));
        self.items
            .retain(|item| !partitions.contains(&item.position.partition));
        self.seen
            .retain(|seen| !partitions.contains(&seen.position.partition));
    }

    /// For an error: which records were tried.
    pub(super) fn range(&self) -> String {
        let ranges: Vec<String> = self
            .before
            .iter()
            .zip(&self.after)
            .map(|(before, after)| {
                format!(
                    "{} {}..{}",
                    after.partition, before.next_offset, after.next_offset
                )
            })
            .collect();
        ranges.join(", ")
    }
}

/// What an attendant is told of a record. `after`: the cursor that has read it.
fn see(stored: &Stored, applies: bool, after: &Cursor) -> Option<Seen> {
    let headers = stored.headers.as_ref().ok()?;
    let decision = match headers.kind {
        Kind::Genesis => return None,
        Kind::Fact | Kind::Command => None,
        Kind::Decision if applies => after.chain_head.map(|hash| (hash, true)),
        Kind::Decision => headers
            .prev
            .map(|prev| (decision_hash(&prev, &stored.key, &stored.value), false)),
    };
    Some(Seen {
        position: stored.position,
        kind: headers.kind,
        decision,
    })
}
