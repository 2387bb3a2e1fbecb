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
        let debts = self.debts(caller.require_scope()?);
        let now = Instant::now();
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
        let debts = self.debts(caller.require_scope()?);
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

    fn debts(&self, scope: Scope) -> Arc<Mutex<Debts>> {
        self.scopes.get_with(scope, || {
            let now = Instant::now();
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
