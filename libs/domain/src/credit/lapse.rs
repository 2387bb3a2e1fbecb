//! What time alone moves: grants that take effect, come again and expire, and holds that expire.

use super::account::{crossing, kind_of_first, micros, negated};
use super::draw::given_back;
use uuid::Uuid;

use super::{
    Account, Change, EntryKind, Grant, GrantKind, GrantTerms, Ledger, Opened, Posted, Posting,
    Recurrence, Recurring, Transaction,
};
use crate::calendar::Zone;
use crate::digest;
use crate::ids::{GrantId, HoldId};
use crate::money::Credits;
use crate::time::Timestamp;

/// What happens at a moment. Of what happens at the same one, holds end first and give back, then
/// grants end, then others begin: what is granted at the instant of a reset is not taken by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    HoldExpires(HoldId),
    GrantExpires(GrantId),
    /// By their order, not by their ids.
    GrantBegins(u64, GrantId),
    Recurs(GrantId, u32),
}

/// What has happened by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lapsed {
    pub opened: Vec<Opened>,
    pub transactions: Vec<Transaction>,
}

impl Lapsed {
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.transactions.is_empty()
    }
}

/// What has happened up to and including `at` since the last decision, each at its own moment.
pub fn lapse(account: &Account, at: Timestamp) -> Lapsed {
    let due = events(account).filter(|(due, _)| *due <= at);
    let mut events: Vec<(Timestamp, Event)> = due.chain(recurrences(account, at)).collect();
    let mut lapsed = Lapsed::default();
    if events.is_empty() {
        return lapsed;
    }
    events.sort_unstable();
    let mut scratch = account.clone();
    for (due, event) in events {
        let transaction = match event {
            Event::HoldExpires(id) => release(&scratch, id, due),
            Event::GrantExpires(id) => expire(&scratch, id, due),
            Event::GrantBegins(_, id) => credit(&scratch, id, due),
            Event::Recurs(id, time) => {
                let opened = account.recurring.get(&id).and_then(|recurring| {
                    let (_, expires_at) = span(recurring, time, account.zone)?;
                    let mut opened = once(id, &recurring.terms, time, due, expires_at);
                    // More than can be counted is not given.
                    opened.terms.amount = opened.terms.amount.min(room(&scratch));
                    Some(opened)
                });
                opened.and_then(|opened| {
                    scratch.open(&opened);
                    let credited = credit(&scratch, opened.grant, due);
                    lapsed.opened.push(opened);
                    credited
                })
            }
        };
        if let Some(transaction) = transaction {
            scratch.post(&transaction);
            lapsed.transactions.push(transaction);
        }
    }
    lapsed
}

/// The decision that an account is owed by time alone.
pub fn owed(account: &Account, at: Timestamp) -> Option<Posted> {
    if next_lapse(account).is_none_or(|due| due > at) {
        return None;
    }
    let Lapsed {
        opened,
        transactions,
    } = lapse(account, at);
    let is_over = |one: &Recurring| one.terms.until.is_some_and(|until| until <= at);
    let ends_any = account.recurring.values().any(is_over);
    if opened.is_empty() && transactions.is_empty() && !ends_any {
        return None;
    }
    let posted = Posted {
        before: account.balance(),
        opened,
        transactions,
        change: Change::Moved,
        crossed: Vec::new(),
        by: None,
        reason: String::new(),
    };
    Some(crossing(account, posted, at))
}

/// From when on an account is [`owed`] a decision.
pub fn next_lapse(account: &Account) -> Option<Timestamp> {
    let times = account.recurring.values();
    let times = times.filter_map(|recurring| {
        let next = span(recurring, recurring.next, account.zone);
        let begins = next.map(|(begins, _)| begins);
        begins.or(recurring.terms.until)
    });
    // Of a grant that has nothing left nothing expires.
    let is_felt = |event: &Event| match event {
        Event::GrantExpires(id) => {
            let grant = account.grants.get(id);
            grant.is_some_and(|grant| !grant.credited || grant.remaining.is_positive())
        }
        Event::HoldExpires(_) | Event::GrantBegins(..) | Event::Recurs(..) => true,
    };
    let felt = events(account).filter(|(_, event)| is_felt(event));
    felt.map(|(due, _)| due).chain(times).min()
}

/// Of each recurrence the time that is now, if it is not opened yet. Those that have come and gone
/// while nobody looked gave nobody anything: they are passed over.
fn recurrences(account: &Account, at: Timestamp) -> impl Iterator<Item = (Timestamp, Event)> {
    account.recurring.iter().filter_map(move |(id, recurring)| {
        let mut now = None;
        for time in recurring.next.. {
            match span(recurring, time, account.zone) {
                Some((begins, ends)) if begins <= at => now = Some((begins, ends, time)),
                Some(_) | None => break,
            }
        }
        let (begins, ends, time) = now?;
        (ends > at).then_some((begins, Event::Recurs(*id, time)))
    })
}

/// When a time of a recurrence begins, and when it ends: with the next, or when all is over. `None`: it
/// never comes.
fn span(recurring: &Recurring, time: u32, zone: Zone) -> Option<(Timestamp, Timestamp)> {
    let Recurrence {
        every,
        first_at,
        until,
        ..
    } = recurring.terms;
    let begins = every.after(first_at, time, zone)?;
    let next = time.checked_add(1);
    let next = next.and_then(|next| every.after(first_at, next, zone));
    let ends = next.into_iter().chain(until).min()?;
    until
        .is_none_or(|until| begins < until)
        .then_some((begins, ends))
}

/// How much more can be issued, beside what is to come.
fn room(account: &Account) -> Credits {
    let to_come = account.grants.values().filter(|grant| !grant.credited);
    let to_come: i128 = to_come.map(|grant| micros(grant.terms.amount)).sum();
    let issued = micros(account.balances.issued).abs();
    let room = i128::from(i64::MAX) - issued - to_come;
    Credits::from_micros(i64::try_from(room.max(0)).unwrap_or(i64::MAX))
}

/// One time of a recurrence. Its id follows from whose it is and which it is.
fn once(
    of: GrantId,
    terms: &Recurrence,
    time: u32,
    effective_at: Timestamp,
    expires_at: Timestamp,
) -> Opened {
    let from = digest::of_parts(&[
        b"runledger.recurrence",
        of.as_uuid().as_bytes(),
        &time.to_be_bytes(),
    ]);
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = from;
    Opened {
        grant: GrantId::new(Uuid::new_v8(bytes)),
        terms: GrantTerms {
            amount: terms.amount,
            kind: GrantKind::Promotional,
            priority: terms.priority,
            effective_at,
            expires_at: Some(expires_at),
        },
        of: Some((of, time)),
    }
}

fn events(account: &Account) -> impl Iterator<Item = (Timestamp, Event)> {
    let holds = account.holds.iter();
    let holds = holds.map(|(id, hold)| (hold.expires_at, Event::HoldExpires(*id)));
    let begins = account.grants.iter().filter(|(_, grant)| !grant.credited);
    let begins = begins.map(|(id, grant)| {
        let event = Event::GrantBegins(grant.ordinal, *id);
        (grant.terms.effective_at, event)
    });
    let ends = account.grants.iter().filter(|(_, grant)| may_expire(grant));
    let ends = ends.filter_map(|(id, grant)| {
        let expires = grant.terms.expires_at?;
        Some((expires, Event::GrantExpires(*id)))
    });
    holds.chain(begins).chain(ends)
}

/// One that has nothing left may be given something back before it ends, but loses nothing then: what
/// comes back later is seen to have expired.
fn may_expire(grant: &Grant) -> bool {
    !grant.credited || grant.remaining.is_positive() || grant.holds > 0
}

/// A hold that nobody has settled gives back what it held.
pub(super) fn release(account: &Account, id: HoldId, at: Timestamp) -> Option<Transaction> {
    let hold = account.holds.get(&id)?;
    let held = Posting {
        ledger: Ledger::Held(id),
        amount: negated(hold.amount),
    };
    let mut postings = vec![held];
    postings.extend(given_back(account, &hold.draws, at));
    Some(Transaction {
        kind: EntryKind::Release,
        at,
        postings,
    })
}

fn expire(account: &Account, id: GrantId, at: Timestamp) -> Option<Transaction> {
    let grant = account.grants.get(&id)?;
    let rest = grant.remaining;
    rest.is_positive().then(|| Transaction {
        kind: EntryKind::Expiration,
        at,
        postings: vec![
            Posting {
                ledger: Ledger::Grant(id),
                amount: negated(rest),
            },
            Posting {
                ledger: Ledger::Expired,
                amount: rest,
            },
        ],
    })
}

/// A grant takes effect. One that was paid for pays first what could not be paid, then what
/// was spent out of the overdraft.
pub(super) fn credit(account: &Account, id: GrantId, at: Timestamp) -> Option<Transaction> {
    let grant = account.grants.get(&id)?;
    let amount = grant.terms.amount;
    let mut left = amount;
    let mut postings = vec![Posting {
        ledger: Ledger::Issued,
        amount: negated(amount),
    }];
    if grant.terms.kind == GrantKind::Paid {
        for (ledger, owed) in [
            (Ledger::Unpaid, account.unpaid()),
            (Ledger::Overdraft, account.overspent()),
        ] {
            let paid = owed.min(left);
            if paid.is_positive() {
                postings.push(Posting {
                    ledger,
                    amount: paid,
                });
                left = left.minus(paid).unwrap_or(Credits::ZERO);
            }
        }
    }
    postings.push(Posting {
        ledger: Ledger::Grant(id),
        amount: left,
    });
    let kind = match grant.terms.kind {
        GrantKind::Paid | GrantKind::Promotional => kind_of_first(account, EntryKind::Credit),
        GrantKind::Refund => EntryKind::Refund,
        GrantKind::Adjustment => EntryKind::Adjustment,
    };
    Some(Transaction { kind, at, postings })
}
