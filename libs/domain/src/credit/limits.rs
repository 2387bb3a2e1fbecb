//! How much may be spent.

use std::collections::BTreeMap;

use super::account::micros;
use super::decide::{invalid, precondition};
use super::{Account, Limits, Spender, THRESHOLDS_MAX, Threshold};
use crate::decision::Rejection;
use crate::ids::Name;
use crate::money::Credits;
use crate::time::Timestamp;

/// Whether so much more may be set aside: what is spent and held already counts.
pub(super) fn within(
    account: &Account,
    amount: Credits,
    spender: &Spender,
    at: Timestamp,
) -> Result<(), Rejection> {
    let Limits {
        day,
        month,
        agent,
        run,
        ..
    } = account.limits;
    let mut spending = account.spending.clone();
    spending.turn(at, account.zone);
    let held = |is_his: &dyn Fn(&Spender) -> bool| -> i128 {
        let holds = account.holds.values();
        let his = holds.filter(|hold| is_his(&hold.spender));
        his.map(|hold| micros(hold.amount)).sum()
    };
    let of_agent = spender.agent.as_ref().map(|id| {
        let spent = spending.of_agents.get(id).copied().unwrap_or_default();
        (spent, held(&|one| one.agent.as_ref() == Some(id)))
    });
    let of_run = spender.run.as_ref().map(|id| {
        let spent = spending.of_runs.get(id).copied().unwrap_or_default();
        (spent, held(&|one| one.run.as_ref() == Some(id)))
    });
    let all = held(&|_| true);
    for (what, limit, used) in [
        ("a day", day, Some((spending.of_day, all))),
        ("a month", month, Some((spending.of_month, all))),
        ("an agent", agent, of_agent),
        ("a run", run, of_run),
    ] {
        let (Some(limit), Some((spent, held))) = (limit, used) else {
            continue;
        };
        if micros(spent) + held + micros(amount) > micros(limit) {
            let message = format!(
                "{what} may spend {limit} credits; {spent} are spent, and some may be held"
            );
            return Err(precondition("SPEND_LIMIT", message));
        }
    }
    Ok(())
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
