//! The one way in, for all four services: who calls, whether he may write now, what he says, and
//! what the log answers.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::log::Family;
use runledger_domain::time::Clock;
use runledger_eventlog::{Error, Log, Reports};
use runledger_service::auth::{Authenticator, Caller};
use runledger_service::limits::{self, Buckets};
use runledger_service::trace;
use tokio::time::Instant;

use crate::batch::{self, Answer, Context, Judged};
use crate::config::Rules;
use crate::facts::WireFact;

/// What an answer needs to get from the log to its caller: at most this much of the time left, and
/// at most a tenth of it.
const MARGIN_MAX: Duration = Duration::from_millis(100);
/// How soon to come again when the queue to Kafka is full, and when Kafka is away.
const BUSY_RETRY: Duration = Duration::from_millis(250);
const AWAY_RETRY: Duration = Duration::from_secs(1);
pub(crate) const UNKNOWN_RETRY: Duration = Duration::from_millis(500);
/// Most batches of one stream in flight, whatever is configured.
const IN_FLIGHT_MAX: usize = 64;

/// Takes facts in.
pub(crate) struct Ingest {
    log: Arc<dyn Log>,
    pub(crate) authenticator: Authenticator,
    buckets: Buckets,
    clock: Arc<dyn Clock>,
    append_timeout: Duration,
    batches_in_flight: usize,
    counts: Vec<Counts>,
}

/// What is counted of one family.
struct Counts {
    family: Family,
    accepted: Counter,
    refused: Counter,
    unknown: Counter,
    batch: Histogram,
}

/// What a batch takes from its caller's buckets: every fact of it and its size, as sent, so that it
/// is known before any work is done. What is then refused costs that work, and has been paid for.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    records: u64,
    bytes: u64,
}

/// Facts that may go into the log now: parsed, and paid for.
pub(crate) struct Ready {
    family: Family,
    judged: Judged,
}

/// Facts on their way into the log, behind all that was handed over before.
pub(crate) struct UnderWay {
    family: Family,
    judged: Judged,
    /// None: no fact of the batch is fit for the log.
    reports: Option<Reports>,
}

impl Ingest {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        authenticator: Authenticator,
        limits: &limits::Config,
        clock: Arc<dyn Clock>,
        rules: &Rules,
    ) -> Self {
        Self {
            log,
            authenticator,
            buckets: Buckets::new(limits),
            clock,
            append_timeout: rules.append_timeout,
            batches_in_flight: rules.batches_in_flight.clamp(1, IN_FLIGHT_MAX),
            counts: Family::ALL
                .iter()
                .map(|family| Counts::new(*family))
                .collect(),
        }
    }

    pub(crate) fn log(&self) -> &dyn Log {
        self.log.as_ref()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Takes one record from the caller's buckets. Errors as [`Self::pay`].
    pub(crate) fn pay_for_one(&self, caller: &Caller, bytes: u64) -> Result<(), Fault> {
        self.pay(caller, Cost { records: 1, bytes })
    }

    pub(crate) fn batches_in_flight(&self) -> usize {
        self.batches_in_flight
    }

    /// Checks that the caller may write and sends a batch, and says what it costs. Takes nothing
    /// from his buckets, and looks at no fact.
    ///
    /// # Errors
    /// Precondition, `KILL_SWITCH`; Invalid, `EMPTY_BATCH` or `BATCH_TOO_LARGE`; Forbidden,
    /// `SCOPE_REQUIRED`.
    pub(crate) fn admit<F: WireFact>(&self, caller: &Caller, facts: &[F]) -> Result<Cost, Fault> {
        caller.require_scope()?;
        limits::writes_allowed(caller)?;
        batch::check_size(facts.len())?;
        let bytes: usize = facts.iter().map(F::bytes).sum();
        Ok(Cost {
            records: facts.len() as u64,
            bytes: bytes as u64,
        })
    }

    /// Judges what was paid for.
    ///
    /// # Errors
    /// Forbidden, `SCOPE_REQUIRED`.
    pub(crate) fn judge<F: WireFact>(
        &self,
        caller: &Caller,
        facts: Vec<F>,
    ) -> Result<Ready, Fault> {
        let scope = caller.require_scope()?;
        if let Some(counts) = self.counts(F::FAMILY) {
            counts
                .batch
                .record(f64::from(u32::try_from(facts.len()).unwrap_or(u32::MAX)));
        }
        let context = Context {
            scope,
            actor: caller.principal,
            now: self.clock.now(),
            trace: trace::current(),
        };
        Ok(Ready {
            family: F::FAMILY,
            judged: batch::judge(facts, &context),
        })
    }

    /// Takes what the batch costs from the caller's buckets.
    ///
    /// # Errors
    /// Exhausted, `RATE_LIMITED`; Precondition, `LIMIT_TOO_LOW`.
    pub(crate) fn pay(&self, caller: &Caller, cost: Cost) -> Result<(), Fault> {
        self.buckets.take(caller, cost.records, cost.bytes)
    }

    /// Hands facts over to the log. To keep the order of batches, hand the next over only when this
    /// has returned.
    ///
    /// # Errors
    /// Exhausted, `LOG_BUSY`; Unavailable, `LOG_UNAVAILABLE`: nothing was appended.
    pub(crate) async fn hand_over(
        &self,
        ready: Ready,
        deadline: Instant,
    ) -> Result<UnderWay, Fault> {
        let Ready { family, mut judged } = ready;
        let entries = std::mem::take(&mut judged.entries);
        let reports = if entries.is_empty() {
            None
        } else {
            let handed_over = self.log.hand_over(entries, deadline).await;
            Some(handed_over.map_err(log_fault)?)
        };
        Ok(UnderWay {
            family,
            judged,
            reports,
        })
    }

    /// Waits for the delivery reports.
    ///
    /// # Errors
    /// Unavailable, `APPEND_UNKNOWN`: nobody knows whether any of it was appended.
    pub(crate) async fn answer(&self, under_way: UnderWay) -> Result<Answer, Fault> {
        let UnderWay {
            family,
            judged,
            reports,
        } = under_way;
        let outcomes = match reports {
            Some(reports) => reports.await,
            None => Vec::new(),
        };
        let answer = judged.answer(&outcomes);
        if let Some(counts) = self.counts(family) {
            counts.accepted.increment(answer.tally.accepted);
            counts.refused.increment(answer.tally.refused);
            counts.unknown.increment(answer.tally.unknown);
        }
        if answer.tally.is_all_unknown() {
            let fault = Fault::new(Kind::Unavailable, batch::UNKNOWN, batch::UNKNOWN_SAYS);
            return Err(fault.retry_after(UNKNOWN_RETRY));
        }
        Ok(answer)
    }

    /// Until when delivery reports are waited for, when the caller wants his answer by `asked`.
    pub(crate) fn deadline(&self, asked: Option<Instant>) -> Instant {
        let now = Instant::now();
        let own = now + self.append_timeout;
        let Some(asked) = asked else {
            return own;
        };
        let left = asked.saturating_duration_since(now);
        own.min(now + (left - (left / 10).min(MARGIN_MAX)))
    }

    fn counts(&self, family: Family) -> Option<&Counts> {
        self.counts.iter().find(|counts| counts.family == family)
    }
}

impl Counts {
    fn new(family: Family) -> Self {
        let facts = |outcome: &'static str| counter!("runledger_ingest_facts_total", "family" => family.as_str(), "outcome" => outcome);
        Self {
            family,
            accepted: facts("accepted"),
            refused: facts("refused"),
            unknown: facts("unknown"),
            batch: histogram!("runledger_ingest_batch_facts", "family" => family.as_str()),
        }
    }
}

/// What a caller hears when nothing was handed over to the log.
pub(crate) fn log_fault(error: Error) -> Fault {
    match &error {
        Error::Shed { .. } => Fault::new(
            Kind::Exhausted,
            "LOG_BUSY",
            "more is on its way into the log than this process holds; nothing was appended, retry",
        )
        .retry_after(BUSY_RETRY),
        Error::BatchTooLarge { .. } => Fault::new(
            Kind::Invalid,
            "BATCH_TOO_LARGE",
            "the batch is larger than this process ever holds on its way into the log; send it in parts",
        ),
        Error::Unavailable { .. } => Fault::new(
            Kind::Unavailable,
            "LOG_UNAVAILABLE",
            "the log cannot be reached; nothing was appended, retry",
        )
        .retry_after(AWAY_RETRY)
        .because(error),
        Error::NoTopic { .. }
        | Error::NoGenesis { .. }
        | Error::NotGenesis { .. }
        | Error::PartitionCount { .. }
        | Error::HashVersion { .. }
        | Error::OffsetOutOfRange { .. }
        | Error::TopicConfig { .. }
        | Error::NameTaken { .. }
        | Error::NoPartition(_)
        | Error::Config { .. }
        | Error::Refused { .. } => Fault::internal(error),
    }
}
