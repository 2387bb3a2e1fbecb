//! Days and months as people count them where they are.

use std::fmt;
use std::str::FromStr;

use chrono::{
    Datelike as _, Days, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta,
    TimeZone as _, Timelike as _,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A time zone by its name in the IANA database, for example `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(Tz);

/// No zone of that name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the name of a time zone, for example Europe/Berlin")]
pub struct UnknownZone;

/// A calendar day of a zone, counted from the first day of the year 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(i32);

/// A calendar month of a zone, counted from January of the year 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Month(i32);

/// Last year that records can speak of.
const YEAR_MAX: i32 = 9999;

/// How far apart things are that happen again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    Days(u32),
    Months(u32),
}

impl Default for Zone {
    fn default() -> Self {
        Self(Tz::UTC)
    }
}

impl Zone {
    pub fn day(self, at: Timestamp) -> Day {
        Day(at.with_timezone(&self.0).num_days_from_ce())
    }

    pub fn month(self, at: Timestamp) -> Month {
        let local = at.with_timezone(&self.0);
        Month(local.year() * 12 + local.month0().cast_signed())
    }

    /// The days that any part of a range lies in: when each begins, and its name, as `2026-11-23`.
    pub fn days(self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, String)> {
        let first = from.with_timezone(&self.0).date_naive();
        let days = first.iter_days().map(|day| (day, day.to_string()));
        self.periods(days, to)
    }

    /// The same of months, as `2026-11`.
    pub fn months(self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, String)> {
        let first = from.with_timezone(&self.0).date_naive();
        let first = first.with_day(1).unwrap_or(first);
        let months = (0..).map_while(|month| first.checked_add_months(Months::new(month)));
        let months = months.map(|month| (month, month.format("%Y-%m").to_string()));
        self.periods(months, to)
    }

    /// The same of weeks, each by its Monday.
    pub fn weeks(self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, String)> {
        let first = from.with_timezone(&self.0).date_naive();
        let monday =
            first.checked_sub_days(Days::new(first.weekday().num_days_from_monday().into()));
        let mondays = monday.unwrap_or(first).iter_days().step_by(7);
        self.periods(mondays.map(|day| (day, day.to_string())), to)
    }

    /// The same of hours, as `2026-11-23 14:00`. Clocks that are set back show one of them twice.
    pub fn hours(self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, String)> {
        let begins = |at: Timestamp| {
            let local = at.with_timezone(&self.0);
            let into = i64::from(local.minute()) * 60 + i64::from(local.second());
            at.checked_sub_signed(TimeDelta::seconds(into))
        };
        let next = |at: &Timestamp| {
            let later = at.checked_add_signed(TimeDelta::hours(1))?;
            // Where clocks were set by less than an hour meanwhile, theirs begins somewhere between.
            begins(later).filter(|begin| begin > at).or(Some(later))
        };
        let hours = std::iter::successors(begins(from), next).take_while(|at| *at < to);
        hours.map(|at| (at, self.shown(at))).collect()
    }

    /// The same of minutes, as `2026-11-23 14:05`.
    pub fn minutes(self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, String)> {
        let first = from.checked_sub_signed(TimeDelta::seconds(from.second().into()));
        let next = |at: &Timestamp| at.checked_add_signed(TimeDelta::minutes(1));
        let minutes = std::iter::successors(first, next).take_while(|at| *at < to);
        minutes.map(|at| (at, self.shown(at))).collect()
    }

    fn shown(self, at: Timestamp) -> String {
        at.with_timezone(&self.0)
            .format("%Y-%m-%d %H:%M")
            .to_string()
    }

    fn periods(
        self,
        periods: impl Iterator<Item = (NaiveDate, String)>,
        to: Timestamp,
    ) -> Vec<(Timestamp, String)> {
        let begins = |day: NaiveDate| self.moment(day.and_time(NaiveTime::MIN));
        let periods = periods.filter_map(|(day, name)| Some((begins(day)?, name)));
        periods.take_while(|(begins, _)| *begins < to).collect()
    }

    /// When clocks there show it: the earlier moment when they show it twice; when they skip it, as many
    /// quarters of an hour later as it takes.
    fn moment(self, local: NaiveDateTime) -> Option<Timestamp> {
        /// Clocks are set by quarters of an hour; a date line once moved over a whole day.
        const STEPS_MAX: u32 = 4 * 25;
        let mut shown = local;
        for _ in 0..STEPS_MAX {
            match self.0.from_local_datetime(&shown) {
                MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => {
                    return Some(at.to_utc());
                }
                MappedLocalTime::None => {
                    shown = shown.checked_add_signed(TimeDelta::minutes(15))?;
                }
            }
        }
        None
    }
}

impl Month {
    /// So many months before it.
    pub const fn before(self, months: i32) -> Self {
        Self(self.0.saturating_sub(months))
    }
}

impl Period {
    /// The moment `count` periods behind `first`, by the clocks of a zone; counted from `first` each
    /// time, so that the 31st is the 31st again after a shorter month. `None`: beyond the year 9999.
    pub fn after(self, first: Timestamp, count: u32, zone: Zone) -> Option<Timestamp> {
        let local = first.with_timezone(&zone.0).naive_local();
        let local = match self {
            Self::Days(days) => {
                let days = u64::from(days).checked_mul(u64::from(count))?;
                local.checked_add_days(Days::new(days))?
            }
            Self::Months(months) => {
                local.checked_add_months(Months::new(months.checked_mul(count)?))?
            }
        };
        if count == 0 {
            return Some(first);
        }
        let at = zone.moment(local)?;
        (at.year() <= YEAR_MAX).then_some(at)
    }

    /// Whether it takes at least a day, and at most ten years.
    pub const fn is_sensible(self) -> bool {
        match self {
            Self::Days(days) => days > 0 && days <= 3_653,
            Self::Months(months) => months > 0 && months <= 120,
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        name.parse().map(Self).map_err(|_| UnknownZone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn months_end_when_they_end() {
        let zone = "Europe/Berlin".parse().unwrap();
        let first = at("2026-01-31T11:00:00Z");
        let months = [1, 2, 3].map(|count| Period::Months(1).after(first, count, zone).unwrap());
        let expected = [
            "2026-02-28T11:00:00Z",
            // Summer has begun: noon is an hour earlier.
            "2026-03-31T10:00:00Z",
            "2026-04-30T10:00:00Z",
        ];
        assert_eq!(months, expected.map(at));
    }

    #[test]
    fn what_clocks_skip_comes_when_they_go_on() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        // 02:30 on the day before the clocks skip from 02:00 to 03:00.
        let first = at("2026-03-28T01:30:00Z");
        let next = Period::Days(1).after(first, 1, zone).unwrap();
        assert_eq!(next, at("2026-03-29T01:00:00Z"));
        // 02:30 comes twice when they are set back: the first counts.
        let first = at("2026-10-24T00:30:00Z");
        let next = Period::Days(1).after(first, 1, zone).unwrap();
        assert_eq!(next, at("2026-10-25T00:30:00Z"));
    }

    #[test]
    fn days_and_months_are_those_of_the_zone() {
        let late = at("2026-01-31T23:30:00Z");
        let (utc, berlin) = (Zone::default(), "Europe/Berlin".parse::<Zone>().unwrap());
        assert!(utc.day(late) < berlin.day(late) && utc.month(late) < berlin.month(late));
        assert_eq!(utc.month(late), utc.month(at("2026-01-01T00:00:00Z")));
        assert_eq!("Mars/Base".parse::<Zone>(), Err(UnknownZone));
        assert_eq!(berlin.to_string(), "Europe/Berlin");
    }

    #[test]
    fn a_range_lies_in_days_and_months_with_names() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let (from, to) = (at("2026-02-27T23:30:00Z"), at("2026-03-01T22:00:00Z"));
        let days = [
            ("2026-02-27T23:00:00Z", "2026-02-28"),
            ("2026-02-28T23:00:00Z", "2026-03-01"),
        ];
        let named = |all: &[(&str, &str)]| -> Vec<(Timestamp, String)> {
            let named = all
                .iter()
                .map(|(begins, name)| (at(begins), (*name).to_owned()));
            named.collect()
        };
        assert_eq!(berlin.days(from, to), named(&days));
        let months = [
            ("2026-01-31T23:00:00Z", "2026-02"),
            ("2026-02-28T23:00:00Z", "2026-03"),
        ];
        assert_eq!(berlin.months(from, to), named(&months));
    }

    proptest! {
        #[test]
        fn every_quarter_of_an_hour_lies_in_the_day_that_clocks_show(
            quarter in 1_051_920_i64..4_500_000,
            length in 1_i64..400,
            within in 0_i64..400,
            zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
        ) {
            let moment = |quarter: i64| Timestamp::from_timestamp(quarter * 900, 0).unwrap();
            let used = moment(quarter + within % length);
            let days = Zone(zone).days(moment(quarter), moment(quarter + length));
            let day = days.iter().rev().find(|(begins, _)| *begins <= used);
            let shown = used.with_timezone(&zone).date_naive().to_string();
            prop_assert_eq!(day.map(|(_, name)| name.clone()), Some(shown));
        }

        #[test]
        fn the_next_is_never_before_the_last(
            second in 946_684_800_i64..4_102_444_800,
            count in 0_u32..500,
            days in 1_u32..40,
            zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
        ) {
            let first = Timestamp::from_timestamp(second, 0).unwrap();
            for period in [Period::Days(days), Period::Months(days)] {
                let this = period.after(first, count, Zone(zone));
                let next = period.after(first, count + 1, Zone(zone));
                prop_assert!(this.is_some() && this <= next, "{this:?} {next:?}");
            }
        }
    }
}
