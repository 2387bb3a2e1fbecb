//! Recorded runs, appended many times over and then projected at one go.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use runledger_domain::log::Partition;
use runledger_eventlog::Log as _;
use runledger_eventlog::kafka::Kafka;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

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
}

impl Projected {
    pub(super) fn records_per_second(&self) -> f64 {
        rate(self.counted, self.took)
    }

    pub(super) fn rows_per_second(&self) -> f64 {
        rate(self.rows * self.counted / self.records.max(1), self.took)
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
        Ok(Self {
            written,
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
        projector.end().await?;
        let records = self.written - self.applied;
        Ok(Projected {
            records,
            rows: copy::rows(writer).await? - self.rows,
            took,
            counted: records - uncounted,
        })
    }
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
