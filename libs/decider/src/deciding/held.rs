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

use crate::judging::{Desk, Work};
use crate::rounds::{Read, Rounds};
use crate::rules::Rules;
use crate::states::StreamId;

/// A moment of the log further ahead than this of the clock is no moment to judge time by.
const AHEAD_MAX: TimeDelta = TimeDelta::seconds(2);

/// What lies below an offset may fell whoever decides it, as it may have felled the one before. It is begun
/// with one alone; each round that is survived lets the next take twice as many. So whatever it was
/// is alone after a few more ends, and a backlog of innocents is not decided one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wary {
    pub(super) until: u64,
    /// Most commands, and most facts, of the next round.
    pub(super) most: usize,
}

impl Wary {
    pub(super) fn until(offset: u64) -> Self {
        Self {
            until: offset,
            most: 1,
        }
    }
}

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
    /// It was left without a word.
    pub(super) wary: Option<Wary>,
    /// Whether facts are owed decisions too.
    answers_facts: bool,
}

impl Held {
    pub(super) fn new(cursor: Cursor, answers_facts: bool) -> Self {
        Self {
            cursor,
            answers_facts,
            rounds: None,
            undecided_from: Some(0),
            last: None,
            sent_at: None,
            opened: false,
            wary: None,
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
        let is_owed = match seen.kind {
            Kind::Command => true,
            Kind::Fact => self.answers_facts,
            Kind::Decision | Kind::Genesis => false,
        };
        if is_owed {
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

    /// From where on anything may be undecided. Facts that were suspended come back without a record
    /// that says so: redriven, or behind one that was skipped. They are looked for now and then.
    pub(super) fn from(&self, now_and_then: bool) -> Option<u64> {
        if now_and_then && self.answers_facts {
            return Some(0);
        }
        self.undecided_from
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

    /// Whether what was taken, the first of it at an offset, may have felled another. Not any more, once
    /// that is behind. `looked`: `None` for the first says that there is nothing.
    pub(super) fn is_wary(&mut self, looked: bool, first: Option<u64>) -> bool {
        let Some(wary) = self.wary else {
            return false;
        };
        let is_before = first.is_some_and(|first| first < wary.until);
        if looked && !is_before {
            self.wary = None;
        }
        self.wary.is_some()
    }

    /// A round was survived: the next one takes twice as many.
    pub(super) fn dare(&mut self) {
        if let Some(wary) = &mut self.wary {
            wary.most = wary.most.saturating_mul(2);
        }
    }

    /// All that was there was taken, unless there is more than one round takes.
    pub(super) fn note_undecided(&mut self, work: &Work, is_cut: bool) {
        self.undecided_from = work.first_offset().filter(|_| is_cut);
    }

    pub(super) fn sent(&mut self, hashes: Vec<Digest>, at: Timestamp) {
        if let Some(rounds) = &mut self.rounds {
            rounds.sent(hashes);
        }
        self.sent_at = Some(Instant::now());
        self.last = self.last.map(|(last, version)| (last.max(at), version));
    }
}

#[cfg(test)]
mod tests {
    use runledger_domain::ids::Incarnation;
    use runledger_domain::log::{Family, Partition, Position};

    use super::*;

    fn held(answers_facts: bool) -> Held {
        let partition = Partition {
            family: Family::Billing,
            number: 0,
        };
        Held::new(Cursor::new(partition), answers_facts)
    }

    fn seen(kind: Kind, offset: u64) -> Seen {
        Seen {
            position: Position {
                partition: Partition {
                    family: Family::Billing,
                    number: 0,
                },
                incarnation: Incarnation::new(uuid::Uuid::from_u128(9)),
                offset,
            },
            kind,
            decision: None,
        }
    }

    #[test]
    fn what_was_suspended_is_looked_for_now_and_then() {
        let mut held = held(true);
        // All was taken, and what is suspended was left; then something came that says nothing of it.
        held.note_undecided(&Work::default(), false);
        assert_eq!((held.from(false), held.from(true)), (None, Some(0)));
        held.saw(&seen(Kind::Fact, 20));
        assert_eq!((held.from(false), held.from(true)), (Some(20), Some(0)));
    }

    #[test]
    fn who_is_wary_begins_with_one_and_dares_more_until_all_of_it_is_behind() {
        let mut held = held(true);
        held.wary = Some(Wary::until(100));
        for most in [1, 2, 4] {
            assert_eq!(held.wary, Some(Wary { until: 100, most }));
            assert!(held.is_wary(true, Some(99)));
            held.dare();
        }
        assert!(held.is_wary(false, None), "nobody looked");
        assert!(!held.is_wary(true, Some(100)));
        assert_eq!(held.wary, None);
    }

    #[test]
    fn a_fact_wakes_only_those_who_answer_facts() {
        for (answers, kind, from) in [
            (true, Kind::Fact, Some(7)),
            (false, Kind::Fact, None),
            (false, Kind::Command, Some(7)),
        ] {
            let mut held = held(answers);
            held.note_undecided(&Work::default(), false);
            held.saw(&seen(kind, 7));
            assert_eq!(held.from(false), from);
        }
        assert_eq!(
            held(false).from(true),
            Some(0),
            "at first everything may be undecided"
        );
    }
}
