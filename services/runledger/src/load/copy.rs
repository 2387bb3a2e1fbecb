//! What Runledger is measured against on the way out: Postgres's own COPY of the same rows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use runledger_runs::TABLES;
use sqlx::postgres::{PgConnection, PgPoolCopyExt as _};
use sqlx::{AssertSqlSafe, PgPool, Row as _};

/// The widest table of the read model.
const WIDEST: &str = "runs.records";

/// Rows of the read model, all tables together.
pub(super) async fn rows(writer: &PgPool) -> anyhow::Result<u64> {
    let mut sum = 0;
    for table in TABLES {
        let statement = format!("SELECT count(*) FROM runs.{table}");
        let row = sqlx::query(AssertSqlSafe(statement))
            .fetch_one(writer)
            .await
            .context("counting rows")?;
        sum += u64::try_from(row.try_get::<i64, _>(0)?)?;
    }
    Ok(sum)
}

/// Copies up to `rows_max` rows of the widest table into an empty table with the same indexes, and answers how
/// many there were and how long the copying in took. `owner` makes the table and drops it again.
pub(super) async fn copy(
    writer: &PgPool,
    owner: &PgPool,
    rows_max: u64,
) -> anyhow::Result<(u64, Duration)> {
    let read = format!("COPY (SELECT * FROM {WIDEST} LIMIT {rows_max}) TO STDOUT");
    let text: Vec<_> = writer
        .copy_out_raw(&read)
        .await?
        .try_collect()
        .await
        .context("reading rows")?;
    let mut connection = owner.acquire().await?;
    let connection: &mut PgConnection = &mut connection;
    let make = format!("CREATE TABLE public.copied (LIKE {WIDEST} INCLUDING ALL)");
    sqlx::query(AssertSqlSafe(make))
        .execute(&mut *connection)
        .await
        .context("making a table")?;
    let begin = Instant::now();
    let mut copying = connection
        .copy_in_raw("COPY public.copied FROM STDIN")
        .await?;
    for chunk in text {
        copying.send(chunk).await?;
    }
    let copied = copying.finish().await.context("copying rows")?;
    let took = begin.elapsed();
    sqlx::query("DROP TABLE public.copied")
        .execute(connection)
        .await?;
    Ok((copied, took))
}
