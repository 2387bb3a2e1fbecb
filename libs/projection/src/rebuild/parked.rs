//! What is parked in the generation that is served: its rows are missing, and nothing is wrong.

use std::fmt;

use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::Error;
use super::tables::Known;

/// Most parked streams that are named one by one.
const NAMED_MAX: i64 = 20;

/// What is parked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    pub streams: u64,
    pub records: u64,
    /// The first of the streams.
    pub first: Vec<ParkedStream>,
}

/// A stream that stands still.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ParkedStream {
    /// The key, for people.
    pub stream: String,
    pub family: String,
    pub partition: i32,
    /// Of the record from which on it is parked.
    pub log_offset: i64,
    pub records: i64,
    /// Why that record could not be applied.
    pub reason: String,
}

impl fmt::Display for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            streams, records, ..
        } = self;
        write!(f, "{records} records of {streams} streams are parked")
    }
}

/// What is parked in this generation, in this snapshot.
pub(super) async fn of(db: &mut PgConnection, generation: i32) -> Result<Parked, Error> {
    let looking = || Error::database("look at what is parked");
    let (streams, records): (i64, i64) = sqlx::query_as(
        "SELECT count(DISTINCT (family, partition, stream_digest)), count(*) FROM parked WHERE generation = $1",
    )
    .bind(generation)
    .fetch_one(&mut *db)
    .await
    .map_err(looking())?;
    if records == 0 {
        return Ok(Parked::default());
    }
    let first = sqlx::query_as(include_str!("../../sql/select_first_parked.sql"))
        .bind(generation)
        .bind(NAMED_MAX)
        .fetch_all(db)
        .await
        .map_err(looking())?;
    Ok(Parked {
        streams: streams.unsigned_abs(),
        records: records.unsigned_abs(),
        first,
    })
}

/// Whether a generation on trial has left out exactly what is parked in the one that is served.
/// Redriving and parking go on meanwhile.
pub(super) async fn same(
    db: &mut PgConnection,
    served: i32,
    trial: &Known,
    base: &str,
) -> Result<(), Error> {
    let place = "family, partition, incarnation, log_offset";
    let parked = format!("SELECT {place} FROM {base}.parked WHERE generation = {served}");
    let left_out = format!(
        "SELECT {place} FROM {}.skipped WHERE said_at < 0",
        trial.schema_name
    );
    let select = format!(
        "SELECT EXISTS (({parked} EXCEPT {left_out}) UNION ALL ({left_out} EXCEPT {parked}))"
    );
    let has_changed: bool = sqlx::query_scalar(AssertSqlSafe(select))
        .fetch_one(db)
        .await
        .map_err(Error::database("look at what is parked"))?;
    if has_changed {
        return Err(Error::ParkedChanged);
    }
    Ok(())
}
