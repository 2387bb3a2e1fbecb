//! Reads that are never older than the caller's tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::log::{Family, Partition, Position};
use runledger_domain::scope::Scope;
use runledger_eventlog::Log;
use runledger_eventlog::token::Token;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cursor::Cursor;
use crate::store;

mod parked;
mod poll;
mod wanted;
mod watermarks;

use poll::Poll;
use wanted::{Wanted, Wish};
use watermarks::Watermarks;

/// How long a read waits when it does not say.
const MAX_WAIT_DEFAULT: Duration = Duration::from_secs(2);
/// Who has waited for so long looks again after this part of it.
const LOOKS_A_WAIT: u32 = 8;
/// Longest wait of a read.
const MAX_WAIT_CAP: Duration = Duration::from_secs(10);
/// Most tokens of one read.
const TOKENS_MAX: usize = 64;

/// How far the read model has come, by partition.
pub type Cursors = BTreeMap<Partition, Cursor>;

/// What a read asks for.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Tokens from earlier replies: the answer is never older than any of them.
    pub at_least: Vec<String>,
    /// How long to wait for the read model to get there. Default 2 s; more than 10 s is taken for 10 s.
    pub max_wait: Option<Duration>,
}

impl ReadOptions {
    /// Until when a read that begins now waits.
    pub fn deadline(&self) -> Instant {
        let max_wait = self.max_wait.unwrap_or(MAX_WAIT_DEFAULT);
        Instant::now() + max_wait.min(MAX_WAIT_CAP)
    }
}

/// How fresh an answer is.
#[derive(Clone, Debug)]
pub struct AsOf {
    /// All that the answer reflects.
    pub token: Token,
    /// Age of the oldest record known not to be applied yet.
    pub lag: Duration,
}

/// One snapshot of the read model, of one scope: data and cursors belong together.
#[derive(Debug)]
pub struct Snapshot {
    /// Repeatable read, read only, bound to the scope by row-level security.
    pub tx: Transaction<'static, Postgres>,
    pub cursors: Cursors,
    pub as_of: AsOf,
}

/// Answers reads of one read model. A cheap clone; its polls are shared by all who wait.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    families: &'static [Family],
    poll: Poll,
    watermarks: Watermarks,
}

impl Reader {
    /// `pool` signs in as the reader of the projection's schema and looks names up there. Nothing
    /// waits for ever, but nothing is noticed either, unless [`Self::follow`] runs.
    pub fn new(pool: PgPool, log: Arc<dyn Log>, families: &'static [Family]) -> Self {
        let (poll, watermarks) = (Poll::new(pool.clone()), Watermarks::new(log));
        Self {
            inner: Arc::new(Inner {
                pool,
                families,
                poll,
                watermarks,
            }),
        }
    }

    /// Polls the cursors while somebody waits for them, and the ends of the log, until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let Inner {
            poll, watermarks, ..
        } = &*self.inner;
        tokio::join!(poll.run(&shutdown), watermarks.run(&shutdown));
    }

    /// A snapshot that is not older than any of the tokens.
    ///
    /// # Errors
    /// `TOKEN_INVALID` or `TOKEN_INCARNATION` at once; `READ_MODEL_BEHIND` or, when the log itself
    /// does not reach that far, `TOKEN_BEYOND_LOG` when `max_wait` has passed; `READ_MODEL_PARKED`
    /// when a record of the scope that the token reaches past could not be applied;
    /// `READ_MODEL_UNAVAILABLE` while the database is away.
    pub async fn read(&self, scope: Scope, options: &ReadOptions) -> Result<Snapshot, Fault> {
        let wanted = self.wanted(&options.at_least)?;
        let deadline = options.deadline();
        loop {
            let mut tx = runledger_postgres::begin_scoped(&self.inner.pool, scope)
                .await
                .map_err(database_fault)?;
            let cursors = store::active(&mut *tx).await.map_err(database_fault)?;
            let behind = match wanted.compare(&cursors)? {
                Wish::Reached => {
                    parked::refuse(&mut tx, scope, &wanted, &cursors).await?;
                    return Ok(self.snapshot(tx, cursors));
                }
                Wish::Behind(position) => position,
            };
            // A transaction that waits would hold a connection that others need.
            tx.rollback().await.map_err(database_fault)?;
            let reached = self
                .inner
                .poll
                .until(|cursors| matches!(wanted.compare(cursors), Ok(Wish::Reached) | Err(_)));
            if tokio::time::timeout_at(deadline, reached).await.is_err() {
                return Err(self
                    .not_reached(behind, cursors.get(&behind.partition))
                    .await);
            }
        }
    }

    /// Resolves when any cursor stands elsewhere than in `since`; one poll serves all who wait. For those
    /// who watch.
    pub async fn wait_for_change(&self, since: &Cursors) {
        let moved = |now: &Cursors| has_moved(since, now);
        self.inner.poll.until_leisurely(moved).await;
    }

    /// The same, for those who have waited for an answer since `begun` and look for it by themselves: at
    /// once, and the less often the longer they have waited. Many of them would keep the database from
    /// what they wait for.
    pub async fn hurry_for_change(&self, since: &Cursors, begun: Instant) {
        let moved = |now: &Cursors| has_moved(since, now);
        let pause = tokio::time::sleep(begun.elapsed() / LOOKS_A_WAIT);
        tokio::join!(pause, self.inner.poll.until(moved));
    }

    fn wanted(&self, texts: &[String]) -> Result<Wanted, Fault> {
        if texts.len() > TOKENS_MAX {
            return Err(invalid_token(
                None,
                format!("at most {TOKENS_MAX} tokens; merge them by reading in between"),
            ));
        }
        let mut wanted = Wanted::default();
        for (index, text) in texts.iter().enumerate() {
            let token = Token::parse(text)
                .map_err(|error| invalid_token(Some(index), error.to_string()))?;
            let reads = |position: &Position| self.reads(position.partition.family);
            token
                .positions()
                .filter(reads)
                .try_for_each(|position| wanted.add(position))?;
        }
        Ok(wanted)
    }

    fn reads(&self, family: Family) -> bool {
        self.inner.families.contains(&family)
    }

    fn snapshot(&self, tx: Transaction<'static, Postgres>, cursors: Cursors) -> Snapshot {
        let token = Token::from_positions(cursors.values().filter_map(|cursor| {
            let (incarnation, offset) = (cursor.incarnation?, cursor.next_offset.checked_sub(1)?);
            Some(Position {
                partition: cursor.partition,
                incarnation,
                offset,
            })
        }));
        let lag = self.inner.watermarks.lag(&cursors);
        Snapshot {
            tx,
            cursors,
            as_of: AsOf { token, lag },
        }
    }

    async fn not_reached(&self, wanted: Position, at: Option<&Cursor>) -> Fault {
        let reached = at.map_or(0, |cursor| cursor.next_offset);
        match self.inner.watermarks.end_of(wanted.partition).await {
            Some(end) if wanted.offset >= end => Fault::new(
                Kind::Invalid,
                "TOKEN_BEYOND_LOG",
                format!(
                    "the token names offset {} of {}, but the log ends before offset {end}; \
                     pass tokens as they were handed out",
                    wanted.offset, wanted.partition
                ),
            ),
            _ => Fault::new(
                Kind::Unavailable,
                "READ_MODEL_BEHIND",
                format!(
                    "the read model has not reached offset {} of {} yet, it has applied all before {reached}; \
                     try again, or raise max_wait",
                    wanted.offset, wanted.partition
                ),
            )
            .retry_after(Duration::from_millis(250)),
        }
    }
}

fn has_moved(since: &Cursors, now: &Cursors) -> bool {
    now.iter().any(|(partition, cursor)| {
        let before = since.get(partition);
        before.is_none_or(|before| before.next_offset < cursor.next_offset)
    })
}

fn invalid_token(index: Option<usize>, description: String) -> Fault {
    let field = match index {
        Some(index) => format!("read.at_least[{index}]"),
        None => "read.at_least".into(),
    };
    let reason = "TOKEN_INVALID";
    Fault {
        reason: reason.into(),
        ..Fault::invalid(vec![Violation {
            field,
            reason: reason.into(),
            description,
        }])
    }
}

/// The database did not answer a read, or answered what it never should.
pub fn database_fault(error: sqlx::Error) -> Fault {
    if runledger_postgres::is_weather(&error) {
        Fault::new(
            Kind::Unavailable,
            "READ_MODEL_UNAVAILABLE",
            "the read model cannot be reached now; try again",
        )
        .retry_after(Duration::from_millis(500))
        .because(error)
    } else {
        Fault::internal(error)
    }
}
