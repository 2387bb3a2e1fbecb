//! One partition to decide in: what was read of it, what is out, and what may be undecided.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use metrics::{counter, histogram};
use runledger_domain::digest::Digest;
use runledger_domain::log::Kind;
use runledger_domain::time::Timestamp;
use runledger_projection::{Cursor, Seen};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::reading::Ready;
use crate::judging::{Desk, Undecided};
use crate::rounds::{Read, Rounds};
use crate::rules::Rules;
use crate::states::StreamId;

/// A moment of the log further ahead than this of the clock is no moment to judge time by.
const AHEAD_MAX: TimeDelta = TimeDelta::seconds(2);

/// A partition to decide in.
pub(super) struct Held {
    pub(super) cursor: Cursor,
    /// `None`: it is not known yet how far it has to be read.
    pub(super) rounds: Option<Rounds>,
    /// Whether commands may be undecided, and from which offset on.
    pub(super) undecided_from: Option<u64>,
    /// The moment of the last decision in force, and the highest version of rules. `None`: to be read.
    pub(super) last: Option<(Timestamp, u32)>,
    /// When the round that is out was sent.
    pub(super) sent_at: Option<Instant>,
    /// Whether it is said to be decided here.
    pub(super) opened: bool,
    /// It was left without a word: commands below this offset are decided one by one.
    pub(super) wary_until: Option<u64>,
}

impl Held {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            rounds: None,
            undecided_from: Some(0),
            last: None,
            sent_at: None,
            opened: false,
            wary_until: None,
        }
    }

    pub(super) fn committed(&mut self, cursor: &Cursor, seen: &[Seen]) {
        let ours = seen
            .iter()
            .filter(|seen| seen.position.partition == cursor.partition);
        for seen in ours {
            self.saw(seen);
        }
        // What was no command and no decision is read as well.
        if let (Some(rounds), Some(last)) = (&mut self.rounds, cursor.next_offset.checked_sub(1)) {
            rounds.read(last, None);
        }
        self.cursor.clone_from(cursor);
    }

    pub(super) fn saw(&mut self, seen: &Seen) {
        if seen.kind == Kind::Command {
            self.undecided_from.get_or_insert(seen.position.offset);
        }
        let Some(rounds) = &mut self.rounds else {
            return;
        };
        let out = rounds.outstanding();
        match rounds.read(seen.position.offset, seen.decision) {
            Read::Confirmed if rounds.outstanding() == 0 => {
                if let Some(sent_at) = self.sent_at.take() {
                    histogram!("runledger_decider_read_back_seconds").record(sent_at.elapsed());
                }
            }
            Read::Confirmed => {}
            // Somebody else decides here, or did: his moments and his rules count too.
            Read::Nothing => {
                if seen.decision.is_some_and(|(_, in_force)| in_force) {
                    self.last = None;
                }
            }
            Read::Dropped => {
                info!(partition = %self.cursor.partition, offset = seen.position.offset, decisions = out, "another's decision came first; the round is dropped");
                counter!("runledger_decider_rounds_dropped_total", "why" => "foreign").increment(1);
                self.drop_round();
            }
        }
    }

    /// What was sent may be in the log or come to be: read to the end first.
    pub(super) fn drop_round(&mut self) {
        self.rounds = None;
        self.sent_at = None;
        self.last = None;
        self.undecided_from = Some(0);
    }

    /// `None`: nothing may be decided here now.
    pub(super) fn desk<'a, R: Rules>(
        &self,
        rules: &R,
        at: Timestamp,
        now: Timestamp,
        suspended: &'a BTreeMap<StreamId, i64>,
    ) -> Option<Desk<'a>> {
        let (last_at, rules_version) = self.last?;
        if rules_version > rules.version() {
            warn!(partition = %self.cursor.partition, rules_version, "a later version decides here; this one only reads");
            return None;
        }
        if last_at - at > AHEAD_MAX {
            error!(partition = %self.cursor.partition, %last_at, %at, "the last decision is ahead of the database's clock; nothing is decided before the clock is there");
            return None;
        }
        Some(Desk {
            partition: self.cursor.partition,
            read_to: self.cursor.next_offset,
            head: self.rounds.as_ref()?.head(),
            at: at.max(last_at),
            now,
            suspended,
        })
    }

    /// Whether what was taken may have felled another. Not any more, once that is behind.
    pub(super) fn is_wary(&mut self, ready: &Ready, commands: &[Undecided]) -> bool {
        let Some(until) = self.wary_until else {
            return false;
        };
        let is_before = |one: &Undecided| one.position.offset < until;
        if ready.from.is_some() && !commands.iter().any(is_before) {
            self.wary_until = None;
        }
        self.wary_until.is_some()
    }

    /// All that was there was taken, unless it was as much as one round takes.
    pub(super) fn note_undecided(&mut self, most: usize, commands: &[Undecided]) {
        let first = commands.first().map(|command| command.position.offset);
        self.undecided_from = first.filter(|_| commands.len() >= most);
    }

    pub(super) fn sent(&mut self, hashes: Vec<Digest>, at: Timestamp) {
        if let Some(rounds) = &mut self.rounds {
            rounds.sent(hashes);
        }
        self.sent_at = Some(Instant::now());
        self.last = self.last.map(|(last, version)| (last.max(at), version));
    }
}
