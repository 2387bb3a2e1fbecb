//! A decider: a reader that also writes, and believes only what it reads back.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use runledger_decider::{Moment, Owing, Read, Rounds, Rules as _, Ruling};
use runledger_domain::credit;
use runledger_domain::digest::Digest;
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Kind, Stream};
use runledger_domain::price::PriceSet;
use runledger_domain::time::Timestamp;
use runledger_projection::decision_hash;

use super::log::{Log, Written, at, decision, position, record_id, scope};
use super::reader::{Books, Reader, Waits};
use super::{Counts, Fault, Without};
use crate::rules::{Decision, Held, Rules, usages};

/// Most commands and facts of one round.
const ITEMS_A_ROUND_MAX: usize = 12;

pub(super) struct Decider {
    pub(super) reader: Reader,
    rounds: Rounds,
    /// Handed to the producer, not yet in the log.
    pub(super) sending: VecDeque<Written>,
}

/// What all deciders go by.
pub(super) struct Law {
    pub(super) rules: Rules,
    pub(super) prices: PriceSet,
    pub(super) without: Option<Without>,
}

/// A round as it is put together.
struct Round<'a> {
    law: &'a Law,
    books: BTreeMap<Stream, Books>,
    gathered: BTreeMap<Stream, Vec<(u64, &'a Waits)>>,
    head: Digest,
    hashes: Vec<Digest>,
    written: Vec<Written>,
    at: Timestamp,
    next_id: &'a mut u64,
    seen: &'a mut Counts,
}

impl Round<'_> {
    fn saw(&mut self, fault: Fault) {
        *self.seen.entry(fault).or_default() += 1;
    }

    fn write(&mut self, stream: &Stream, cause: Option<RecordId>, decided: Option<&Decision>) {
        *self.next_id += 1;
        let (id, rules) = (record_id(*self.next_id), &self.law.rules);
        if let Some(decided) = decided {
            let books = self.books.entry(stream.clone()).or_default();
            assert!(books.evolve(rules, decided, self.at), "{decided:?}");
        }
        let place = (stream, self.at);
        let written = decision(rules, id, place, (cause, decided), self.head);
        self.head = decision_hash(&self.head, written.key.as_bytes(), &written.value);
        self.hashes.push(self.head);
        self.written.push(written);
    }

    fn command(&mut self, offset: u64, waits: &Waits) {
        let (rules, record) = (&self.law.rules, &waits.record);
        let asked = rules.command(record).expect("bytes").expect("a command");
        let books = self.books.entry(record.stream.clone()).or_default();
        let part = rules.part_of_command(&asked);
        let fate = part.and_then(|part| books.fates.get(part)?.as_ref());
        let held = Held::Account(Box::new(books.account.clone()));
        let moment = Moment {
            at: self.at,
            scope: scope(),
            stream: &record.stream,
            author: &record.author,
            id: record.id,
            at_least: &[],
        };
        let ruling = rules.decide(&held, fate, &asked, &moment);
        match ruling {
            Ruling::Decided { decision, .. } => {
                self.write(&record.stream, Some(record.id), Some(&decision));
            }
            Ruling::Rejected(_) => {
                self.saw(Fault::Refused);
                self.write(&record.stream, Some(record.id), None);
            }
            Ruling::Waits => panic!("the command at {offset} waits for nothing"),
        }
    }

    fn answer(&mut self, stream: &Stream) {
        let Some(gathered) = self.gathered.remove(stream) else {
            return;
        };
        let owing: Vec<Owing<'_>> = gathered
            .iter()
            .filter_map(|(offset, waits)| {
                Some(Owing {
                    position: position(*offset),
                    record: &waits.record,
                    fact: waits.usage.as_ref()?,
                })
            })
            .collect();
        if owing.len() > 1 {
            self.saw(Fault::ChargedInBulk);
        }
        let account = &self.books.entry(stream.clone()).or_default().account;
        let prices = |_| Some(&self.law.prices);
        let posted = credit::charge(account, &prices, &usages(&owing, self.at), self.at);
        self.write(stream, None, Some(&posted.into()));
        let books = &self.books[stream];
        if books.account.unpaid().is_positive() {
            self.saw(Fault::Unpaid);
        }
    }

    fn lapse(&mut self) {
        let streams: Vec<Stream> = self.books.keys().cloned().collect();
        for stream in streams {
            let account = self.books[&stream].account.clone();
            let held = Held::Account(Box::new(account));
            if let Some(decided) = self.law.rules.lapse(&held, self.at) {
                self.saw(Fault::Lapsed);
                self.write(&stream, None, Some(&decided));
            }
        }
    }
}

impl Decider {
    pub(super) fn new(reader: Reader, log: &Log) -> Self {
        let cursor = &reader.cursor;
        // Without its Genesis a partition has no head; it is below the watermark.
        let head = cursor.chain_head.unwrap_or_default();
        let rounds = Rounds::new(head, cursor.next_offset, log.end());
        Self {
            reader,
            rounds,
            sending: VecDeque::new(),
        }
    }

    /// Reads one record; whether there was one, and whether it took the round.
    pub(super) fn read_one(&mut self, law: &Law, log: &Log) -> Option<bool> {
        let (offset, decided) = self.reader.read(&law.rules, log)?;
        if offset == 0 {
            let head = self.reader.cursor.chain_head.unwrap_or_default();
            self.rounds = Rounds::new(head, 1, log.end());
            return Some(false);
        }
        let is_dropped = self.rounds.read(offset, decided) == Read::Dropped;
        if is_dropped {
            self.rounds.dropped(log.end());
        }
        Some(is_dropped)
    }

    /// Decides a round, if there is anything to decide.
    pub(super) fn decide(
        &mut self,
        law: &Law,
        second: i64,
        next_id: &mut u64,
        rng: &mut Rng,
        seen: &mut Counts,
    ) -> bool {
        if self.reader.cursor.chain_head.is_none() || !self.rounds.is_ready() {
            return false;
        }
        // Clocks differ; nobody decides before the last decision.
        let second = second - rng.i64(0..3);
        let mut round = Round {
            law,
            books: self.reader.books.clone(),
            gathered: BTreeMap::new(),
            head: self.rounds.head(),
            hashes: Vec::new(),
            written: Vec::new(),
            at: at(second).max(self.reader.last_at),
            next_id,
            seen,
        };
        if rng.bool() {
            round.lapse();
        }
        let most = rng.usize(1..=ITEMS_A_ROUND_MAX);
        for (offset, waits) in self.reader.waiting.iter().take(most) {
            let stream = &waits.record.stream;
            match waits.record.kind {
                Kind::Command => {
                    if law.without != Some(Without::Order) {
                        round.answer(stream);
                    }
                    round.command(*offset, waits);
                }
                Kind::Fact | Kind::Decision | Kind::Genesis => {
                    let gathered = round.gathered.entry(stream.clone()).or_default();
                    gathered.push((*offset, waits));
                    if rng.u32(..6) == 0 {
                        round.answer(stream);
                    }
                }
            }
        }
        let streams: Vec<Stream> = round.gathered.keys().cloned().collect();
        for stream in streams {
            round.answer(&stream);
        }
        let (hashes, written) = (round.hashes, round.written);
        let any = !hashes.is_empty();
        self.rounds.sent(hashes);
        self.sending.extend(written);
        any
    }

    /// What was on its way may land later, or never.
    pub(super) fn producer_failed(&mut self, log: &Log) -> VecDeque<Written> {
        self.rounds.dropped(log.end());
        std::mem::take(&mut self.sending)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.rounds.outstanding() > 0
    }
}
