//! Where forwarded usage lies in the log: what a token of usage comes to, and what still waits.

use std::collections::BTreeMap;

use runledger_domain::fault::Fault;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Partition, Position};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_eventlog::token::Token;
use runledger_projection::{ApplyError, AsOf, ReadOptions, Reader};
use sqlx::{FromRow, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::statements;

/// Notes the last record of each partition that was appended for each.
pub(super) async fn note(
    tx: &mut PgConnection,
    outputs: &BTreeMap<(Partition, Partition), Position>,
) -> Result<(), ApplyError> {
    let number = |partition: &Partition| i32::try_from(partition.number).unwrap_or(i32::MAX);
    let offset = |at: &Position| i64::try_from(at.offset).unwrap_or(i64::MAX);
    sqlx::query(statements::UPSERT_OUTPUTS)
        .bind(
            outputs
                .keys()
                .map(|(from, _)| number(from))
                .collect::<Vec<_>>(),
        )
        .bind(outputs.keys().map(|(_, to)| number(to)).collect::<Vec<_>>())
        .bind(
            outputs
                .values()
                .map(|at| at.incarnation.as_uuid())
                .collect::<Vec<_>>(),
        )
        .bind(outputs.values().map(offset).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map_err(ApplyError::database("note where usage lies"))?;
    Ok(())
}

/// How far usage was forwarded, for those who read. A cheap clone.
#[derive(Clone)]
pub(crate) struct Forwarded(Reader);

/// Usage that nobody is charged for yet.
#[derive(FromRow)]
pub(crate) struct Waiting {
    pub(crate) run_id: String,
    pub(crate) source_id: Uuid,
    pub(crate) ordinal: i32,
    pub(crate) meter: String,
    pub(crate) quantity: i64,
    pub(crate) used_at: Timestamp,
    pub(crate) waits_for: String,
    total: i64,
}

/// A page of what waits.
pub(crate) struct Found {
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) total: i64,
    pub(crate) as_of: AsOf,
}

impl Forwarded {
    /// `reader` reads the schema `usage`.
    pub(crate) fn new(reader: Reader) -> Self {
        Self(reader)
    }

    /// Where the usage lies that lies before any of the tokens: everything the tokens name of runs is
    /// forwarded then. Tokens that name no runs come to nothing at once.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(crate) async fn outputs(
        &self,
        scope: Scope,
        at_least: &[String],
        deadline: Instant,
    ) -> Result<Vec<Position>, Fault> {
        // What cannot be parsed, the read itself refuses, naming its place.
        let tokens = at_least.iter().filter_map(|text| Token::parse(text).ok());
        let runs: Vec<Position> = tokens
            .flat_map(|token| token.positions().collect::<Vec<_>>())
            .filter(|position| position.partition.family == Family::Run)
            .collect();
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let options = ReadOptions {
            at_least: at_least.to_vec(),
            max_wait: Some(deadline.saturating_duration_since(Instant::now())),
        };
        let mut snapshot = self.0.read(scope, &options).await?;
        let partitions: Vec<i32> = runs
            .iter()
            .map(|at| i32::try_from(at.partition.number).unwrap_or(i32::MAX))
            .collect();
        let rows: Vec<(i32, Uuid, i64)> = sqlx::query_as(statements::SELECT_OUTPUTS)
            .bind(partitions)
            .fetch_all(&mut *snapshot.tx)
            .await
            .map_err(crate::api::database)?;
        snapshot.tx.commit().await.map_err(crate::api::database)?;
        let position = |(number, incarnation, offset): (i32, Uuid, i64)| {
            Some(Position {
                partition: Partition {
                    family: Family::Billing,
                    number: u32::try_from(number).ok()?,
                },
                incarnation: Incarnation::new(incarnation),
                offset: u64::try_from(offset).ok()?,
            })
        };
        Ok(rows.into_iter().filter_map(position).collect())
    }

    /// Usage that waits for a start, behind a place.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(crate) async fn waiting(
        &self,
        scope: Scope,
        behind: Option<(String, Uuid, i32)>,
        limit: i64,
        options: &ReadOptions,
    ) -> Result<Found, Fault> {
        let (run, source, ordinal) = behind.unwrap_or((String::new(), Uuid::nil(), -1));
        let mut snapshot = self.0.read(scope, options).await?;
        let waiting: Vec<Waiting> = sqlx::query_as(statements::SELECT_WAITING)
            .bind(scope.tenant.as_uuid())
            .bind(scope.mode.as_str())
            .bind(run)
            .bind(source)
            .bind(ordinal)
            .bind(limit)
            .fetch_all(&mut *snapshot.tx)
            .await
            .map_err(crate::api::database)?;
        snapshot.tx.commit().await.map_err(crate::api::database)?;
        let total = waiting.first().map_or(0, |one| one.total);
        Ok(Found {
            waiting,
            total,
            as_of: snapshot.as_of,
        })
    }
}
