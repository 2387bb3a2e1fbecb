//! The log as its users see it.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use runledger_domain::digest::Digest;
use runledger_domain::log::{Family, Genesis, Partition, Position, Record};
use runledger_domain::time::Clock;
use tokio::time::Instant;

use crate::error::Error;
use crate::stored::Stored;
use crate::subscription::{Subscription, SubscriptionOptions};

/// One record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub record: Record,
    /// Of a decision: the hash of the decision it continues.
    pub prev: Option<Digest>,
    /// W3C `traceparent` of the span that appends it.
    pub trace: Option<String>,
}

/// What became of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log, at this position or, where Kafka could not say which, before it.
    Accepted(Position),
    /// It is not in the log: larger than the topic takes.
    TooLarge,
    /// It may be in the log, or may yet come to be. Append it again with the same id.
    Unknown,
}

/// What becomes of entries that were handed over: one outcome an entry, in their order. Entries
/// still open at the deadline are [`Outcome::Unknown`]. Dropping it takes nothing back.
pub type Reports = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;

/// A set of append-only topics, one a family.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// The incarnations of all partitions of a family, by number: read from offset 0 of each, then
    /// cached. A topic made anew is noticed at the latest by the next subscription or reconnection.
    async fn genesis(&self, family: Family) -> Result<Arc<[Genesis]>, Error>;

    /// Hands entries over. Their order in the log is fixed when this returns: what is handed over
    /// later lies behind them in its streams. Calls that run at the same time have no order, not
    /// even that in which they were first polled.
    ///
    /// # Errors
    /// Nothing was handed over: the queue is full ([`Error::Shed`]), Kafka is away
    /// ([`Error::Unavailable`]), or a family has no Genesis.
    async fn hand_over(&self, entries: Vec<Entry>, deadline: Instant) -> Result<Reports, Error>;

    /// Appends: hands over, and waits for the reports. Errors as [`Log::hand_over`].
    async fn append(&self, entries: Vec<Entry>, deadline: Instant) -> Result<Vec<Outcome>, Error> {
        Ok(self.hand_over(entries, deadline).await?.await)
    }

    /// The next offset to be written.
    async fn watermark(&self, partition: Partition) -> Result<u64, Error>;

    /// Joins a group that shares the partitions of some families. The reader says where to begin.
    fn subscribe(&self, options: SubscriptionOptions) -> Result<Subscription, Error>;

    /// Reads records of one partition in order without a group: from offset `from`, at most `max`,
    /// fewer or none at the end.
    async fn read(&self, partition: Partition, from: u64, max: usize)
    -> Result<Vec<Stored>, Error>;

    /// Makes the topics and Genesis records that are missing. Harmless when repeated, and when two
    /// do it at once: the Genesis at offset 0 counts, a later one is ignored by every reader.
    async fn create(&self, families: &[Family], clock: &dyn Clock) -> Result<(), Error>;

    /// Whether appends can be expected to work now.
    fn healthy(&self) -> bool;
}
