//! What is known of an account, and how decisions change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Account, Balance, Change, Draw, EntryKind, Fate, Grant, Hold, Lapsed, Ledger, Opened, Posted,
    Recurring, SPENDERS_MAX, Source, Spender, Spending, Spent, Threshold, Transaction, Watched,
};
use crate::calendar::Zone;
use crate::ids::{GrantId, HoldId};
use crate::money::Credits;
use crate::time::Timestamp;

/// What lies where, grants and holds aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    pub issued: Credits,
    pub spent: Credits,
    pub expired: Credits,
    pub written_off: Credits,
    pub overdraft: Credits,
    pub unpaid: Credits,
}

impl Transaction {
    /// Whether nothing comes from nowhere.
    pub fn is_balanced(&self) -> bool {
        let sum: i128 = self.postings.iter().map(|one| micros(one.amount)).sum();
        sum == 0
    }

    /// What it changes of what the customer has: grants and holds, less what is owed.
    pub fn net(&self) -> i128 {
        let own = self.postings.iter().filter(|one| one.ledger.is_own());
        own.map(|one| micros(one.amount)).sum()
    }
}

impl Balance {
    /// What it is behind a transaction.
    #[must_use]
    pub fn after(mut self, transaction: &Transaction) -> Self {
        for posting in &transaction.postings {
            let (balance, amount) = match posting.ledger {
                Ledger::Grant(_) => (&mut self.available, posting.amount),
                Ledger::Held(_) => (&mut self.held, posting.amount),
                // What is owed is below zero in its ledger.
                Ledger::Overdraft => (&mut self.overdrawn, negated(posting.amount)),
                Ledger::Unpaid => (&mut self.unpaid, negated(posting.amount)),
                Ledger::Issued | Ledger::Spent | Ledger::Expired | Ledger::WrittenOff => continue,
            };
            *balance = balance.plus(amount).unwrap_or(*balance);
        }
        self
    }
}

impl Ledger {
    /// The word that stands for it in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Grant(_) => "grant",
            Self::Held(_) => "held",
            Self::Spent => "spent",
            Self::Expired => "expired",
            Self::WrittenOff => "written_off",
            Self::Overdraft => "overdraft",
            Self::Unpaid => "unpaid",
        }
    }

    /// The ledger that a word stands for, and an id where it is one of several. `None`: of none.
    pub fn parse(word: &str, id: Uuid) -> Option<Self> {
        Some(match word {
            "issued" => Self::Issued,
            "grant" => Self::Grant(GrantId::new(id)),
            "held" => Self::Held(HoldId::new(id)),
            "spent" => Self::Spent,
            "expired" => Self::Expired,
            "written_off" => Self::WrittenOff,
            "overdraft" => Self::Overdraft,
            "unpaid" => Self::Unpaid,
            _ => return None,
        })
    }

    /// The grant or the hold that it is of.
    pub fn id(self) -> Option<Uuid> {
        match self {
            Self::Grant(id) => Some(id.as_uuid()),
            Self::Held(id) => Some(id.as_uuid()),
            Self::Issued
            | Self::Spent
            | Self::Expired
            | Self::WrittenOff
            | Self::Overdraft
            | Self::Unpaid => None,
        }
    }

    /// Whether it counts to what the customer has or owes.
    pub fn is_own(self) -> bool {
        match self {
            Self::Grant(_) | Self::Held(_) | Self::Overdraft | Self::Unpaid => true,
            Self::Issued | Self::Spent | Self::Expired | Self::WrittenOff => false,
        }
    }
}

impl Grant {
    /// Whether it can be drawn on for something used at a moment. Of one that has expired nothing
    /// remains.
    pub(super) fn pays(&self, used_at: Timestamp) -> bool {
        self.credited
            && !self.voided
            && self.remaining.is_positive()
            && self.terms.effective_at <= used_at
    }

    pub(super) fn has_expired(&self, at: Timestamp) -> bool {
        self.terms.expires_at.is_some_and(|expires| expires <= at)
    }

    fn is_done(&self) -> bool {
        self.credited && self.remaining.is_zero() && self.holds == 0
    }
}

impl Account {
    /// What remains of grants that have taken effect and not expired: as of the last decision, unless
    /// it was made to [`super::lapse`].
    pub fn available(&self) -> Credits {
        total(self.grants.values().map(|grant| grant.remaining))
    }

    /// What is spent within the calendar day and the calendar month of a moment.
    pub fn spent(&self, at: Timestamp) -> (Credits, Credits) {
        let spending = &self.spending;
        (
            spending.of_day(at, self.zone),
            spending.of_month(at, self.zone),
        )
    }

    pub fn held(&self) -> Credits {
        total(self.holds.values().map(|hold| hold.amount))
    }

    /// How much of the overdraft is used; at least nothing.
    pub fn overdrawn(&self) -> Credits {
        negated(self.balances.overdraft)
    }

    /// What was spent out of the overdraft. The rest of it is held, and comes back with its hold:
    /// were it paid meanwhile, there would be nowhere for it to come back to.
    pub fn overspent(&self) -> Credits {
        let draws = self.holds.values().flat_map(|hold| &hold.draws);
        let held = draws.filter(|draw| draw.from == Source::Overdraft);
        let held = total(held.map(|draw| draw.amount));
        self.overdrawn().minus(held).unwrap_or_default()
    }

    /// What could not even be overdrawn; at least nothing.
    pub fn unpaid(&self) -> Credits {
        negated(self.balances.unpaid)
    }

    /// The sum of everything: nothing, or something was lost.
    pub fn sum(&self) -> i128 {
        let Balances {
            issued,
            spent,
            expired,
            written_off,
            overdraft,
            unpaid,
        } = self.balances;
        let rest = [issued, spent, expired, written_off, overdraft, unpaid];
        let grants = self.grants.values().map(|grant| grant.remaining);
        let holds = self.holds.values().map(|hold| hold.amount);
        rest.into_iter()
            .chain(grants)
            .chain(holds)
            .map(micros)
            .sum()
    }

    /// As of the last decision, unless it was made to [`super::lapse`].
    pub fn balance(&self) -> Balance {
        Balance {
            available: self.available(),
            held: self.held(),
            overdrawn: self.overdrawn(),
            unpaid: self.unpaid(),
        }
    }

    pub(super) fn lying(&self, ledger: Ledger) -> Credits {
        match ledger {
            Ledger::Issued => self.balances.issued,
            Ledger::Spent => self.balances.spent,
            Ledger::Expired => self.balances.expired,
            Ledger::WrittenOff => self.balances.written_off,
            Ledger::Overdraft => self.balances.overdraft,
            Ledger::Unpaid => self.balances.unpaid,
            Ledger::Grant(id) => self
                .grants
                .get(&id)
                .map_or(Credits::ZERO, |one| one.remaining),
            Ledger::Held(id) => self.holds.get(&id).map_or(Credits::ZERO, |one| one.amount),
        }
    }

    fn balance_mut(&mut self, ledger: Ledger) -> Option<&mut Credits> {
        Some(match ledger {
            Ledger::Issued => &mut self.balances.issued,
            Ledger::Spent => &mut self.balances.spent,
            Ledger::Expired => &mut self.balances.expired,
            Ledger::WrittenOff => &mut self.balances.written_off,
            Ledger::Overdraft => &mut self.balances.overdraft,
            Ledger::Unpaid => &mut self.balances.unpaid,
            Ledger::Grant(id) => &mut self.grants.get_mut(&id)?.remaining,
            Ledger::Held(id) => &mut self.holds.get_mut(&id)?.amount,
        })
    }

    /// Moves what a transaction says, which fits. A hold that gives all back is closed.
    pub(super) fn post(&mut self, transaction: &Transaction) {
        for posting in &transaction.postings {
            if let Some(balance) = self.balance_mut(posting.ledger) {
                *balance = balance.plus(posting.amount).unwrap_or(*balance);
            }
            // Of nothing, when all of it went to what was owed.
            if let Ledger::Grant(id) = posting.ledger
                && !posting.amount.is_negative()
                && let Some(grant) = self.grants.get_mut(&id)
            {
                grant.credited = true;
            }
        }
        for posting in &transaction.postings {
            if let Ledger::Held(id) = posting.ledger
                && posting.amount.is_negative()
            {
                self.close(id);
            }
        }
    }

    /// Moves what has happened by itself until a moment.
    pub(super) fn pass(&mut self, lapsed: &Lapsed, at: Timestamp) {
        for opened in &lapsed.opened {
            self.open(opened);
        }
        for transaction in &lapsed.transactions {
            self.post(transaction);
        }
        self.forget_done(at);
    }

    /// Forgets grants of which nothing is left, and recurrences that are over.
    fn forget_done(&mut self, at: Timestamp) {
        self.grants.retain(|_, grant| !grant.is_done());
        self.recurring.retain(|_, recurring| {
            let until = recurring.terms.until;
            until.is_none_or(|until| until > at)
        });
    }

    /// Forgets a hold that holds nothing any more.
    fn close(&mut self, id: HoldId) {
        let is_empty = self
            .holds
            .get(&id)
            .is_some_and(|hold| !hold.amount.is_positive());
        let Some(hold) = is_empty.then(|| self.holds.remove(&id)).flatten() else {
            return;
        };
        for grant in grants_of(&hold.draws) {
            if let Some(grant) = self.grants.get_mut(&grant) {
                grant.holds = grant.holds.saturating_sub(1);
            }
        }
    }

    pub(super) fn open(&mut self, opened: &Opened) {
        self.granted = self.granted.saturating_add(1);
        let grant = Grant {
            terms: opened.terms.clone(),
            ordinal: self.granted,
            remaining: Credits::ZERO,
            credited: false,
            voided: false,
            holds: 0,
        };
        self.grants.insert(opened.grant, grant);
        if let Some((of, time)) = opened.of
            && let Some(recurring) = self.recurring.get_mut(&of)
        {
            recurring.next = recurring.next.max(time.saturating_add(1));
        }
    }

    fn open_hold(&mut self, id: HoldId, terms: &Hold) {
        for grant in grants_of(&terms.draws) {
            if let Some(grant) = self.grants.get_mut(&grant) {
                grant.holds = grant.holds.saturating_add(1);
            }
        }
        let hold = Hold {
            amount: Credits::ZERO,
            ..terms.clone()
        };
        self.holds.insert(id, hold);
    }

    /// Counts what was spent at a moment against the limits.
    pub(super) fn spend(&mut self, spender: &Spender, amount: Credits, at: Timestamp) {
        if amount.is_zero() {
            return;
        }
        let spending = &mut self.spending;
        spending.turn(at, self.zone);
        let add = |to: &mut Credits| *to = to.plus(amount).unwrap_or(Credits::MAX);
        add(&mut spending.of_day);
        add(&mut spending.of_month);
        if let (Some(agent), Some(_)) = (&spender.agent, self.limits.agent) {
            spent(&mut spending.of_agents, agent, amount, at);
        }
        if let (Some(run), Some(_)) = (&spender.run, self.limits.run) {
            spent(&mut spending.of_runs, run, amount, at);
        }
    }
}

/// One of many has spent. When they are too many, those are forgotten who have spent nothing for the
/// longest time: a quarter at once, since looking for them takes a look at all.
fn spent<K: Clone + Ord>(all: &mut BTreeMap<K, Spent>, who: &K, amount: Credits, at: Timestamp) {
    let one = all.entry(who.clone()).or_default();
    one.amount = one.amount.plus(amount).unwrap_or(Credits::MAX);
    one.last_at = at;
    if all.len() > SPENDERS_MAX {
        let mut by_last: Vec<(Timestamp, K)> = all
            .iter()
            .map(|(who, one)| (one.last_at, who.clone()))
            .collect();
        by_last.sort_unstable();
        for (_, who) in by_last.iter().take(SPENDERS_MAX / 4) {
            all.remove(who);
        }
    }
}

impl Spending {
    pub(super) fn of_day(&self, at: Timestamp, zone: Zone) -> Credits {
        let is_today = self.day == zone.day(at);
        if is_today { self.of_day } else { Credits::ZERO }
    }

    pub(super) fn of_month(&self, at: Timestamp, zone: Zone) -> Credits {
        let is_now = self.month == zone.month(at);
        if is_now { self.of_month } else { Credits::ZERO }
    }

    /// Begins a new day and a new month when it is time.
    pub(super) fn turn(&mut self, at: Timestamp, zone: Zone) {
        let (day, month) = (zone.day(at), zone.month(at));
        if self.day != day {
            (self.day, self.of_day) = (day, Credits::ZERO);
        }
        if self.month != month {
            (self.month, self.of_month) = (month, Credits::ZERO);
        }
    }
}

/// Says which thresholds a decision crosses.
pub(super) fn crossing(account: &Account, posted: Posted, at: Timestamp) -> Posted {
    // One may be crossed already when it is set.
    let sets_any = matches!(posted.change, Change::ThresholdsSet(_));
    if account.thresholds.is_empty() && !sets_any {
        return posted;
    }
    let mut after = account.clone();
    // What became of its hold does not matter here.
    if !evolve(&mut after, &mut None, &posted, at) {
        return posted;
    }
    let crossed = after.thresholds.iter().filter(|(name, after)| {
        let before = account.thresholds.get(*name);
        // A month has begun since, perhaps, and nothing was spent in it yet.
        let was = |before: &Watched| before.crossed && account.is_over(before.threshold, at);
        after.crossed && !before.is_some_and(was)
    });
    Posted {
        crossed: crossed.map(|(name, _)| name.clone()).collect(),
        ..posted
    }
}

/// Takes a decision in force in, which was taken at `at`. Total; `false`: it does not fit what is
/// known, and has changed nothing.
#[must_use]
pub fn evolve(
    account: &mut Account,
    fate: &mut Option<Fate>,
    posted: &Posted,
    at: Timestamp,
) -> bool {
    if !fits(account, fate.as_ref(), posted) {
        return false;
    }
    account.decisions = account.decisions.saturating_add(1);
    account.last_at = account.last_at.max(at);
    for opened in &posted.opened {
        account.open(opened);
    }
    if let Change::Reserved { hold, terms, .. } = &posted.change {
        account.open_hold(*hold, terms);
    }
    for transaction in &posted.transactions {
        account.post(transaction);
    }
    account.change(fate, &posted.change, at);
    account.forget_done(at);
    account.watch(at);
    true
}

impl Account {
    /// What a decision changes besides balances.
    fn change(&mut self, fate: &mut Option<Fate>, change: &Change, at: Timestamp) {
        match change {
            Change::Granted { .. } | Change::Moved => {}
            Change::Recurs { grant, terms } => {
                let recurring = Recurring {
                    terms: terms.clone(),
                    next: 0,
                };
                self.recurring.insert(*grant, recurring);
            }
            Change::Voided { grant } => {
                self.recurring.remove(grant);
                if let Some(grant) = self.grants.get_mut(grant) {
                    grant.voided = true;
                    grant.credited = true;
                }
            }
            Change::Reserved { .. } => *fate = Some(Fate::Open),
            Change::Extended { hold, expires_at } => {
                if let Some(hold) = self.holds.get_mut(hold) {
                    hold.expires_at = *expires_at;
                }
            }
            Change::Settled {
                amount, spender, ..
            } => {
                *fate = Some(Fate::Settled);
                self.spend(spender, *amount, at);
            }
            Change::Released { .. } => *fate = Some(Fate::Released),
            Change::LimitsSet(limits) => {
                self.limits = *limits;
                // Counted anew, should there be such a limit again.
                if limits.agent.is_none() {
                    self.spending.of_agents.clear();
                }
                if limits.run.is_none() {
                    self.spending.of_runs.clear();
                }
            }
            Change::ZoneSet(zone) => {
                // The day and the month go on, by other clocks: what was spent in them still counts.
                self.spending.turn(at, self.zone);
                self.zone = *zone;
                (self.spending.day, self.spending.month) = (zone.day(at), zone.month(at));
            }
            Change::ThresholdsSet(thresholds) => {
                let all = thresholds.iter().map(|(name, threshold)| {
                    let known = self.thresholds.get(name);
                    let known = known.filter(|known| known.threshold == *threshold);
                    let new = Watched {
                        threshold: *threshold,
                        crossed: false,
                    };
                    (name.clone(), known.copied().unwrap_or(new))
                });
                self.thresholds = all.collect();
            }
            Change::Charged(lines) => {
                for line in lines {
                    self.count(line, at);
                    self.spend(&line.spender, line.amount, at);
                }
            }
        }
    }

    /// Whether a threshold is crossed, as things are.
    pub(super) fn is_over(&self, threshold: Threshold, at: Timestamp) -> bool {
        match threshold {
            Threshold::AvailableBelow(least) => self.available() < least,
            Threshold::SpentOver(most) => self.spending.of_month(at, self.zone) > most,
        }
    }

    fn watch(&mut self, at: Timestamp) {
        let over: Vec<bool> = self
            .thresholds
            .values()
            .map(|one| self.is_over(one.threshold, at))
            .collect();
        for (watched, crossed) in self.thresholds.values_mut().zip(over) {
            watched.crossed = crossed;
        }
    }
}

/// Whether every transaction is balanced, and nothing would be taken from where it is not.
fn fits(account: &Account, fate: Option<&Fate>, posted: &Posted) -> bool {
    if posted.before != account.balance() {
        return false;
    }
    let names_what_is_there = match &posted.change {
        Change::Recurs { grant, .. } => !account.recurring.contains_key(grant),
        Change::Reserved { hold, .. } => !account.holds.contains_key(hold) && fate.is_none(),
        Change::Voided { grant } => {
            account.grants.contains_key(grant) || account.recurring.contains_key(grant)
        }
        Change::Extended { hold, .. }
        | Change::Settled { hold, .. }
        | Change::Released { hold } => account.holds.contains_key(hold),
        Change::Granted { .. }
        | Change::LimitsSet(_)
        | Change::ZoneSet(_)
        | Change::ThresholdsSet(_)
        | Change::Charged(_)
        | Change::Moved => true,
    };
    let opens = |id: &GrantId| posted.opened.iter().any(|one| one.grant == *id);
    let is_new = |one: &Opened| !account.grants.contains_key(&one.grant);
    if !names_what_is_there
        || !posted.opened.iter().all(is_new)
        || !posted.transactions.iter().all(Transaction::is_balanced)
    {
        return false;
    }
    let mut moved: BTreeMap<Ledger, i128> = BTreeMap::new();
    for posting in posted.transactions.iter().flat_map(|one| &one.postings) {
        *moved.entry(posting.ledger).or_default() += micros(posting.amount);
    }
    moved.into_iter().all(|(ledger, moved)| {
        let is_known = match ledger {
            Ledger::Grant(id) => account.grants.contains_key(&id) || opens(&id),
            Ledger::Held(id) => {
                account.holds.contains_key(&id)
                    || matches!(&posted.change, Change::Reserved { hold, .. } if *hold == id)
            }
            Ledger::Issued
            | Ledger::Spent
            | Ledger::Expired
            | Ledger::WrittenOff
            | Ledger::Overdraft
            | Ledger::Unpaid => true,
        };
        let after = micros(account.lying(ledger)) + moved;
        let is_possible = match ledger {
            Ledger::Grant(_) | Ledger::Held(_) => after >= 0,
            Ledger::Overdraft | Ledger::Unpaid => after <= 0,
            Ledger::Issued | Ledger::Spent | Ledger::Expired | Ledger::WrittenOff => true,
        };
        is_known && is_possible && i64::try_from(after).is_ok()
    })
}

/// Each grant that draws name, once.
pub(super) fn grants_of(draws: &[Draw]) -> Vec<GrantId> {
    let named = draws.iter().filter_map(|draw| match draw.from {
        Source::Grant(grant) => Some(grant),
        Source::Overdraft | Source::Unpaid => None,
    });
    let mut named: Vec<GrantId> = named.collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// What a transaction is to the first who is given anything, and to all others.
pub(super) fn kind_of_first(account: &Account, otherwise: EntryKind) -> EntryKind {
    if account.balances == Balances::default() && account.grants.values().all(|one| !one.credited) {
        EntryKind::Initial
    } else {
        otherwise
    }
}

pub(super) fn micros(amount: Credits) -> i128 {
    i128::from(amount.as_micros())
}

/// What cannot be counted any more is as much as can be: it is only shown, or compared with less.
fn total(all: impl Iterator<Item = Credits>) -> Credits {
    Credits::sum(all).unwrap_or(Credits::MAX)
}

pub(super) fn negated(amount: Credits) -> Credits {
    Credits::ZERO.minus(amount).unwrap_or(Credits::MAX)
}
