//! The log in Kafka.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics::{Counter, Histogram, counter, histogram};
use runledger_domain::log::{Family, Genesis, Partition, Position};
use runledger_domain::time::Clock;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::log::{Entry, Log, Outcome, Reports};
use crate::stored::Stored;
use crate::subscription::{Subscription, SubscriptionOptions};
use crate::wire::Encoded;

mod config;
mod consumer;
mod core;
mod create;
mod fetcher;
mod listener;
mod membership;
mod orders;
mod producer;
mod reader;
mod security;

pub use config::{Compression, Config};
use core::Core;
use producer::{Batch, Report};
use reader::Reader;
pub use security::{Mechanism, Protocol, Security};

/// Most questions that block a thread at one time.
const QUESTIONS_MAX: usize = 8;
/// How long a question rests before it is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// What a subscription does, for its errors.
const FOLLOWING: &str = "following the log";

/// The log in Kafka. Dropping it lets the producer finish, on a thread of its own, for 2 s at most.
///
/// A topic made anew while this is connected is noticed when a subscription begins, after Kafka was
/// away, after the producer failed, or when Kafka does not know a topic or partition any more.
pub struct Kafka {
    core: Arc<Core>,
    questions: Questions,
    /// One reader of Genesis records a family at a time.
    loading: BTreeMap<Family, Arc<Mutex<()>>>,
    metrics: Metrics,
}

/// Asks Kafka what blocks, on threads where it may; a few at a time.
#[derive(Clone)]
struct Questions {
    core: Arc<Core>,
    permits: Arc<Semaphore>,
}

/// Records that were handed over.
struct UnderWay {
    questions: Questions,
    metrics: Metrics,
    genesis: BTreeMap<Family, Arc<[Genesis]>>,
    records: Vec<(Partition, Encoded)>,
    batch: Arc<Batch>,
    began: Instant,
}

#[derive(Clone)]
struct Metrics {
    records: Counter,
    bytes: Counter,
    shed: Counter,
    unknown: Counter,
    seconds: Histogram,
}

impl Kafka {
    /// Connects, in the background: Kafka may be away and come later.
    pub fn connect(config: &Config) -> Result<Arc<Self>, Error> {
        let metrics = Metrics {
            records: counter!("eventlog_appended_records_total"),
            bytes: counter!("eventlog_appended_bytes_total"),
            shed: counter!("eventlog_append_shed_total"),
            unknown: counter!("eventlog_append_unknown_total"),
            seconds: histogram!("eventlog_append_seconds"),
        };
        let core = Core::start(config.clone())?;
        Ok(Arc::new(Self {
            questions: Questions {
                core: Arc::clone(&core),
                permits: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            },
            core,
            loading: Family::ALL
                .iter()
                .map(|family| (*family, Arc::default()))
                .collect(),
            metrics,
        }))
    }

    /// The Genesis records of the families of some entries.
    async fn genesis_of(
        &self,
        entries: &[Entry],
    ) -> Result<BTreeMap<Family, Arc<[Genesis]>>, Error> {
        let mut genesis = BTreeMap::new();
        for family in entries.iter().map(|entry| entry.record.stream.family()) {
            if let Slot::Vacant(missing) = genesis.entry(family) {
                missing.insert(self.genesis(family).await?);
            }
        }
        Ok(genesis)
    }
}

impl Questions {
    /// Asks something that blocks, on a thread where it may. When the asker goes away the question
    /// is still finished, and counts until then.
    async fn ask<T, Q>(&self, question: Q) -> Result<T, Error>
    where
        T: Send + 'static,
        Q: FnOnce(&Core) -> Result<T, Error> + Send + 'static,
    {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::Refused {
            doing: "asking Kafka",
            source,
        };
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| refused(error.into()))?;
        let core = Arc::clone(&self.core);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            question(&core)
        });
        task.await.map_err(|error| refused(error.into()))?
    }

    async fn watermark(&self, partition: Partition) -> Result<u64, Error> {
        let deadline = Instant::now() + self.core.config.request_timeout;
        loop {
            let asked = self.ask(move |core| core.watermark(partition)).await;
            match asked {
                // A partition that has just got its leader is refused for a moment.
                Err(Error::Unavailable { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN).await
                }
                answer => return answer,
            }
        }
    }
}

impl UnderWay {
    /// From reports to outcomes. A report without offset becomes the last offset that the record
    /// can have, so that whoever waits for it waits long enough.
    async fn outcomes(self, deadline: Instant) -> Vec<Outcome> {
        let reports = self.batch.reports(deadline).await;
        if self.batch.is_open() {
            // Perhaps Kafka hangs, of which the client library says nothing for a long time.
            self.questions.core.bell.ring();
        }
        let mut latest: BTreeMap<Partition, Option<u64>> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(reports.len());
        for ((partition, _), report) in self.records.iter().zip(reports) {
            let offset = match report {
                Report::At(offset) => Some(offset),
                Report::Unknown => None,
                Report::TooLarge => {
                    outcomes.push(Outcome::TooLarge);
                    continue;
                }
                Report::Somewhere => match latest.get(partition) {
                    Some(known) => *known,
                    None => {
                        let asked =
                            timeout_at(deadline, self.questions.watermark(*partition)).await;
                        let last = asked
                            .ok()
                            .and_then(Result::ok)
                            .and_then(|next| next.checked_sub(1));
                        *latest.entry(*partition).or_insert(last)
                    }
                },
            };
            let incarnation = self
                .genesis
                .get(&partition.family)
                .and_then(|genesis| genesis.get(partition.number as usize))
                .map(|genesis| genesis.incarnation);
            outcomes.push(match offset.zip(incarnation) {
                Some((offset, incarnation)) => Outcome::Accepted(Position {
                    partition: *partition,
                    incarnation,
                    offset,
                }),
                None => Outcome::Unknown,
            });
        }
        self.count(&outcomes);
        outcomes
    }

    fn count(&self, outcomes: &[Outcome]) {
        let (mut accepted, mut bytes, mut unknown) = (0, 0, 0);
        for ((_, record), outcome) in self.records.iter().zip(outcomes) {
            match outcome {
                Outcome::Accepted(_) => {
                    accepted += 1;
                    bytes += record.bytes() as u64;
                }
                Outcome::Unknown => unknown += 1,
                Outcome::TooLarge => {}
            }
        }
        self.metrics.records.increment(accepted);
        self.metrics.bytes.increment(bytes);
        self.metrics.unknown.increment(unknown);
        self.metrics.seconds.record(self.began.elapsed());
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.core.close();
    }
}

#[async_trait]
impl Log for Kafka {
    async fn genesis(&self, family: Family) -> Result<Arc<[Genesis]>, Error> {
        if let Some(genesis) = self.core.known_genesis(family) {
            return Ok(genesis);
        }
        let loading = self
            .loading
            .get(&family)
            .map(Arc::clone)
            .unwrap_or_default();
        let alone = loading.lock_owned().await;
        if let Some(genesis) = self.core.known_genesis(family) {
            return Ok(genesis);
        }
        // The lock goes with the question: it is asked once, also when its first asker gives up.
        self.questions
            .ask(move |core| {
                let _alone = alone;
                core.load_genesis(family)
            })
            .await
    }

    async fn hand_over(&self, entries: Vec<Entry>, deadline: Instant) -> Result<Reports, Error> {
        if entries.is_empty() {
            return Ok(Box::pin(ready(Vec::new())));
        }
        let began = Instant::now();
        let genesis = timeout_at(deadline, self.genesis_of(&entries))
            .await
            .map_err(|late| Error::Unavailable {
                doing: "appending",
                source: Some(late.into()),
            })??;
        let place = |entry: Entry| {
            let record = Encoded::entry(entry);
            let count = genesis
                .get(&record.family)
                .map_or(0, |genesis| genesis.len());
            (
                record.partition(u32::try_from(count).unwrap_or(u32::MAX)),
                record,
            )
        };
        let records: Vec<_> = entries.into_iter().map(place).collect();
        let handed_over = self.core.producer().hand_over(&records, &self.core.topics);
        let batch = handed_over.inspect_err(|error| {
            if matches!(error, Error::Shed { .. }) {
                self.metrics.shed.increment(records.len() as u64);
            }
        })?;
        let under_way = UnderWay {
            questions: self.questions.clone(),
            metrics: self.metrics.clone(),
            genesis,
            records,
            batch,
            began,
        };
        Ok(Box::pin(under_way.outcomes(deadline)))
    }

    async fn watermark(&self, partition: Partition) -> Result<u64, Error> {
        self.questions.watermark(partition).await
    }

    fn subscribe(&self, options: SubscriptionOptions) -> Result<Subscription, Error> {
        consumer::subscribe(&self.core, options)
    }

    async fn read(
        &self,
        partition: Partition,
        from: u64,
        max: usize,
    ) -> Result<Vec<Stored>, Error> {
        let genesis = self.genesis(partition.family).await?;
        let genesis = genesis
            .get(partition.number as usize)
            .ok_or(Error::NoPartition(partition))?;
        let at = Position {
            partition,
            incarnation: genesis.incarnation,
            offset: from,
        };
        self.questions
            .ask(move |core| {
                Reader::new(&core.config)?.records(core.topics.name(partition.family), at, max)
            })
            .await
    }

    async fn create(&self, families: &[Family], clock: &dyn Clock) -> Result<(), Error> {
        create::topics(&self.core, families).await?;
        for family in families {
            create::genesis(self, *family, clock.now()).await?;
        }
        Ok(())
    }

    fn healthy(&self) -> bool {
        self.core.is_healthy()
    }
}
