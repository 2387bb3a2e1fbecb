//! Being wary after somebody has ended without a word: he may have fallen over a command.

use std::collections::BTreeSet;

use runledger_domain::log::{Partition, Position};
use sqlx::PgPool;

use super::reading::{Error, columns, partition_of};
use crate::judging::Work;
use crate::statements;

/// Says that these partitions are being decided; answers which of them were already, so that their
/// decider has ended without a word, or has lost them.
pub(super) async fn open(
    database: &PgPool,
    partitions: &[Partition],
) -> Result<BTreeSet<Partition>, Error> {
    let (families, numbers) = columns(partitions.iter().copied());
    let before: Vec<(String, i32)> = sqlx::query_as(statements::UPSERT_OPENINGS)
        .bind(families)
        .bind(numbers)
        .bind(true)
        .fetch_all(database)
        .await
        .map_err(Error::Database)?;
    let partition = |(family, number): &(String, i32)| partition_of(family, *number);
    Ok(before.iter().filter_map(partition).collect())
}

/// Says that these partitions were left in order.
pub(super) async fn close(database: &PgPool, partitions: &[Partition]) -> Result<(), Error> {
    let (families, numbers) = columns(partitions.iter().copied());
    sqlx::query(statements::UPSERT_OPENINGS)
        .bind(&families)
        .bind(&numbers)
        .bind(false)
        .execute(database)
        .await
        .map_err(Error::Database)?;
    forget(database, partitions).await
}

/// Forgets the attempts that were made at commands of these partitions.
pub(super) async fn forget(database: &PgPool, partitions: &[Partition]) -> Result<(), Error> {
    let (families, numbers) = columns(partitions.iter().copied());
    sqlx::query(statements::DELETE_ATTEMPTS)
        .bind(families)
        .bind(numbers)
        .execute(database)
        .await
        .map_err(Error::Database)?;
    Ok(())
}

/// What was alone was judged, and survived: only what fells its decider counts. Or it waits: then the
/// attempt was none.
pub(super) async fn tried(
    database: &PgPool,
    partition: Partition,
    is_tried: bool,
) -> Result<(), Error> {
    if is_tried {
        return forget(database, &[partition]).await;
    }
    let (families, numbers) = columns([partition].into_iter());
    sqlx::query(statements::UPDATE_ATTEMPTS)
        .bind(families.first())
        .bind(numbers.first())
        .execute(database)
        .await
        .map_err(Error::Database)?;
    Ok(())
}

/// Counts one more attempt at each command and fact, before it is made.
pub(super) async fn attempt(database: &PgPool, work: &mut Work) -> Result<(), Error> {
    for command in &mut work.commands {
        command.attempts = attempt_at(database, command.position).await?;
    }
    for fact in &mut work.facts {
        fact.attempts = attempt_at(database, fact.position).await?;
    }
    Ok(())
}

async fn attempt_at(database: &PgPool, position: Position) -> Result<u32, Error> {
    let partition = position.partition;
    let (families, numbers) = columns([partition].into_iter());
    let attempts: i32 = sqlx::query_scalar(statements::UPSERT_ATTEMPTS)
        .bind(families.first())
        .bind(numbers.first())
        .bind(i64::try_from(position.offset).unwrap_or(i64::MAX))
        .fetch_one(database)
        .await
        .map_err(Error::Database)?;
    Ok(u32::try_from(attempts).unwrap_or(u32::MAX))
}
