//! The loop: subscribe, gather a batch over all partitions of this process, apply it and move the
//! cursors in one transaction, again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::log::{Family, Partition};
use runledger_domain::time::Clock;
use runledger_eventlog::{Log, SubscriptionOptions};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::apply::{ApplyError, Projection};
use crate::cursor::Diverged;
use crate::store::active_generation;

mod attendant;
mod batch;
mod committing;
mod letters;
mod store;
mod tables;
mod weather;
mod worker;

pub use attendant::{Attendant, Seen};
pub(crate) use store::Store;
pub(crate) use tables::Tables;
pub(crate) use weather::Weather;
pub(crate) use worker::{Parts, Worker};
#[cfg(test)]
pub(crate) use {batch::Batch, store::Attempted};

/// How long a silent database is listened to. The server ends statements sooner; this is for the
/// connection that leads nowhere any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for a batch that is sifted for what cannot be applied, or that redrives a stream: that
/// takes many statements.
const SIFTING_PATIENCE: Duration = Duration::from_secs(600);
/// How long the loop waits for the answer to a look around; the next look makes up for one that was
/// missed.
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
    /// How long after a transaction the next one begins, when it would be small: records gather
    /// meanwhile. Costs latency, saves transactions.
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
    projection: P,
    options: Options,
    clock: Arc<dyn Clock>,
    health: watch::Sender<Health>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let running = Running {
        log,
        pool,
        options,
        clock,
    };
    run_with(running, projection, (), health, shutdown).await
}

/// What a loop runs on.
pub struct Running {
    pub log: Arc<dyn Log>,
    /// Signs in as the writer of the projection's schema and looks names up there.
    pub pool: PgPool,
    pub options: Options,
    pub clock: Arc<dyn Clock>,
}

/// The same as [`run`], with somebody who goes along.
///
/// # Errors
/// As [`run`].
pub async fn run_with<P: Projection, A: Attendant<PgPool>>(
    running: Running,
    projection: P,
    attendant: A,
    health: watch::Sender<Health>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Running {
        log,
        pool,
        options,
        clock,
    } = running;
    let weather = Weather::new(health, shutdown.clone());
    let served = || active_generation(&pool);
    let Some(served) = weather.outlast("read the generation", served).await? else {
        return Ok(());
    };
    let families = projection.families();
    let (to_reread, now) = (Arc::clone(&log), Arc::clone(&clock));
    let tables = Tables::new(pool, &served, projection, to_reread, now, options.clone());
    let companions = Companions {
        store: tables,
        attendant,
    };
    follow(log, companions, families, options, clock, weather, shutdown).await
}

/// What a worker hands on to the next.
pub(crate) struct Companions<S, A> {
    pub(crate) store: S,
    pub(crate) attendant: A,
}

/// Works on the generation that is served until `shutdown`, and on the next when that is served.
/// `store` is turned to the first.
pub(crate) async fn follow<S: Store, A: Attendant<S::Database>>(
    log: Arc<dyn Log>,
    companions: Companions<S, A>,
    families: &[Family],
    options: Options,
    clock: Arc<dyn Clock>,
    weather: Weather,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Companions {
        mut store,
        mut attendant,
    } = companions;
    loop {
        let mut worker = Worker::new(Parts {
            log: Arc::clone(&log),
            store,
            attendant,
            options: options.clone(),
            clock: Arc::clone(&clock),
            weather: weather.clone(),
            subscription: SubscriptionOptions::new(&options.name, &options.instance, families),
            applied: Arc::default(),
        })?;
        let end = worker.work(&shutdown).await;
        worker.hint();
        worker.checkpoint_all().await;
        let end = end?;
        let good_bye = worker.attendant.leave(worker.store.database());
        if tokio::time::timeout(STOP_AT_MOST, good_bye).await.is_err() {
            tracing::warn!("the database is silent at the stop");
        }
        match end {
            End::Stopped | End::Reached => return Ok(()),
            End::Switched => info!("another generation is served now"),
        }
        worker.let_all_go();
        (store, attendant) = (worker.store, worker.attendant);
        let served = || store.served();
        let Some(served) = weather.outlast("read the generation", served).await? else {
            return Ok(());
        };
        store.turn_to(&served);
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
