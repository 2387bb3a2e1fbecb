//! When requests are sent: as fast as some callers are answered, or at a fixed rate whatever the answers take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Most requests in flight in an open loop; beyond that requests wait, and their latency says so.
const IN_FLIGHT_MAX: u16 = 1_024;

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Records a second, each request at its moment.
    Rate(u64),
    /// As fast as they are answered.
    Callers(u16),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) pace: Pace,
    pub(super) duration: Duration,
    /// Records of a request.
    pub(super) batch: u16,
    pub(super) records_max: u64,
    /// Reads back after every so many requests; 0: never.
    pub(super) check_every: u64,
}

/// One after another of a job's requests, shared by those who send them.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) begin: Instant,
    pub(super) job: Job,
    next: Arc<AtomicU64>,
}

impl Schedule {
    pub(super) fn new(begin: Instant, job: Job) -> Self {
        Self {
            begin,
            job,
            next: Arc::default(),
        }
    }

    /// Waits until the next request is due; its number and its moment, or `None` when the job is done.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let moment = self.moment(number, Instant::now())?;
        sleep_until(moment).await;
        Some((number, moment))
    }

    /// When request `number` is meant to be sent; `None` when it no longer belongs to the job.
    fn moment(&self, number: u64, now: Instant) -> Option<Instant> {
        let batch = u64::from(self.job.batch);
        if number.saturating_mul(batch) >= self.job.records_max {
            return None;
        }
        let moment = match self.job.pace {
            Pace::Callers(_) => now,
            Pace::Rate(rate) => {
                let nanos = u128::from(number) * u128::from(batch) * 1_000_000_000
                    / u128::from(rate.max(1));
                self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        (moment < self.begin + self.job.duration).then_some(moment)
    }

    fn workers(&self) -> u16 {
        match self.job.pace {
            Pace::Callers(callers) => callers,
            Pace::Rate(_) => IN_FLIGHT_MAX,
        }
    }
}

/// Runs a job to its end: each worker takes requests from the schedule and has one of the connections.
pub(super) async fn work<C, W, F>(
    schedule: &Schedule,
    connections: &[C],
    worker: W,
) -> anyhow::Result<Vec<F::Output>>
where
    C: Clone,
    W: Fn(C, Schedule) -> F,
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let mut workers = JoinSet::new();
    let shared = connections.iter().cycle();
    for connection in shared.take(usize::from(schedule.workers())) {
        workers.spawn(worker(connection.clone(), schedule.clone()));
    }
    let mut done = Vec::new();
    while let Some(joined) = workers.join_next().await {
        done.push(joined?);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(pace: Pace) -> Job {
        Job {
            pace,
            duration: Duration::from_secs(2),
            batch: 10,
            records_max: 150,
            check_every: 0,
        }
    }

    #[test]
    fn an_open_loop_has_its_moments_whatever_the_hour() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, job(Pace::Rate(100)));
        let late = begin + Duration::from_secs(60);
        assert_eq!(schedule.moment(0, late), Some(begin));
        assert_eq!(
            schedule.moment(14, late),
            Some(begin + Duration::from_millis(1_400))
        );
        assert_eq!(schedule.moment(15, begin), None, "records_max");
        let longer = Job {
            records_max: 1_000_000,
            ..job(Pace::Rate(100))
        };
        let schedule = Schedule::new(begin, longer);
        assert!(schedule.moment(19, begin).is_some());
        assert_eq!(schedule.moment(20, begin), None, "duration");
        assert_eq!(schedule.moment(u64::MAX, begin), None);
    }

    #[test]
    fn a_closed_loop_goes_on_at_once_until_the_end() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, job(Pace::Callers(4)));
        let now = begin + Duration::from_millis(700);
        assert_eq!(schedule.moment(3, now), Some(now));
        assert_eq!(schedule.moment(3, begin + Duration::from_secs(2)), None);
        assert_eq!(schedule.moment(15, now), None);
    }
}
