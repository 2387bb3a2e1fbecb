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
use super::readers::{Known, Reads};
use super::{Figure, WARM, pair};
use crate::load::driver::{Job, Measured, Pace, drive};
use crate::load::ground::Ground;
use crate::load::{copy, millis, rate};
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

pub(super) async fn measure(ground: &Ground, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    say::aside("A million records, projected …");
    let writer = ground.pool(&ground.configs.projector.database)?;
    let owner = ground.pool(&ground.configs.shared.database)?;
    let backlog = Backlog::append(ground, &writer, "rebuild", COPIES).await?;
    let live = backlog.project(ground, &writer).await?;
    let (copied, took) = copy::copy(&writer, &owner, COPIED_ROWS).await?;
    writer.close().await;
    owner.close().await;
    figures.push(continuity(ground, &live).await?);
    say::aside("… built anew, alone …");
    let took_alone = command(ground, &["rebuild", "runs"]).await?;
    command(ground, &["rebuild", "runs", "--finish"]).await?;
    figures.extend(alone(&live, took_alone, rate(copied, took)));
    say::aside("… verified …");
    let verified = command(ground, &["verify", "runs"]).await?;
    figures.push(Figure {
        what: "`runledger verify`, whole",
        ours: format!("{}/s", per_second(live.records, verified)),
        theirs: format!(
            "{} records in {:.0} s",
            say::count(live.records),
            verified.as_secs_f64()
        ),
        ratio: String::new(),
        goal: String::new(),
        reached: None,
    });
    say::aside("… and built anew by one worker while it is read.");
    figures.push(read_meanwhile(ground, &live).await?);
    Ok(())
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
async fn continuity(ground: &Ground, live: &Projected) -> anyhow::Result<Figure> {
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
    let (ours, theirs) = (
        1e6 / rate(passed, begin.elapsed()),
        1e6 / live.records_per_second(),
    );
    Ok(Figure {
        what: "digest and rolling hash of a record",
        ours: format!("{ours:.2} µs"),
        theirs: format!("{theirs:.1} µs (the live projection of one)"),
        ratio: format!("{:.3}", ours / theirs),
        goal: "≤ 0.02".to_owned(),
        reached: Some(ours / theirs <= 0.02),
    })
}

fn alone(live: &Projected, took: Duration, copied: f64) -> [Figure; 2] {
    [
        pair(
            "records/s of a rebuild: built, indexed, compared, switched",
            rate(live.records, took),
            "the live projection of the same",
            live.records_per_second(),
            Some(1.0),
        ),
        pair(
            "rows/s of the same",
            rate(live.rows, took),
            "`COPY` into the widest table",
            copied,
            Some(0.4),
        ),
    ]
}

/// The 99th percentile of reads while one worker rebuilds and a few appends go on, against the same
/// while nothing rebuilds.
async fn read_meanwhile(ground: &Ground, live: &Projected) -> anyhow::Result<Figure> {
    let projector = ground.projector()?;
    let known = Arc::new(Known::read(&ground.remote).await?);
    felt(&ground.remote, &known, idle(WARM)).await?;
    let (_, idle) = felt(&ground.remote, &known, idle(IDLE_FOR)).await?;
    let one = ["rebuild", "runs", "--workers", "1"];
    let (took, busy) = felt(&ground.remote, &known, command(ground, &one)).await?;
    projector.end().await?;
    let p99 = |felt: &Felt| felt.reads.latency.value_at_quantile(0.99);
    let (ours, theirs) = (p99(&busy), p99(&idle));
    let counts: u64 = busy.appends.iter().map(|round| round.checks).sum();
    say::aside(format_args!(
        "  {} reads and {} with fresh tokens while {} records were built anew in {:.0} s; none failed, none was stale.",
        say::count(busy.reads.latency.len()),
        say::count(counts),
        say::count(live.records),
        took.as_secs_f64(),
    ));
    #[expect(clippy::cast_precision_loss, reason = "microseconds, far below 2^52")]
    let ratio = ours as f64 / theirs.max(1) as f64;
    Ok(Figure {
        what: "p99 of 200 reads/s while one worker rebuilds",
        ours: format!("{} ms", millis(ours)),
        theirs: format!("{} ms (while nothing does)", millis(theirs)),
        ratio: format!("{ratio:.1}"),
        goal: "≤ 3".to_owned(),
        reached: Some(ratio <= 3.0),
    })
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

fn per_second(number: u64, took: Duration) -> String {
    say::count(super::whole(rate(number, took)))
}
