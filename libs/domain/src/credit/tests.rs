//! Accounts from outside: a story of commands, each known failure of billing by name, and what holds
//! for every story.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use uuid::Uuid;

use super::*;
use crate::decision::Rejection;
use crate::ids::PrincipalId;
use crate::price::{Meter, PriceList, PriceSet, Rule, Tier};
use crate::scope::{Actor, PrincipalKind, Role};

mod beyond;
mod charging;
mod failures;
mod properties;
mod recurring;
mod refusals;

pub(super) fn micros(amount: i64) -> Credits {
    Credits::from_micros(amount)
}

pub(super) fn at(second: i64) -> Timestamp {
    let begin = Timestamp::from_timestamp(1_767_225_600, 0).unwrap();
    begin + TimeDelta::seconds(second)
}

pub(super) fn id(number: u128) -> RecordId {
    RecordId::new(Uuid::from_u128(number))
}

pub(super) fn grant_id(number: u128) -> GrantId {
    GrantId::new(Uuid::from_u128(number))
}

pub(super) fn hold_id(number: u128) -> HoldId {
    HoldId::new(Uuid::from_u128(number))
}

/// A grant that was paid for and never expires.
pub(super) fn paid(amount: i64) -> GrantTerms {
    GrantTerms {
        amount: micros(amount),
        kind: GrantKind::Paid,
        priority: 0,
        effective_at: at(0),
        expires_at: None,
    }
}

pub(super) fn until(amount: i64, second: i64) -> GrantTerms {
    GrantTerms {
        kind: GrantKind::Promotional,
        expires_at: Some(at(second)),
        ..paid(amount)
    }
}

pub(super) fn reserve(amount: i64, until: i64) -> Command {
    Command::Reserve {
        amount: micros(amount),
        expires_at: at(until),
        spender: Spender::default(),
    }
}

pub(super) fn settle(hold: u128, amount: i64) -> Command {
    Command::Settle {
        hold: hold_id(hold),
        amount: micros(amount),
    }
}

pub(super) fn overdraft(amount: i64) -> Command {
    Command::SetLimits(Limits {
        overdraft: micros(amount),
        ..Limits::default()
    })
}

pub(super) fn usage(used: i64, quantity: u64) -> Usage {
    Usage {
        source: id(1),
        meter: Meter::Messages.into(),
        quantity,
        dimensions: BTreeMap::new(),
        spender: Spender::default(),
        used_at: at(used),
    }
}

fn somebody() -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(1)),
        kind: PrincipalKind::User,
        role: Role::Admin,
    }
}

pub(super) fn list(version: u64, rules: Vec<Rule>) -> PriceSet {
    let by = somebody();
    PriceSet::compile(Arc::new(PriceList {
        version,
        effective_at: at(0),
        recorded: crate::policy::Change { at: at(0), by },
        rules,
        meters: BTreeSet::new(),
    }))
}

pub(super) fn rule(id: &str, price: i64) -> Rule {
    Rule {
        id: id.parse().unwrap(),
        meter: Meter::Messages.into(),
        dimensions: BTreeMap::new(),
        unit: 1,
        included: 0,
        tiers: vec![Tier {
            up_to: None,
            price: micros(price),
        }],
        minimum: Credits::ZERO,
    }
}

fn a_micro_a_message() -> PriceSet {
    list(1, vec![rule("messages", 1)])
}

/// An account, and every decision that made it what it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) account: Account,
    fates: BTreeMap<HoldId, Fate>,
    pub(super) posted: Vec<(Timestamp, Option<HoldId>, Posted)>,
}

impl Story {
    /// Commands are numbered by whoever asks; the number names what they make.
    pub(super) fn ask(
        &mut self,
        second: i64,
        number: u128,
        command: &Command,
    ) -> Result<&Posted, Rejection> {
        let moment = Moment {
            at: at(second),
            command: id(number),
            by: somebody(),
            reason: "",
        };
        let makes = matches!(command, Command::Reserve { .. }).then(|| hold_id(number));
        let about = makes.or_else(|| command.hold());
        let fate = about.and_then(|hold| self.fates.get(&hold));
        let posted = decide(&self.account, fate, command, moment)?;
        Ok(self.take_in(at(second), about, posted))
    }

    pub(super) fn does(&mut self, second: i64, number: u128, command: &Command) {
        if let Err(refused) = self.ask(second, number, command) {
            panic!("{refused:?}");
        }
    }

    pub(super) fn refuses(&mut self, second: i64, number: u128, command: &Command) -> String {
        let before = self.account.clone();
        let refused = self.ask(second, number, command).unwrap_err();
        assert_eq!(self.account, before);
        refused.reason.into_owned()
    }

    /// Charges what was used at one second, at another: a micro a unit.
    pub(super) fn charge(&mut self, used: i64, second: i64, quantity: u64) -> &Posted {
        self.charge_all(second, &[usage(used, quantity)])
    }

    pub(super) fn charge_all(&mut self, second: i64, usages: &[Usage]) -> &Posted {
        let set = a_micro_a_message();
        let posted = charge(&self.account, &|_| Some(&set), usages, at(second));
        self.take_in(at(second), None, posted)
    }

    fn take_in(&mut self, at: Timestamp, about: Option<HoldId>, posted: Posted) -> &Posted {
        let mut fate = about.and_then(|hold| self.fates.get(&hold).copied());
        let told = posted.transactions.iter();
        let told = told.fold(posted.before, |balance, one| balance.after(one));
        assert!(
            evolve(&mut self.account, &mut fate, &posted, at),
            "{posted:?}"
        );
        assert_eq!(
            told,
            self.account.balance(),
            "a decision tells how it came to be"
        );
        if let (Some(hold), Some(fate)) = (about, fate) {
            self.fates.insert(hold, fate);
        }
        self.posted.push((at, about, posted));
        &self.posted.last().unwrap().2
    }

    /// The account as it is at a moment.
    pub(super) fn seen(&self, at: Timestamp) -> Account {
        let mut account = self.account.clone();
        account.pass(&lapse(&self.account, at), at);
        account
    }

    /// Folded anew, up to and including a moment.
    pub(super) fn folded(&self, until: Timestamp) -> Self {
        let mut folded = Self::default();
        for (at, about, posted) in &self.posted {
            if *at <= until {
                folded.take_in(*at, *about, posted.clone());
            }
        }
        folded
    }

    /// Available, held, overdrawn, unpaid and spent.
    pub(super) fn standing(&self, second: i64) -> [i64; 5] {
        let account = self.seen(at(second));
        let spent = account.balances.spent;
        let parts = [
            account.available(),
            account.held(),
            account.overdrawn(),
            account.unpaid(),
            spent,
        ];
        parts.map(Credits::as_micros)
    }
}

#[test]
fn grants_are_drawn_on_by_priority_then_expiry_then_age() {
    let mut story = Story::default();
    let first = GrantTerms {
        priority: -1,
        ..paid(1)
    };
    let all = [
        (9, paid(10)),
        (2, until(10, 90)),
        (3, paid(10)),
        (4, until(10, 80)),
        (5, first),
    ];
    for (number, terms) in all {
        story.does(0, number, &Command::Grant(terms));
    }
    let posted = story.charge(1, 1, 32).clone();
    let legs = posted.transactions[0].postings.iter();
    let drawn: Vec<(Ledger, i64)> = legs
        .map(|leg| (leg.ledger, leg.amount.as_micros()))
        .collect();
    let of = |number| Ledger::Grant(grant_id(number));
    assert_eq!(
        drawn,
        [
            (Ledger::Spent, 32),
            (of(5), -1),
            (of(4), -10),
            (of(2), -10),
            (of(9), -10),
            (of(3), -1)
        ]
    );
}

#[test]
fn the_first_credit_of_an_account_is_its_initial_one() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    story.does(0, 2, &Command::Grant(paid(10)));
    let kinds = story
        .posted
        .iter()
        .flat_map(|(_, _, one)| &one.transactions);
    let kinds: Vec<EntryKind> = kinds.map(|one| one.kind).collect();
    assert_eq!(kinds, [EntryKind::Initial, EntryKind::Credit]);
}

#[test]
fn what_is_held_outlives_its_grant_and_what_comes_back_does_not() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(until(10, 50)));
    story.does(1, 2, &reserve(6, 100));
    assert_eq!(story.standing(40), [4, 6, 0, 0, 0]);
    assert_eq!(story.standing(50), [0, 6, 0, 0, 0]);
    story.does(60, 3, &settle(2, 5));
    assert_eq!(story.standing(60), [0, 0, 0, 0, 5]);
    assert_eq!(story.account.balances.expired, micros(5));
    assert!(story.account.grants.is_empty());
}

#[test]
fn what_comes_back_to_a_voided_grant_is_nobodys() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    story.does(1, 2, &reserve(6, 100));
    story.does(2, 3, &Command::Void { grant: grant_id(1) });
    assert_eq!(story.standing(2), [0, 6, 0, 0, 0]);
    let twice = Command::Void { grant: grant_id(1) };
    assert_eq!(story.refuses(2, 4, &twice), "GRANT_NOT_FOUND");
    story.does(3, 5, &settle(2, 2));
    assert_eq!(story.standing(3), [0, 0, 0, 0, 2]);
    assert_eq!(story.account.balances.issued, micros(-2));
}

#[test]
fn debt_is_paid_by_what_is_paid_for_and_by_nothing_else() {
    let mut story = Story::default();
    story.does(0, 1, &overdraft(5));
    story.charge(1, 1, 8);
    assert_eq!(story.standing(1), [0, 0, 5, 3, 8]);
    story.does(2, 2, &Command::Grant(until(4, 50)));
    assert_eq!(story.standing(2), [4, 0, 5, 3, 8]);
    story.does(3, 3, &Command::Grant(paid(4)));
    assert_eq!(story.standing(3), [4, 0, 4, 0, 8]);
    story.does(4, 4, &Command::Grant(paid(10)));
    assert_eq!(story.standing(4), [10, 0, 0, 0, 8]);
}

#[test]
fn refunds_adjustments_and_write_offs_say_what_they_are() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    story.charge(1, 1, 12);
    story.does(2, 2, &Command::Refund { amount: micros(4) });
    assert_eq!(story.standing(2), [4, 0, 0, 2, 8]);
    story.does(3, 3, &Command::WriteOff { amount: micros(2) });
    assert_eq!(story.standing(3), [4, 0, 0, 0, 8]);
    story.does(4, 4, &Command::Adjust { amount: micros(-1) });
    story.does(5, 5, &Command::Adjust { amount: micros(7) });
    assert_eq!(story.standing(5), [10, 0, 0, 0, 8]);
    story.does(6, 6, &Command::Void { grant: grant_id(5) });
    assert_eq!(story.standing(6), [3, 0, 0, 0, 8]);
    let kinds = story
        .posted
        .iter()
        .flat_map(|(_, _, one)| &one.transactions);
    let kinds: Vec<&str> = kinds.map(|one| one.kind.as_str()).collect();
    let expected = [
        "initial",
        "debit",
        "refund",
        "write_off",
        "adjustment",
        "adjustment",
        "adjustment",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(story.account.sum(), 0);
}
