//! The store in memory: rows, cursors and their locks as Postgres has them, and whatever may happen
//! to a transaction between its first statement and the answer to its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runledger_domain::log::Partition;
use tokio::time::{Instant, sleep, timeout_at};

use super::chance::{Chance, Fault};
use super::database::{Database, Row, Staged};
use crate::apply::ApplyError;
use crate::cursor::Cursor;
use crate::looping::{Attempted, Batch, Store};
use crate::store::Generation;
use crate::store::parked::Totals;

pub(super) fn weather() -> sqlx::Error {
    std::io::Error::from(ErrorKind::ConnectionReset).into()
}

/// The store as one worker has it.
pub(super) struct Connection {
    pub(super) database: Arc<Database>,
    pub(super) generation: i32,
    /// Unlike any other's.
    id: u64,
    /// When cursors were looked at last.
    looked_at: Mutex<Option<Instant>>,
}

impl Connection {
    pub(super) fn new(database: &Arc<Database>, generation: i32) -> Self {
        Self {
            id: database.client(),
            database: Arc::clone(database),
            generation,
            looked_at: Mutex::default(),
        }
    }

    fn looked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self) -> &Arc<Chance> {
        &self.database.chance
    }

    /// A statement on its way.
    async fn ask(&self) -> Result<(), sqlx::Error> {
        let chance = self.chance();
        chance.pause(20).await;
        if chance.strikes(Fault::CallSlow) {
            chance.rest(0, 20_000).await;
        }
        if chance.strikes(Fault::CallSilent) {
            pending::<()>().await;
        }
        if self.database.is_away() || chance.strikes(Fault::CallRefused) {
            return Err(weather());
        }
        Ok(())
    }

    async fn transact(&self, batch: &Batch) -> Result<Attempted, sqlx::Error> {
        self.ask().await?;
        let mut tx = Transaction::begin(&self.database, self.generation);
        let mut attempted = Attempted {
            lost: Vec::new(),
            parked: BTreeMap::new(),
            notices: Vec::new(),
        };
        for (before, after) in batch.before.iter().zip(&batch.after) {
            self.chance().pause(5).await;
            if !tx.lock_row(before).await? {
                attempted.lost.push(after.partition);
            }
        }
        if !attempted.lost.is_empty() {
            self.chance().saw(Fault::GuardRefused);
            let looked_at = *self.looked_at();
            let after = &batch.after;
            self.database
                .check_refusal(self.generation, self.id, looked_at, after);
            tx.roll_back();
            return Ok(attempted);
        }
        self.ask().await?;
        tx.stage(self.id, staged(batch))?;
        self.chance().pause(20).await;
        tx.commit().await?;
        Ok(attempted)
    }
}

fn staged(batch: &Batch) -> Staged {
    let row = |item: &crate::item::Item| Row {
        partition: item.position.partition,
        offset: item.position.offset,
        identity: item.applied.as_ref().map(|applied| {
            let record = &applied.record;
            let key = record.stream.key(record.scope);
            (key.into_bytes(), record.id.as_uuid())
        }),
        left_out: item.left_out,
    };
    Staged {
        before: batch.before.clone(),
        after: batch.after.clone(),
        rows: batch.items.iter().map(row).collect(),
    }
}

impl Store for Connection {
    type Database = ();

    fn database(&self) -> &() {
        &()
    }

    fn reads_commands(&self) -> bool {
        false
    }

    async fn served(&self) -> Result<Generation, sqlx::Error> {
        self.ask().await?;
        Ok(Generation {
            generation: self.database.served(),
            search_path: String::new(),
        })
    }

    fn turn_to(&mut self, generation: &Generation) {
        self.generation = generation.generation;
    }

    async fn is_frozen(&self) -> Result<bool, sqlx::Error> {
        self.ask().await?;
        Ok(self.database.is_frozen(self.generation))
    }

    async fn is_retired(&self) -> Result<bool, sqlx::Error> {
        self.ask().await?;
        Ok(self.database.served() != self.generation)
    }

    async fn standing(&self) -> Result<BTreeMap<Partition, Cursor>, sqlx::Error> {
        self.ask().await?;
        Ok(self.database.cursors(self.generation))
    }

    async fn load(&self, partitions: &[Partition]) -> Result<Vec<Cursor>, sqlx::Error> {
        self.ask().await?;
        let cursors = self.database.load(self.generation, partitions);
        *self.looked_at() = Some(Instant::now());
        self.chance().pause(20).await;
        Ok(cursors)
    }

    async fn skipped(&self, cursors: &[Cursor]) -> Result<BTreeSet<(Partition, u64)>, sqlx::Error> {
        self.ask().await?;
        let is_ahead = |(partition, offset): &&(Partition, u64)| {
            let of_it = cursors.iter().find(|one| one.partition == *partition);
            of_it.is_some_and(|cursor| *offset >= cursor.next_offset)
        };
        Ok(self
            .database
            .skips
            .iter()
            .filter(is_ahead)
            .copied()
            .collect())
    }

    async fn attempt(&mut self, batch: &Batch, _sifting: bool) -> Result<Attempted, ApplyError> {
        self.transact(batch)
            .await
            .map_err(ApplyError::database("simulate"))
    }

    async fn checkpoint(&self, cursors: &[&Cursor]) -> Result<(), sqlx::Error> {
        self.ask().await?;
        self.database.check_checkpoints(self.generation, cursors);
        Ok(())
    }

    async fn parked(&self) -> Result<BTreeMap<Partition, Totals>, sqlx::Error> {
        self.ask().await?;
        Ok(BTreeMap::new())
    }
}

/// How long the server lets a transaction stand idle.
const IDLE: Duration = Duration::from_secs(20);
/// A statement is at work: it is not idle.
const BUSY: Duration = Duration::from_secs(3_600);

/// An open transaction; when its client goes, the server hears of it sooner or later.
pub(super) struct Transaction {
    database: Arc<Database>,
    id: u64,
    generation: i32,
}

impl Transaction {
    pub(super) fn begin(database: &Arc<Database>, generation: i32) -> Self {
        Self {
            id: database.begin(Instant::now() + IDLE),
            database: Arc::clone(database),
            generation,
        }
    }

    /// Locks a cursor if it stands where it is expected and may move; waits for whoever has it.
    pub(super) async fn lock_row(&mut self, before: &Cursor) -> Result<bool, sqlx::Error> {
        let expected = |now: &Cursor| now.next_offset == before.next_offset;
        self.lock(before.partition, &expected).await
    }

    pub(super) async fn lock(
        &mut self,
        partition: Partition,
        expected: &(dyn Fn(&Cursor) -> bool + Sync),
    ) -> Result<bool, sqlx::Error> {
        let database = Arc::clone(&self.database);
        loop {
            let released = database.released.notified();
            database
                .touch(self.id, Instant::now() + BUSY)
                .ok_or_else(weather)?;
            let holder = match database.try_lock(self.id, self.generation, partition, expected) {
                Some(Ok(())) => break,
                Some(Err(holder)) => holder,
                None => {
                    database.touch(self.id, Instant::now() + IDLE);
                    return Ok(false);
                }
            };
            database.chance.saw(Fault::WaitedForRow);
            let Some(idle) = database.idle_until(holder) else {
                continue;
            };
            if timeout_at(idle, released).await.is_err() {
                database.end_if_idle(holder);
            }
        }
        database.touch(self.id, Instant::now() + IDLE);
        Ok(true)
    }

    pub(super) fn stage(&mut self, client: u64, staged: Staged) -> Result<(), sqlx::Error> {
        let idle = Instant::now() + IDLE;
        self.database.touch(self.id, idle).ok_or_else(weather)?;
        self.database
            .stage(self.id, self.generation, client, staged);
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let (database, chance) = (Arc::clone(&self.database), &self.database.chance);
        if chance.strikes(Fault::Aborted) {
            self.roll_back();
            return Err(weather());
        }
        if chance.strikes(Fault::CallSlow) {
            chance.rest(0, 15_000).await;
        }
        if chance.strikes(Fault::CommittedLate) {
            // The client hears that the connection is gone before the server has done it.
            let (id, late) = (self.id, chance.draw(0..4_000));
            database
                .touch(id, Instant::now() + BUSY)
                .ok_or_else(weather)?;
            let server = Arc::clone(&database);
            chance.scheduler.spawn(async move {
                sleep(Duration::from_millis(late)).await;
                server.publish(id);
            });
            self.id = 0;
            return Err(weather());
        }
        if !database.publish(self.id) {
            return Err(weather());
        }
        if chance.strikes(Fault::AnswerLost) {
            return Err(weather());
        }
        if chance.strikes(Fault::CommitSilent) {
            pending::<()>().await;
        }
        chance.pause(20).await;
        Ok(())
    }

    /// The server lets this one stand idle.
    pub(super) fn takes_its_time(&self) {
        self.database.touch(self.id, Instant::now() + BUSY);
    }

    pub(super) fn is_open(&self) -> bool {
        self.database.is_open(self.id)
    }

    /// It names another generation as the one that is served.
    pub(super) fn switch_to(&self, to: i32) {
        self.database.stage_switch(self.id, to);
    }

    pub(super) fn roll_back(&mut self) {
        self.database.end(self.id);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.database.is_open(self.id) {
            return;
        }
        if self.database.chance.strikes(Fault::TransactionLeft) {
            self.database.touch(self.id, Instant::now() + IDLE);
            // Who waits for its rows need not wait longer than that.
            self.database.released.notify_waiters();
        } else {
            self.roll_back();
        }
    }
}
