//! When a recorded fact is told, and by how much its time moves. Pure.

use std::time::Duration;

use chrono::TimeDelta;
use runledger_domain::time::Timestamp;

use crate::cli::Times;

/// How recorded time becomes the present.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Recorded seconds a second; `None`: flat out.
    speed: Option<f64>,
    times: Times,
    /// Flat out: by how much all times move.
    offset: TimeDelta,
    /// When the first fact was recorded.
    first: Option<Timestamp>,
}

impl Pace {
    /// `last`: when the last fact was recorded, where that is known; `now`: when telling begins.
    pub(super) fn new(
        speed: Option<f64>,
        times: Times,
        last: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            speed,
            times,
            offset: last.map_or(TimeDelta::zero(), |last| now - last),
            first: None,
        }
    }

    pub(super) fn is_flat_out(&self) -> bool {
        self.speed.is_none()
    }

    /// How long after the first fact one that was recorded then is due.
    pub(super) fn due(&mut self, recorded: Timestamp) -> Duration {
        let first = *self.first.get_or_insert(recorded);
        let Some(speed) = self.speed else {
            return Duration::ZERO;
        };
        let after = (recorded - first).to_std().unwrap_or_default();
        Duration::try_from_secs_f64(after.as_secs_f64() / speed).unwrap_or(Duration::MAX)
    }

    /// How much later its time is when it is told at `now`: as far behind the telling as it was behind the recording.
    pub(super) fn later(&self, recorded: Timestamp, now: Timestamp) -> TimeDelta {
        match (self.times, self.speed) {
            (Times::Kept, _) => TimeDelta::zero(),
            (Times::Shifted, Some(_)) => now - recorded,
            (Times::Shifted, None) => self.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn twice_as_fast_takes_half_as_long() {
        let mut pace = Pace::new(Some(2.0), Times::Kept, None, at(5_000));
        assert_eq!(pace.due(at(100)), Duration::ZERO);
        assert_eq!(pace.due(at(160)), Duration::from_secs(30));
        assert_eq!(
            pace.due(at(90)),
            Duration::ZERO,
            "recorded before the first"
        );
        assert_eq!(pace.later(at(160), at(5_030)), TimeDelta::zero());
    }

    #[test]
    fn flat_out_waits_for_nothing_and_shifts_the_last_to_now() {
        let mut pace = Pace::new(None, Times::Shifted, Some(at(200)), at(5_000));
        assert_eq!(pace.due(at(100)), Duration::ZERO);
        assert_eq!(pace.due(at(160)), Duration::ZERO);
        assert_eq!(at(200) + pace.later(at(200), at(6_000)), at(5_000));
        assert_eq!(at(100) + pace.later(at(100), at(6_000)), at(4_900));
    }

    #[test]
    fn shifted_facts_happen_when_they_are_told() {
        let pace = Pace::new(Some(0.5), Times::Shifted, None, at(5_000));
        assert_eq!(at(160) + pace.later(at(160), at(5_120)), at(5_120));
    }
}
