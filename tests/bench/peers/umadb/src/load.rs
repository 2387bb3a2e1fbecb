//! So many callers, each with one append in flight: as fast as they are answered, or each at its moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbEvent, DcbEventStoreAsync as _};

use crate::cpu;
use crate::server::Server;

const CONNECTIONS: usize = 8;
/// Most appends in flight in an open loop; beyond that they wait, and their latency says so.
const IN_FLIGHT_MAX: usize = 1_024;
/// Runs that the events belong to: each event has one tag, its run, or nobody could ask for it.
const RUNS: u64 = 512;
/// With its type, its tag and its id an event is about a kilobyte.
const PAYLOAD_BYTES: usize = 960;
/// Longest latency that is told apart from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

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

pub(crate) struct Measured {
    /// Acknowledged while it was measured.
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    /// Of appends, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// What callers look at between two appends.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    acknowledged: AtomicU64,
    is_measuring: AtomicBool,
    is_over: AtomicBool,
}

pub(crate) async fn drive(server: &Server, job: Job) -> anyhow::Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = UmaDbClient::new(server.url()).connect_async().await?;
        connections.push(Arc::new(client));
    }
    let shared = Arc::new(Shared::default());
    let mut callers = JoinSet::new();
    let every = job.rate.map(|rate| Duration::from_secs(1) / rate);
    let in_flight = every.map_or(job.callers, |_| IN_FLIGHT_MAX);
    let begin = Instant::now();
    for number in 0..in_flight {
        let client = Arc::clone(&connections[number % CONNECTIONS]);
        let due = every.map(|every| (begin, every));
        callers.spawn(call(client, Arc::clone(&shared), job.batch, due));
    }
    let measured = tokio::select! {
        measured = watch(server, &shared, job) => measured,
        failed = callers.join_next() => {
            failed.context("there are callers")???;
            anyhow::bail!("a caller ended before the others");
        }
    };
    shared.is_over.store(true, Ordering::Relaxed);
    let mut measured = measured?;
    while let Some(joined) = callers.join_next().await {
        measured.latency.add(joined??)?;
    }
    // Positions count events from one.
    let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
    let head = connections[0].head().await?;
    anyhow::ensure!(
        head == Some(acknowledged),
        "{acknowledged} events were acknowledged, and the head is at {head:?}"
    );
    Ok(measured)
}

async fn watch(server: &Server, shared: &Shared, job: Job) -> anyhow::Result<Measured> {
    let (server, client) = (server.pid()?, std::process::id());
    sleep(job.warm_up).await;
    let before = (cpu::used(server)?, cpu::used(client)?);
    let (acknowledged, begin) = (shared.acknowledged.load(Ordering::Relaxed), Instant::now());
    shared.is_measuring.store(true, Ordering::Relaxed);
    sleep(job.duration).await;
    shared.is_measuring.store(false, Ordering::Relaxed);
    Ok(Measured {
        events: shared.acknowledged.load(Ordering::Relaxed) - acknowledged,
        elapsed: begin.elapsed(),
        server_cpu: cpu::used(server)?.saturating_sub(before.0),
        client_cpu: cpu::used(client)?.saturating_sub(before.1),
        latency: histogram()?,
    })
}

/// `due`: when the first append is due, and how far apart they are.
async fn call(
    client: Arc<AsyncUmaDbClient>,
    shared: Arc<Shared>,
    batch: u32,
    due: Option<(Instant, Duration)>,
) -> anyhow::Result<Histogram<u64>> {
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES));
    let mut latency = histogram()?;
    while !shared.is_over.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let event = DcbEvent::new()
            .event_type("ToolCallStarted")
            .tags([format!("run:{}", number % RUNS)])
            .data(payload.as_bytes());
        let events = (0..batch).map(|_| event.clone()).collect();
        let begin = match due {
            Some((first, every)) => first + every.mul_f64(f64::from(u32::try_from(number)?)),
            None => Instant::now(),
        };
        sleep_until(begin).await;
        let is_measured = shared.is_measuring.load(Ordering::Relaxed);
        client.append(events, None, None).await?;
        let took = begin.elapsed();
        shared
            .acknowledged
            .fetch_add(u64::from(batch), Ordering::Relaxed);
        if is_measured {
            latency.saturating_record(u64::try_from(took.as_micros())?);
        }
    }
    Ok(latency)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?)
}
