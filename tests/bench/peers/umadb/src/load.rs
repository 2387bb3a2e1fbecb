//! So many callers, each with one append in flight: as fast as they are answered, or each at its moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbEvent, DcbEventStoreAsync as _};

use crate::cpu;
use crate::server::Server;

const CONNECTIONS: usize = 8;
/// Most appends in flight in an open loop; beyond that they wait, and their latency says so.
const IN_FLIGHT_MAX: usize = 1_024;
/// Runs that the events belong to: each event has one tag, its run, or nobody could ask for it.
const RUNS: u64 = 512;
/// With its type and its tag an event is about a kilobyte.
const PAYLOAD_BYTES: usize = 960;
/// Longest latency that is told apart from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What to do, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) callers: usize,
    /// Events of an append.
    pub(crate) batch: u32,
    /// Appends a second, whatever the answers take; latency then counts from the moment an append was due.
    pub(crate) rate: Option<u32>,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// What came of it.
pub(crate) struct Measured {
    /// Acknowledged while it was measured.
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    /// Of the appends that were due while it was measured, however late they were answered; in microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// When appends are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    job: Job,
}

impl Schedule {
    fn measured_from(&self) -> Instant {
        self.begin + self.job.warm_up
    }

    fn end(&self) -> Instant {
        self.measured_from() + self.job.duration
    }

    /// When append `number` is due; `None` when it no longer belongs to the job.
    fn due(&self, number: u64, now: Instant) -> Option<Instant> {
        let due = match self.job.rate {
            None => now,
            Some(rate) => {
                let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
                self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        (due < self.end()).then_some(due)
    }

    fn callers(&self) -> usize {
        self.job.rate.map_or(self.job.callers, |_| IN_FLIGHT_MAX)
    }
}

/// What all callers count.
#[derive(Default)]
struct Counts {
    next: AtomicU64,
    acknowledged: AtomicU64,
}

pub(crate) async fn drive(server: &Server, job: Job) -> anyhow::Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = UmaDbClient::new(server.url()).connect_async().await?;
        connections.push(Arc::new(client));
    }
    let begin = Instant::now();
    let schedule = Schedule { begin, job };
    let counts = Arc::new(Counts::default());
    let mut callers = JoinSet::new();
    for number in 0..schedule.callers() {
        let client = Arc::clone(&connections[number % CONNECTIONS]);
        callers.spawn(call(client, Arc::clone(&counts), schedule));
    }
    let all_answered = async {
        let mut latency = histogram()?;
        while let Some(joined) = callers.join_next().await {
            latency.add(joined??)?;
        }
        Ok(latency)
    };
    // The first failure ends both.
    let (mut measured, latency) =
        tokio::try_join!(watch(server, &counts, &schedule), all_answered)?;
    measured.latency = latency;
    // Positions count events from one.
    let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
    let head = connections[0].head().await?;
    anyhow::ensure!(
        head == Some(acknowledged),
        "{acknowledged} events were acknowledged, and the head is at {head:?}"
    );
    Ok(measured)
}

/// What is acknowledged and used between the warm-up and the end.
async fn watch(server: &Server, counts: &Counts, schedule: &Schedule) -> anyhow::Result<Measured> {
    let (server, client) = (server.pid()?, std::process::id());
    sleep_until(schedule.measured_from()).await;
    let before = (cpu::used(server)?, cpu::used(client)?);
    let (acknowledged, begin) = (counts.acknowledged.load(Ordering::Relaxed), Instant::now());
    sleep_until(schedule.end()).await;
    Ok(Measured {
        events: counts.acknowledged.load(Ordering::Relaxed) - acknowledged,
        elapsed: begin.elapsed(),
        server_cpu: cpu::used(server)?.saturating_sub(before.0),
        client_cpu: cpu::used(client)?.saturating_sub(before.1),
        latency: histogram()?,
    })
}

async fn call(
    client: Arc<AsyncUmaDbClient>,
    counts: Arc<Counts>,
    schedule: Schedule,
) -> anyhow::Result<Histogram<u64>> {
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES));
    let batch = schedule.job.batch;
    let mut latency = histogram()?;
    loop {
        let number = counts.next.fetch_add(1, Ordering::Relaxed);
        let event = DcbEvent::new()
            .event_type("ToolCallStarted")
            .tags([format!("run:{}", number % RUNS)])
            .data(payload.as_bytes());
        let events = (0..batch).map(|_| event.clone()).collect();
        let Some(due) = schedule.due(number, Instant::now()) else {
            return Ok(latency);
        };
        sleep_until(due).await;
        client.append(events, None, None).await?;
        let took = due.elapsed();
        counts
            .acknowledged
            .fetch_add(u64::from(batch), Ordering::Relaxed);
        if due >= schedule.measured_from() {
            latency.saturating_record(u64::try_from(took.as_micros())?);
        }
    }
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: Option<u32>) -> Schedule {
        let job = Job {
            callers: 64,
            batch: 1,
            rate,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(2),
        };
        let begin = Instant::now();
        Schedule { begin, job }
    }

    #[test]
    fn at_a_rate_each_append_has_its_moment_whatever_time_it_is() {
        let schedule = schedule(Some(400));
        let late = schedule.begin + Duration::from_mins(1);
        let due = |number| schedule.due(number, late).map(|due| due - schedule.begin);
        assert_eq!(due(0), Some(Duration::ZERO));
        assert_eq!(due(3), Some(Duration::from_micros(7_500)));
        assert_eq!(due(1_199), Some(Duration::from_micros(2_997_500)));
        assert_eq!(due(1_200), None);
        assert_eq!(schedule.callers(), IN_FLIGHT_MAX);
    }

    #[test]
    fn without_a_rate_an_append_is_due_at_once_until_the_end() {
        let schedule = schedule(None);
        let at = |millis| schedule.begin + Duration::from_millis(millis);
        assert_eq!(schedule.due(7, at(2_999)), Some(at(2_999)));
        assert_eq!(schedule.due(7, at(3_000)), None);
        assert_eq!(schedule.callers(), 64);
    }
}
