//! Inward: from the wire and from stored bytes to the domain. Every fault of a message at once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use runledger_domain::Fact;
use runledger_domain::fault::Violation;
use runledger_domain::ids::{Incarnation, RecordId};
use runledger_domain::log::{Cause, Partition, Position, Stream};
use runledger_domain::time::{FUTURE_MAX, PAST_MAX, Timestamp, micros};

use crate::{common, message, run, schedule};

pub mod analytics;
mod approval;
pub mod billing;
mod directory;
pub mod fields;
mod message_fact;
mod policy;
pub mod price;
mod rejection;
mod run_fact;
mod schedule_fact;
pub mod simulation;
mod skip;
mod stored;
mod usage_fact;

pub use approval::{stored_approval_command, stored_approval_decision, tool_call_request};
pub use billing::{stored_account_command, stored_account_posted};
pub use directory::stored_directory_changed;
use fields::{Fields, Path, reason};
pub use policy::{policy, stored_policy_book, stored_policy_changed, stored_policy_command};
pub use price::{stored_prices_published, stored_publish_prices};
pub use rejection::stored_rejection;
pub use simulation::simulate;
pub use skip::{Skip, skip};
pub use stored::{Error, Stored, fact, genesis, payload, record, skipped};

/// A fact as a caller reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    pub id: RecordId,
    pub occurred_at: Timestamp,
    pub cause: Option<Cause>,
    pub fact: Fact,
}

/// Between which moments a reported time must lie.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    earliest: Timestamp,
    latest: Timestamp,
}

impl Bounds {
    /// What is sound when our clock says `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            earliest: now
                .checked_sub_signed(PAST_MAX)
                .unwrap_or(DateTime::<Utc>::MIN_UTC),
            latest: now
                .checked_add_signed(FUTURE_MAX)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }
}

pub fn run_fact(
    wire: run::v1::RunFact,
    bounds: &Bounds,
    at: Path<'_>,
) -> Result<Reported, Vec<Violation>> {
    use run::v1::run_fact::Fact as Wire;
    let run::v1::RunFact {
        id,
        occurred_at,
        cause_id,
        cause_stream,
        fact,
    } = wire;
    let cause = (cause_id.as_str(), cause_stream.as_str());
    reported(&id, occurred_at, cause, bounds, at, |see| {
        let fact = match see.required("fact", fact)? {
            Wire::RunStarted(fact) => see.within("run_started", |see| run_fact::started(fact, see)),
            Wire::RunProgressed(fact) => {
                see.within("run_progressed", |see| run_fact::progressed(fact, see))
            }
            Wire::RunEnded(fact) => see.within("run_ended", |see| run_fact::ended(fact, see)),
            Wire::StepStarted(fact) => {
                see.within("step_started", |see| run_fact::step_started(fact, see))
            }
            Wire::StepEnded(fact) => {
                see.within("step_ended", |see| run_fact::step_ended(fact, see))
            }
            Wire::UsageRecorded(fact) => {
                see.within("usage_recorded", |see| run_fact::usage_recorded(fact, see))
            }
        };
        fact.map(Fact::Run)
    })
}

pub fn tool_call_fact(
    wire: run::v1::ToolCallFact,
    bounds: &Bounds,
    at: Path<'_>,
) -> Result<Reported, Vec<Violation>> {
    use run::v1::tool_call_fact::Fact as Wire;
    let run::v1::ToolCallFact {
        id,
        occurred_at,
        cause_id,
        cause_stream,
        fact,
    } = wire;
    let cause = (cause_id.as_str(), cause_stream.as_str());
    reported(&id, occurred_at, cause, bounds, at, |see| {
        let fact = match see.required("fact", fact)? {
            Wire::ToolCallStarted(fact) => see.within("tool_call_started", |see| {
                run_fact::tool_call_started(fact, see)
            }),
            Wire::ToolCallEnded(fact) => see.within("tool_call_ended", |see| {
                run_fact::tool_call_ended(fact, see)
            }),
        };
        fact.map(Fact::Run)
    })
}

pub fn schedule_fact(
    wire: schedule::v1::ScheduleFact,
    bounds: &Bounds,
    at: Path<'_>,
) -> Result<Reported, Vec<Violation>> {
    use schedule::v1::schedule_fact::Fact as Wire;
    let schedule::v1::ScheduleFact {
        id,
        occurred_at,
        cause_id,
        cause_stream,
        fact,
    } = wire;
    let cause = (cause_id.as_str(), cause_stream.as_str());
    reported(&id, occurred_at, cause, bounds, at, |see| {
        let Wire::OccurrenceRecorded(fact) = see.required("fact", fact)?;
        see.within("occurrence_recorded", |see| {
            schedule_fact::occurrence_recorded(fact, see)
        })
        .map(Fact::Schedule)
    })
}

pub fn message_fact(
    wire: message::v1::MessageFact,
    bounds: &Bounds,
    at: Path<'_>,
) -> Result<Reported, Vec<Violation>> {
    use message::v1::message_fact::Fact as Wire;
    let message::v1::MessageFact {
        id,
        occurred_at,
        cause_id,
        cause_stream,
        fact,
    } = wire;
    let cause = (cause_id.as_str(), cause_stream.as_str());
    reported(&id, occurred_at, cause, bounds, at, |see| {
        let Wire::MessageRecorded(fact) = see.required("fact", fact)?;
        see.within("message_recorded", |see| {
            message_fact::message_recorded(fact, see)
        })
        .map(Fact::Message)
    })
}

/// What all facts have in common.
fn reported(
    id: &str,
    occurred_at: Option<prost_types::Timestamp>,
    (cause_id, cause_stream): (&str, &str),
    bounds: &Bounds,
    at: Path<'_>,
    fact: impl FnOnce(&mut Fields<'_>) -> Option<Fact>,
) -> Result<Reported, Vec<Violation>> {
    let mut faults = Vec::new();
    let mut see = Fields::new(at, &mut faults);
    let id = see.uuid("id", id).map(RecordId::new);
    let occurred_at = see.time("occurred_at", occurred_at);
    if let Some(moment) = occurred_at {
        if moment < bounds.earliest {
            let why = "lies more than ten years back: check the reporter's clock and the unit";
            see.fault("occurred_at", reason::OUT_OF_RANGE, why);
        }
        if moment > bounds.latest {
            let why = "lies more than five minutes ahead: check the reporter's clock and the unit";
            see.fault("occurred_at", reason::OUT_OF_RANGE, why);
        }
    }
    let cause = cause(cause_id, cause_stream, &mut see);
    let fact = fact(&mut see);
    match (id, occurred_at, fact) {
        (Some(id), Some(occurred_at), Some(fact)) if faults.is_empty() => Ok(Reported {
            id,
            occurred_at,
            cause: cause.map(|cause| relative(cause, &fact)),
            fact,
        }),
        _ => Err(faults),
    }
}

fn cause(id: &str, stream: &str, see: &mut Fields<'_>) -> Option<Cause> {
    let known = Stream::parse(stream);
    if !stream.is_empty() && id.is_empty() {
        let why = "goes only with cause_id, which names a record of that stream";
        see.fault("cause_stream", reason::NOT_ALLOWED, why);
    } else if !stream.is_empty() && known.is_none() {
        let why = "must be the name of a stream, for example run/r-1";
        see.fault("cause_stream", reason::UNKNOWN_VALUE, why);
    }
    Some(Cause {
        id: see.optional_uuid("cause_id", id).map(RecordId::new)?,
        stream: known.map(|stream| stream.as_str().into()),
    })
}

/// A cause in the fact's own stream is kept without it, so that both ways to say it are one.
fn relative(cause: Cause, fact: &Fact) -> Cause {
    let own = fact.stream();
    Cause {
        stream: cause.stream.filter(|name| **name != *own.as_str()),
        ..cause
    }
}

/// A time that the wire may not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    #[error("must be a moment of the years 1 to 9999 with 0 to 999999999 nanoseconds")]
    Timestamp,
    #[error("must be a span of 0 to 10,000 years with 0 to 999999999 nanoseconds")]
    Duration,
}

/// Longest span that the wire's Duration may say: 10,000 years.
pub const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, between which the wire's Timestamp lies.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A moment, cut to whole microseconds.
pub fn timestamp(wire: &prost_types::Timestamp) -> Result<Timestamp, InvalidTime> {
    let nanos = nanos(wire.nanos).ok_or(InvalidTime::Timestamp)?;
    if !TIMESTAMP_SECONDS.contains(&wire.seconds) {
        return Err(InvalidTime::Timestamp);
    }
    DateTime::from_timestamp(wire.seconds, nanos)
        .map(micros)
        .ok_or(InvalidTime::Timestamp)
}

/// A span of time, not negative, cut to whole microseconds.
pub fn duration(wire: &prost_types::Duration) -> Result<Duration, InvalidTime> {
    let nanos = nanos(wire.nanos).ok_or(InvalidTime::Duration)?;
    match u64::try_from(wire.seconds) {
        Ok(seconds) if wire.seconds <= DURATION_SECONDS_MAX => {
            Ok(Duration::new(seconds, nanos - nanos % 1_000))
        }
        _ => Err(InvalidTime::Duration),
    }
}

fn nanos(nanos: i32) -> Option<u32> {
    u32::try_from(nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)
}

/// A position that a caller hands back.
pub fn position(wire: &common::v1::Position, at: Path<'_>) -> Result<Position, Vec<Violation>> {
    let mut faults = Vec::new();
    let mut see = Fields::new(at, &mut faults);
    let family = wire.family.parse().ok();
    if family.is_none() {
        see.fault(
            "family",
            reason::UNKNOWN_VALUE,
            "must be the family of a topic, for example run",
        );
    }
    let incarnation = see
        .uuid("incarnation", &wire.incarnation)
        .map(Incarnation::new);
    match (family, incarnation) {
        (Some(family), Some(incarnation)) if faults.is_empty() => Ok(Position {
            partition: Partition {
                family,
                number: wire.partition,
            },
            incarnation,
            offset: wire.offset,
        }),
        _ => Err(faults),
    }
}

/// What a read is asked to wait for. The tokens are opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    pub at_least: Vec<String>,
    /// `None`: the default of the reader.
    pub max_wait: Option<Duration>,
}

/// Most tokens in one read.
pub const TOKENS_MAX: usize = 64;
/// Longest wait that a read may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

pub fn read_options(
    wire: Option<common::v1::ReadOptions>,
    at: Path<'_>,
) -> Result<ReadOptions, Vec<Violation>> {
    let Some(wire) = wire else {
        return Ok(ReadOptions::default());
    };
    let mut faults = Vec::new();
    let mut see = Fields::new(at, &mut faults);
    if wire.at_least.len() > TOKENS_MAX {
        see.fault(
            "at_least",
            reason::TOO_MANY,
            format_args!("must have at most {TOKENS_MAX} tokens"),
        );
    }
    let max_wait = see.optional_duration("max_wait", wire.max_wait);
    if max_wait.is_some_and(|wait| wait > WAIT_MAX) {
        see.fault(
            "max_wait",
            reason::OUT_OF_RANGE,
            "must be at most 10 seconds",
        );
    }
    if faults.is_empty() {
        Ok(ReadOptions {
            at_least: wire.at_least,
            max_wait,
        })
    } else {
        Err(faults)
    }
}
