//! Time comes from a [`Clock`] that is handed in; nothing here looks at one by itself.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// A moment, in UTC, to the microsecond: what Postgres keeps.
pub type Timestamp = DateTime<Utc>;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        micros(Utc::now())
    }
}

/// `at` cut to whole microseconds, so that what is stored equals what was said.
pub fn micros(at: Timestamp) -> Timestamp {
    at.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(at)
}

/// How far a reported time may lie behind our clock.
pub const PAST_MAX: TimeDelta = TimeDelta::days(3_653);
/// How far a reported time may lie ahead of our clock.
pub const FUTURE_MAX: TimeDelta = TimeDelta::minutes(5);
