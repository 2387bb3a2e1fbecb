//! What the way out can take: the projector against COPY and a connector, and how soon an append can be read.

use std::time::Duration;

use anyhow::Context as _;
use runledger_proto::run::v1::ListRunsRequest;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::appending::written;
use super::backlog::{Backlog, applied, drained};
use super::cpu::Watch;
use super::freshness::half_of;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, ROUNDS, WARM};
use crate::load::copy;
use crate::load::driver::drive;
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace};
use crate::reading::PAGE;
use crate::remote::{For, Remote};
use crate::say;

/// Copies of the recorded runs that make one backlog.
const COPIES: usize = 8;
/// How often visible latency is sampled, a second.
const CHECKS_PER_SECOND: u64 = 50;
const VISIBLE_FOR: Duration = Duration::from_secs(15);
/// p50 and p99 to reach.
pub(super) const VISIBLE: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(250));
/// Pages of runs that people read meanwhile, one every so long.
const PAGE_EVERY: Duration = Duration::from_millis(50);
const CALLERS: u16 = 64;

pub(super) async fn measure(ground: &mut Ground, figures: &Figures) -> anyhow::Result<()> {
    figures.push(projected(ground, figures).await?)?;
    figures.push(visible(ground, figures).await?)?;
    figures.push(killed(ground, figures).await?)
}

async fn projected(ground: &Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("The runs projector, COPY, and Kafka Connect …");
    let writer = ground.pool(&ground.configs.projector.database)?;
    let owner = ground.pool(&ground.configs.shared.database)?;
    let (mut ours, mut copies, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let backlog = Backlog::append(ground, &writer, &round.to_string(), COPIES).await?;
        let projected = backlog.project(ground, &writer).await?;
        ours.push(projected.rows());
        let watch = Watch::begin();
        let (copied, took) = copy::copy(&writer, &owner, projected.records).await?;
        let spent = watch.end();
        copies.push(Sample::new("`COPY` into the widest table", copied, took).spent(&spent));
        let arguments = ["connect", "--rows", "100000"];
        peer.extend(figures.peers.measure(&arguments).await?);
    }
    writer.close().await;
    owner.close().await;
    Ok(Row::new("project", "live projection of a backlog", "rows")
        .side(Is::Ours, ours)
        .side(Is::Limit, copies)
        .side(Is::Peer, peer)
        .rate_at_least(Is::Limit, 0.3)
        .per_cpu_at_least(Is::Peer, 1.5))
}

/// From the acknowledgement of an append to the read that shows it, while pages of runs are read.
async fn visible(ground: &Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("From acknowledged to visible, while pages are read …");
    let projector = ground.projector()?;
    let job = |pace, duration, check_every| Job {
        pace,
        duration,
        batch: 1,
        records_max: u64::MAX,
        check_every,
    };
    let writer = ground.pool(&ground.configs.projector.database)?;
    drive(&ground.remote, &job(Pace::Callers(CALLERS), WARM * 2, 0)).await?;
    drained(&writer, written(ground).await?).await?;
    let flat_out = async {
        let load = drive(&ground.remote, &job(Pace::Callers(CALLERS), HALF, 0)).await?;
        drained(&writer, written(ground).await?).await?;
        Ok(load.accepted)
    };
    let rate = half_of(flat_out).await?;
    writer.close().await;
    let checks = rate.div_ceil(CHECKS_PER_SECOND);
    let at_half = |duration| job(Pace::Rate(rate), duration, checks);
    drive(&ground.remote, &at_half(WARM * 2)).await?;
    let (watch, stop) = (Watch::begin(), CancellationToken::new());
    let load = async {
        let measured = drive(&ground.remote, &at_half(VISIBLE_FOR)).await;
        stop.cancel();
        measured
    };
    let (measured, pages) = tokio::join!(load, turn_pages(&ground.remote, &stop));
    let (measured, pages, spent) = (measured?, pages?, watch.end());
    projector.end().await?;
    anyhow::ensure!(
        measured.stale + measured.behind == 0,
        "{} reads were older than their token, {} were told to come back",
        measured.stale,
        measured.behind
    );
    let sample = Sample::new(OURS, measured.accepted, measured.elapsed);
    let ours = sample.spent(&spent).waited(&measured.visible);
    let peer = figures
        .peers
        .measure(&["phoenix", "--row", "visible", "--seconds", "15"])
        .await?;
    let what = format!(
        "runs: acknowledged → visible, at half of what goes all the way, beside {pages:.0} pages/s"
    );
    Ok(Row::new("visible_runs", what, "events")
        .side(Is::Ours, vec![ours])
        .side(Is::Peer, peer)
        .waits_at_most(Some(VISIBLE.0), VISIBLE.1))
}

/// Reads the newest runs page by page until `stop`; pages a second.
async fn turn_pages(remote: &Remote, stop: &CancellationToken) -> anyhow::Result<f64> {
    let mut runs = remote.runs(For::Reading).await?;
    let (begun, mut pages) = (Instant::now(), 0_u32);
    while !stop.is_cancelled() {
        let request = ListRunsRequest {
            page_size: PAGE,
            ..ListRunsRequest::default()
        };
        runs.list_runs(request).await.context("reading a page")?;
        pages += 1;
        sleep_until(begun + PAGE_EVERY * pages).await;
    }
    Ok(f64::from(pages) / begun.elapsed().as_secs_f64())
}

/// How much is made visible a second while it comes in flat out; then the way in is killed while it takes in.
async fn killed(ground: &mut Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("Flat out with the projector on, and then a kill -9 of the way in …");
    let writer = ground.pool(&ground.configs.projector.database)?;
    let projector = ground.projector()?;
    let flat_out = |callers, batch, duration| Job {
        pace: Pace::Callers(callers),
        duration,
        batch,
        records_max: u64::MAX,
        check_every: 0,
    };
    drive(&ground.remote, &flat_out(16, 100, WARM)).await?;
    let (watch, begun, first) = (Watch::begin(), Instant::now(), applied(&writer).await?);
    drive(&ground.remote, &flat_out(16, 100, HALF)).await?;
    let (seen, took) = (applied(&writer).await? - first, begun.elapsed());
    let ours = Sample::new(OURS, seen, took).spent(&watch.end());
    let before = written(ground).await?;
    let remote = ground.remote.clone();
    let killing = async {
        sleep(HALF / 2).await;
        ground.kill("ingest").await
    };
    let one_by_one = flat_out(CALLERS, 1, HALF);
    let (last, killed) = tokio::join!(drive(&remote, &one_by_one), killing);
    let last = last?;
    killed?;
    let found = written(ground).await? - before;
    drained(&writer, before + found).await?;
    projector.end().await?;
    writer.close().await;
    let ours = Sample {
        lost_after_kill: Some(last.accepted.saturating_sub(found)),
        ..ours
    };
    let lost = ours.lost_after_kill.unwrap_or_default();
    let arguments = ["phoenix", "--row", "ingest_batch", "--seconds", "10"];
    let mut peer = figures.peers.measure(&arguments).await?;
    for sample in &mut peer {
        sample.rate = sample.visible_rate.unwrap_or_default();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of events of some seconds"
    )]
    let lost = lost as f64;
    Ok(Row::new(
        "visible_rate",
        "made visible while taken in flat out",
        "events",
    )
    .side(Is::Ours, vec![ours])
    .side(Is::Peer, peer)
    .rate_at_least(Is::Peer, 100.0)
    .most("acknowledged and lost at kill -9", lost, 0.0))
}
