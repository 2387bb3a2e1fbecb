//! What an event costs each role, and how that moves with events, tenants and partitions.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::Figures;
use super::appending::written;
use super::cpu::Watch;
use super::row::{Is, OURS, Row, Sample};
use crate::load::driver::drive;
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace};
use crate::load::process::Process;
use crate::say;

/// How much there is of everything.
#[derive(Clone, Copy)]
struct Size {
    name: [&'static str; 3],
    events: u64,
    tenants: u16,
    partitions: u32,
}

const SIZES: [Size; 3] = [
    Size {
        name: [
            "capacity_ingest_1",
            "capacity_runs_1",
            "capacity_analytics_1",
        ],
        events: 100_000,
        tenants: 1,
        partitions: 4,
    },
    Size {
        name: [
            "capacity_ingest_2",
            "capacity_runs_2",
            "capacity_analytics_2",
        ],
        events: 300_000,
        tenants: 10,
        partitions: 12,
    },
    Size {
        name: [
            "capacity_ingest_3",
            "capacity_runs_3",
            "capacity_analytics_3",
        ],
        events: 1_000_000,
        tenants: 100,
        partitions: 32,
    },
];
/// Tenants that append at the same time, and callers of all of them together.
const AT_ONCE: u16 = 8;
const CALLERS: u16 = 16;
const BATCH: u16 = 100;
/// Longest that any step may take.
const WITHIN: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn measure(admin: &SecretString, figures: &Figures) -> anyhow::Result<()> {
    for size in SIZES {
        say::aside(format_args!(
            "{} events of {} tenants over {} partitions a topic …",
            say::count(size.events),
            size.tenants,
            size.partitions
        ));
        let mut ground = Ground::prepare_with(admin, Some(size.partitions)).await?;
        let measured = Box::pin(of_size(&mut ground, size, figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    Ok(())
}

async fn of_size(ground: &mut Ground, size: Size, figures: &Figures) -> anyhow::Result<()> {
    let [ingest, runs, analytics] = size.name;
    let what = |role: &str| {
        format!(
            "{role}: {} events, {} tenants, {} partitions",
            say::count(size.events),
            size.tenants,
            size.partitions
        )
    };
    let appended = append(ground, size).await?;
    let acknowledged = appended.events;
    let row = Row::new(ingest, what("ingest"), "events").side(Is::Ours, vec![appended]);
    figures.push(row)?;
    let pool = ground.pool(&ground.configs.shared.database)?;
    let projector = ground.projector()?;
    let projected = fold(ground, &pool, projector, "runs", acknowledged).await?;
    let row = Row::new(runs, what("runs projector"), "events").side(Is::Ours, vec![projected]);
    figures.push(row)?;
    let projector = ground.analytics().await?;
    let counted = fold(ground, &pool, projector, "analytics", acknowledged).await?;
    pool.close().await;
    let row = Row::new(analytics, what("analytics projector"), "events");
    figures.push(row.side(Is::Ours, vec![counted]))
}

/// By the hundred, each tenant its share.
async fn append(ground: &Ground, size: Size) -> anyhow::Result<Sample> {
    let tenants = ground.tenants(size.tenants).await?;
    let at_once = size.tenants.min(AT_ONCE);
    let job = Job {
        pace: Pace::Callers(CALLERS / at_once),
        duration: WITHIN,
        batch: BATCH,
        records_max: size.events / u64::from(size.tenants),
        check_every: 0,
    };
    let (watch, begun) = (Watch::begin(), Instant::now());
    let appending = stream::iter(&tenants).map(|tenant| drive(tenant, &job));
    let mut appending = appending.buffer_unordered(at_once.into());
    let mut accepted = 0;
    while let Some(measured) = appending.next().await {
        accepted += measured?.accepted;
    }
    let sample = Sample::new(OURS, accepted, begun.elapsed());
    Ok(sample.spent(&watch.end()))
}

/// All that lies in the log, by a projector that has just begun.
async fn fold(
    ground: &Ground,
    pool: &PgPool,
    projector: Process,
    schema: &str,
    events: u64,
) -> anyhow::Result<Sample> {
    let written = written(ground).await?;
    let (watch, begun) = (Watch::begin(), Instant::now());
    let cursors = format!(
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM {schema}.cursors WHERE family IN ('run', 'schedule', 'message')"
    );
    loop {
        let folded: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(cursors.as_str()))
            .fetch_one(pool)
            .await?;
        if u64::try_from(folded)? >= written {
            break;
        }
        anyhow::ensure!(
            begun.elapsed() < WITHIN,
            "only {folded} of {written} records are in {schema} after {WITHIN:?}"
        );
        sleep(LOOK_EVERY).await;
    }
    let (spent, took) = (watch.end(), begun.elapsed());
    projector.end().await?;
    Ok(Sample::new(OURS, events, took).spent(&spent))
}
