//! Reads in which everything that a token names is decided.

use std::time::Duration;

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::log::{Position, Stream};
use runledger_domain::scope::Scope;
use runledger_eventlog::token::Token;
use runledger_projection::{ReadOptions, Reader, Snapshot, database_fault};
use tokio::time::Instant;

/// Reads of a decider's own tables. A cheap clone.
#[derive(Clone)]
pub struct SettledReader {
    reader: Reader,
    owed: &'static str,
}

impl SettledReader {
    /// `owed` says whether anything of a scope is owed a decision yet. Its parameters: tenant, mode; family,
    /// partition and offset of the places up to which it looks, an array each; a stream, or null for all.
    pub fn new(reader: Reader, owed: &'static str) -> Self {
        Self { reader, owed }
    }

    /// A snapshot that is not older than any of the tokens, and in which nothing at or before them is owed
    /// a decision any more: in `stream`, or in all of them.
    ///
    /// # Errors
    /// As [`Reader::read`]; `READ_MODEL_BEHIND` also when something was still owed after `max_wait`.
    pub async fn read(
        &self,
        scope: Scope,
        options: &ReadOptions,
        stream: Option<&Stream>,
    ) -> Result<Snapshot, Fault> {
        let begun = Instant::now();
        let deadline = options.deadline();
        loop {
            let left = ReadOptions {
                at_least: options.at_least.clone(),
                max_wait: Some(deadline.saturating_duration_since(Instant::now())),
            };
            let mut snapshot = self.reader.read(scope, &left).await?;
            let tokens = &options.at_least;
            if tokens.is_empty() || !self.is_owed(&mut snapshot, scope, tokens, stream).await? {
                return Ok(snapshot);
            }
            // A transaction that waits would hold a connection that others need.
            snapshot.tx.rollback().await.map_err(database_fault)?;
            let changed = self.reader.hurry_for_change(&snapshot.cursors, begun);
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(undecided());
            }
        }
    }

    async fn is_owed(
        &self,
        snapshot: &mut Snapshot,
        scope: Scope,
        tokens: &[String],
        stream: Option<&Stream>,
    ) -> Result<bool, Fault> {
        let mut places: Vec<Position> = Vec::new();
        for text in tokens {
            // The reader has parsed them before.
            places.extend(Token::parse(text).unwrap_or_default().positions());
        }
        let families = places.iter().map(|at| at.partition.family.as_str());
        let number = |at: &Position| i32::try_from(at.partition.number).unwrap_or(i32::MAX);
        let offset = |at: &Position| i64::try_from(at.offset).unwrap_or(i64::MAX);
        sqlx::query_scalar(self.owed)
            .bind(scope.tenant.as_uuid())
            .bind(scope.mode.as_str())
            .bind(families.collect::<Vec<_>>())
            .bind(places.iter().map(number).collect::<Vec<_>>())
            .bind(places.iter().map(offset).collect::<Vec<_>>())
            .bind(stream.map(Stream::as_str))
            .fetch_one(&mut *snapshot.tx)
            .await
            .map_err(database_fault)
    }
}

fn undecided() -> Fault {
    let message = "something that the token names is not decided yet; try again, or raise max_wait";
    Fault::new(Kind::Unavailable, "READ_MODEL_BEHIND", message)
        .retry_after(Duration::from_millis(250))
}
