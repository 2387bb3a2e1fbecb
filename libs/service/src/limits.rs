//! Token buckets, one set a scope and process, and the kill switch.
//!
//! A bucket holds twice its rate. It is kept as a debt in time, so a changed rate takes effect at
//! once and nothing needs refilling. The rates are the whole installation's: each process allows
//! its share, the rate divided by the replicas.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::scope::Scope;
use serde::Deserialize;
use tokio::time::Instant;

use crate::auth::Caller;

/// How many seconds of its rate a bucket holds.
const BURST: Duration = Duration::from_secs(2);

/// Section `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many processes of this role share each tenant's rates.
    pub replicas: u32,
    /// How many scopes are kept track of at once; one forgotten begins with full buckets.
    pub scopes_max: u64,
}

/// The buckets of every scope that wrote lately.
pub struct Buckets {
    replicas: u32,
    scopes: Cache<Scope, Arc<Mutex<Debts>>>,
}

/// Until when each bucket is spoken for.
#[derive(Clone, Copy)]
struct Debts {
    records: Instant,
    bytes: Instant,
    commands: Instant,
}

/// What is asked of one bucket.
struct Ask {
    what: &'static str,
    rate: u64,
    amount: u64,
}

enum Refusal {
    /// Would never be allowed: more than the bucket holds.
    Never { ask: Ask, most: u64 },
    /// Allowed after this long.
    Later(Ask, Duration),
}

impl Buckets {
    pub fn new(config: &Config) -> Self {
        let scopes = Cache::builder()
            .max_capacity(config.scopes_max)
            // A bucket is full again after this long without use, so forgetting it changes nothing.
            .time_to_idle(BURST * 2)
            .build();
        Self {
            replicas: config.replicas.max(1),
            scopes,
        }
    }

    /// Takes `records` and `bytes` from the caller's buckets, both or neither.
    ///
    /// # Errors
    /// Exhausted, `RATE_LIMITED`, with the time to wait; Precondition, `LIMIT_TOO_LOW`, when no
    /// waiting would help; Forbidden, `SCOPE_REQUIRED`, for an operator.
    pub fn take(&self, caller: &Caller, records: u64, bytes: u64) -> Result<(), Fault> {
        self.take_at(caller, records, bytes, Instant::now())
    }

    /// Takes one from the caller's bucket of commands. Errors as [`Buckets::take`].
    pub fn take_command(&self, caller: &Caller) -> Result<(), Fault> {
        let now = Instant::now();
        let debts = self.debts(caller.require_scope()?, now);
        let ask = Ask {
            what: "commands",
            rate: caller.limits.commands_per_second,
            amount: 1,
        };
        let mut debts = debts.lock().unwrap_or_else(PoisonError::into_inner);
        debts.commands = self
            .after(debts.commands, now, ask)
            .map_err(Refusal::into_fault)?;
        Ok(())
    }

    fn take_at(
        &self,
        caller: &Caller,
        records: u64,
        bytes: u64,
        now: Instant,
    ) -> Result<(), Fault> {
        let debts = self.debts(caller.require_scope()?, now);
        let limits = caller.limits;
        let records = Ask {
            what: "records",
            rate: limits.records_per_second,
            amount: records,
        };
        let bytes = Ask {
            what: "bytes",
            rate: limits.bytes_per_second,
            amount: bytes,
        };
        let mut debts = debts.lock().unwrap_or_else(PoisonError::into_inner);
        let after_records = self
            .after(debts.records, now, records)
            .map_err(Refusal::into_fault)?;
        debts.bytes = self
            .after(debts.bytes, now, bytes)
            .map_err(Refusal::into_fault)?;
        debts.records = after_records;
        Ok(())
    }

    /// A scope that is new owes nothing at `now`: a later moment would already cost it.
    fn debts(&self, scope: Scope, now: Instant) -> Arc<Mutex<Debts>> {
        self.scopes.get_with(scope, || {
            Arc::new(Mutex::new(Debts {
                records: now,
                bytes: now,
                commands: now,
            }))
        })
    }

    /// The debt after `ask` was granted.
    fn after(&self, debt: Instant, now: Instant, ask: Ask) -> Result<Instant, Refusal> {
        let share = u128::from(ask.rate);
        let cost = nanos(
            u128::from(ask.amount) * u128::from(self.replicas) * 1_000_000_000,
            share,
        );
        if cost > BURST {
            let most = share * u128::from(BURST.as_secs()) / u128::from(self.replicas);
            return Err(Refusal::Never {
                ask,
                most: u64::try_from(most).unwrap_or(u64::MAX),
            });
        }
        let owed = debt.saturating_duration_since(now) + cost;
        match owed.checked_sub(BURST) {
            Some(wait) if !wait.is_zero() => Err(Refusal::Later(ask, wait)),
            _ => Ok(now + owed),
        }
    }
}

/// `amount / rate` as nanoseconds; longer than any burst when the rate is zero.
fn nanos(amount: u128, rate: u128) -> Duration {
    let nanos = amount
        .checked_div(rate)
        .unwrap_or(if amount == 0 { 0 } else { u128::MAX });
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Refusal {
    fn into_fault(self) -> Fault {
        match self {
            Self::Never {
                ask: Ask { what, amount, .. },
                most,
            } => {
                metrics::counter!("runledger_limited_total", "limit" => what, "kind" => "never")
                    .increment(1);
                Fault::new(
                    Kind::Precondition,
                    "LIMIT_TOO_LOW",
                    format!(
                        "{amount} {what} at once are more than this tenant's limit ever allows ({most}); send smaller batches or have the limit raised"
                    ),
                )
            }
            Self::Later(Ask { what, rate, .. }, wait) => {
                metrics::counter!("runledger_limited_total", "limit" => what, "kind" => "later")
                    .increment(1);
                Fault::new(
                    Kind::Exhausted,
                    "RATE_LIMITED",
                    format!("this tenant's limit of {rate} {what} a second is reached; retry after {} ms", wait.as_millis() + 1),
                )
                .retry_after(wait)
            }
        }
    }
}

/// Whether the caller may write now.
///
/// # Errors
/// Precondition, `KILL_SWITCH`, with the words of whoever turned it on.
pub fn writes_allowed(caller: &Caller) -> Result<(), Fault> {
    let Some(switch) = &caller.kill_switch else {
        return Ok(());
    };
    let whose = if switch.global {
        "all tenants"
    } else {
        "this tenant"
    };
    Err(Fault::new(
        Kind::Precondition,
        "KILL_SWITCH",
        format!(
            "writes of {whose} are stopped by the kill switch ({}); reads go on",
            switch.reason
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{KillSwitch, Limits};
    use crate::fixtures::caller;

    fn limited(records_per_second: u64, bytes_per_second: u64) -> Caller {
        let limits = Limits {
            records_per_second,
            bytes_per_second,
            commands_per_second: 1,
        };
        Caller { limits, ..caller() }
    }

    fn buckets(replicas: u32) -> Buckets {
        Buckets::new(&Config {
            replicas,
            scopes_max: 100,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_holds_twice_its_rate_and_fills_with_time() {
        let (buckets, caller) = (buckets(1), limited(100, 1_000_000));
        let start = Instant::now();
        assert!(buckets.take_at(&caller, 150, 0, start).is_ok());
        assert!(buckets.take_at(&caller, 50, 0, start).is_ok());
        let fault = buckets.take_at(&caller, 1, 0, start).unwrap_err();
        assert_eq!(
            (fault.kind, fault.reason),
            (Kind::Exhausted, "RATE_LIMITED".into())
        );
        assert_eq!(fault.retry_after, Some(Duration::from_millis(10)));
        assert!(
            buckets
                .take_at(&caller, 1, 0, start + Duration::from_millis(9))
                .is_err()
        );
        assert!(
            buckets
                .take_at(&caller, 1, 0, start + Duration::from_millis(10))
                .is_ok()
        );
        // Full again, and no fuller than full.
        let later = start + Duration::from_secs(3_600);
        assert!(buckets.take_at(&caller, 200, 0, later).is_ok());
        assert!(buckets.take_at(&caller, 1, 0, later).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn both_or_neither() {
        let (buckets, caller) = (buckets(1), limited(100, 1_000));
        let start = Instant::now();
        assert!(buckets.take_at(&caller, 1, 2_000, start).is_ok());
        assert!(buckets.take_at(&caller, 199, 1, start).is_err());
        assert!(buckets.take_at(&caller, 199, 0, start).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_be_allowed_says_so() {
        let (buckets, caller) = (buckets(4), limited(100, 1_000_000));
        // A quarter of 100 a second, twice: 50 at once.
        assert!(buckets.take(&caller, 50, 0).is_ok());
        let fault = buckets.take(&caller, 51, 0).unwrap_err();
        assert_eq!(
            (fault.kind, fault.reason),
            (Kind::Precondition, "LIMIT_TOO_LOW".into())
        );
        assert!(fault.message.contains("(50)"), "{}", fault.message);
        let none = limited(0, 0);
        assert_eq!(
            buckets.take(&none, 1, 1).unwrap_err().reason,
            "LIMIT_TOO_LOW"
        );
        assert_eq!(
            buckets
                .take(&limited(u64::MAX, u64::MAX), u64::MAX, u64::MAX)
                .unwrap_err()
                .reason,
            "LIMIT_TOO_LOW"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_limit_takes_effect_at_once() {
        let buckets = buckets(1);
        assert!(buckets.take(&limited(10, 1_000), 20, 0).is_ok());
        assert!(buckets.take(&limited(10, 1_000), 5, 0).is_err());
        tokio::time::advance(Duration::from_millis(10)).await;
        assert!(buckets.take(&limited(10_000, 1_000), 5, 0).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn scopes_do_not_share_and_operators_have_none() {
        let buckets = buckets(1);
        let live = limited(1, 1_000);
        let sandbox = Caller {
            scope: crate::fixtures::sandbox().scope,
            ..live.clone()
        };
        assert!(buckets.take(&live, 2, 0).is_ok());
        assert!(buckets.take(&live, 1, 0).is_err());
        assert!(buckets.take(&sandbox, 2, 0).is_ok());
        assert!(buckets.take_command(&live).is_ok() && buckets.take_command(&live).is_ok());
        assert_eq!(
            buckets.take_command(&live).unwrap_err().reason,
            "RATE_LIMITED"
        );
        let operator = Caller {
            scope: None,
            ..live
        };
        assert_eq!(
            buckets.take(&operator, 1, 0).unwrap_err().reason,
            "SCOPE_REQUIRED"
        );
    }

    #[test]
    fn the_kill_switch_says_why() {
        assert!(writes_allowed(&caller()).is_ok());
        let kill_switch = Some(KillSwitch {
            reason: "runaway agent".into(),
            global: false,
        });
        let fault = writes_allowed(&Caller {
            kill_switch,
            ..caller()
        })
        .unwrap_err();
        assert_eq!(
            (fault.kind, fault.reason),
            (Kind::Precondition, "KILL_SWITCH".into())
        );
        assert!(fault.message.contains("runaway agent"));
    }
}
