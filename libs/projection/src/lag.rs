//! Lag is a time: the age of the oldest record not yet applied.

use std::time::Duration;

use metrics::{Gauge, Histogram, gauge, histogram};
use runledger_domain::log::Partition;
use runledger_domain::time::Timestamp;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::cursor::Cursor;

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Reports a projection's lag.
pub(crate) struct Lag {
    now: Gauge,
    applied: Histogram,
    interval: Interval,
    /// When the oldest record of the batch that is being applied was appended.
    in_hand: Option<Timestamp>,
}

impl Lag {
    pub(crate) fn new(projection: &str) -> Self {
        let mut interval = interval(REPORT_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            now: gauge!("runledger_projection_lag_seconds", "projection" => projection.to_owned()),
            applied: histogram!("runledger_projection_applied_age_seconds", "projection" => projection.to_owned()),
            interval,
            in_hand: None,
        }
    }

    /// When to report. Cancel safe.
    pub(crate) async fn tick(&mut self) {
        self.interval.tick().await;
    }

    /// Says what is being applied; nothing when it is done.
    pub(crate) fn in_hand(&mut self, oldest_recorded_at: Option<Timestamp>) {
        self.in_hand = oldest_recorded_at;
    }

    /// `heads`: when the oldest record waiting in each partition was recorded.
    pub(crate) fn report(&self, heads: &[(Partition, Option<Timestamp>)], now: Timestamp) {
        let waiting = heads.iter().filter_map(|(_, at)| *at);
        let oldest = waiting.chain(self.in_hand).min();
        self.now
            .set(oldest.map_or(0.0, |at| age(at, now).as_secs_f64()));
    }

    /// How old the last record of each partition was when it was applied.
    pub(crate) fn applied(&self, cursors: &[Cursor], now: Timestamp) {
        for at in cursors.iter().filter_map(|cursor| cursor.last_recorded_at) {
            self.applied.record(age(at, now).as_secs_f64());
        }
    }
}

fn age(at: Timestamp, now: Timestamp) -> Duration {
    (now - at).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use runledger_domain::time::{Clock as _, SystemClock};

    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_age_below_zero() {
        let now = SystemClock.now();
        let hour = Duration::from_secs(3_600);
        assert_eq!(age(now - hour, now), hour);
        assert_eq!(age(now + hour, now), Duration::ZERO);
    }
}
