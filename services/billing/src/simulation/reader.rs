//! A reader: folds decisions in force, and notes what waits for one.

use std::collections::{BTreeMap, BTreeSet};

use runledger_decider::Rules as _;
use runledger_domain::Fact;
use runledger_domain::credit::{Account, Change, Fate, Transaction};
use runledger_domain::digest::Digest;
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Kind, Record, Stream};
use runledger_domain::time::Timestamp;
use runledger_projection::{Cursor, Diverged, Verdict, decision_hash};
use runledger_proto::{decode, types};

use super::Without;
use super::log::{Log, PARTITION};
use crate::rules::{Decision, Held, Rules};

/// One account and its holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) account: Account,
    pub(super) fates: BTreeMap<String, Option<Fate>>,
}

impl Books {
    /// Whether the decision fits.
    pub(super) fn evolve(&mut self, rules: &Rules, decision: &Decision, at: Timestamp) -> bool {
        let mut held = Held::Account(Box::new(std::mem::take(&mut self.account)));
        let part = rules.part_of_decision(decision).map(str::to_owned);
        let mut none = None;
        let fate = match part {
            Some(part) => self.fates.entry(part).or_default(),
            None => &mut none,
        };
        let fits = rules.evolve(&mut held, fate, decision, at);
        if let Held::Account(account) = held {
            self.account = *account;
        }
        fits
    }
}

/// What no decision in force answers yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) record: Record,
    /// `None`: a command.
    pub(super) usage: Option<Fact>,
}

#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) cursor: Cursor,
    pub(super) books: BTreeMap<Stream, Books>,
    /// By offset.
    pub(super) waiting: BTreeMap<u64, Waits>,
    known: BTreeSet<RecordId>,
    /// How often each usage was charged, and each command answered.
    pub(super) lines: BTreeMap<RecordId, u32>,
    pub(super) outcomes: BTreeMap<RecordId, u32>,
    /// What all lines cost, and all that were priced.
    pub(super) costs: i64,
    pub(super) misfits: u32,
    pub(super) unbalanced: u32,
    /// Answers that came before that of an earlier record of the same account.
    pub(super) early: u32,
    /// Why it reads no further.
    pub(super) diverged: Option<Diverged>,
    pub(super) last_at: Timestamp,
    without: Option<Without>,
}

impl PartialEq for Reader {
    fn eq(&self, other: &Self) -> bool {
        let all = |one: &Self| (one.books.clone(), one.lines.clone(), one.outcomes.clone());
        self.cursor == other.cursor && self.waiting == other.waiting && all(self) == all(other)
    }
}

/// What was read: of a decision its hash, and whether it is in force.
pub(super) type Decided = Option<(Digest, bool)>;

impl Reader {
    pub(super) fn new(without: Option<Without>) -> Self {
        Self {
            cursor: Cursor::new(PARTITION),
            books: BTreeMap::new(),
            waiting: BTreeMap::new(),
            known: BTreeSet::new(),
            lines: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            costs: 0,
            misfits: 0,
            unbalanced: 0,
            early: 0,
            diverged: None,
            last_at: Timestamp::UNIX_EPOCH,
            without,
        }
    }

    /// Reads the next record; `None`: there is none.
    pub(super) fn read(&mut self, rules: &Rules, log: &Log) -> Option<(u64, Decided)> {
        let offset = self.cursor.next_offset;
        let stored = log.at(offset)?;
        let verdict = match self.cursor.advance(stored) {
            Ok(verdict) => verdict,
            Err(diverged) => {
                self.diverged = Some(diverged);
                return None;
            }
        };
        let record = match decode::record(PARTITION.family, &stored.value).expect("a record") {
            decode::Stored::Genesis(_) => return Some((offset, None)),
            decode::Stored::Record(record) => record,
        };
        if record.kind != Kind::Decision {
            self.note(offset, record);
            return Some((offset, None));
        }
        let headers = stored.headers.as_ref().expect("headers");
        let prev = headers.prev.expect("a decision names one");
        let hash = decision_hash(&prev, &stored.key, &stored.value);
        let in_force = verdict == Verdict::Applies || self.without == Some(Without::Chain);
        if in_force {
            self.take_in(rules, &record);
        }
        Some((offset, Some((hash, in_force))))
    }

    /// The first of an id counts.
    fn note(&mut self, offset: u64, record: Record) {
        let is_new = self.known.insert(record.id);
        if is_new || self.without == Some(Without::Identity) {
            let usage = decode::fact(&record).expect("bytes");
            self.waiting.insert(offset, Waits { record, usage });
        }
    }

    fn take_in(&mut self, rules: &Rules, record: &Record) {
        self.last_at = self.last_at.max(record.occurred_at);
        let mut last = None;
        if &*record.type_name != types::COMMAND_REJECTED {
            let decision = rules.decision(record).expect("bytes").expect("a decision");
            let books = self.books.entry(record.stream.clone()).or_default();
            self.misfits += u32::from(!books.evolve(rules, &decision, record.occurred_at));
            last = self.count(&decision);
        }
        if let Some(cause) = &record.cause {
            *self.outcomes.entry(cause.id).or_default() += 1;
            last = last.max(self.answered(cause.id));
        }
        let mut before = self.waiting.range(..last.unwrap_or_default());
        let is_early = before.any(|(_, one)| one.record.stream == record.stream);
        self.early += u32::from(is_early);
    }

    /// Where the last of what it answers lies.
    fn count(&mut self, decision: &Decision) -> Option<u64> {
        let Decision::Account(ordered) = decision else {
            return None;
        };
        let posted = &ordered.posted;
        let balanced = posted.transactions.iter().all(Transaction::is_balanced);
        self.unbalanced += u32::from(!balanced);
        let mut last = None;
        if let Change::Charged(lines) = &posted.change {
            for line in lines {
                *self.lines.entry(line.source).or_default() += 1;
                self.costs += line.amount.as_micros();
                last = last.max(self.answered(line.source));
            }
        }
        last
    }

    /// One copy of it: the others, where they are believed to be others, wait on.
    fn answered(&mut self, id: RecordId) -> Option<u64> {
        let mut waiting = self.waiting.iter();
        let (offset, _) = waiting.find(|(_, one)| one.record.id == id)?;
        let offset = *offset;
        self.waiting.remove(&offset);
        Some(offset)
    }
}
