//! What time alone moves: grants that take effect, grants and holds that expire.

use super::account::{kind_of_first, negated};
use super::draw::given_back;
use super::{Account, EntryKind, Grant, GrantKind, Ledger, Posting, Transaction};
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
}

/// What has moved up to and including `at` since the last decision, each at its own moment.
pub fn lapse(account: &Account, at: Timestamp) -> Vec<Transaction> {
    let mut events: Vec<(Timestamp, Event)> =
        events(account).filter(|(due, _)| *due <= at).collect();
    if events.is_empty() {
        return Vec::new();
    }
    events.sort_unstable();
    let mut scratch = account.clone();
    let mut transactions = Vec::with_capacity(events.len());
    for (due, event) in events {
        let transaction = match event {
            Event::HoldExpires(id) => release(&scratch, id, due),
            Event::GrantExpires(id) => expire(&scratch, id, due),
            Event::GrantBegins(_, id) => credit(&scratch, id, due),
        };
        if let Some(transaction) = transaction {
            scratch.post(&transaction);
            transactions.push(transaction);
        }
    }
    transactions
}

/// From when on [`lapse`] has something to say.
pub fn next_lapse(account: &Account) -> Option<Timestamp> {
    events(account).map(|(due, _)| due).min()
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
