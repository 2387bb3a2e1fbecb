//! The figures of the README, each as a ratio of two things measured in turn in one run on one machine.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use runledger_domain::log::{Family, Partition};
use runledger_eventlog::kafka::Kafka;
use runledger_eventlog::{Log, Stored};
use runledger_service::client;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::driver::{Job, Pace, drive, micros};
use super::ground::Ground;
use super::{bare, copy, histogram, millis, rate};
use crate::credentials::Endpoints;
use crate::remote::Remote;
use crate::{cli, import, say};

/// How often each pair is measured.
const ROUNDS: usize = 3;
/// How long each half of a pair, how long before it counts.
const HALF: Duration = Duration::from_secs(5);
const WARM: Duration = Duration::from_secs(2);
/// How long a broker that has just started is kept busy: its code is compiled while it runs, which
/// halves every figure until it is done.
const BROKER_WARM: Duration = Duration::from_secs(40);
const CALLERS: u16 = 64;
const BATCH: u16 = 100;
/// Callers of batches: enough to keep the server busy.
const BATCH_CALLERS: u16 = 16;
/// Copies of the recorded runs that make one backlog.
const COPIES: usize = 8;
const RUNS_FILE: &str = "deploy/demo/airline-agent-runs.jsonl";
/// Longest that a backlog may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(300);
/// How often visible latency is sampled, a second.
const CHECKS_PER_SECOND: u64 = 50;
const VISIBLE_FOR: Duration = Duration::from_secs(15);
/// p50 and p99 to reach.
const VISIBLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// One line of the table.
struct Figure {
    what: &'static str,
    ours: String,
    theirs: String,
    ratio: String,
    goal: String,
    /// `None`: nothing was to be reached.
    reached: Option<bool>,
}

/// The command.
pub(super) async fn run(args: &cli::Load) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        say::aside("This is a debug build; figures worth keeping come from `make bench`.");
    }
    let mut figures = Vec::new();
    let unary = on_ground(&args.admin_postgres, &mut figures, Half::In).await?;
    on_ground(&args.admin_postgres, &mut figures, Half::Out { unary }).await?;
    print(&figures, &machine(&args.admin_postgres).await)
}

/// What is measured on one ground.
#[derive(Clone, Copy)]
enum Half {
    /// Appending, while nobody reads.
    In,
    /// Projecting and reading; `unary`: records a second that single appends reached.
    Out { unary: f64 },
}

/// Measures on fresh ground and clears it away whatever happened.
async fn on_ground(
    admin: &SecretString,
    figures: &mut Vec<Figure>,
    half: Half,
) -> anyhow::Result<f64> {
    let ground = Ground::prepare(admin).await?;
    let measured = match half {
        Half::In => appending(&ground, figures).await,
        Half::Out { unary } => reading(&ground, figures, unary).await,
    };
    ground.leave(measured).await
}

async fn appending(ground: &Ground, figures: &mut Vec<Figure>) -> anyhow::Result<f64> {
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

async fn reading(ground: &Ground, figures: &mut Vec<Figure>, unary: f64) -> anyhow::Result<f64> {
    say::aside("The runs projector against COPY …");
    let writer = ground.pool(&ground.configs.projector.database)?;
    let owner = ground.pool(&ground.configs.shared.database)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (rows, records) = backlog(ground, &writer, round).await?;
        ours.push(rows);
        let (copied, took) = copy::copy(&writer, &owner, records).await?;
        theirs.push(rate(copied, took));
    }
    writer.close().await;
    owner.close().await;
    let (ours, theirs) = (median(ours), median(theirs));
    figures.push(pair(
        "rows/s of the runs projector",
        ours,
        "`COPY` into its widest table",
        theirs,
        Some(0.3),
    ));

    say::aside(
        "From acknowledged to visible, at half the rate of single appends and at a quarter …",
    );
    figures.push(visible(ground, unary / 2.0, Some(VISIBLE)).await?);
    figures.push(visible(ground, unary / 4.0, None).await?);
    Ok(unary)
}

/// Appends a backlog of real runs, then starts the projector on it: rows a second from its first transaction to
/// its last, and how many records there were.
async fn backlog(ground: &Ground, writer: &PgPool, round: usize) -> anyhow::Result<(f64, u64)> {
    for copy in 0..COPIES {
        let prefix = format!("{round}-{copy}-");
        import::append(&ground.remote, Path::new(RUNS_FILE), 1, &prefix)
            .await
            .context("run this at the top of the checkout")?;
    }
    let log = Kafka::connect(&ground.configs.projector.kafka)?;
    let mut written = 0;
    for family in runledger_runs::FAMILIES {
        for genesis in log.genesis(*family).await?.iter() {
            written += log
                .watermark(Partition {
                    family: *family,
                    number: genesis.partition,
                })
                .await?;
        }
    }
    let (rows_before, applied_before) = (copy::rows(writer).await?, applied(writer).await?);
    let projector = ground.projector()?;
    let deadline = Instant::now() + DRAINED_WITHIN;
    // Joining a group takes a while that says nothing about writing rows.
    let mut first = None;
    let took = loop {
        let now = applied(writer).await?;
        let (begin, _) = match first {
            None if now > applied_before => *first.insert((Instant::now(), now)),
            None => (Instant::now(), 0),
            Some(first) => first,
        };
        if now >= written {
            break begin.elapsed();
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the projector did not get through the backlog in time"
        );
        sleep(Duration::from_millis(10)).await;
    };
    projector.end().await?;
    let rows = copy::rows(writer).await? - rows_before;
    let records = written - applied_before;
    let uncounted = first.map_or(0, |(_, now)| now - applied_before);
    let counted = rows * (records - uncounted) / records.max(1);
    Ok((rate(counted, took), records))
}

/// Records that the cursors have passed.
async fn applied(writer: &PgPool) -> anyhow::Result<u64> {
    let sum: i64 =
        sqlx::query_scalar("SELECT coalesce(sum(next_offset), 0)::bigint FROM runs.cursors")
            .fetch_one(writer)
            .await
            .context("reading the cursors")?;
    Ok(u64::try_from(sum)?)
}

/// `most`: p50 and p99 to reach, if there are any.
async fn visible(
    ground: &Ground,
    rate: f64,
    most: Option<(Duration, Duration)>,
) -> anyhow::Result<Figure> {
    let projector = ground.projector()?;
    let rate = whole(rate).max(1);
    let job = |duration| Job {
        pace: Pace::Rate(rate),
        duration,
        batch: 1,
        records_max: u64::MAX,
        check_every: rate.div_ceil(CHECKS_PER_SECOND),
    };
    drive(&ground.remote, &job(WARM * 2)).await?;
    let measured = drive(&ground.remote, &job(VISIBLE_FOR)).await?;
    projector.end().await?;
    anyhow::ensure!(
        measured.stale == 0,
        "{} reads were older than their token",
        measured.stale
    );
    let mut seen = histogram()?;
    seen.add(&measured.visible)?;
    let (p50, p99) = (seen.value_at_quantile(0.5), seen.value_at_quantile(0.99));
    Ok(Figure {
        what: "acknowledged → visible, p50 / p99",
        ours: format!("{} / {} ms", millis(p50), millis(p99)),
        theirs: format!(
            "at {} appends/s, {} samples",
            say::count(rate),
            say::count(seen.len())
        ),
        ratio: String::new(),
        goal: most.map_or_else(String::new, |(p50, p99)| {
            format!("≤ {} / {} ms", p50.as_millis(), p99.as_millis())
        }),
        reached: most
            .map(|most| measured.behind == 0 && p50 <= micros(most.0) && p99 <= micros(most.1)),
    })
}

/// `least`: the ratio to reach, if there is one.
fn pair(what: &'static str, ours: f64, against: &str, theirs: f64, least: Option<f64>) -> Figure {
    let ratio = ours / theirs.max(f64::MIN_POSITIVE);
    Figure {
        what,
        ours: format!("{}/s", say::count(whole(ours))),
        theirs: format!("{}/s ({against})", say::count(whole(theirs))),
        ratio: format!("{ratio:.2}"),
        goal: least.map_or_else(String::new, |least| format!("≥ {least}")),
        reached: least.map(|least| ratio >= least),
    }
}

fn print(figures: &[Figure], machine: &str) -> anyhow::Result<()> {
    say::line(
        "| figure | Runledger | against | ratio | goal | |\n| --- | --- | --- | --- | --- | --- |",
    )?;
    for one in figures {
        let reached = match one.reached {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        say::line(format_args!(
            "| {} | {} | {} | {} | {} | {reached} |",
            one.what, one.ours, one.theirs, one.ratio, one.goal
        ))?;
    }
    say::line(format_args!("\n{machine}"))?;
    Ok(())
}

/// The machine and the versions, in one sentence.
async fn machine(admin: &SecretString) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or_else(
            || "unknown".to_owned(),
            |kib| format!("{} GiB", kib.div_ceil(1 << 20)),
        );
    let kernel = read("/proc/sys/kernel/osrelease");
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let postgres = super::ground::postgres_version(admin)
        .await
        .unwrap_or_else(|_| "of unknown version".to_owned());
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    format!(
        "Medians of {ROUNDS} rounds, each pair in turn; clients, servers, Kafka and Postgres together on {cores} cores \
         and {memory} of memory, {} {}, kernel {}; runledger {} ({build} build), librdkafka {librdkafka}, Postgres {postgres}; \
         one Kafka node, records of about 1 KB.",
        std::env::consts::OS,
        std::env::consts::ARCH,
        kernel.trim().split('-').next().unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate, at least zero"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn a_ratio_is_held_to_its_goal() {
        let reached = |ours, least| pair("", ours, "", 100.0, least).reached;
        assert_eq!(reached(45.0, Some(0.45)), Some(true));
        assert_eq!(reached(44.0, Some(0.45)), Some(false));
        assert_eq!(reached(44.0, None), None);
    }
}
