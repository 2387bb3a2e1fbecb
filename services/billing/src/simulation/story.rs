//! One story, from its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use runledger_decider::{Rules as _, View};
use runledger_domain::Fact;
use runledger_domain::credit::{Account, Command, GrantKind, GrantTerms, Limits, Spender};
use runledger_domain::ids::{HoldId, PrincipalId, RecordId};
use runledger_domain::log::{Family, Stream};
use runledger_domain::money::Credits;
use runledger_domain::policy::Change;
use runledger_domain::price::{PriceList, PriceSet, Rule, Tier};
use runledger_domain::scope::{Actor, PrincipalKind, Role};
use runledger_domain::time::Timestamp;
use runledger_domain::usage::{self, Forwarded};
use runledger_eventlog::Stored;
use runledger_proto::decode;
use uuid::Uuid;

use super::decider::{Decider, Law};
use super::log::{Log, Written, account, at, command, fact, record_id};
use super::reader::{Books, Reader};
use super::{Counts, Fault, Without};
use crate::prices::Prices;
use crate::rules::{Decision, Rules};

const STEPS: i64 = 400;
const ACCOUNTS: usize = 2;
/// Of every so manieth decision of an account its state is kept, for looks at the past.
const KEPT_EVERY: u64 = 4;

struct Story {
    law: Law,
    rng: Rng,
    log: Log,
    deciders: Vec<Decider>,
    /// Copies on their way from deciders that have given them up, or are gone.
    ghosts: Vec<VecDeque<Written>>,
    backups: Vec<Reader>,
    commands: BTreeSet<RecordId>,
    usages: BTreeMap<RecordId, u64>,
    holds: Vec<(usize, HoldId)>,
    /// What a reporter, or a caller, may send again.
    sent: Vec<Written>,
    seen: Counts,
    next_id: u64,
    second: i64,
}

/// A micro each, whatever the month.
fn prices() -> PriceSet {
    let by = Actor {
        principal: PrincipalId::new(Uuid::from_u128(1)),
        kind: PrincipalKind::User,
        role: Role::Admin,
    };
    let rule = Rule {
        id: "messages".parse().expect("a name"),
        meter: "messages".parse().expect("a name"),
        dimensions: BTreeMap::new(),
        unit: 1,
        included: 0,
        tiers: vec![Tier {
            up_to: None,
            price: Credits::from_micros(1),
        }],
        minimum: Credits::ZERO,
    };
    PriceSet::compile(Arc::new(PriceList {
        version: 1,
        effective_at: at(-1_000),
        recorded: Change { at: at(-2_000), by },
        rules: vec![rule],
        meters: BTreeSet::new(),
    }))
}

/// Tells the story of a seed: what was seen in it, or which promise was broken.
pub(super) fn tell(seed: u64, without: Option<Without>) -> Result<Counts, String> {
    let log = Log::new();
    let mut story = Story {
        law: Law {
            rules: Rules::new(View::new(Family::Price, Prices::default())),
            prices: prices(),
            without,
        },
        rng: Rng::with_seed(seed),
        deciders: vec![Decider::new(Reader::new(without), &log)],
        log,
        ghosts: Vec::new(),
        backups: vec![Reader::new(without)],
        commands: BTreeSet::new(),
        usages: BTreeMap::new(),
        holds: Vec::new(),
        sent: Vec::new(),
        seen: Counts::new(),
        next_id: 0,
        second: 0,
    };
    for second in 0..STEPS {
        story.second = second;
        story.step();
    }
    story.end()
}

impl Story {
    fn saw(&mut self, fault: Fault) {
        *self.seen.entry(fault).or_default() += 1;
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..10 => self.ask(),
            10..24 => self.use_up(),
            24..27 => self.repeat(),
            27..50 => self.read(),
            50..66 => self.decide(),
            66..88 => self.deliver(),
            88..90 => self.producer_fails(),
            90..93 => self.ghost_lands(),
            93..95 => {
                let which = self.rng.usize(..self.deciders.len());
                self.backups.push(self.deciders[which].reader.clone());
            }
            95..97 => {
                let backup = self.a_backup();
                self.deciders.push(Decider::new(backup, &self.log));
                self.saw(Fault::Takeover);
            }
            _ => self.crash(),
        }
    }

    fn a_backup(&mut self) -> Reader {
        self.backups[self.rng.usize(..self.backups.len())].clone()
    }

    fn fresh_id(&mut self) -> RecordId {
        self.next_id += 1;
        record_id(self.next_id)
    }

    fn send(&mut self, written: Written) {
        self.sent.push(written.clone());
        self.log.append(written);
    }

    fn ask(&mut self) {
        let (id, of) = (self.fresh_id(), self.rng.usize(..ACCOUNTS));
        let amount = Credits::from_micros(self.rng.i64(1..40));
        let until = at(self.second + self.rng.i64(1..120));
        let held = self.holds.last().filter(|(whose, _)| *whose == of);
        let held = held.map(|(_, hold)| *hold);
        let command_ = match (self.rng.u32(..10), held) {
            (0..3, _) => Command::Grant(GrantTerms {
                amount: Credits::from_micros(self.rng.i64(1..300)),
                kind: *self.rng.choice(GrantKind::ALL).expect("some kind"),
                priority: self.rng.i32(0..2),
                effective_at: at(self.second + self.rng.i64(0..20)),
                expires_at: self
                    .rng
                    .bool()
                    .then_some(until + chrono::TimeDelta::seconds(20)),
            }),
            (3..6, Some(hold)) => Command::Settle { hold, amount },
            (6, Some(hold)) => Command::Release { hold },
            (7, _) => Command::SetLimits(Limits {
                overdraft: amount,
                day: self.rng.bool().then_some(Credits::from_micros(200)),
                ..Limits::default()
            }),
            _ => {
                self.holds.push((of, HoldId::new(id.as_uuid())));
                Command::Reserve {
                    amount,
                    expires_at: until,
                    spender: Spender::default(),
                }
            }
        };
        self.commands.insert(id);
        self.send(command(id, &account(of), self.second, &command_));
    }

    fn use_up(&mut self) {
        for _ in 0..self.rng.u32(1..5) {
            let (id, quantity) = (self.fresh_id(), self.rng.u64(0..9));
            let used = Forwarded {
                account_id: account(self.rng.usize(..ACCOUNTS)),
                meter: "messages".parse().expect("a name"),
                quantity,
                dimensions: BTreeMap::new(),
                spender: Spender::default(),
            };
            self.usages.insert(id, quantity);
            let used = Fact::Usage(usage::Fact::Forwarded(used));
            self.send(fact(id, self.second, &used));
        }
    }

    fn repeat(&mut self) {
        if let Some(written) = self.rng.choice(&self.sent).cloned() {
            self.log.append(written);
            self.saw(Fault::Repeated);
        }
    }

    fn read(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        for _ in 0..self.rng.u32(1..6) {
            if self.deciders[which].read_one(&self.law, &self.log) == Some(true) {
                self.saw(Fault::RoundDropped);
            }
        }
    }

    fn decide(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        self.deciders[which].decide(
            &self.law,
            self.second,
            &mut self.next_id,
            &mut self.rng,
            &mut self.seen,
        );
    }

    /// What a decider has sent comes into the log: the next, rarely another, rarely twice.
    fn deliver(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        let sending = self.deciders[which].sending.len();
        let place = match self.rng.u32(..20) {
            0 => self.rng.usize(..sending.max(1)),
            _ => 0,
        };
        let Some(written) = self.deciders[which].sending.remove(place) else {
            return;
        };
        if self.rng.u32(..20) == 0 {
            self.log.append(written.clone());
            self.saw(Fault::Doubled);
        }
        self.log.append(written);
    }

    fn producer_fails(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        let left = self.deciders[which].producer_failed(&self.log);
        self.ghosts.push(left);
        self.saw(Fault::ProducerFailed);
    }

    fn ghost_lands(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let which = self.rng.usize(..self.ghosts.len());
        if let Some(written) = self.ghosts[which].pop_front() {
            self.log.append(written);
            self.saw(Fault::LateCopy);
        }
    }

    fn crash(&mut self) {
        if self.deciders.len() > 1 {
            let which = self.rng.usize(..self.deciders.len());
            let gone = self.deciders.swap_remove(which);
            self.ghosts.push(gone.sending);
            self.saw(Fault::Crash);
        }
    }

    /// All copies land or are lost; then one more decider takes over from any backup, alone and in
    /// fair weather, until nothing is left to decide.
    fn end(mut self) -> Result<Counts, String> {
        let sending = self
            .deciders
            .iter_mut()
            .map(|one| std::mem::take(&mut one.sending));
        let late: Vec<_> = self.ghosts.drain(..).chain(sending).flatten().collect();
        for written in late {
            if self.rng.u32(..3) == 0 {
                self.saw(Fault::Lost);
            } else {
                self.log.append(written);
            }
        }
        self.second += 1_000;
        let backup = self.a_backup();
        let mut last = Decider::new(backup, &self.log);
        for _ in 0..20_000 {
            if let Some(written) = last.sending.pop_front() {
                self.log.append(written);
            } else if last.read_one(&self.law, &self.log).is_none() {
                let decides = last.decide(
                    &self.law,
                    self.second,
                    &mut self.next_id,
                    &mut self.rng,
                    &mut self.seen,
                );
                if !decides && !last.is_waiting() && last.reader.waiting.is_empty() {
                    return self.promises(&last.reader);
                }
            }
        }
        Err("a decider alone comes to no end".into())
    }

    fn promises(mut self, survivor: &Reader) -> Result<Counts, String> {
        let (fresh, past) = self.read_anew()?;
        self.answers(&fresh)?;
        if fresh != *survivor {
            return Err("a fresh fold differs from that of the survivor".into());
        }
        let mut others = std::mem::take(&mut self.deciders);
        for decider in &mut others {
            while decider.reader.read(&self.law.rules, &self.log).is_some() {}
            if decider.reader != fresh {
                return Err("two readers differ".into());
            }
        }
        self.looks_at_the_past(&past)?;
        Ok(self.seen)
    }

    /// A fold of everything, with the states that it keeps on its way.
    fn read_anew(&mut self) -> Result<(Reader, Past), String> {
        let (mut fresh, mut past) = (Reader::new(self.law.without), Past::default());
        while let Some((offset, decided)) = fresh.read(&self.law.rules, &self.log) {
            if decided.is_some_and(|(_, in_force)| !in_force) {
                self.saw(Fault::VoidDecision);
            }
            for Books { account, .. } in fresh.books.values() {
                if account.sum() != 0 {
                    return Err(format!("{offset}: something came from nowhere"));
                }
                if account.available().is_negative() || account.overdrawn().is_negative() {
                    return Err(format!("{offset}: more was taken than there is"));
                }
            }
            if decided.is_some_and(|(_, in_force)| in_force)
                && let Some(stored) = self.log.at(offset)
            {
                past.keep(&self.law.rules, offset, stored, &fresh.books);
            }
        }
        match &fresh.diverged {
            Some(diverged) => Err(diverged.to_string()),
            None => Ok((fresh, past)),
        }
    }

    fn answers(&self, fresh: &Reader) -> Result<(), String> {
        let Reader {
            misfits,
            unbalanced,
            early,
            costs,
            ..
        } = fresh;
        if misfits + unbalanced + early > 0 {
            return Err(format!(
                "{misfits} decisions in force fit nothing, {unbalanced} are not balanced, {early} came before their turn"
            ));
        }
        for id in &self.commands {
            let outcomes = fresh.outcomes.get(id).copied().unwrap_or_default();
            if outcomes != 1 {
                return Err(format!("command {id} has {outcomes} outcomes"));
            }
        }
        for id in self.usages.keys() {
            let lines = fresh.lines.get(id).copied().unwrap_or_default();
            if lines != 1 {
                return Err(format!("usage {id} was charged {lines} times"));
            }
        }
        let used: u64 = self.usages.values().sum();
        if i64::try_from(used) != Ok(*costs) {
            return Err(format!("{used} were used, and {costs} charged"));
        }
        Ok(())
    }

    /// From the last state that was kept on, an account comes to what a fold stopped there comes to.
    fn looks_at_the_past(&mut self, past: &Past) -> Result<(), String> {
        let rules = &self.law.rules;
        for _ in 0..5 {
            let place = self.rng.u64(1..self.log.end());
            let mut stopped = Reader::new(self.law.without);
            while stopped.cursor.next_offset <= place {
                stopped.read(rules, &self.log);
            }
            for number in 0..ACCOUNTS {
                let stream = Stream::account(&account(number));
                let expected = stopped.books.get(&stream).cloned().unwrap_or_default();
                if past.account(rules, &stream, place)? != expected.account {
                    return Err(format!("{stream} as of {place} is not what it was"));
                }
            }
        }
        Ok(())
    }
}

/// What is kept of the past: of each account a state now and then, and the decisions in force.
#[derive(Default)]
struct Past {
    states: BTreeMap<u64, (Stream, Vec<u8>)>,
    journal: BTreeMap<u64, (Stream, Timestamp, Decision)>,
}

impl Past {
    fn keep(
        &mut self,
        rules: &Rules,
        offset: u64,
        stored: &Stored,
        books: &BTreeMap<Stream, Books>,
    ) {
        let Ok(decode::Stored::Record(record)) = decode::record(Family::Billing, &stored.value)
        else {
            return;
        };
        let Ok(Some(decision)) = rules.decision(&record) else {
            return;
        };
        if let Some(Books { account, .. }) = books.get(&record.stream)
            && account.decisions.is_multiple_of(KEPT_EVERY)
        {
            let state = (record.stream.clone(), account.to_bytes());
            self.states.insert(offset, state);
        }
        let entry = (record.stream, record.occurred_at, decision);
        self.journal.insert(offset, entry);
    }

    fn account(&self, rules: &Rules, stream: &Stream, place: u64) -> Result<Account, String> {
        let mut before = self.states.range(..=place).rev();
        let kept = before.find(|(_, (whose, _))| whose == stream);
        let mut from = 0;
        let mut seen = Books::default();
        if let Some((offset, (_, bytes))) = kept {
            from = *offset + 1;
            seen.account = Account::from_bytes(bytes).map_err(|fault| fault.to_string())?;
        }
        for (offset, (whose, at, decision)) in self.journal.range(..=place) {
            if *offset >= from && whose == stream {
                seen.evolve(rules, decision, *at);
            }
        }
        Ok(seen.account)
    }
}
