//! One rebuild or verify under way: what it holds, and its steps in order.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runledger_domain::log::Partition;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::build::goal;
use super::switch::same_log;
use super::tables::{Known, Owner};
use super::{
    Difference, Discontinuity, Error, Parked, Progress, Report, Site, Step, Verdict, compare,
    continuity, parked,
};
use crate::apply::Projection;
use crate::cursor::Cursor;
use crate::store::{self, Generation};

/// How often Postgres looks whether the process that waits for a statement is still there, in ms.
const LOOK_FOR_US_EVERY: &str = "500";
/// How often it is made sure that the lock is still held.
const LOOK_AT_LOCK_EVERY: Duration = Duration::from_secs(1);

/// Takes the lock of rebuilds and verifies of one read model, for as long as the connection lives or until it lets all
/// its advisory locks go. False: another has it.
///
/// # Errors
/// When the database does not answer.
pub async fn try_lock(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(format!("rebuild {name}"))
        .fetch_one(connection)
        .await
}

/// What comparing two generations came to.
pub(super) struct Compared {
    /// Rows by table, or the first difference.
    pub(super) rows: Result<Vec<(&'static str, u64)>, Box<Difference>>,
    /// What is parked in the one that is served.
    pub(super) parked: Parked,
}

/// One rebuild or verify at a time: an advisory lock of the database, held by a connection.
pub(super) struct Running<'a, P, F> {
    pub(super) site: &'a Site,
    pub(super) make: F,
    pub(super) tables: &'static [&'static str],
    pub(super) partitions: Vec<Partition>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) applied: Arc<AtomicU64>,
    pub(super) shutdown: CancellationToken,
    pub(super) owner_pool: PgPool,
    pub(super) writer_pool: PgPool,
    lock: Mutex<PoolConnection<Postgres>>,
    _projection: std::marker::PhantomData<fn() -> P>,
}

impl<'a, P: Projection, F: Fn() -> P + Sync> Running<'a, P, F> {
    pub(super) async fn begin(
        site: &'a Site,
        make: F,
        progress: watch::Sender<Progress>,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        // One task is one: Postgres would otherwise lend a single statement several processes.
        let helpers = site.workers.saturating_sub(1).to_string();
        // Building and comparing take as long as they take.
        let patient = [
            ("max_parallel_maintenance_workers", helpers.as_str()),
            ("max_parallel_workers_per_gather", helpers.as_str()),
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            // Were the process killed, its statements would run to their end, with their locks.
            ("client_connection_check_interval", LOOK_FOR_US_EVERY),
        ];
        let owner_pool = runledger_postgres::connect_like(&site.owner, &patient);
        let writer_pool = runledger_postgres::connect_like(&site.writer, &patient);
        let locking = Error::database("take the lock of rebuilds");
        let locked = async {
            let mut connection = owner_pool.acquire().await?;
            let taken = try_lock(&mut connection, &site.name).await?;
            Ok((taken, connection))
        };
        let (taken, lock) = locked.await.map_err(locking)?;
        if !taken {
            let name = site.name.clone();
            return Err(Error::Running { name });
        }
        let projection = make();
        let applied = Arc::clone(&progress.borrow().applied);
        let mut partitions = Vec::new();
        for family in projection.families() {
            let genesis = site.log.genesis(*family).await.map_err(Error::Log)?;
            partitions.extend(genesis.iter().map(|genesis| Partition {
                family: *family,
                number: genesis.partition,
            }));
        }
        Ok(Self {
            site,
            tables: projection.tables(),
            make,
            partitions,
            applied,
            progress,
            shutdown,
            owner_pool,
            writer_pool,
            lock: Mutex::new(lock),
            _projection: std::marker::PhantomData,
        })
    }

    /// Does `work` while the lock is held, and not a second longer: Postgres lets it go when the
    /// connection ends, and another may begin then.
    pub(super) async fn alone<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let lost = async {
            loop {
                tokio::time::sleep(LOOK_AT_LOCK_EVERY).await;
                if let Err(error) = self.hold().await {
                    return error;
                }
            }
        };
        tokio::select! {
            done = work => done,
            lost = lost => Err(lost),
        }
    }

    /// Makes sure that the lock is still held.
    pub(super) async fn hold(&self) -> Result<(), Error> {
        let mut lock = self.lock.lock().await;
        let asked = sqlx::query("SELECT").execute(&mut **lock).await;
        asked.map(drop).map_err(Error::LockLost)
    }

    /// Lets the lock go at once: Postgres would do so only some time after the connection is closed.
    /// When it cannot be told, it will.
    pub(super) async fn end(self) {
        let mut lock = self.lock.into_inner();
        let unlocked = sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut *lock);
        if let Err(error) = unlocked.await {
            debug!(
                error = &error as &dyn std::error::Error,
                "the lock of rebuilds goes with its connection"
            );
        }
        drop(lock);
        self.owner_pool.close().await;
        self.writer_pool.close().await;
    }

    pub(super) async fn rebuild(&self, fresh: bool) -> Result<Report, Error> {
        let (served, others) = self.generations().await?;
        if let Some(kept) = others.iter().find(|one| one.generation < served.generation) {
            return Err(Error::Kept(kept.generation));
        }
        let target = match self.begun(others, fresh).await? {
            Some(begun) => begun,
            None => self.create(&served, false).await?,
        };
        self.build(&target, &served).await?;
        let compared = self.compare(&target, &served).await?;
        let rows = compared.rows.map_err(|difference| Error::Different {
            difference,
            parked: compared.parked.to_string(),
        })?;
        self.switch(&served, &target).await?;
        Ok(self.report(&target, rows))
    }

    pub(super) async fn rollback(&self) -> Result<Report, Error> {
        let (served, others) = self.generations().await?;
        // A later one was never compared with this one, or is a way forward.
        let is_older = |one: &Known| one.generation < served.generation;
        let kept = others
            .into_iter()
            .rfind(|one| one.is_whole && is_older(one));
        let kept = kept.ok_or(Error::NoneKept)?;
        self.build(&kept, &served).await?;
        self.switch(&served, &kept).await?;
        Ok(self.report(&kept, Vec::new()))
    }

    pub(super) async fn finish(&self) -> Result<usize, Error> {
        let (_, others) = self.generations().await?;
        self.readers_have_ended().await?;
        for known in &others {
            self.owner().drop(known).await?;
        }
        Ok(others.len())
    }

    pub(super) async fn verify(&self) -> Result<Verdict, Error> {
        let (served, others) = self.generations().await?;
        let (checkpoints, discontinuity) = self.continuity(&served).await?;
        let mut verdict = Verdict {
            report: self.report(&served, Vec::new()),
            checkpoints,
            discontinuity,
            difference: None,
            parked: Parked::default(),
        };
        // Cursors that are wrong say nothing about how far to build.
        if verdict.discontinuity.is_some() {
            return Ok(verdict);
        }
        // What an earlier version has built would say nothing about this one.
        let begun = others.into_iter().filter(|one| !one.is_whole).collect();
        self.begun(begun, true).await?;
        let target = self.create(&served, true).await?;
        let compared = match self.bring(&target, &served).await {
            Ok(()) => self.compare(&target, &served).await,
            Err(error) => Err(error),
        };
        self.owner().drop(&target).await?;
        let compared = compared?;
        verdict.parked = compared.parked;
        match compared.rows {
            Ok(rows) => verdict.report = self.report(&served, rows),
            Err(difference) => verdict.difference = Some(*difference),
        }
        Ok(verdict)
    }

    pub(super) async fn create(&self, like: &Known, is_trial: bool) -> Result<Known, Error> {
        let now = self.site.clock.now();
        self.owner().create(like, now, is_trial).await
    }

    pub(super) fn owner(&self) -> Owner<'_> {
        Owner {
            pool: &self.owner_pool,
            base: self.site.schema,
            tables: self.tables,
        }
    }

    /// The one that is served, and the others.
    pub(super) async fn generations(&self) -> Result<(Known, Vec<Known>), Error> {
        let active = store::active_generation(&self.owner_pool)
            .await
            .map_err(Error::database("read the generation"))?;
        let mut all = self.owner().generations().await?;
        let at = all
            .iter()
            .position(|known| known.generation == active.generation);
        let served = at.map(|at| all.remove(at)).ok_or(Error::Database {
            doing: "find the generation that is served",
            source: sqlx::Error::RowNotFound,
        })?;
        Ok((served, all))
    }

    /// The generation that an earlier rebuild has begun. All such are dropped if it is to be `fresh`,
    /// and what a verify has left behind in any case.
    pub(super) async fn begun(
        &self,
        begun: Vec<Known>,
        fresh: bool,
    ) -> Result<Option<Known>, Error> {
        let (dropped, mut kept): (Vec<Known>, Vec<Known>) =
            begun.into_iter().partition(|one| fresh || one.is_trial);
        for known in &dropped {
            self.owner().drop(known).await?;
        }
        Ok(kept.pop())
    }

    pub(super) fn tell(&self, step: Step, missing: u64) {
        self.progress.send_modify(|progress| {
            progress.step = step;
            progress.missing = missing;
        });
    }

    pub(super) fn report(&self, known: &Known, rows: Vec<(&'static str, u64)>) -> Report {
        Report {
            generation: known.generation,
            records: self.applied.load(Ordering::Relaxed),
            rows,
        }
    }

    pub(super) fn named(&self, known: &Known) -> Generation {
        known.served_from(self.site.schema)
    }

    pub(super) async fn cursors(
        &self,
        known: &Known,
    ) -> Result<BTreeMap<Partition, Cursor>, Error> {
        let named = self.named(known);
        let path = [("search_path", named.search_path.as_str())];
        let pool = runledger_postgres::connect_like(&self.writer_pool, &path);
        let cursors = store::all(&pool, known.generation).await;
        pool.close().await;
        cursors.map_err(Error::database("read the cursors"))
    }

    /// Compares all tables at one and the same cursors.
    pub(super) async fn compare(&self, target: &Known, served: &Known) -> Result<Compared, Error> {
        let mut ours = self.snapshot(served).await?;
        let at = store::all(&mut *ours, served.generation)
            .await
            .map_err(Error::database("read the cursors"))?;
        let parked = parked::of(&mut ours, served.generation).await?;
        if target.is_trial {
            parked::same(&mut ours, served.generation, target, self.site.schema).await?;
        }
        self.catch_up(target, goal(at.values())).await?;
        same_log(&at, &self.cursors(target).await?)?;
        let mut theirs = self.snapshot(target).await?;
        // Nobody who writes rows can know it beforehand.
        let seed = RandomState::new().hash_one(0).cast_signed();
        let together = self.site.workers > 1;
        let mut rows = Vec::new();
        for table in self.tables {
            self.tell(Step::Comparing(table), 0);
            match compare::table(&mut ours, &mut theirs, table, seed, together).await? {
                Ok(count) => rows.push((*table, count)),
                Err(difference) => {
                    let rows = Err(difference);
                    return Ok(Compared { rows, parked });
                }
            }
        }
        let rows = Ok(rows);
        Ok(Compared { rows, parked })
    }

    /// A snapshot in which names mean the tables of `known`.
    pub(super) async fn snapshot(
        &self,
        known: &Known,
    ) -> Result<Transaction<'static, Postgres>, Error> {
        let begun = async {
            let mut tx = self
                .writer_pool
                .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await?;
            // Comparing reads whole tables, which the writer's settings are against.
            sqlx::query("SELECT set_config('search_path', $1, true), set_config('enable_seqscan', 'on', true)")
                .bind(self.named(known).search_path)
                .execute(&mut *tx)
                .await?;
            Ok(tx)
        };
        begun.await.map_err(Error::database("begin a snapshot"))
    }

    pub(super) async fn continuity(
        &self,
        served: &Known,
    ) -> Result<(u64, Option<Discontinuity>), Error> {
        let mut snapshot = self.snapshot(served).await?;
        let cursors = store::all(&mut *snapshot, served.generation)
            .await
            .map_err(Error::database("read the cursors"))?;
        let checkpoints = store::checkpoints(&mut *snapshot, served.generation)
            .await
            .map_err(Error::database("read the checkpoints"))?;
        drop(snapshot);
        let sum = cursors.values().map(|cursor| cursor.next_offset).sum();
        self.tell(Step::ReadingLog, sum);
        let count = checkpoints.len() as u64;
        let name = format!("{}.verify", self.site.name);
        let log = self.site.log.as_ref();
        continuity::check(
            log,
            &name,
            &self.partitions,
            &cursors,
            checkpoints,
            &self.shutdown,
        )
        .await
        .map(|found| (count, found))
    }
}
