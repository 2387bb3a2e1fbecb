//! Records that could not be applied, for those who look after them: what is parked, and applying it
//! once the cause is mended.
//!
//! Leaving a record out is not done here: that is a fact in its stream, which the loop obeys.

use runledger_domain::digest::Digest;
use runledger_domain::ids::{Incarnation, RecordId, TenantId};
use runledger_domain::log::{Partition, Position};
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::{Clock, Timestamp};
use runledger_eventlog::Log;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::apply::{ApplyError, Projection};
use crate::parking::{CHUNK, Parking, Place};
use crate::store::{self, parked};

/// Most records that one trial redrives: its transaction holds the partition for as long as it takes.
const TRIAL_RECORDS_MAX: usize = 10_000;

/// Which parked streams are meant; nothing given: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub tenant: Option<TenantId>,
    pub mode: Option<Mode>,
    /// Name of the stream, for example `run/r-1`; of one whose key names no stream, the key as shown.
    pub stream: Option<String>,
}

/// A parked record.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub position: Position,
    /// `None`: the key names no stream, so that it belongs to no scope.
    pub scope: Option<Scope>,
    /// Name of the stream, or its key where that names none.
    pub stream: String,
    /// `None`: its envelope cannot be decoded.
    pub record: Option<RecordId>,
    pub type_name: String,
    /// Why it cannot be applied; `None`: it waits for an earlier one of its stream.
    pub reason: Option<String>,
    pub recorded_at: Option<Timestamp>,
    pub parked_at: Timestamp,
    /// How often it was tried again, in vain, and when last.
    pub attempts: u32,
    pub tried_at: Option<Timestamp>,
}

/// A parked stream.
#[derive(Clone, Debug)]
pub struct DeadStream {
    /// The record that it stands still at.
    pub head: DeadLetter,
    /// How many records are parked, this one included.
    pub records: u64,
    digest: Digest,
}

/// How far a stream came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redriven {
    pub applied: u64,
    /// The record that is refused again, and why; `None`: the stream is no longer parked.
    pub stopped: Option<(Position, String)>,
}

#[derive(FromRow)]
struct Row {
    family: String,
    partition: i32,
    stream_digest: Vec<u8>,
    stream_key: String,
    tenant_id: Option<Uuid>,
    mode: Option<String>,
    stream: Option<String>,
    records: i64,
    log_offset: i64,
    incarnation: Uuid,
    record_id: Option<Uuid>,
    type_name: String,
    reason: Option<String>,
    recorded_at: Option<Timestamp>,
    parked_at: Timestamp,
    attempts: i32,
    tried_at: Option<Timestamp>,
}

impl Row {
    fn into_stream(self) -> Result<DeadStream, sqlx::Error> {
        let malformed = |_| sqlx::Error::Decode("parked records: malformed digest".into());
        let mode = self.mode.and_then(|mode| mode.parse().ok());
        let scope = self.tenant_id.zip(mode).map(|(tenant, mode)| Scope {
            tenant: TenantId::new(tenant),
            mode,
        });
        let head = DeadLetter {
            position: Position {
                partition: parked::partition(&self.family, self.partition)?,
                incarnation: Incarnation::new(self.incarnation),
                offset: parked::unsigned(self.log_offset)?,
            },
            scope,
            stream: self.stream.unwrap_or(self.stream_key),
            record: self.record_id.map(RecordId::new),
            type_name: self.type_name,
            reason: self.reason,
            recorded_at: self.recorded_at,
            parked_at: self.parked_at,
            attempts: u32::try_from(self.attempts).unwrap_or_default(),
            tried_at: self.tried_at,
        };
        Ok(DeadStream {
            head,
            records: parked::unsigned(self.records)?,
            digest: Digest::try_from(self.stream_digest).map_err(malformed)?,
        })
    }
}

/// The dead letters of the generation that is served.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    pool: PgPool,
    generation: i32,
}

impl DeadLetters {
    /// `pool` signs in as the writer of the projection's schema and looks names up there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(pool: PgPool) -> Result<Self, ApplyError> {
        let generation = store::active_generation(&pool)
            .await
            .map_err(ApplyError::database("read the generation"))?;
        let search_path = [("search_path", generation.search_path.as_str())];
        Ok(Self {
            pool: runledger_postgres::connect_like(&pool, &search_path),
            generation: generation.generation,
        })
    }

    /// The parked streams that `filter` means, those parked first coming first, `max` at most.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn streams(
        &self,
        filter: &Filter,
        max: usize,
    ) -> Result<Vec<DeadStream>, ApplyError> {
        let found: Result<Vec<Row>, sqlx::Error> =
            sqlx::query_as(include_str!("../sql/select_dead_streams.sql"))
                .bind(self.generation)
                .bind(filter.tenant.map(TenantId::as_uuid))
                .bind(filter.mode.map(Mode::as_str))
                .bind(filter.stream.as_deref())
                .bind(i64::try_from(max).unwrap_or(i64::MAX))
                .fetch_all(&self.pool)
                .await;
        found
            .and_then(|rows| rows.into_iter().map(Row::into_stream).collect())
            .map_err(ApplyError::database("list parked streams"))
    }

    /// The parked records of a stream in the order of the log, `max` at most.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn records(
        &self,
        stream: &DeadStream,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ApplyError> {
        let partition = stream.head.position.partition;
        let found: Result<Vec<Row>, sqlx::Error> =
            sqlx::query_as(include_str!("../sql/select_dead_records.sql"))
                .bind(self.generation)
                .bind(partition.family.as_str())
                .bind(store::number(partition))
                .bind(stream.digest.as_slice())
                .bind(i64::try_from(max).unwrap_or(i64::MAX))
                .fetch_all(&self.pool)
                .await;
        let letter = |row: Row| row.into_stream().map(|stream| stream.head);
        found
            .and_then(|rows| rows.into_iter().map(letter).collect())
            .map_err(ApplyError::database("list parked records"))
    }

    /// Applies the parked records of a stream in order, up to the first that is refused again. Each
    /// few hundred are one transaction, during which the partition's projector waits. `trial`: one
    /// transaction, for at most 10,000 records, that is rolled back: nothing changes.
    ///
    /// # Errors
    /// When the database or the log does not answer, or the log no longer holds what was parked. What
    /// was applied before that stays applied.
    pub async fn redrive<P: Projection>(
        &self,
        log: &dyn Log,
        projection: &mut P,
        clock: &dyn Clock,
        stream: &DeadStream,
        trial: bool,
    ) -> Result<Redriven, ApplyError> {
        let most = if trial { TRIAL_RECORDS_MAX } else { CHUNK };
        let mut redriven = Redriven {
            applied: 0,
            stopped: None,
        };
        loop {
            let place = Place {
                generation: self.generation,
                projection: "",
                now: clock.now(),
            };
            let mut parking = Parking::new(place, projection, log);
            let one = self.attempt(&mut parking, stream, most, trial).await?;
            redriven.applied += one.applied;
            redriven.stopped = one.stopped;
            if trial || one.applied == 0 || redriven.stopped.is_some() {
                return Ok(redriven);
            }
        }
    }

    /// One transaction.
    async fn attempt<P: Projection>(
        &self,
        parking: &mut Parking<'_, P>,
        stream: &DeadStream,
        most: usize,
        trial: bool,
    ) -> Result<Redriven, ApplyError> {
        let partition = stream.head.position.partition;
        self.read_ahead(parking, partition, &stream.digest).await?;
        let mut tx = self
            .pool
            .begin()
            .await
            .map_err(ApplyError::database("begin"))?;
        let is_there = parked::lock(&mut tx, self.generation, partition)
            .await
            .map_err(ApplyError::database("lock the cursor"))?;
        let redriven = if is_there {
            parking
                .redrive(&mut tx, partition, &stream.digest, most)
                .await?
        } else {
            crate::parking::Redriven::default()
        };
        if trial {
            tx.rollback()
                .await
                .map_err(ApplyError::database("roll back"))?;
        } else {
            parking.finish(&mut tx).await?;
            tx.commit().await.map_err(ApplyError::database("commit"))?;
        }
        Ok(Redriven {
            applied: redriven.applied,
            stopped: redriven.stopped,
        })
    }

    /// Reads the first records from the log before the partition is locked.
    async fn read_ahead<P: Projection>(
        &self,
        parking: &mut Parking<'_, P>,
        partition: Partition,
        digest: &Digest,
    ) -> Result<(), ApplyError> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(ApplyError::database("connect"))?;
        let letters = parked::of_stream(&mut connection, self.generation, partition, digest, CHUNK)
            .await
            .map_err(ApplyError::database("load parked records"))?;
        drop(connection);
        parking.fetch(&letters).await
    }
}
