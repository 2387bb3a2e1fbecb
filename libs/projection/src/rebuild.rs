//! Building a generation of a read model beside the one that is served, comparing the two, and
//! switching. `verify` is the same machine without the switch.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use runledger_domain::log::{Family, Partition};
use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::apply::Projection;
use crate::looping;

mod build;
mod compare;
mod continuity;
mod parked;
mod running;
mod switch;
mod tables;
mod upkeep;
mod walk;

pub use upkeep::Upkeep;

pub use compare::{Difference, DifferenceKind};
pub use continuity::Discontinuity;
pub use parked::{Parked, ParkedStream};
use running::Running;
pub use running::try_lock;
pub use walk::{Found, Page, Range, Read, Span, Step as WalkStep, Walk};

/// What a rebuild works with.
#[derive(Clone)]
pub struct Site {
    pub log: Arc<dyn Log>,
    /// Signs in as the writer of the schema and looks names up there.
    pub writer: PgPool,
    /// The same as the owner of the schema, who makes and drops tables.
    pub owner: PgPool,
    pub clock: Arc<dyn Clock>,
    /// The schema of the read model.
    pub schema: &'static str,
    /// The projection's name, as the projector has it: facts in the log speak of it.
    pub name: String,
    /// Tasks that build at the same time, at least 1; they share the partitions.
    pub workers: usize,
}

/// How far a build is.
#[derive(Clone, Debug)]
pub struct Progress {
    pub step: Step,
    /// Counts records applied in this process.
    pub applied: Arc<AtomicU64>,
    /// Records that were missing when the step began.
    pub missing: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    ReadingLog,
    Building,
    Indexing,
    Comparing(&'static str),
    Switching,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub generation: i32,
    /// Records applied.
    pub records: u64,
    /// Rows compared, by table.
    pub rows: Vec<(&'static str, u64)>,
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub report: Report,
    /// Checkpoints recomputed from the log.
    pub checkpoints: u64,
    /// The first place where cursors or checkpoints are not what the log says.
    pub discontinuity: Option<Discontinuity>,
    pub difference: Option<Difference>,
    /// What is parked and therefore not in the read model; all else was compared. No difference.
    pub parked: Parked,
}

/// Why it came to nothing. The generation that is served is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a rebuild or verify of {name} is running; wait for it, or end it")]
    Running { name: String },
    #[error(
        "the connection that held the lock of rebuilds broke, and another may have begun; run it again to go on"
    )]
    LockLost(#[source] sqlx::Error),
    #[error("cannot {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot read the log")]
    Log(#[source] runledger_eventlog::Error),
    #[error("building stopped")]
    Build(#[source] looping::Error),
    #[error("a task of the build ended by itself")]
    Task(#[source] tokio::task::JoinError),
    #[error(
        "the new generation is not what is served: {difference}; `runledger verify` tells which is right \
         ({parked} in what is served: what can be applied by now, redrive first)"
    )]
    Different {
        difference: Box<Difference>,
        parked: String,
    },
    #[error("what is parked has changed while it was verified; run it again")]
    ParkedChanged,
    #[error(
        "LOG_DIVERGED: {partition}: what is served was read from another log than this one: the topic was \
         replaced, or the database belongs to another; `runledger verify` tells from which offset on"
    )]
    Diverged { partition: Partition },
    #[error(
        "LOG_DIVERGED: {partition}: what is served has come to offset {next}, but the log ends before {end}: it was \
         replaced or cut, or the database belongs to another one; find out which before anything else"
    )]
    BeyondLog {
        partition: Partition,
        next: u64,
        end: u64,
    },
    #[error("the projector writes faster than this rebuild; give it more workers")]
    TooSlow,
    #[error("generation {0} is kept as the way back; drop it first, with --finish")]
    Kept(i32),
    #[error("there is no generation to go back to")]
    NoneKept,
    #[error("transactions that may read the old generation do not end; try again")]
    StillRead,
    #[error("there is no {family}/{partition}")]
    NoPartition { family: Family, partition: u32 },
    #[error("{partition}: the read model has come to offset {next}, not to {wanted}")]
    NotSoFar {
        partition: Partition,
        next: u64,
        wanted: u64,
    },
    #[error("stopped; run it again to go on")]
    Stopped,
}

impl Error {
    fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}

/// Builds a new generation, compares it with the one that is served, and switches to it. Goes on
/// where an earlier one was interrupted, unless it is to be `fresh`.
///
/// # Errors
/// See [`Error`]; until the switch nothing that is served has changed.
pub async fn rebuild<P: Projection>(
    site: &Site,
    make: impl Fn() -> P + Sync,
    fresh: bool,
    progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
) -> Result<Report, Error> {
    let running = Running::begin(site, make, progress, shutdown).await?;
    let rebuilt = running.alone(running.rebuild(fresh)).await;
    running.end().await;
    rebuilt
}

/// Switches back to the generation that was served before, once it has caught up.
///
/// # Errors
/// See [`Error`].
pub async fn rollback<P: Projection>(
    site: &Site,
    make: impl Fn() -> P + Sync,
    progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
) -> Result<Report, Error> {
    let running = Running::begin(site, make, progress, shutdown).await?;
    let rolled_back = running.alone(running.rollback()).await;
    running.end().await;
    rolled_back
}

/// Drops every generation that is not served. Returns how many there were.
///
/// # Errors
/// See [`Error`].
pub async fn finish<P: Projection>(
    site: &Site,
    make: impl Fn() -> P + Sync,
    shutdown: CancellationToken,
) -> Result<usize, Error> {
    let (progress, _) = watch::channel(Progress::default());
    let running = Running::begin(site, make, progress, shutdown).await?;
    let finished = running.alone(running.finish()).await;
    running.end().await;
    finished
}

/// Recomputes cursors and checkpoints from the log, builds the read model anew up to the cursors
/// that are served, and compares. Changes nothing.
///
/// # Errors
/// See [`Error`]. What differs is no error but a [`Verdict`].
pub async fn verify<P: Projection>(
    site: &Site,
    make: impl Fn() -> P + Sync,
    progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
) -> Result<Verdict, Error> {
    let running = Running::begin(site, make, progress, shutdown).await?;
    let verdict = running.alone(running.verify()).await;
    running.end().await;
    verdict
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            step: Step::ReadingLog,
            applied: Arc::default(),
            missing: 0,
        }
    }
}
