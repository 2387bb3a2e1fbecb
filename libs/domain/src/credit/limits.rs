//! How much may be spent.

use std::collections::BTreeMap;

use super::account::micros;
use super::decide::{invalid, precondition};
use super::{Account, Beyond, Hold, Limit, Limits, Spender, Spent, THRESHOLDS_MAX, Threshold};
use crate::decision::Rejection;
use crate::ids::Name;
use crate::money::Credits;
use crate::time::Timestamp;

/// The limits that spending or holding so much more would pass: what is spent and held already counts.
pub(super) fn passed(
    account: &Account,
    amount: Credits,
    spender: &Spender,
    at: Timestamp,
) -> Vec<Limit> {
    let all = Limit::ALL.iter().copied();
    all.filter(|limit| {
        let most = account.limits.of(*limit);
        most.is_some_and(|most| {
            let used = account.used_up(*limit, spender, at);
            used.is_some_and(|used| used + micros(amount) > micros(most))
        })
    })
    .collect()
}

/// Whether so much more may be set aside; answers the limits that this passes all the same.
pub(super) fn within(
    account: &Account,
    amount: Credits,
    spender: &Spender,
    at: Timestamp,
) -> Result<Vec<Limit>, Rejection> {
    let over = passed(account, amount, spender, at);
    match (account.limits.beyond, over.first()) {
        (Beyond::Flag, _) | (_, None) => Ok(over),
        (Beyond::RejectHolds | Beyond::Reject, Some(limit)) => {
            let most = account.limits.of(*limit).unwrap_or_default();
            let message = format!(
                "{} may spend {most} credits, and {amount} more would pass that; hold less, or raise the limit",
                limit.whose()
            );
            Err(precondition("SPEND_LIMIT", message))
        }
    }
}

impl Limits {
    fn of(&self, limit: Limit) -> Option<Credits> {
        match limit {
            Limit::Day => self.day,
            Limit::Month => self.month,
            Limit::Agent => self.agent,
            Limit::Run => self.run,
        }
    }
}

impl Limit {
    const fn whose(self) -> &'static str {
        match self {
            Self::Day => "within a day the account",
            Self::Month => "within a month the account",
            Self::Agent => "an agent",
            Self::Run => "a run",
        }
    }
}

fn spent_by<K: Ord>(all: &BTreeMap<K, Spent>, who: &K) -> Credits {
    all.get(who).map_or(Credits::ZERO, |spent| spent.amount)
}

impl Account {
    /// What is spent and held of what a limit limits; `None`: it does not concern this spender.
    fn used_up(&self, limit: Limit, spender: &Spender, at: Timestamp) -> Option<i128> {
        let spending = &self.spending;
        let his = |hold: &&Hold| match limit {
            Limit::Day | Limit::Month => true,
            Limit::Agent => hold.spender.agent == spender.agent,
            Limit::Run => hold.spender.run == spender.run,
        };
        let spent = match limit {
            Limit::Day => spending.of_day(at, self.zone),
            Limit::Month => spending.of_month(at, self.zone),
            Limit::Agent => spent_by(&spending.of_agents, spender.agent.as_ref()?),
            Limit::Run => spent_by(&spending.of_runs, spender.run.as_ref()?),
        };
        let held = self.holds.values().filter(his);
        Some(micros(spent) + held.map(|hold| micros(hold.amount)).sum::<i128>())
    }
}

pub(super) fn check_limits(limits: &Limits) -> Result<(), Rejection> {
    let parts = [limits.day, limits.month, limits.agent, limits.run];
    let mut all = parts.into_iter().flatten().chain([limits.overdraft]);
    if all.any(Credits::is_negative) {
        return Err(invalid("AMOUNT_NEGATIVE", "a limit must not be below zero"));
    }
    Ok(())
}

pub(super) fn check_thresholds(thresholds: &BTreeMap<Name, Threshold>) -> Result<(), Rejection> {
    if thresholds.len() > THRESHOLDS_MAX {
        let message = format!("an account has at most {THRESHOLDS_MAX} thresholds");
        return Err(invalid("TOO_MANY_THRESHOLDS", message));
    }
    Ok(())
}
