//! What a decider knows of another family: all of its one partition, folded in memory, and how
//! fresh that is known to be.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use runledger_domain::log::{Family, Kind, Partition, Position, Record};
use runledger_eventlog::{Event, Log, Stored, Subscription, SubscriptionOptions};
use runledger_projection::{Cursor, Diverged, Verdict};
use runledger_proto::decode;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between looks at the end of the partition while nobody is in a hurry.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest that such a look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records taken at once.
const TAKE_RECORDS: usize = 1_000;
const TAKE_BYTES: usize = 8 << 20;

/// A fold of one family's records in force.
pub trait Viewed: Clone + Send + Sync + 'static {
    /// Facts and decisions in force, in the order of the log. Total.
    fn take_in(&mut self, record: &Record);
}

/// What is known, and since when nothing newer was there.
#[derive(Clone, Debug)]
pub struct Confirmed<V> {
    pub viewed: Arc<V>,
    /// The last record read.
    pub position: Option<Position>,
    /// Everything appended before this moment is known.
    pub as_of: Option<Instant>,
}

impl<V> Confirmed<V> {
    /// Whether it was complete at most so long ago.
    pub fn is_fresh(&self, age_max: Duration) -> bool {
        self.as_of.is_some_and(|at| at.elapsed() <= age_max)
    }

    /// Whether it knows the record at `position`.
    pub fn has(&self, position: &Position) -> bool {
        self.position.is_some_and(|mine| {
            mine.partition == position.partition
                && mine.incarnation == position.incarnation
                && mine.offset >= position.offset
        })
    }
}

/// A shared view, and the task that keeps it.
pub struct View<V> {
    family: Family,
    now: RwLock<Confirmed<V>>,
    hurry: Notify,
    working: watch::Sender<bool>,
}

/// Why a view cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot follow the log")]
    Log(#[source] runledger_eventlog::Error),
    #[error("the log is not the one that was read before")]
    Diverged(#[from] Diverged),
}

impl<V: Viewed> View<V> {
    /// Of a family with a single partition.
    pub fn new(family: Family, empty: V) -> Arc<Self> {
        Arc::new(Self {
            family,
            now: RwLock::new(Confirmed {
                viewed: Arc::new(empty),
                position: None,
                as_of: None,
            }),
            hurry: Notify::new(),
            working: watch::Sender::new(false),
        })
    }

    pub fn now(&self) -> Confirmed<V> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    /// Somebody waits for it to be confirmed.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Whether it has been confirmed, and not long ago.
    pub fn working(&self) -> watch::Receiver<bool> {
        self.working.subscribe()
    }

    /// Reads the partition from its beginning and goes on until `shutdown`.
    ///
    /// # Errors
    /// When it meets what waiting does not mend.
    pub async fn follow(
        &self,
        log: Arc<dyn Log>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let partition = Partition {
            family: self.family,
            number: 0,
        };
        let name = format!("view of {}", self.family);
        let options = SubscriptionOptions::alone(name, vec![partition]);
        let mut subscription = log.subscribe(options).map_err(Error::Log)?;
        let mut cursor = Cursor::new(partition);
        let mut look = Box::pin(self.look(log.as_ref(), partition, Duration::ZERO));
        // What the end was at the last look that has not been reached yet.
        let mut aim: Option<(Instant, u64)> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                event = subscription.next() => match event {
                    Event::Assigned(partitions) => {
                        let next = cursor.next_offset;
                        subscription.start(partitions.into_iter().map(|one| (one, next)).collect());
                    }
                    Event::Records => self.read(&mut subscription, &mut cursor)?,
                    Event::Revoked(_) => {}
                    Event::Failed(error) => return Err(Error::Log(error)),
                },
                looked = &mut look => {
                    match looked {
                        // The first that was not reached yet: while much is appended, a later one
                        // might never be.
                        Ok(found) => {
                            aim.get_or_insert(found);
                        }
                        Err(error) => {
                            self.working.send_replace(false);
                            warn!(family = %self.family, error = &error as &dyn std::error::Error, "cannot see how far the view has to be");
                        }
                    }
                    look.set(self.look(log.as_ref(), partition, LOOK_EVERY));
                }
            }
            if let Some((asked_at, end)) = aim
                && cursor.next_offset >= end
            {
                self.confirm(asked_at);
                aim = None;
            }
        }
    }

    fn read(&self, subscription: &mut Subscription, cursor: &mut Cursor) -> Result<(), Error> {
        let records = subscription.take(TAKE_RECORDS, TAKE_BYTES);
        let before = self.now();
        let mut viewed = before.viewed;
        let mut position = before.position;
        for stored in records {
            if cursor.advance(&stored)? == Verdict::Applies
                && let Some(record) = record(self.family, &stored)
            {
                Arc::make_mut(&mut viewed).take_in(&record);
            }
            position = Some(stored.position);
        }
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.viewed = viewed;
        now.position = position;
        Ok(())
    }

    /// After a pause, unless somebody is in a hurry: where the partition ends, and the moment before
    /// that was asked.
    async fn look(
        &self,
        log: &dyn Log,
        partition: Partition,
        pause: Duration,
    ) -> Result<(Instant, u64), runledger_eventlog::Error> {
        tokio::select! {
            () = self.hurry.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let asked_at = Instant::now();
        let silent = runledger_eventlog::Error::Unavailable {
            doing: "looking at the end of a partition",
            source: None,
        };
        let end = timeout(PATIENCE, log.watermark(partition))
            .await
            .unwrap_or(Err(silent))?;
        Ok((asked_at, end))
    }

    fn confirm(&self, at: Instant) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.as_of = Some(at);
        drop(now);
        self.working.send_replace(true);
    }
}

/// A record that counts. `None`: its envelope cannot be read, so that nobody can fold it.
fn record(family: Family, stored: &Stored) -> Option<Record> {
    let is_counted =
        |headers: &runledger_eventlog::Headers| matches!(headers.kind, Kind::Fact | Kind::Decision);
    if !stored.headers.as_ref().is_ok_and(is_counted) {
        return None;
    }
    match decode::record(family, &stored.value) {
        Ok(decode::Stored::Record(record)) => Some(record),
        Ok(decode::Stored::Genesis(_)) | Err(_) => None,
    }
}
