//! Recorded runs, appended many times over and then projected at one go.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::appending;
use super::cpu::{Spent, Watch};
use super::row::{OURS, Sample};
use crate::import;
use crate::load::ground::Ground;
use crate::load::{copy, rate};

const RUNS_FILE: &str = "deploy/demo/airline-agent-runs.jsonl";
/// Imports at the same time: one alone waits for itself most of the time.
const IMPORTS: usize = 4;
/// Longest that a backlog may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Records that are in the log and not in the read model.
pub(super) struct Backlog {
    /// Records that the cursors will have passed.
    written: u64,
    /// And had passed before.
    applied: u64,
    rows: u64,
}

/// What projecting a backlog came to.
pub(super) struct Projected {
    pub(super) records: u64,
    pub(super) rows: u64,
    /// From the first transaction to the last, and the records in between.
    took: Duration,
    counted: u64,
    /// From its start, all records.
    spent: Spent,
}

impl Projected {
    pub(super) fn records_per_second(&self) -> f64 {
        rate(self.counted, self.took)
    }

    /// Rows a second, and what each took.
    pub(super) fn rows(&self) -> Sample {
        let rows = self.rows * self.counted / self.records.max(1);
        let sample = Sample::new(OURS, rows, self.took);
        Sample {
            cpu_us_per_event: self.spent.per_event(self.rows),
            ..sample
        }
    }
}

impl Backlog {
    /// Appends `copies` of the recorded runs under names of their own. No projector may be running.
    pub(super) async fn append(
        ground: &Ground,
        writer: &PgPool,
        name: &str,
        copies: usize,
    ) -> anyhow::Result<Self> {
        let (rows, applied) = (copy::rows(writer).await?, applied(writer).await?);
        let mut imports = JoinSet::new();
        for copy in 0..copies {
            if imports.len() == IMPORTS
                && let Some(imported) = imports.join_next().await
            {
                imported??;
            }
            let (remote, prefix) = (ground.remote.clone(), format!("{name}-{copy}-"));
            imports.spawn(async move {
                import::append(&remote, Path::new(RUNS_FILE), 1, &prefix)
                    .await
                    .context("run this at the top of the checkout")
            });
        }
        while let Some(imported) = imports.join_next().await {
            imported??;
        }
        Ok(Self {
            written: appending::written(ground).await?,
            applied,
            rows,
        })
    }

    /// Lets a projector loose on it, and ends it when it is through.
    pub(super) async fn project(
        self,
        ground: &Ground,
        writer: &PgPool,
    ) -> anyhow::Result<Projected> {
        let projector = ground.projector()?;
        let watch = Watch::begin();
        let deadline = Instant::now() + DRAINED_WITHIN;
        // Joining a group takes a while that says nothing about writing rows.
        let mut first = None;
        let (took, uncounted) = loop {
            let now = applied(writer).await?;
            let (begin, at) = match first {
                None if now > self.applied => *first.insert((Instant::now(), now)),
                None => (Instant::now(), self.applied),
                Some(first) => first,
            };
            if now >= self.written {
                break (begin.elapsed(), at - self.applied);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the projector did not get through the backlog in time"
            );
            sleep(LOOK_EVERY).await;
        };
        let spent = watch.end();
        projector.end().await?;
        let records = self.written - self.applied;
        Ok(Projected {
            records,
            rows: copy::rows(writer).await? - self.rows,
            took,
            counted: records - uncounted,
            spent,
        })
    }
}

/// Waits until the cursors have passed so many records.
pub(super) async fn drained(writer: &PgPool, written: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + DRAINED_WITHIN;
    while applied(writer).await? < written {
        anyhow::ensure!(
            Instant::now() < deadline,
            "the projector did not get through the backlog in time"
        );
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Records that the cursors have passed.
pub(super) async fn applied(writer: &PgPool) -> anyhow::Result<u64> {
    let sum: i64 =
        sqlx::query_scalar("SELECT coalesce(sum(next_offset), 0)::bigint FROM runs.cursors")
            .fetch_one(writer)
            .await
            .context("reading the cursors")?;
    Ok(u64::try_from(sum)?)
}
