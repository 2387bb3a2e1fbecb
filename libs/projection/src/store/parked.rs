//! Parked records in Postgres.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::digest::Digest;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Partition, Position};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{number, signed};
use crate::apply::Standing;
use crate::cursor::Cursor;
use crate::item::{Item, StreamKey};

/// Most characters of a key, a type or a reason: they are for people.
const TEXT_CHARS_MAX: usize = 500;

/// A record that is to be parked.
pub(crate) struct Letter<'a> {
    pub(crate) item: &'a Item,
    /// `None`: its identity could not be kept.
    pub(crate) standing: Option<Standing>,
    /// `None`: it waits for an earlier one of its stream.
    pub(crate) reason: Option<String>,
}

/// A parked record, as far as redriving needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) position: Position,
    pub(crate) standing: Option<Standing>,
}

/// What is parked in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) records: u64,
    pub(crate) streams: u64,
    /// When the one that has been there longest was parked.
    pub(crate) oldest: Timestamp,
}

/// What no text can hold is replaced, and what is too long for people is cut: these columns must
/// never be a reason to refuse a row.
pub(crate) fn legible(text: &str) -> String {
    text.chars()
        .take(TEXT_CHARS_MAX)
        .map(|one| if one == '\0' { '\u{fffd}' } else { one })
        .collect()
}

/// Parks records. One that is parked already stays as it is.
pub(crate) async fn insert(
    db: &mut PgConnection,
    generation: i32,
    now: Timestamp,
    letters: &[Letter<'_>],
) -> Result<(), sqlx::Error> {
    let named: Vec<_> = each(letters, |one| one.item.stream.parse());
    let scope = |scope: &Option<(Scope, _)>| scope.as_ref().map(|(scope, _)| *scope);
    let tenants: Vec<Option<Uuid>> = named
        .iter()
        .map(|named| Some(scope(named)?.tenant.as_uuid()))
        .collect();
    let modes: Vec<Option<&str>> = named
        .iter()
        .map(|named| Some(scope(named)?.mode.as_str()))
        .collect();
    let streams: Vec<Option<&str>> = named
        .iter()
        .map(|named| named.as_ref().map(|(_, stream)| stream.as_str()))
        .collect();
    sqlx::query(include_str!("../../sql/insert_parked.sql"))
        .bind(generation)
        .bind(now)
        .bind(each(letters, |one| {
            one.item.position.partition.family.as_str()
        }))
        .bind(each(letters, |one| number(one.item.position.partition)))
        .bind(each(letters, |one| signed(one.item.position.offset)))
        .bind(each(letters, |one| one.item.position.incarnation.as_uuid()))
        .bind(each(letters, |one| one.item.stream.digest().to_vec()))
        .bind(each(letters, |one| {
            legible(&String::from_utf8_lossy(&one.item.stream.bytes))
        }))
        .bind(&tenants)
        .bind(&modes)
        .bind(&streams)
        .bind(each(letters, |one| {
            Some(one.item.applied.as_ref()?.record.id.as_uuid())
        }))
        .bind(each(letters, |one| legible(&one.item.type_name)))
        .bind(each(letters, |one| one.standing.map(Standing::as_str)))
        .bind(each(letters, |one| one.reason.as_deref().map(legible)))
        .bind(each(letters, |one| one.item.recorded_at))
        .execute(db)
        .await?;
    Ok(())
}

fn each<'l, 'i, T>(letters: &'l [Letter<'i>], pick: impl Fn(&'l Letter<'i>) -> T) -> Vec<T> {
    letters.iter().map(pick).collect()
}

/// Which of `streams` have parked records, by their place in the list.
pub(crate) async fn among(
    db: &mut PgConnection,
    generation: i32,
    streams: &[&StreamKey],
) -> Result<Vec<usize>, sqlx::Error> {
    let families: Vec<&str> = streams
        .iter()
        .map(|stream| stream.partition.family.as_str())
        .collect();
    let numbers: Vec<i32> = streams
        .iter()
        .map(|stream| number(stream.partition))
        .collect();
    let digests: Vec<Vec<u8>> = streams
        .iter()
        .map(|stream| stream.digest().to_vec())
        .collect();
    let places: Vec<i64> = sqlx::query_scalar(include_str!("../../sql/select_parked_streams.sql"))
        .bind(generation)
        .bind(&families)
        .bind(&numbers)
        .bind(&digests)
        .fetch_all(db)
        .await?;
    let place = |ordinal: i64| usize::try_from(ordinal).ok()?.checked_sub(1);
    Ok(places.into_iter().filter_map(place).collect())
}

/// The first parked records of a stream, in order, `max` at most.
pub(crate) async fn of_stream(
    db: &mut PgConnection,
    generation: i32,
    partition: Partition,
    stream: &Digest,
    max: usize,
) -> Result<Vec<Parked>, sqlx::Error> {
    let rows: Vec<(i64, Uuid, Option<String>)> =
        sqlx::query_as(include_str!("../../sql/select_parked_of_stream.sql"))
            .bind(generation)
            .bind(partition.family.as_str())
            .bind(number(partition))
            .bind(stream.as_slice())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(db)
            .await?;
    let parked = |(offset, incarnation, standing): (i64, Uuid, Option<String>)| {
        let standing = standing.and_then(|word| {
            let is = |one: &&Standing| one.as_str() == word;
            Standing::ALL.iter().find(is).copied()
        });
        Ok(Parked {
            position: Position {
                partition,
                incarnation: Incarnation::new(incarnation),
                offset: unsigned(offset)?,
            },
            standing,
        })
    };
    rows.into_iter().map(parked).collect()
}

/// Takes records of one stream out. How many there were.
pub(crate) async fn delete(
    db: &mut PgConnection,
    generation: i32,
    partition: Partition,
    stream: &Digest,
    offsets: impl IntoIterator<Item = u64>,
) -> Result<u64, sqlx::Error> {
    let offsets: Vec<i64> = offsets.into_iter().map(signed).collect();
    let deleted = sqlx::query(include_str!("../../sql/delete_parked.sql"))
        .bind(generation)
        .bind(partition.family.as_str())
        .bind(number(partition))
        .bind(stream.as_slice())
        .bind(&offsets)
        .execute(db)
        .await?;
    Ok(deleted.rows_affected())
}

/// Notes that a parked record was tried again, in vain.
pub(crate) async fn refused(
    db: &mut PgConnection,
    generation: i32,
    at: Position,
    now: Timestamp,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("../../sql/update_parked_refused.sql"))
        .bind(generation)
        .bind(at.partition.family.as_str())
        .bind(number(at.partition))
        .bind(signed(at.offset))
        .bind(now)
        .bind(legible(reason))
        .execute(db)
        .await?;
    Ok(())
}

/// Writes into the cursors how many records of their partitions are parked now.
pub(crate) async fn count(
    db: &mut PgConnection,
    generation: i32,
    partitions: &BTreeSet<Partition>,
) -> Result<(), sqlx::Error> {
    let families: Vec<&str> = partitions.iter().map(|one| one.family.as_str()).collect();
    let numbers: Vec<i32> = partitions.iter().map(|one| number(*one)).collect();
    sqlx::query(include_str!("../../sql/update_cursors_parked.sql"))
        .bind(generation)
        .bind(&families)
        .bind(&numbers)
        .execute(db)
        .await?;
    Ok(())
}

/// What is parked, by partition; partitions with nothing are left out.
pub(crate) async fn totals(
    db: impl PgExecutor<'_>,
    generation: i32,
) -> Result<BTreeMap<Partition, Totals>, sqlx::Error> {
    let rows: Vec<(String, i32, i64, i64, Timestamp)> =
        sqlx::query_as(include_str!("../../sql/select_parked_totals.sql"))
            .bind(generation)
            .fetch_all(db)
            .await?;
    let total = |(family, number, records, streams, oldest): (String, i32, i64, i64, Timestamp)| {
        let totals = Totals {
            records: unsigned(records)?,
            streams: unsigned(streams)?,
            oldest,
        };
        Ok((partition(&family, number)?, totals))
    };
    rows.into_iter().map(total).collect()
}

/// Locks the cursor of a partition until the transaction ends, so that its owner does not move it.
/// `false`: there is none.
pub(crate) async fn lock(
    db: &mut PgConnection,
    generation: i32,
    partition: Partition,
) -> Result<bool, sqlx::Error> {
    let found = sqlx::query(include_str!("../../sql/lock_cursor.sql"))
        .bind(generation)
        .bind(partition.family.as_str())
        .bind(number(partition))
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}

/// Writes down that a record is left out for ever.
pub(crate) async fn skip(
    db: &mut PgConnection,
    at: Position,
    said_at: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("../../sql/insert_skipped.sql"))
        .bind(at.partition.family.as_str())
        .bind(number(at.partition))
        .bind(at.incarnation.as_uuid())
        .bind(signed(at.offset))
        .bind(signed(said_at))
        .execute(db)
        .await?;
    Ok(())
}

/// The records that are to be left out of what these cursors have yet to read.
pub(crate) async fn skipped(
    db: &mut PgConnection,
    cursors: &[Cursor],
) -> Result<BTreeSet<(Partition, u64)>, sqlx::Error> {
    let columns = super::Columns::of(cursors);
    let rows: Vec<(String, i32, i64)> =
        sqlx::query_as(include_str!("../../sql/select_skipped.sql"))
            .bind(&columns.families)
            .bind(&columns.partitions)
            .bind(&columns.next_offsets)
            .bind(&columns.incarnations)
            .fetch_all(db)
            .await?;
    rows.into_iter()
        .map(|(family, number, offset)| Ok((partition(&family, number)?, unsigned(offset)?)))
        .collect()
}

/// The first parked record of `scope` at or before any of these positions: its stream and its place.
pub(crate) async fn before(
    db: &mut PgConnection,
    scope: Scope,
    positions: &[Position],
) -> Result<Option<(String, Partition, u64)>, sqlx::Error> {
    let families: Vec<&str> = positions
        .iter()
        .map(|at| at.partition.family.as_str())
        .collect();
    let numbers: Vec<i32> = positions.iter().map(|at| number(at.partition)).collect();
    let offsets: Vec<i64> = positions.iter().map(|at| signed(at.offset)).collect();
    let row: Option<(String, String, i32, i64)> =
        sqlx::query_as(include_str!("../../sql/select_parked_before.sql"))
            .bind(scope.tenant.as_uuid())
            .bind(scope.mode.as_str())
            .bind(&families)
            .bind(&numbers)
            .bind(&offsets)
            .fetch_optional(db)
            .await?;
    row.map(|(stream, family, number, offset)| {
        Ok((stream, partition(&family, number)?, unsigned(offset)?))
    })
    .transpose()
}

pub(crate) fn partition(family: &str, number: i32) -> Result<Partition, sqlx::Error> {
    let family: Family = family.parse().map_err(|_| malformed("family"))?;
    let number = u32::try_from(number).map_err(|_| malformed("partition"))?;
    Ok(Partition { family, number })
}

pub(crate) fn unsigned(number: i64) -> Result<u64, sqlx::Error> {
    u64::try_from(number).map_err(|_| malformed("number"))
}

fn malformed(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(format!("parked records: malformed {what}").into())
}
