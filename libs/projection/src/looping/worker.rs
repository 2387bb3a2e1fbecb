//! One member at work: what it is told, and what it owns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use metrics::{counter, gauge};
use runledger_domain::log::{Family, Partition};
use runledger_domain::time::Clock;
use runledger_eventlog::{Event, Log, Subscription, SubscriptionOptions};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::attendant::Attendant;
use super::letters::Gauges;
use super::store::Store;
use super::weather::Weather;
use super::{End, Error, Goal, LOOK_AT_MOST, Options, STOP_AT_MOST};
use crate::cursor::Cursor;
use crate::lag::Lag;

/// A partition of this process.
pub(super) struct Owned {
    pub(super) cursor: Cursor,
    /// How many the topic has.
    pub(super) partitions: u32,
    /// Whether the record at which it was taken up has been seen to be the one applied before.
    pub(super) recognised: bool,
    /// Offsets of records yet to be read that a fact read before says to leave out.
    pub(super) left_out: BTreeSet<u64>,
}

pub(crate) struct Worker<S, A = ()> {
    log: Arc<dyn Log>,
    pub(super) store: S,
    pub(super) attendant: A,
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) weather: Weather,
    pub(super) subscription: Subscription,
    pub(super) lag: Lag,
    pub(super) gauges: Gauges,
    pub(super) owned: BTreeMap<Partition, Owned>,
    /// Where to stop; `None`: never.
    pub(super) goal: Option<Goal>,
    /// A cursor was found frozen: another generation is served.
    pub(super) switched: bool,
    /// Records applied so far.
    pub(super) applied: Arc<AtomicU64>,
    /// When the last batch was committed.
    pub(super) rested_since: Option<Instant>,
}

/// What a worker is made of.
pub(crate) struct Parts<S, A = ()> {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: S,
    pub(crate) attendant: A,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) weather: Weather,
    pub(crate) subscription: SubscriptionOptions,
    /// Counts the records that are applied.
    pub(crate) applied: Arc<AtomicU64>,
}

impl<S: Store, A: Attendant<S::Database>> Worker<S, A> {
    pub(crate) fn new(parts: Parts<S, A>) -> Result<Self, Error> {
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
        Ok(Self {
            lag: Lag::new(&options.name),
            gauges: Gauges::new(&options.name),
            log: parts.log,
            store: parts.store,
            attendant: parts.attendant,
            options,
            clock: parts.clock,
            weather: parts.weather,
            subscription,
            owned: BTreeMap::new(),
            goal: None,
            switched: false,
            applied: parts.applied,
            rested_since: None,
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

    pub(super) async fn work(&mut self, shutdown: &CancellationToken) -> Result<End, Error> {
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
                // Before the records too: decisions are asked for by people.
                () = self.attendant.awaited() => {
                    self.attendant.act(self.store.database()).await;
                    continue;
                }
                event = self.subscription.next() => event,
            };
            match event {
                Event::Assigned(partitions) => self.take_up(partitions).await?,
                Event::Revoked(partitions) => self.let_go(&partitions),
                Event::Records => {
                    self.apply_queued().await?;
                    self.attendant.act(self.store.database()).await;
                }
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
        let switched = timeout(LOOK_AT_MOST, self.look_for_switch()).await;
        self.switched = matches!(switched, Ok(Ok(true)));
        let stand = timeout(LOOK_AT_MOST, self.store.standing()).await;
        if let (Ok(Ok(stand)), false) = (stand, self.switched) {
            self.compare(&stand);
        }
        if self.log.healthy() {
            self.hint();
            self.weather.clear();
        } else {
            self.weather.cloud();
        }
    }

    /// Whether to leave this generation: another is served; or, while it is built, it may not move.
    pub(super) async fn look_for_switch(&self) -> Result<bool, sqlx::Error> {
        if self.goal.is_some() {
            self.store.is_frozen().await
        } else {
            self.store.is_retired().await
        }
    }

    /// Leaves partitions whose cursor stands elsewhere than here. Whoever writes to them would hear
    /// of it; but where nothing is appended, nobody writes, and a database that was put back would
    /// stay behind.
    fn compare(&mut self, stand: &BTreeMap<Partition, Cursor>) {
        let place = |cursor: &Cursor| (cursor.next_offset, cursor.rolling_hash);
        let is_elsewhere = |(partition, owned): &(&Partition, &Owned)| {
            stand.get(partition).map(place) != Some(place(&owned.cursor))
        };
        let moved = self.owned.iter().filter(is_elsewhere);
        let moved: Vec<Partition> = moved.map(|(partition, _)| *partition).collect();
        self.leave(&moved);
    }

    /// Leaves partitions whose cursor does not stand where it was left here.
    pub(super) fn leave(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            warn!(%partition, "another process has moved this cursor; leaving the partition");
            self.subscription.give_up(*partition);
            counter!("runledger_projection_ownership_lost_total", "projection" => self.options.name.clone())
                .increment(1);
        }
        self.let_go(partitions);
    }

    pub(super) fn report_lag(&self) {
        self.lag
            .report(&self.subscription.head_recorded(), self.clock.now());
    }

    /// Tells Kafka how far the cursors are, for lag tools.
    pub(super) fn hint(&self) {
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
            let Some(partitions) = self.count(cursor.partition.family).await? else {
                return Ok(());
            };
            info!(partition = %cursor.partition, next_offset = cursor.next_offset, "partition taken up");
            self.attendant.taken_up(std::slice::from_ref(&cursor));
            let recognised = cursor.next_offset == 0;
            let left_out = left_out.remove(&cursor.partition).unwrap_or_default();
            let owned = Owned {
                cursor,
                partitions,
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

    /// How many partitions a topic has. `None`: the shutdown came first.
    async fn count(&self, family: Family) -> Result<Option<u32>, Error> {
        let mut attempts = self.weather.attempts();
        loop {
            match self.log.genesis(family).await {
                Ok(genesis) => return Ok(Some(u32::try_from(genesis.len()).unwrap_or(u32::MAX))),
                Err(error) if error.is_weather() => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "waiting for the log to count its partitions"
                    );
                    if attempts.wait().await.is_none() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(Error::Log(error)),
            }
        }
    }

    fn let_go(&mut self, partitions: &[Partition]) {
        self.attendant.let_go(partitions);
        for partition in partitions {
            if let Some(Owned { cursor, .. }) = self.owned.remove(partition) {
                info!(%partition, next_offset = cursor.next_offset, "partition let go");
            }
        }
        self.count_partitions();
    }

    /// Another generation is served: nothing of this one is this process's any more.
    pub(super) fn let_all_go(&mut self) {
        let owned: Vec<Partition> = self.owned.keys().copied().collect();
        self.let_go(&owned);
    }

    pub(super) fn count_partitions(&self) {
        gauge!("runledger_projection_partitions", "projection" => self.options.name.clone())
            .set(u32::try_from(self.owned.len()).unwrap_or(u32::MAX));
    }

    /// The cursors as the database has them. `None`: the shutdown came first.
    pub(super) async fn load(
        &self,
        partitions: &[Partition],
    ) -> Result<Option<Vec<Cursor>>, Error> {
        let load = || self.store.load(partitions);
        self.weather.outlast("load the cursors", load).await
    }

    /// At a stop: where every cursor stands. Best effort, once: the cursor itself is safe already.
    pub(super) async fn checkpoint_all(&self) {
        let cursors: Vec<&Cursor> = self.owned.values().map(|owned| &owned.cursor).collect();
        let written = timeout(STOP_AT_MOST, self.store.checkpoint(&cursors));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(
                error = &error as &dyn std::error::Error,
                "no checkpoint was written at the stop"
            ),
            Err(_) => warn!("no checkpoint was written at the stop: the database is silent"),
        }
    }
}
