//! One poll of the outcomes that anybody waits for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runledger_domain::digest::Digest;
use runledger_domain::ids::{Incarnation, RecordId};
use runledger_domain::log::{Partition, Position, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use sqlx::PgPool;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::statements;

/// Between polls while somebody waits.
const EVERY: Duration = Duration::from_millis(2);
/// After a poll that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);
/// Longest that one poll may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most that wait in one process; more are refused.
const WAITING_MAX: usize = 20_000;

/// What is waited for.
pub(crate) type Key = (Scope, Stream, RecordId);

/// The decision that answers a command, as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) request_digest: Digest,
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    pub(crate) type_name: String,
    pub(crate) payload: Vec<u8>,
}

type Waiting = BTreeMap<Key, Vec<oneshot::Sender<Outcome>>>;

/// Who waits for which outcomes.
pub(crate) struct Outcomes {
    pool: PgPool,
    waiting: Mutex<Waiting>,
    came: Notify,
}

type Row = (
    i64,
    Vec<u8>,
    String,
    i32,
    Uuid,
    Option<i64>,
    Option<Timestamp>,
    Option<String>,
    Option<Vec<u8>>,
);

impl Outcomes {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            waiting: Mutex::default(),
            came: Notify::new(),
        }
    }

    /// Resolves with the outcome when there is one. `None`: too many wait already.
    pub(crate) fn wait(&self, key: Key) -> Option<oneshot::Receiver<Outcome>> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        waiting.entry(key).or_default().push(tell);
        drop(waiting);
        self.came.notify_one();
        Some(told)
    }

    /// Polls while anybody waits, until `shutdown`.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let keys = self.keys();
            if keys.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.came.notified() => continue,
                }
            }
            let polled = tokio::time::timeout(PATIENCE, self.poll(&keys)).await;
            let pause = match polled {
                Ok(Ok(outcomes)) => {
                    self.tell(outcomes);
                    EVERY
                }
                Ok(Err(failed)) => {
                    warn!(
                        error = &failed as &dyn std::error::Error,
                        "cannot poll the outcomes of commands"
                    );
                    AFTER_FAILURE
                }
                Err(_) => AFTER_FAILURE,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// All that are still waited for.
    fn keys(&self) -> Vec<Key> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, tells| {
            tells.retain(|tell| !tell.is_closed());
            !tells.is_empty()
        });
        waiting.keys().cloned().collect()
    }

    fn tell(&self, outcomes: Vec<(Key, Outcome)>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, outcome) in outcomes {
            for tell in waiting.remove(&key).unwrap_or_default() {
                // Who has gone meanwhile finds it when he asks again.
                drop(tell.send(outcome.clone()));
            }
        }
    }

    async fn poll(&self, keys: &[Key]) -> Result<Vec<(Key, Outcome)>, sqlx::Error> {
        let rows: Vec<Row> = sqlx::query_as(statements::SELECT_OUTCOMES)
            .bind(
                keys.iter()
                    .map(|key| key.0.tenant.as_uuid())
                    .collect::<Vec<_>>(),
            )
            .bind(
                keys.iter()
                    .map(|key| key.0.mode.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(keys.iter().map(|key| key.1.as_str()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.2.as_uuid()).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
        let outcome = |row: Row| {
            let (ordinal, digest, family, partition, incarnation, offset, at, type_name, payload) =
                row;
            let index = usize::try_from(ordinal).ok()?.checked_sub(1)?;
            let outcome = Outcome {
                request_digest: digest.try_into().ok()?,
                position: Position {
                    partition: Partition {
                        family: family.parse().ok()?,
                        number: u32::try_from(partition).ok()?,
                    },
                    incarnation: Incarnation::new(incarnation),
                    offset: u64::try_from(offset?).ok()?,
                },
                at: at?,
                type_name: type_name?,
                payload: payload?,
            };
            Some((keys.get(index)?.clone(), outcome))
        };
        Ok(rows.into_iter().filter_map(outcome).collect())
    }
}
