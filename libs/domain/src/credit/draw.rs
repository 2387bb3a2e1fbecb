//! Where credits are taken from, and where they go back to.

use super::account::negated;
use super::{Account, Draw, Grant, Ledger, Posting, Source};
use crate::ids::GrantId;
use crate::money::Credits;
use crate::time::Timestamp;

/// How far one may go for credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// As far as there is anything: `None` when that is not enough.
    Available,
    /// Then into the overdraft.
    Overdraft,
    /// Then into debt: it is never refused.
    Unpaid,
}

/// Takes `amount` from grants in their order (priority, then expiry, then age), then from beyond them.
/// `None`: there is not so much.
pub(super) fn draw(
    account: &Account,
    amount: Credits,
    used_at: Timestamp,
    reach: Reach,
) -> Option<Vec<Draw>> {
    let mut draws = Vec::new();
    let mut left = amount;
    let mut take = |from: Source, most: Credits, left: &mut Credits| {
        let amount = most.min(*left);
        if amount.is_positive() {
            draws.push(Draw { from, amount });
            *left = left.minus(amount).unwrap_or(Credits::ZERO);
        }
    };
    let mut paying: Vec<(&GrantId, &Grant)> = account.grants.iter().collect();
    paying.retain(|(_, grant)| grant.pays(used_at));
    paying.sort_by_key(|(_, grant)| {
        let expires = grant.terms.expires_at;
        (
            grant.terms.priority,
            expires.is_none(),
            expires,
            grant.ordinal,
        )
    });
    for (id, grant) in paying {
        if left.is_zero() {
            break;
        }
        take(Source::Grant(*id), grant.remaining, &mut left);
    }
    if reach != Reach::Available {
        let free = account.limits.overdraft.minus(account.overdrawn());
        take(Source::Overdraft, free.unwrap_or_default(), &mut left);
    }
    if reach == Reach::Unpaid {
        take(Source::Unpaid, left, &mut left);
    }
    left.is_zero().then_some(draws)
}

/// Legs that take what was drawn.
pub(super) fn taken(draws: &[Draw]) -> impl Iterator<Item = Posting> {
    draws.iter().map(|draw| Posting {
        ledger: match draw.from {
            Source::Grant(id) => Ledger::Grant(id),
            Source::Overdraft => Ledger::Overdraft,
            Source::Unpaid => Ledger::Unpaid,
        },
        amount: negated(draw.amount),
    })
}

/// Legs that give it back at a moment. What came from a grant that is gone by then goes with it.
pub(super) fn given_back(account: &Account, draws: &[Draw], at: Timestamp) -> Vec<Posting> {
    let back = draws.iter().map(|draw| Posting {
        ledger: match draw.from {
            Source::Overdraft => Ledger::Overdraft,
            Source::Unpaid => Ledger::Unpaid,
            Source::Grant(id) => match account.grants.get(&id) {
                Some(grant) if grant.voided => Ledger::Issued,
                Some(grant) if !grant.has_expired(at) => Ledger::Grant(id),
                Some(_) | None => Ledger::Expired,
            },
        },
        amount: draw.amount,
    });
    back.collect()
}

/// What is left of draws when `amount` of them is used, first drawn first.
pub(super) fn rest_of(draws: &[Draw], amount: Credits) -> Vec<Draw> {
    let mut used = amount;
    let rest = draws.iter().map(|draw| {
        let part = draw.amount.min(used);
        used = used.minus(part).unwrap_or_default();
        Draw {
            amount: draw.amount.minus(part).unwrap_or_default(),
            ..*draw
        }
    });
    rest.filter(|draw| draw.amount.is_positive()).collect()
}
