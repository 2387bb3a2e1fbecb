//! `runledger lag`: how far the read model of runs is behind the log.

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use runledger_domain::log::Partition;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_runs::{FAMILIES, PROJECTOR_DEFAULTS, ProjectorConfig};
use serde_json::json;
use sqlx::PgPool;

use crate::runs::view::span;
use crate::say::{self, Columns, Tone, cell, count, toned};
use crate::{cli, roles};

/// Cursors of the generation that is served.
const CURSORS: &str = "SELECT family, partition, next_offset FROM runs.cursors
    WHERE generation = (SELECT generation FROM runs.active_generation)";

/// One partition.
struct Behind {
    partition: Partition,
    applied: u64,
    written: u64,
    /// When the oldest record not yet applied was appended; `None` when there is none.
    since: Option<DateTime<Utc>>,
}

/// The command.
pub(crate) async fn run(args: &cli::Lag) -> anyhow::Result<()> {
    let Some(config) = roles::load::<ProjectorConfig>(&args.role, PROJECTOR_DEFAULTS)? else {
        return Ok(());
    };
    let log = Kafka::connect(&config.kafka)?;
    let pool = runledger_postgres::connect(&config.database, "runledger lag", "runs")?;
    let behind = look(log.as_ref(), &pool).await?;
    let now = SystemClock.now();
    if args.json {
        print_json(&behind, now)
    } else {
        print(&behind, now)
    }
}

async fn look(log: &dyn Log, pool: &PgPool) -> anyhow::Result<Vec<Behind>> {
    let cursors: Vec<(String, i32, i64)> = sqlx::query_as(CURSORS)
        .fetch_all(pool)
        .await
        .context("reading the cursors")?;
    let mut behind = Vec::new();
    for family in FAMILIES {
        for genesis in log.genesis(*family).await?.iter() {
            let partition = Partition {
                family: *family,
                number: genesis.partition,
            };
            let cursor = cursors.iter().find(|(name, number, _)| {
                name == family.as_str() && u32::try_from(*number) == Ok(partition.number)
            });
            let applied = cursor
                .and_then(|(_, _, next)| u64::try_from(*next).ok())
                .unwrap_or_default();
            let written = log.watermark(partition).await?;
            let next = if applied < written {
                log.read(partition, applied, 1).await?
            } else {
                Vec::new()
            };
            let since = next.first().and_then(|stored| stored.log_timestamp);
            behind.push(Behind {
                partition,
                applied,
                written,
                since,
            });
        }
    }
    Ok(behind)
}

fn print(behind: &[Behind], now: DateTime<Utc>) -> anyhow::Result<()> {
    let mut table = Columns::new(&[
        "partition",
        ">applied up to",
        ">written up to",
        ">records behind",
        ">lag",
    ]);
    for one in behind {
        let records = one.written.saturating_sub(one.applied);
        let tone = if records == 0 { Tone::Good } else { Tone::Busy };
        table.row([
            cell(one.partition),
            cell(count(one.applied)),
            cell(count(one.written)),
            toned(count(records), tone),
            cell(one.since.map_or_else(String::new, |since| {
                span((now - since).max(TimeDelta::zero()))
            })),
        ]);
    }
    table.print()?;
    let records: u64 = behind
        .iter()
        .map(|one| one.written.saturating_sub(one.applied))
        .sum();
    let lag = behind
        .iter()
        .filter_map(|one| one.since)
        .min()
        .map(|since| span((now - since).max(TimeDelta::zero())));
    match lag {
        Some(lag) => say::line(format_args!(
            "Behind by {} records; lag {lag}.",
            count(records)
        ))?,
        None => say::line("Nothing is behind.")?,
    }
    Ok(())
}

fn print_json(behind: &[Behind], now: DateTime<Utc>) -> anyhow::Result<()> {
    for one in behind {
        say::line(json!({
            "family": one.partition.family.as_str(),
            "partition": one.partition.number,
            "next_offset": one.applied,
            "watermark": one.written,
            "lag_ms": one.since.map_or(0, |since| (now - since).num_milliseconds().max(0)),
        }))?;
    }
    Ok(())
}
