//! The store as it ships: a projection's tables in Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metrics::histogram;
use runledger_domain::log::Partition;
use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use sqlx::{PgPool, Postgres, Transaction};

use super::Options;
use super::batch::Batch;
use super::letters;
use super::store::{Attempted, Store};
use crate::apply::{ApplyError, Projection};
use crate::cursor::Cursor;
use crate::parking::{Parking, Place};
use crate::store::parked::{self, Totals};
use crate::store::{self, Generation};

/// The tables of one generation, and the projection that writes them.
pub(crate) struct Tables<P> {
    /// Signs in as the writer, and looks names up in the schema of the service.
    signed_in: PgPool,
    /// The same, and looks names up in the generation.
    pool: PgPool,
    generation: i32,
    projection: P,
    /// Parked records are read from it again.
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    options: Options,
}

impl<P: Projection> Tables<P> {
    pub(crate) fn new(
        signed_in: PgPool,
        generation: &Generation,
        projection: P,
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        Self {
            pool: pool_of(&signed_in, generation),
            signed_in,
            generation: generation.generation,
            projection,
            log,
            clock,
            options,
        }
    }
}

fn pool_of(signed_in: &PgPool, generation: &Generation) -> PgPool {
    let search_path = [("search_path", generation.search_path.as_str())];
    runledger_postgres::connect_like(signed_in, &search_path)
}

impl<P: Projection> Store for Tables<P> {
    type Database = PgPool;

    fn database(&self) -> &PgPool {
        &self.pool
    }

    fn reads_commands(&self) -> bool {
        self.projection.reads_commands()
    }

    async fn served(&self) -> Result<Generation, sqlx::Error> {
        store::active_generation(&self.signed_in).await
    }

    fn turn_to(&mut self, generation: &Generation) {
        self.pool = pool_of(&self.signed_in, generation);
        self.generation = generation.generation;
    }

    async fn is_frozen(&self) -> Result<bool, sqlx::Error> {
        store::is_frozen(&self.pool, self.generation).await
    }

    async fn is_retired(&self) -> Result<bool, sqlx::Error> {
        store::is_retired(&self.pool, self.generation).await
    }

    async fn standing(&self) -> Result<BTreeMap<Partition, Cursor>, sqlx::Error> {
        store::all(&self.pool, self.generation).await
    }

    async fn load(&self, partitions: &[Partition]) -> Result<Vec<Cursor>, sqlx::Error> {
        store::load(
            &mut *self.pool.acquire().await?,
            self.generation,
            partitions,
        )
        .await
    }

    async fn skipped(&self, cursors: &[Cursor]) -> Result<BTreeSet<(Partition, u64)>, sqlx::Error> {
        parked::skipped(&mut *self.pool.acquire().await?, cursors).await
    }

    async fn attempt(&mut self, batch: &Batch, sifting: bool) -> Result<Attempted, ApplyError> {
        let begun = tokio::time::Instant::now();
        let mut tx = runledger_postgres::begin(&self.pool)
            .await
            .map_err(ApplyError::database("begin"))?;
        let guarded = store::guard(&mut tx, self.generation, &batch.before, &batch.after)
            .await
            .map_err(ApplyError::database("move the cursors"))?;
        let mut attempted = Attempted {
            lost: guarded.lost,
            parked: guarded.parked,
            notices: Vec::new(),
        };
        if !attempted.lost.is_empty() {
            tx.rollback()
                .await
                .map_err(ApplyError::database("roll back"))?;
            return Ok(attempted);
        }
        if !batch.items.is_empty() {
            self.apply(&mut tx, batch, sifting, &mut attempted).await?;
        }
        self.pass(&mut tx, batch)
            .await
            .map_err(ApplyError::database("write checkpoints"))?;
        tx.commit().await.map_err(ApplyError::database("commit"))?;
        let name = self.options.name.clone();
        histogram!("runledger_projection_batch_seconds", "projection" => name)
            .record(begun.elapsed().as_secs_f64());
        Ok(attempted)
    }

    async fn checkpoint(&self, cursors: &[&Cursor]) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let cursors = cursors.iter().copied();
        store::checkpoint(&mut connection, self.generation, cursors, self.clock.now()).await
    }

    async fn parked(&self) -> Result<BTreeMap<Partition, Totals>, sqlx::Error> {
        parked::totals(&self.pool, self.generation).await
    }
}

impl<P: Projection> Tables<P> {
    /// Applies the batch's records and parks those that cannot be. While nothing is parked in its
    /// partitions and nothing is refused, this costs no statement of its own.
    async fn apply(
        &mut self,
        tx: &mut Transaction<'static, Postgres>,
        batch: &Batch,
        sifting: bool,
        attempted: &mut Attempted,
    ) -> Result<(), ApplyError> {
        let place = Place {
            generation: self.generation,
            projection: &self.options.name,
            now: self.clock.now(),
        };
        let mut parking = Parking::new(place, &mut self.projection, self.log.as_ref());
        if !attempted.parked.is_empty() {
            let concerned = |partition| attempted.parked.contains_key(&partition);
            parking.learn(tx, &batch.items, concerned).await?;
        }
        parking.settle(tx, &batch.items, sifting).await?;
        if parking.finish(tx).await? == 0 {
            attempted.notices = parking.notices;
            return Ok(());
        }
        attempted.notices = parking.notices;
        let totals = parked::totals(&mut **tx, self.generation)
            .await
            .map_err(ApplyError::database("count what is parked"))?;
        letters::check(&totals, &self.options)?;
        attempted.parked = totals
            .into_iter()
            .map(|(partition, totals)| (partition, totals.records))
            .collect();
        Ok(())
    }

    /// Writes a checkpoint of every cursor that passes the place of one.
    async fn pass(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        batch: &Batch,
    ) -> Result<(), sqlx::Error> {
        let every = store::CHECKPOINT_EVERY;
        let passed = batch
            .before
            .iter()
            .zip(&batch.after)
            .filter(|(before, after)| before.record_count / every != after.record_count / every)
            .map(|(_, after)| after);
        store::checkpoint(tx, self.generation, passed, self.clock.now()).await
    }
}
