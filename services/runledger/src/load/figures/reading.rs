//! What the way out can take: the projector against COPY, and how soon an append can be read.

use std::time::Duration;

use super::backlog::Backlog;
use super::{Figure, ROUNDS, WARM, median, pair, whole};
use crate::load::driver::{Job, Pace, drive, micros};
use crate::load::ground::Ground;
use crate::load::{copy, histogram, millis, rate};
use crate::say;

/// Copies of the recorded runs that make one backlog.
const COPIES: usize = 8;
/// How often visible latency is sampled, a second.
const CHECKS_PER_SECOND: u64 = 50;
const VISIBLE_FOR: Duration = Duration::from_secs(15);
/// p50 and p99 to reach.
const VISIBLE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// `unary`: records a second that single appends reached.
pub(super) async fn measure(
    ground: &Ground,
    figures: &mut Vec<Figure>,
    unary: f64,
) -> anyhow::Result<()> {
    say::aside("The runs projector against COPY …");
    let writer = ground.pool(&ground.configs.projector.database)?;
    let owner = ground.pool(&ground.configs.shared.database)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let backlog = Backlog::append(ground, &writer, &round.to_string(), COPIES).await?;
        let projected = backlog.project(ground, &writer).await?;
        ours.push(projected.rows_per_second());
        let (copied, took) = copy::copy(&writer, &owner, projected.records).await?;
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
    Ok(())
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
