//! From the outbox into the log: every change of the directory becomes a fact. Of one tenant, a change
//! that was over before another began comes before it.
//!
//! A row's id is its record's id, so a row that is appended again, because nobody knows what became
//! of it or because the process ended before it was marked, is a copy that changes nothing. A row is
//! handed over only when the log is known to have the one before it of the same tenant: appended
//! together, one could be lost, its successor not, and the repeat would come behind it.
//!
//! One process relays at a time, the one that holds a lock of the database. That saves copies; what
//! the log says in the end does not hang on it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use metrics::{Counter, counter, gauge};
use runledger_domain::time::{Clock, Timestamp};
use runledger_eventlog::{Error as LogError, Log, Outcome};
use runledger_service::status;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Relaying;
use crate::sql;

mod fact;
mod waves;

use fact::Row;
use waves::Waves;

/// Most rows of one batch, whatever is configured.
const BATCH_MAX: u32 = 1_000;
/// How long the database may take over one statement before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts while Kafka or Postgres is away, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Shortest time between two looks, whatever is configured.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// Why rows are not in the log yet. All of it is waited out: the directory does not need the log.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the database did not answer within {PATIENCE:?}")]
    Silent,
    #[error("asking the database")]
    Database(#[source] sqlx::Error),
    #[error("handing changes over to the log")]
    Append(#[source] LogError),
    #[error("of {rows} changes it is not known whether the log has them; they are sent again")]
    Unknown { rows: usize },
    #[error("change {id} is no fact, and keeps back what its tenant changed after it")]
    NoFact {
        id: Uuid,
        #[source]
        source: fact::Error,
    },
    #[error(
        "change {id} is too large for the log, and keeps back what its tenant changed after it"
    )]
    TooLarge { id: Uuid },
}

/// Takes what is in the outbox into the log.
pub(crate) struct Relay {
    pool: PgPool,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    rules: Relaying,
    /// As long as the log's client tries: a record whose fate is asked no longer may still be under way.
    append_timeout: Duration,
    relayed: Counter,
}

/// What became of a batch.
struct Batch {
    /// The log has them.
    accepted: Vec<Uuid>,
    /// There were as many rows as a batch takes: there may be more.
    full: bool,
    trouble: Option<Error>,
}

impl Relay {
    pub(crate) fn new(
        pool: PgPool,
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        rules: Relaying,
        append_timeout: Duration,
    ) -> Self {
        Self {
            pool,
            log,
            clock,
            rules,
            append_timeout,
            relayed: counter!("runledger_directory_relayed_total"),
        }
    }

    /// Relays until `stop`. Waits for ever for what is away.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut backoff = fresh_backoff();
        while !stop.is_cancelled() {
            if let Err(error) = self.hold(&stop, &mut backoff).await {
                tracing::warn!(
                    cause = status::chain(&error),
                    "the relay lost its connection to the database"
                );
                let wait = backoff.next().unwrap_or(LONGEST_WAIT);
                rest(wait, &stop).await;
            }
        }
    }

    /// Works on one connection: it holds the lock, and everything is asked and marked on it, so that
    /// whoever has lost the lock can mark nothing either.
    async fn hold(
        &self,
        stop: &CancellationToken,
        backoff: &mut ExponentialBackoff,
    ) -> Result<(), Error> {
        let mut connection = patiently(self.pool.acquire()).await?.detach();
        while !self.lock(&mut connection).await? {
            *backoff = fresh_backoff();
            rest(self.rules.standby_interval, stop).await;
            if stop.is_cancelled() {
                return close(connection).await;
            }
        }
        tracing::info!("this process relays the directory's changes");
        while !stop.is_cancelled() {
            let batch = self.batch(&mut connection, stop).await?;
            let wait = match (batch.trouble, batch.full) {
                (Some(error), _) => {
                    if !batch.accepted.is_empty() {
                        *backoff = fresh_backoff();
                    }
                    tracing::warn!(
                        cause = status::chain(&error),
                        "changes of the directory are not in the log yet"
                    );
                    backoff.next().unwrap_or(LONGEST_WAIT)
                }
                (None, full) => {
                    *backoff = fresh_backoff();
                    if full {
                        continue;
                    } else {
                        self.rules.poll_interval
                    }
                }
            };
            rest(wait, stop).await;
        }
        close(connection).await
    }

    async fn lock(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        patiently(sqlx::query_scalar(sql::LOCK_RELAY).fetch_one(connection)).await
    }

    /// Appends what waits, and marks what the log is known to have.
    ///
    /// # Errors
    /// Of the database: the connection is of no use any more.
    async fn batch(
        &self,
        connection: &mut PgConnection,
        stop: &CancellationToken,
    ) -> Result<Batch, Error> {
        let max = self.rules.batch_rows.clamp(1, BATCH_MAX);
        let rows: Vec<Row> = patiently(
            sqlx::query_as(sql::UNRELAYED)
                .bind(i64::from(max))
                .fetch_all(&mut *connection),
        )
        .await?;
        let full = rows.len() >= max as usize;
        let mut batch = Batch {
            accepted: Vec::with_capacity(rows.len()),
            full,
            trouble: None,
        };
        tokio::select! {
            biased;
            // What is under way then is sent again, by whoever relays next.
            () = stop.cancelled() => {}
            () = self.append(rows, &mut batch) => {}
        }
        if !batch.accepted.is_empty() {
            let marked = sqlx::query(sql::MARK_RELAYED)
                .bind(&batch.accepted)
                .bind(self.clock.now())
                .execute(connection);
            let marked = patiently(marked).await?;
            self.relayed.increment(marked.rows_affected());
        }
        Ok(batch)
    }

    /// Appends rows, of each tenant one at a time. Notes in `batch` what it comes to know as soon as
    /// it does, so that it can be left at any moment.
    async fn append(&self, rows: Vec<Row>, batch: &mut Batch) {
        let mut waves = Waves::of(rows);
        while let Some(wave) = waves.next(self.clock.now(), &mut batch.trouble) {
            let (ids, entries): (Vec<_>, Vec<_>) = wave.into_iter().unzip();
            let deadline = Instant::now() + self.append_timeout;
            let outcomes = match self.log.append(entries, deadline).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    batch.trouble = Some(Error::Append(error));
                    return;
                }
            };
            let mut unknown = 0;
            for (index, (tenant, id)) in ids.into_iter().enumerate() {
                // No outcome is none of which we know.
                match outcomes.get(index).unwrap_or(&Outcome::Unknown) {
                    Outcome::Accepted(_) => batch.accepted.push(id),
                    Outcome::Unknown => {
                        unknown += 1;
                        waves.leave(tenant);
                    }
                    Outcome::TooLarge => {
                        batch.trouble = Some(Error::TooLarge { id });
                        waves.leave(tenant);
                    }
                }
            }
            if unknown > 0 {
                batch.trouble = Some(Error::Unknown { rows: unknown });
            }
        }
    }
}

/// Shows how old the oldest change is that the log is not known to have. Every process shows it,
/// whoever relays.
pub(crate) async fn measure(pool: &PgPool, now: Timestamp) -> Result<(), sqlx::Error> {
    let oldest: Option<Timestamp> = sqlx::query_scalar(sql::OLDEST_UNRELAYED)
        .fetch_optional(pool)
        .await?;
    let age = oldest.and_then(|oldest| (now - oldest).to_std().ok());
    gauge!("runledger_directory_unrelayed_seconds").set(age.unwrap_or_default().as_secs_f64());
    Ok(())
}

async fn patiently<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(Error::Database),
        Err(_) => Err(Error::Silent),
    }
}

/// Gives the lock back, by ending the connection that holds it.
async fn close(connection: PgConnection) -> Result<(), Error> {
    patiently(connection.close()).await
}

async fn rest(wait: Duration, stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tokio::time::sleep(wait.max(LOOK_MIN)) => {}
    }
}

fn fresh_backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}
