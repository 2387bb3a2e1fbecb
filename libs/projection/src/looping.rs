//! The loop: subscribe, gather a batch over all partitions of this process, apply it and move the
//! cursors in one transaction, again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use runledger_domain::log::Partition;
use runledger_domain::time::Clock;
use runledger_eventlog::{Event, Log, Stored, Subscription, SubscriptionOptions};
use serde::Deserialize;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::apply::{ApplyError, Projection};
use crate::cursor::{Cursor, Diverged};
use crate::lag::Lag;
use crate::parking::{Notice, Parking, Place};
use crate::store;

mod batch;
mod letters;
mod weather;

use batch::Batch;
use letters::{Gauges, tell};
pub(crate) use weather::Weather;

/// How long a silent database is listened to. The server ends statements sooner; this is for the
/// connection that leads nowhere any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for a batch that is sifted for what cannot be applied, or that redrives a stream: that
/// takes many statements.
const SIFTING_PATIENCE: Duration = Duration::from_secs(600);
/// How long the loop waits to hear of a switch; the next look makes up for one that was missed.
const LOOK_AT_MOST: Duration = Duration::from_millis(500);
/// How long a stop waits for its checkpoint: whoever asked for it has a deadline of his own.
const STOP_AT_MOST: Duration = Duration::from_secs(3);

/// How a projection joins its group and how much it takes at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The projection's name: its consumer group, and the label of its metrics.
    pub name: String,
    /// This process's name in the group, the same after a restart and unlike any other's.
    pub instance: String,
    /// Most records of one transaction.
    pub batch_records: usize,
    /// Most bytes of one transaction.
    pub batch_bytes: usize,
    /// How long to gather more when a batch would be small. Costs latency, saves transactions.
    #[serde(with = "humantime_serde")]
    pub gather: Duration,
    /// Most records that wait in one partition's queue.
    pub queue_records: usize,
    /// Most bytes that wait in one partition's queue.
    pub queue_bytes: usize,
    /// Most records of the whole read model that may be parked; more stop the projection.
    pub parked_records_max: u64,
    /// Most streams of the whole read model that may be parked; more stop the projection.
    pub parked_streams_max: u64,
}

/// Whether a projection can do its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It has not reached the database and the log yet.
    #[default]
    Starting,
    Working,
    /// The database or the log is away; it goes on by itself when they are back.
    Impeded,
}

/// Why a projection stopped. Waiting does not mend any of these.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot follow the log")]
    Log(#[source] runledger_eventlog::Error),
    #[error("the log is not the one that was read before")]
    Diverged(#[from] Diverged),
    #[error("cannot apply records {}", .range)]
    Apply {
        range: String,
        #[source]
        source: ApplyError,
    },
    #[error("cannot read or move the cursors")]
    Cursors(#[source] sqlx::Error),
}

/// Runs a projection until `shutdown`, or until it meets what only a person can mend. The weather
/// is waited out, for ever: the database or the log being away never ends it. It writes the
/// generation that is served, whichever that is.
///
/// `pool` signs in as the writer of the projection's schema and looks names up there.
pub async fn run<P: Projection>(
    log: Arc<dyn Log>,
    pool: PgPool,
    mut projection: P,
    options: Options,
    clock: Arc<dyn Clock>,
    health: watch::Sender<Health>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let weather = Weather::new(health, shutdown.clone());
    loop {
        let generation = || store::active_generation(&pool);
        let Some(generation) = weather.outlast("read the generation", generation).await? else {
            return Ok(());
        };
        let subscription =
            SubscriptionOptions::new(&options.name, &options.instance, projection.families());
        let mut worker = Worker::new(Parts {
            log: Arc::clone(&log),
            pool: &pool,
            projection,
            options: options.clone(),
            clock: Arc::clone(&clock),
            weather: weather.clone(),
            generation,
            subscription,
            applied: Arc::default(),
        })?;
        let end = worker.work(&shutdown).await;
        worker.hint();
        worker.checkpoint_all().await;
        match end? {
            End::Stopped | End::Reached => return Ok(()),
            End::Switched => {
                info!("another generation is served now");
                projection = worker.projection;
            }
        }
    }
}

/// Why a worker came to its end without trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Stopped,
    /// Another generation is served now.
    Switched,
    /// Every cursor is where it was to be brought.
    Reached,
}

/// Next offsets at which to stop, by partition.
pub(crate) type Goal = BTreeMap<Partition, u64>;

/// A partition of this process.
struct Owned {
    cursor: Cursor,
    /// Whether the record at which it was taken up has been seen to be the one applied before.
    recognised: bool,
    /// Offsets of records yet to be read that a fact read before says to leave out.
    left_out: BTreeSet<u64>,
}

pub(crate) struct Worker<P> {
    log: Arc<dyn Log>,
    pool: PgPool,
    pub(crate) projection: P,
    options: Options,
    clock: Arc<dyn Clock>,
    weather: Weather,
    generation: i32,
    subscription: Subscription,
    lag: Lag,
    gauges: Gauges,
    owned: BTreeMap<Partition, Owned>,
    /// Where to stop; `None`: never.
    goal: Option<Goal>,
    /// A cursor was found frozen: another generation is served.
    switched: bool,
    /// Records applied so far.
    applied: Arc<AtomicU64>,
}

/// What a worker is made of.
pub(crate) struct Parts<'a, P> {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) pool: &'a PgPool,
    pub(crate) projection: P,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) weather: Weather,
    pub(crate) generation: store::Generation,
    pub(crate) subscription: SubscriptionOptions,
    /// Counts the records that are applied.
    pub(crate) applied: Arc<AtomicU64>,
}

/// What one transaction came to.
struct Attempted {
    /// Partitions that another process has moved on; nothing was committed then.
    lost: Vec<Partition>,
    /// How many records of the others are parked now, where any are.
    parked: BTreeMap<Partition, u64>,
    notices: Vec<Notice>,
}

impl<P: Projection> Worker<P> {
    pub(crate) fn new(parts: Parts<'_, P>) -> Result<Self, Error> {
        let options = Options {
            batch_records: parts.options.batch_records.max(1),
            batch_bytes: parts.options.batch_bytes.max(1),
            ..parts.options
        };
        let subscription = parts
            .log
            .subscribe(SubscriptionOptions {
                queue_records: options.queue_records,
                queue_bytes: options.queue_bytes,
                ..parts.subscription
            })
            .map_err(Error::Log)?;
        let search_path = [("search_path", parts.generation.search_path.as_str())];
        Ok(Self {
            lag: Lag::new(&options.name),
            gauges: Gauges::new(&options.name),
            pool: runledger_postgres::connect_like(parts.pool, &search_path),
            log: parts.log,
            projection: parts.projection,
            options,
            clock: parts.clock,
            weather: parts.weather,
            generation: parts.generation.generation,
            subscription,
            owned: BTreeMap::new(),
            goal: None,
            switched: false,
            applied: parts.applied,
        })
    }

    /// Works until every cursor of `goal` is there, and not a record further.
    pub(crate) async fn work_until(
        &mut self,
        goal: Goal,
        shutdown: &CancellationToken,
    ) -> Result<End, Error> {
        self.goal = Some(goal);
        let end = self.work(shutdown).await;
        self.checkpoint_all().await;
        end
    }

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<End, Error> {
        loop {
            if self.switched {
                return Ok(End::Switched);
            }
            if self.has_reached() {
                return Ok(End::Reached);
            }
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(End::Stopped),
                // Before the records: with a backlog there is always a record.
                () = self.lag.tick() => {
                    self.look_around().await;
                    self.gauge_parked().await;
                    continue;
                }
                event = self.subscription.next() => event,
            };
            match event {
                Event::Assigned(partitions) => self.take_up(partitions).await?,
                Event::Revoked(partitions) => self.let_go(&partitions),
                Event::Records => self.apply_queued().await?,
                Event::Failed(error) => return Err(Error::Log(error)),
            }
        }
    }

    fn has_reached(&self) -> bool {
        let is_there = |(partition, next): (&Partition, &u64)| {
            let owned = self.owned.get(partition);
            owned.is_some_and(|owned| owned.cursor.next_offset >= *next)
        };
        self.goal
            .as_ref()
            .is_some_and(|goal| goal.iter().all(is_there))
    }

    /// Once a second: how far behind, how far on, whether the log is there, and whether the
    /// generation is still the one that is served.
    async fn look_around(&mut self) {
        self.report_lag();
        // No answer is no news: whoever writes hears of it.
        let switched = tokio::time::timeout(LOOK_AT_MOST, self.look_for_switch()).await;
        self.switched = matches!(switched, Ok(Ok(true)));
        if self.log.healthy() {
            self.hint();
            self.weather.clear();
        } else {
            self.weather.cloud();
        }
    }

    fn report_lag(&self) {
        self.lag
            .report(&self.subscription.head_recorded(), self.clock.now());
    }

    /// Tells Kafka how far the cursors are, for lag tools.
    fn hint(&self) {
        let next = |owned: &Owned| (owned.cursor.partition, owned.cursor.next_offset);
        self.subscription
            .hint(self.owned.values().map(next).collect());
    }

    /// Loads the cursors of new partitions and begins to fetch at the last record of each.
    async fn take_up(&mut self, partitions: Vec<Partition>) -> Result<(), Error> {
        let Some(cursors) = self.load(&partitions).await? else {
            return Ok(());
        };
        let Some(mut left_out) = self.load_left_out(&cursors).await? else {
            return Ok(());
        };
        let starts = cursors
            .iter()
            .map(|cursor| (cursor.partition, cursor.resume_offset()))
            .collect();
        for cursor in cursors {
            info!(partition = %cursor.partition, next_offset = cursor.next_offset, "partition taken up");
            let recognised = cursor.next_offset == 0;
            let left_out = left_out.remove(&cursor.partition).unwrap_or_default();
            let owned = Owned {
                cursor,
                recognised,
                left_out,
            };
            self.owned.insert(owned.cursor.partition, owned);
        }
        self.subscription.start(starts);
        self.count_partitions();
        self.weather.clear();
        Ok(())
    }

    fn let_go(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(Owned { cursor, .. }) = self.owned.remove(partition) {
                info!(%partition, next_offset = cursor.next_offset, "partition let go");
            }
        }
        self.count_partitions();
    }

    fn count_partitions(&self) {
        gauge!("runledger_projection_partitions", "projection" => self.options.name.clone())
            .set(u32::try_from(self.owned.len()).unwrap_or(u32::MAX));
    }

    /// The cursors as the database has them. `None`: the shutdown came first.
    async fn load(&self, partitions: &[Partition]) -> Result<Option<Vec<Cursor>>, Error> {
        let load = || async {
            store::load(
                &mut *self.pool.acquire().await?,
                self.generation,
                partitions,
            )
            .await
        };
        self.weather.outlast("load the cursors", load).await
    }

    /// Applies what is queued, one batch.
    async fn apply_queued(&mut self) -> Result<(), Error> {
        let mut records = self
            .subscription
            .take(self.options.batch_records, self.options.batch_bytes);
        if records.len() < self.options.batch_records / 4 && !self.options.gather.is_zero() {
            // Transactions cost more than records: a little patience saves most of them.
            tokio::time::sleep(self.options.gather).await;
            let bytes: usize = records.iter().map(Stored::bytes).sum();
            let (records_left, bytes_left) = (
                self.options.batch_records - records.len(),
                self.options.batch_bytes.saturating_sub(bytes),
            );
            if bytes_left > 0 {
                records.extend(self.subscription.take(records_left, bytes_left));
            }
        }
        let Some(batch) = Batch::read(&mut self.owned, self.goal.as_ref(), records)? else {
            return Ok(());
        };
        self.lag.in_hand(batch.oldest_recorded_at());
        let span = info_span!("batch", projection = %self.options.name, records = batch.records);
        batch.trace(&span);
        self.commit(batch).instrument(span).await
    }

    /// Applies one batch and moves the cursors in one transaction; again after weather.
    async fn commit(&mut self, mut batch: Batch) -> Result<(), Error> {
        let mut attempts = self.weather.attempts();
        let mut sifting = false;
        while !batch.after.is_empty() {
            let patience = if sifting || batch.has_orders(&self.options.name) {
                SIFTING_PATIENCE
            } else {
                PATIENCE
            };
            let attempt = tokio::time::timeout(patience, self.attempt(&batch, sifting));
            match attempt.await.unwrap_or_else(|_| Err(ApplyError::silent())) {
                Ok(attempted) if attempted.lost.is_empty() => {
                    tell(&self.options.name, &attempted.notices);
                    self.settle(batch, &attempted.parked);
                    return Ok(());
                }
                Ok(attempted) => {
                    if self.is_switched().await? {
                        return Ok(());
                    }
                    self.lose(&attempted.lost, &mut batch);
                }
                Err(refused) if refused.is_poison() && !sifting => {
                    warn!(
                        error = &refused as &dyn std::error::Error,
                        "the batch holds a record that cannot be applied; looking for it"
                    );
                    sifting = true;
                }
                Err(failed) if failed.is_weather() => {
                    warn!(
                        error = &failed as &dyn std::error::Error,
                        "the batch waits for the database"
                    );
                    self.report_lag();
                    if attempts.wait().await.is_none() {
                        return Ok(());
                    }
                    if let Some(parked) = self.was_committed(&batch).await? {
                        self.settle(batch, &parked);
                        return Ok(());
                    }
                }
                Err(failed) => {
                    return Err(Error::Apply {
                        range: batch.range(),
                        source: failed,
                    });
                }
            }
        }
        Ok(())
    }

    /// One transaction. `sifting`: the batch was refused whole.
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
        self.checkpoint(&mut tx, batch)
            .await
            .map_err(ApplyError::database("write checkpoints"))?;
        tx.commit().await.map_err(ApplyError::database("commit"))?;
        let name = self.options.name.clone();
        histogram!("runledger_projection_batch_seconds", "projection" => name)
            .record(begun.elapsed().as_secs_f64());
        Ok(attempted)
    }

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
        let totals = store::parked::totals(&mut **tx, self.generation)
            .await
            .map_err(ApplyError::database("count what is parked"))?;
        letters::check(&totals, &self.options)?;
        attempted.parked = totals
            .into_iter()
            .map(|(partition, totals)| (partition, totals.records))
            .collect();
        Ok(())
    }

    async fn checkpoint(
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

    /// After weather at an unknown moment: whether the batch's transaction went through after all,
    /// and if so what is parked. The rolling hash tells: nobody else can have brought a cursor to the
    /// same one but by the same records.
    async fn was_committed(
        &self,
        batch: &Batch,
    ) -> Result<Option<BTreeMap<Partition, u64>>, Error> {
        let partitions: Vec<Partition> =
            batch.after.iter().map(|cursor| cursor.partition).collect();
        let Some(now) = self.load(&partitions).await? else {
            return Ok(None);
        };
        let committed = batch.after.iter().all(|after| {
            now.iter().any(|cursor| {
                cursor.partition == after.partition
                    && cursor.next_offset == after.next_offset
                    && cursor.rolling_hash == after.rolling_hash
            })
        });
        let parked = now.iter().map(|cursor| (cursor.partition, cursor.parked));
        Ok(committed.then(|| parked.collect()))
    }

    /// Whether cursors did not move because another generation is served now.
    async fn is_switched(&mut self) -> Result<bool, Error> {
        let look = || self.look_for_switch();
        let switched = self.weather.outlast("look for a switch", look).await?;
        self.switched = switched.unwrap_or_default();
        Ok(self.switched)
    }

    /// Whether to leave this generation: another is served; or, while it is built, it may not move.
    async fn look_for_switch(&self) -> Result<bool, sqlx::Error> {
        if self.goal.is_some() {
            return store::is_frozen(&self.pool, self.generation).await;
        }
        store::is_retired(&self.pool, self.generation).await
    }

    /// Other processes own these partitions: leave them, and keep of the batch what is ours.
    fn lose(&mut self, lost: &[Partition], batch: &mut Batch) {
        for partition in lost {
            warn!(%partition, "another process has moved this cursor; leaving the partition");
            self.owned.remove(partition);
            self.subscription.give_up(*partition);
            counter!("runledger_projection_ownership_lost_total", "projection" => self.options.name.clone())
                .increment(1);
        }
        self.count_partitions();
        batch.drop_partitions(lost);
    }

    fn settle(&mut self, batch: Batch, parked: &BTreeMap<Partition, u64>) {
        self.weather.clear();
        self.lag.in_hand(None);
        let name = self.options.name.clone();
        counter!("runledger_projection_records_total", "projection" => name.clone())
            .increment(batch.records as u64);
        self.applied
            .fetch_add(batch.records as u64, Ordering::Relaxed);
        counter!("runledger_projection_batches_total", "projection" => name).increment(1);
        self.lag.applied(&batch.after, self.clock.now());
        for cursor in batch.after {
            if let Some(owned) = self.owned.get_mut(&cursor.partition) {
                let parked = parked.get(&cursor.partition).copied().unwrap_or_default();
                owned.cursor = Cursor { parked, ..cursor };
            }
        }
    }

    /// At a stop: where every cursor stands. Best effort, once: the cursor itself is safe already.
    async fn checkpoint_all(&self) {
        let write = async {
            let mut connection = self.pool.acquire().await?;
            let cursors = self.owned.values().map(|owned| &owned.cursor);
            store::checkpoint(&mut connection, self.generation, cursors, self.clock.now()).await
        };
        match tokio::time::timeout(STOP_AT_MOST, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(
                error = &error as &dyn std::error::Error,
                "no checkpoint was written at the stop"
            ),
            Err(_) => warn!("the database is silent: no checkpoint was written at the stop"),
        }
    }
}
