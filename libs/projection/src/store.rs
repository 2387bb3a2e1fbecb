//! Cursors and checkpoints in Postgres: the truth of how far a projection has come.
//!
//! Names are unqualified: a projection's pool looks them up in the schema of its service.

use std::collections::{BTreeMap, HashMap};

use runledger_domain::digest::Digest;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Partition, Position};
use runledger_domain::time::Timestamp;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::cursor::Cursor;

pub(crate) mod parked;

/// A checkpoint is written whenever a cursor passes a multiple of this, and when its owner stops.
pub(crate) const CHECKPOINT_EVERY: u64 = 10_000;

#[derive(FromRow)]
struct Row {
    family: String,
    partition: i32,
    incarnation: Option<Uuid>,
    next_offset: i64,
    last_digest: Option<Vec<u8>>,
    chain_head: Option<Vec<u8>>,
    voids_in_a_row: i32,
    record_count: i64,
    rolling_hash: Vec<u8>,
    last_recorded_at: Option<Timestamp>,
    parked_records: i64,
}

impl Row {
    fn into_cursor(self) -> Result<Cursor, sqlx::Error> {
        let malformed =
            |what: &'static str| sqlx::Error::Decode(format!("cursor: malformed {what}").into());
        let hash = |bytes: Vec<u8>, what| Digest::try_from(bytes).map_err(|_| malformed(what));
        let family: Family = self.family.parse().map_err(|_| malformed("family"))?;
        let number = u32::try_from(self.partition).map_err(|_| malformed("partition"))?;
        Ok(Cursor {
            partition: Partition { family, number },
            incarnation: self.incarnation.map(Incarnation::new),
            next_offset: u64::try_from(self.next_offset).map_err(|_| malformed("next_offset"))?,
            last_digest: self
                .last_digest
                .map(|bytes| hash(bytes, "last_digest"))
                .transpose()?,
            chain_head: self
                .chain_head
                .map(|bytes| hash(bytes, "chain_head"))
                .transpose()?,
            voids_in_a_row: u32::try_from(self.voids_in_a_row)
                .map_err(|_| malformed("voids_in_a_row"))?,
            record_count: u64::try_from(self.record_count)
                .map_err(|_| malformed("record_count"))?,
            rolling_hash: hash(self.rolling_hash, "rolling_hash")?,
            last_recorded_at: self.last_recorded_at,
            parked: u64::try_from(self.parked_records).map_err(|_| malformed("parked_records"))?,
        })
    }
}

/// Columns of many cursors, to be bound as arrays.
#[derive(Default)]
struct Columns {
    families: Vec<&'static str>,
    partitions: Vec<i32>,
    incarnations: Vec<Option<Uuid>>,
    next_offsets: Vec<i64>,
    last_digests: Vec<Option<Vec<u8>>>,
    chain_heads: Vec<Option<Vec<u8>>>,
    voids_in_a_row: Vec<i32>,
    record_counts: Vec<i64>,
    rolling_hashes: Vec<Vec<u8>>,
    last_recorded_ats: Vec<Option<Timestamp>>,
}

impl Columns {
    fn of<'a>(cursors: impl IntoIterator<Item = &'a Cursor>) -> Self {
        let mut columns = Self::default();
        for cursor in cursors {
            columns.families.push(cursor.partition.family.as_str());
            columns.partitions.push(number(cursor.partition));
            columns
                .incarnations
                .push(cursor.incarnation.map(Incarnation::as_uuid));
            columns.next_offsets.push(signed(cursor.next_offset));
            columns.last_digests.push(cursor.last_digest.map(Vec::from));
            columns.chain_heads.push(cursor.chain_head.map(Vec::from));
            columns
                .voids_in_a_row
                .push(i32::try_from(cursor.voids_in_a_row).unwrap_or(i32::MAX));
            columns.record_counts.push(signed(cursor.record_count));
            columns.rolling_hashes.push(cursor.rolling_hash.to_vec());
            columns.last_recorded_ats.push(cursor.last_recorded_at);
        }
        columns
    }
}

/// Postgres has no unsigned numbers. Kafka's offsets are signed too, so nothing is cut.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn number(partition: Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}

/// One generation of a read model.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Generation {
    pub(crate) generation: i32,
    /// Where its unqualified names are looked up.
    pub(crate) search_path: String,
}

/// The generation that is served now.
pub(crate) async fn active_generation(db: impl PgExecutor<'_>) -> Result<Generation, sqlx::Error> {
    sqlx::query_as("SELECT generation, search_path FROM active_generation")
        .fetch_one(db)
        .await
}

/// Whether the cursors of a generation may not move, because another is served.
pub(crate) async fn is_frozen(
    db: impl PgExecutor<'_>,
    generation: i32,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(bool_or(frozen), false) FROM cursors WHERE generation = $1")
        .bind(generation)
        .fetch_one(db)
        .await
}

/// Whether another generation is served than this one. Frozen cursors do not tell for long: those of
/// a generation that is gone back to move again, and dropped ones are no more.
pub(crate) async fn is_retired(
    db: impl PgExecutor<'_>,
    generation: i32,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT generation <> $1 FROM active_generation")
        .bind(generation)
        .fetch_one(db)
        .await
}

/// All cursors of the generation that is served, as this snapshot has them. In a transaction, what
/// follows looks its tables up in that generation.
pub(crate) async fn active(
    db: impl PgExecutor<'_>,
) -> Result<BTreeMap<Partition, Cursor>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(include_str!("../sql/select_active_cursors.sql"))
        .fetch_all(db)
        .await?;
    by_partition(rows)
}

/// All cursors of one generation.
pub(crate) async fn all(
    db: impl PgExecutor<'_>,
    generation: i32,
) -> Result<BTreeMap<Partition, Cursor>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(include_str!("../sql/select_all_cursors.sql"))
        .bind(generation)
        .fetch_all(db)
        .await?;
    by_partition(rows)
}

fn by_partition(rows: Vec<Row>) -> Result<BTreeMap<Partition, Cursor>, sqlx::Error> {
    let cursor = |row: Row| {
        let cursor = row.into_cursor()?;
        Ok((cursor.partition, cursor))
    };
    rows.into_iter().map(cursor).collect()
}

/// What a cursor was at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) partition: Partition,
    pub(crate) next_offset: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) record_count: u64,
    pub(crate) rolling_hash: Digest,
    pub(crate) chain_head: Digest,
}

/// All checkpoints of one generation: one every [`CHECKPOINT_EVERY`] records and a few more.
pub(crate) async fn checkpoints(
    db: impl PgExecutor<'_>,
    generation: i32,
) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(include_str!("../sql/select_checkpoints.sql"))
        .bind(generation)
        .fetch_all(db)
        .await?;
    let checkpoint = |row: Row| {
        let cursor = row.into_cursor()?;
        let (Some(incarnation), Some(chain_head)) = (cursor.incarnation, cursor.chain_head) else {
            return Err(sqlx::Error::Decode("checkpoint: not whole".into()));
        };
        Ok(Checkpoint {
            partition: cursor.partition,
            next_offset: cursor.next_offset,
            incarnation,
            record_count: cursor.record_count,
            rolling_hash: cursor.rolling_hash,
            chain_head,
        })
    };
    rows.into_iter().map(checkpoint).collect()
}

/// What is parked (`true`) or skipped from `first` on to `last`, by offset.
pub(crate) async fn left_out(
    db: &mut PgConnection,
    generation: i32,
    first: Position,
    last: u64,
) -> Result<HashMap<u64, bool>, sqlx::Error> {
    let rows: Vec<(i64, bool)> = sqlx::query_as(include_str!("../sql/select_left_out.sql"))
        .bind(generation)
        .bind(first.partition.family.as_str())
        .bind(number(first.partition))
        .bind(signed(first.offset))
        .bind(signed(last.saturating_add(1)))
        .bind(first.incarnation.as_uuid())
        .fetch_all(db)
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(offset, is_parked)| (offset.unsigned_abs(), is_parked))
        .collect())
}

/// The cursors of some partitions; makes those that are missing.
pub(crate) async fn load(
    db: &mut PgConnection,
    generation: i32,
    partitions: &[Partition],
) -> Result<Vec<Cursor>, sqlx::Error> {
    let families: Vec<&str> = partitions
        .iter()
        .map(|partition| partition.family.as_str())
        .collect();
    let numbers: Vec<i32> = partitions
        .iter()
        .map(|partition| number(*partition))
        .collect();
    sqlx::query(include_str!("../sql/insert_missing_cursors.sql"))
        .bind(generation)
        .bind(&families)
        .bind(&numbers)
        .execute(&mut *db)
        .await?;
    let rows: Vec<Row> = sqlx::query_as(include_str!("../sql/select_cursors.sql"))
        .bind(generation)
        .bind(&families)
        .bind(&numbers)
        .fetch_all(db)
        .await?;
    rows.into_iter().map(Row::into_cursor).collect()
}

/// What moving cursors showed.
pub(crate) struct Guarded {
    /// Partitions whose cursor did not stand where it was expected: another process owns them now,
    /// and nothing of this batch may be committed.
    pub(crate) lost: Vec<Partition>,
    /// How many records of the others are parked, where any are.
    pub(crate) parked: BTreeMap<Partition, u64>,
}

/// Moves cursors from `before` to `after`, each only if it still stands where `before` says, and
/// locks them until the transaction ends; none while another generation is served. What is parked in
/// those partitions stays as it is until then: redriving locks the cursor too.
pub(crate) async fn guard(
    db: &mut PgConnection,
    generation: i32,
    before: &[Cursor],
    after: &[Cursor],
) -> Result<Guarded, sqlx::Error> {
    let columns = Columns::of(after);
    let expected: Vec<i64> = before
        .iter()
        .map(|cursor| signed(cursor.next_offset))
        .collect();
    let moved: Vec<(String, i32, i64)> = sqlx::query_as(include_str!("../sql/update_cursors.sql"))
        .bind(generation)
        .bind(&columns.families)
        .bind(&columns.partitions)
        .bind(&expected)
        .bind(&columns.next_offsets)
        .bind(&columns.incarnations)
        .bind(&columns.last_digests)
        .bind(&columns.chain_heads)
        .bind(&columns.voids_in_a_row)
        .bind(&columns.record_counts)
        .bind(&columns.rolling_hashes)
        .bind(&columns.last_recorded_ats)
        .fetch_all(db)
        .await?;
    let mut guarded = Guarded {
        lost: Vec::new(),
        parked: BTreeMap::new(),
    };
    for partition in after.iter().map(|cursor| cursor.partition) {
        let moved = moved.iter().find(|(family, moved, _)| {
            *family == partition.family.as_str() && *moved == number(partition)
        });
        match moved.map(|(.., parked)| u64::try_from(*parked).unwrap_or_default()) {
            None => guarded.lost.push(partition),
            Some(0) => {}
            Some(parked) => {
                guarded.parked.insert(partition, parked);
            }
        }
    }
    Ok(guarded)
}

/// Writes down where cursors stand. Writing the same place twice changes nothing.
pub(crate) async fn checkpoint<'a>(
    db: &mut PgConnection,
    generation: i32,
    cursors: impl IntoIterator<Item = &'a Cursor>,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let columns = Columns::of(
        cursors
            .into_iter()
            .filter(|cursor| cursor.incarnation.is_some()),
    );
    if columns.families.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("../sql/insert_checkpoints.sql"))
        .bind(generation)
        .bind(&columns.families)
        .bind(&columns.partitions)
        .bind(&columns.next_offsets)
        .bind(&columns.incarnations)
        .bind(&columns.record_counts)
        .bind(&columns.rolling_hashes)
        .bind(&columns.chain_heads)
        .bind(at)
        .execute(db)
        .await?;
    Ok(())
}
