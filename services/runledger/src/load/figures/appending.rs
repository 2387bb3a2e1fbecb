//! What the way in can take, while nobody reads.

use std::time::Duration;

use runledger_domain::log::{Family, Partition};
use runledger_eventlog::kafka::Kafka;
use runledger_eventlog::{Log as _, Stored};
use runledger_service::client;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Figure, HALF, ROUNDS, WARM, median, pair};
use crate::credentials::Endpoints;
use crate::load::driver::{Job, Pace, drive};
use crate::load::ground::Ground;
use crate::load::{bare, rate};
use crate::remote::Remote;
use crate::say;

/// How long a broker that has just started is kept busy: its code is compiled while it runs, which
/// halves every figure until it is done.
const BROKER_WARM: Duration = Duration::from_secs(40);
const CALLERS: u16 = 64;
const BATCH: u16 = 100;
/// Callers of batches: enough to keep the server busy.
const BATCH_CALLERS: u16 = 16;

/// Records a second of single appends.
pub(super) async fn measure(ground: &Ground, figures: &mut Vec<Figure>) -> anyhow::Result<f64> {
    say::aside("Single appends against the rpc that does nothing …");
    let (nothing, idle_remote) = ground.nothing().await?;
    append(&ground.remote, CALLERS, 1, BROKER_WARM).await?;
    append(&idle_remote, CALLERS, 1, WARM).await?;
    health(&ground.remote.endpoints, WARM).await?;
    let (mut unary, mut idle, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        unary.push(append(&ground.remote, CALLERS, 1, HALF).await?);
        idle.push(append(&idle_remote, CALLERS, 1, HALF).await?);
        checks.push(health(&ground.remote.endpoints, HALF).await?);
    }
    nothing.end().await?;
    let (unary, idle, checks) = (median(unary), median(idle), median(checks));
    figures.push(pair(
        "single appends, 64 callers",
        unary,
        "an rpc with the same bytes that does nothing",
        idle,
        Some(0.45),
    ));
    figures.push(pair(
        "the same",
        unary,
        "`Health/Check`, which has neither body nor key",
        checks,
        None,
    ));

    say::aside("Batches against a bare producer loop …");
    append(&ground.remote, BATCH_CALLERS, BATCH, WARM).await?;
    let records = records(ground).await?;
    bare::create_topic(&ground.configs.shared.kafka, &ground.bare_topic()).await?;
    produce(ground, &records, WARM).await?;
    let (mut batches, mut loops) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        batches.push(append(&ground.remote, BATCH_CALLERS, BATCH, HALF).await?);
        loops.push(produce(ground, &records, HALF).await?);
    }
    let (batches, loops) = (median(batches), median(loops));
    figures.push(pair(
        "appends by the hundred, 16 callers",
        batches,
        "bare rdkafka loop, same bytes",
        loops,
        Some(0.4),
    ));
    Ok(unary)
}

/// Records a second accepted.
async fn append(
    remote: &Remote,
    callers: u16,
    batch: u16,
    duration: Duration,
) -> anyhow::Result<f64> {
    let job = Job {
        pace: Pace::Callers(callers),
        duration,
        batch,
        records_max: u64::MAX,
        check_every: 0,
    };
    let measured = drive(remote, &job).await?;
    for (reason, number) in &measured.reasons {
        say::aside(format_args!("  {number} requests failed: {reason}"));
    }
    Ok(rate(measured.accepted, measured.elapsed))
}

/// Calls a second of the health check, which has no key to look up and nothing to do.
async fn health(endpoints: &Endpoints, duration: Duration) -> anyhow::Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(client::connect(&client::Options::new(&endpoints.ingest, None)).await?);
    }
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..usize::from(CALLERS) {
        let mut health = HealthClient::new(connections[number % connections.len()].clone());
        callers.spawn(async move {
            let mut calls = 0_u64;
            while begin.elapsed() < duration {
                health.check(HealthCheckRequest::default()).await?;
                calls += 1;
            }
            Ok::<u64, tonic::Status>(calls)
        });
    }
    let mut calls = 0;
    while let Some(joined) = callers.join_next().await {
        calls += joined??;
    }
    Ok(rate(calls, begin.elapsed()))
}

/// Records as they lie in the log.
async fn records(ground: &Ground) -> anyhow::Result<Vec<Stored>> {
    let log = Kafka::connect(&ground.configs.ingest.kafka)?;
    Ok(log
        .read(
            Partition {
                family: Family::Run,
                number: 0,
            },
            1,
            1_000,
        )
        .await?)
}

async fn produce(ground: &Ground, records: &[Stored], duration: Duration) -> anyhow::Result<f64> {
    let (config, topic, records) = (
        ground.configs.ingest.kafka.clone(),
        ground.bare_topic(),
        records.to_vec(),
    );
    let config = runledger_eventlog::kafka::Config {
        partitions: ground.configs.shared.kafka.partitions,
        ..config
    };
    tokio::task::spawn_blocking(move || bare::produce(&config, &topic, &records, duration)).await?
}
