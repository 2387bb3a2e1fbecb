//! What building the read model anew takes, and what those who read meanwhile feel of it.

use std::sync::Arc;
use std::time::Duration;

use runledger_domain::digest;
use runledger_domain::log::{Family, Partition};
use runledger_eventlog::Log as _;
use runledger_eventlog::kafka::Kafka;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, Projected};
use super::cpu::Watch;
use super::readers::{Known, Reads};
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, WARM};
use crate::load::copy;
use crate::load::driver::{Measured, drive};
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace};
use crate::remote::Remote;
use crate::say;

/// Copies of the recorded runs: more than a million records.
const COPIES: usize = 180;
/// How often a thousand records are hashed.
const PASSES: usize = 500;
/// Rows that are copied to compare with.
const COPIED_ROWS: u64 = 200_000;
/// Reads a second.
const READS: u32 = 200;
const IDLE_FOR: Duration = Duration::from_secs(20);
/// Appends a second meanwhile, each read back with its token.
const APPENDS: u64 = 20;
/// How long one round of them is.
const APPEND_ROUND: Duration = Duration::from_secs(2);

/// One reader's share of what it was told while a rebuild went on.
struct Felt {
    reads: Reads,
    appends: Vec<Measured>,
}

pub(super) async fn measure(ground: &Ground, figures: &Figures) -> anyhow::Result<()> {
    say::aside("A million records, projected …");
    let writer = ground.pool(&ground.configs.projector.database)?;
    let owner = ground.pool(&ground.configs.shared.database)?;
    let backlog = Backlog::append(ground, &writer, "rebuild", COPIES).await?;
    let live = backlog.project(ground, &writer).await?;
    let (copied, took) = copy::copy(&writer, &owner, COPIED_ROWS).await?;
    writer.close().await;
    owner.close().await;
    figures.push(continuity(ground, &live).await?)?;
    say::aside("… built anew, alone …");
    let watch = Watch::begin();
    let took_alone = command(ground, &["rebuild", "runs"]).await?;
    let spent = watch.end();
    command(ground, &["rebuild", "runs", "--finish"]).await?;
    let ours = Sample::new(OURS, live.rows, took_alone).spent(&spent);
    let records = Sample::new(OURS, live.records, took_alone);
    let copied = Sample::new("`COPY` into the widest table", copied, took);
    let projected = Sample {
        who: "the live projection of the same".to_owned(),
        rate: live.records_per_second(),
        events: live.records,
        ..Sample::default()
    };
    let row = Row::new("rebuild", "built anew, indexed, compared, switched", "rows");
    let row = row.side(Is::Ours, vec![ours]).side(Is::Limit, vec![copied]);
    figures.push(row.rate_at_least(Is::Limit, 0.4))?;
    let row = Row::new("rebuild_records", "the same, by records", "records");
    let row = row
        .side(Is::Ours, vec![records])
        .side(Is::Limit, vec![projected]);
    figures.push(row.rate_at_least(Is::Limit, 1.0))?;
    say::aside("… verified …");
    let verified = command(ground, &["verify", "runs"]).await?;
    let verified = Sample::new(OURS, live.records, verified);
    let row = Row::new("verify", "`runledger verify runs`, whole", "records");
    figures.push(row.side(Is::Ours, vec![verified]))?;
    say::aside("… and built anew by one worker while it is read.");
    figures.push(read_meanwhile(ground, &live).await?)
}

async fn idle(time: Duration) -> anyhow::Result<()> {
    sleep(time).await;
    Ok(())
}

/// Runs a command of this binary to its end.
async fn command(ground: &Ground, arguments: &[&str]) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let said = ground.upkeep(arguments).await?;
    let took = begin.elapsed();
    // How long each step took stands before the answer.
    if let Some(steps) = said.lines().find(|line| line.contains(" s, ")) {
        say::aside(format_args!("  {}: {steps}", arguments.join(" ")));
    }
    Ok(took)
}

/// What every record costs for the proof that none was left out: its digest, and rolling it on.
async fn continuity(ground: &Ground, live: &Projected) -> anyhow::Result<Row> {
    let log = Kafka::connect(&ground.configs.projector.kafka)?;
    let partition = Partition {
        family: Family::Run,
        number: 0,
    };
    let records = log.read(partition, 1, 1_000).await?;
    let begin = Instant::now();
    let mut rolling = [0; 32];
    for record in std::iter::repeat_n(&records, PASSES).flatten() {
        rolling = digest::of_parts(&[&rolling, &record.digest()]);
    }
    std::hint::black_box(rolling);
    let passed = u64::try_from(records.len() * PASSES)?;
    let hashed = Sample::new(OURS, passed, begin.elapsed());
    let share = live.records_per_second() / hashed.rate;
    let row = Row::new(
        "continuity",
        "digest and rolling hash of a record",
        "records",
    );
    let row = row.side(Is::Ours, vec![hashed]);
    Ok(row.most("share of the live projection's time", share, 0.02))
}

/// The 99th percentile of reads while one worker rebuilds and a few appends go on, against the same
/// while nothing rebuilds.
async fn read_meanwhile(ground: &Ground, live: &Projected) -> anyhow::Result<Row> {
    let projector = ground.projector()?;
    let known = Arc::new(Known::read(&ground.remote).await?);
    felt(&ground.remote, &known, idle(WARM)).await?;
    let ((), idle) = felt(&ground.remote, &known, idle(IDLE_FOR)).await?;
    let one = ["rebuild", "runs", "--workers", "1"];
    let (took, busy) = felt(&ground.remote, &known, command(ground, &one)).await?;
    projector.end().await?;
    let counts: u64 = busy.appends.iter().map(|round| round.checks).sum();
    say::aside(format_args!(
        "  {} reads and {} with fresh tokens while {} records were built anew in {:.0} s; none failed, none was stale.",
        say::count(busy.reads.latency.len()),
        say::count(counts),
        say::count(live.records),
        took.as_secs_f64(),
    ));
    let sample = |who, felt: &Felt, took| {
        Sample::new(who, felt.reads.latency.len(), took).waited(&felt.reads.latency)
    };
    let (ours, calm) = (
        sample(OURS, &busy, took),
        sample("while nothing is built", &idle, IDLE_FOR),
    );
    let ratio = ours.p99_ms.unwrap_or_default() / calm.p99_ms.unwrap_or(f64::MAX);
    let row = Row::new(
        "read_meanwhile",
        "200 reads/s while one worker builds anew",
        "reads",
    );
    let row = row.side(Is::Ours, vec![ours]).side(Is::Limit, vec![calm]);
    Ok(row.most("p99, times that while nothing is built", ratio, 3.0))
}

/// Reads and appends until `work` is done.
///
/// # Errors
/// When any read failed or was stale: then there is nothing to measure.
async fn felt<T>(
    remote: &Remote,
    known: &Arc<Known>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Felt)> {
    let stop = CancellationToken::new();
    let working = async {
        let done = work.await;
        stop.cancel();
        done
    };
    let (done, reads, appends) = tokio::join!(
        working,
        Arc::clone(known).read_again(remote, READS, stop.clone()),
        append(remote, &stop)
    );
    let (done, reads, appends) = (done?, reads?, appends?);
    anyhow::ensure!(
        reads.failed + reads.stale == 0,
        "{} reads failed and {} were stale: {:?}",
        reads.failed,
        reads.stale,
        reads.reasons
    );
    for round in &appends {
        anyhow::ensure!(
            round.stale + round.behind == 0,
            "{} reads were older than their tokens and {} were told to come back: {:?}",
            round.stale,
            round.behind,
            round.reasons
        );
    }
    Ok((done, Felt { reads, appends }))
}

/// Appends now and then until `stop`, and reads each back with its token.
async fn append(remote: &Remote, stop: &CancellationToken) -> anyhow::Result<Vec<Measured>> {
    let job = Job {
        pace: Pace::Rate(APPENDS),
        duration: APPEND_ROUND,
        batch: 1,
        records_max: u64::MAX,
        check_every: 1,
    };
    let mut rounds = Vec::new();
    while !stop.is_cancelled() {
        rounds.push(drive(remote, &job).await?);
    }
    Ok(rounds)
}
