//! Time comes from a [`Clock`] that is handed in; nothing here looks at one by itself.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike as _, Utc};

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
    let nanos = at.nanosecond();
    at.with_nanosecond(nanos - nanos % 1_000).unwrap_or(at)
}

/// `at`, brought into the years 1 to 9999: beyond them lies what databases or their users cannot read.
pub fn storable(at: Timestamp) -> Timestamp {
    const fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        match NaiveDate::from_ymd_opt(year, month, day) {
            Some(date) => date,
            None => NaiveDate::MIN,
        }
    }
    let least = DateTime::from_naive_utc_and_offset(day(1, 1, 1).and_time(NaiveTime::MIN), Utc);
    let greatest =
        DateTime::from_naive_utc_and_offset(day(9999, 12, 31).and_time(NaiveTime::MIN), Utc);
    at.clamp(least, greatest)
}

/// How far a reported time may lie behind our clock.
pub const PAST_MAX: TimeDelta = TimeDelta::days(3_653);
/// How far a reported time may lie ahead of our clock.
pub const FUTURE_MAX: TimeDelta = TimeDelta::minutes(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_cut_to_microseconds_however_far() {
        for seconds in [-62_135_596_800, -1, 0, 1_767_225_600, 253_402_300_799] {
            let at = DateTime::from_timestamp(seconds, 123_456_789).unwrap();
            let cut = DateTime::from_timestamp(seconds, 123_456_000).unwrap();
            assert_eq!(micros(at), cut, "{at}");
            assert_eq!(micros(cut), cut, "{at}");
        }
    }

    #[test]
    fn what_nobody_can_read_is_bent_not_refused() {
        for far in [Timestamp::MIN_UTC, Timestamp::MAX_UTC] {
            assert!((1..=9999).contains(&chrono::Datelike::year(&storable(far))));
        }
        assert_eq!(storable(DateTime::UNIX_EPOCH), DateTime::UNIX_EPOCH);
    }
}
