//! The producer: hands batches over, counts what is under way, hears what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Gauge, gauge};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use runledger_domain::log::Partition;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::config::Config;
use super::core::{Bell, Seldom, Topics};
use crate::error::Error;
use crate::subscription::count;
use crate::wire::Encoded;

/// How long a producer that is put away may take to report what it still holds.
const PUT_AWAY: Duration = Duration::from_secs(2);

/// What is known of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    At(u64),
    /// In the log, at an offset that was not said: a retry of it had landed before.
    Somewhere,
    TooLarge,
    Unknown,
}

const OPEN: u64 = u64::MAX;
const UNKNOWN: u64 = u64::MAX - 1;
const TOO_LARGE: u64 = u64::MAX - 2;
const SOMEWHERE: u64 = u64::MAX - 3;

/// One append under way. The delivery callback fills the slots and wakes its caller once; a caller
/// that has gone leaves it to the tickets, which keep the bytes accounted for.
pub(super) struct Batch {
    slots: Box<[AtomicU64]>,
    open: AtomicUsize,
    done: Notify,
}

/// Travels through the client library with its record.
pub(super) struct Ticket {
    batch: Arc<Batch>,
    index: usize,
    bytes: usize,
}

impl Batch {
    fn new(records: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..records).map(|_| AtomicU64::new(OPEN)).collect(),
            open: AtomicUsize::new(records),
            done: Notify::new(),
        })
    }

    fn fill(&self, index: usize, value: u64) {
        if let Some(slot) = self.slots.get(index) {
            slot.store(value, Ordering::Release);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    /// Whether something is not reported yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Waits until all is reported or the deadline has passed, and tells what is known then.
    pub(super) async fn reports(&self, deadline: Instant) -> Vec<Report> {
        while self.is_open() {
            if timeout_at(deadline, self.done.notified()).await.is_err() {
                break;
            }
        }
        let report = |slot: &AtomicU64| match slot.load(Ordering::Acquire) {
            OPEN | UNKNOWN => Report::Unknown,
            TOO_LARGE => Report::TooLarge,
            SOMEWHERE => Report::Somewhere,
            offset => Report::At(offset),
        };
        self.slots.iter().map(report).collect()
    }
}

/// One idempotent producer, until it fails for good.
pub(super) struct Producer {
    client: ThreadedProducer<Context>,
    bytes_max: usize,
}

/// What the client library calls back.
pub(super) struct Context {
    in_flight: AtomicUsize,
    in_flight_gauge: Gauge,
    dead: AtomicBool,
    /// Kafka said that it does not know a topic or partition: perhaps it was made anew.
    stale: AtomicBool,
    bell: Bell,
    seldom: Seldom,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            tracing::error!(%error, reason, "the producer failed for good and is replaced");
            self.die();
            return;
        }
        self.bell.ring();
        if self.seldom.now() {
            tracing::warn!(%error, reason, "the producer has trouble with Kafka");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let value = match result {
            Ok(message) => u64::try_from(message.offset()).unwrap_or(SOMEWHERE),
            Err((error, _)) => self.judge(error),
        };
        self.release(ticket.bytes);
        ticket.batch.fill(ticket.index, value);
    }
}

impl Context {
    /// An error is "unknown" unless it can only mean that the record was not taken.
    fn judge(&self, error: &KafkaError) -> u64 {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => return TOO_LARGE,
            Some(Code::Fatal) => self.die(),
            // Our own doing, when a failed producer is put away.
            Some(Code::PurgeQueue | Code::PurgeInflight) => return UNKNOWN,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                self.stale.store(true, Ordering::Release);
                self.bell.ring();
            }
            _ => self.bell.ring(),
        }
        if self.seldom.now() {
            tracing::warn!(%error, "what became of a record is unknown");
        }
        UNKNOWN
    }

    fn die(&self) {
        self.dead.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn release(&self, bytes: usize) {
        let before = self.in_flight.fetch_sub(bytes, Ordering::AcqRel);
        self.in_flight_gauge
            .set(count(before.saturating_sub(bytes)));
    }

    fn reserve(&self, bytes: usize, max: usize) -> Result<(), Error> {
        if bytes > max {
            return Err(Error::BatchTooLarge { bytes, max });
        }
        let add = |now: usize| Some(now + bytes).filter(|sum| *sum <= max);
        match self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
        {
            Ok(before) => {
                self.in_flight_gauge.set(count(before + bytes));
                Ok(())
            }
            Err(in_flight) => Err(Error::Shed { in_flight, max }),
        }
    }
}

impl Producer {
    pub(super) fn new(config: &Config, bell: Bell) -> Result<Self, Error> {
        let context = Context {
            in_flight: AtomicUsize::new(0),
            in_flight_gauge: gauge!("eventlog_append_in_flight_bytes"),
            dead: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            bell,
            seldom: Seldom::default(),
        };
        let client = ThreadedProducer::from_config_and_context(&config.producer(), context)
            .map_err(|error| Error::Refused {
                doing: "making a Kafka producer",
                source: error.into(),
            })?;
        Ok(Self {
            client,
            bytes_max: config.queue_bytes,
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.context().dead.load(Ordering::Acquire) || self.client.client().fatal_error().is_some()
    }

    /// Whether a topic was unknown to Kafka since this was last asked.
    pub(super) fn takes_stale(&self) -> bool {
        self.context().stale.swap(false, Ordering::AcqRel)
    }

    fn context(&self) -> &Context {
        self.client.context()
    }

    /// Low and high watermark. Blocks.
    pub(super) fn watermarks(
        &self,
        topic: &str,
        partition: i32,
        within: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        self.client
            .client()
            .fetch_watermarks(topic, partition, within)
    }

    /// Hands records over, all or none of them.
    pub(super) fn hand_over(
        &self,
        records: &[(Partition, Encoded)],
        topics: &Topics,
    ) -> Result<Arc<Batch>, Error> {
        let fits = |(_, record): &&(Partition, Encoded)| !record.is_too_large();
        let bytes = records
            .iter()
            .filter(fits)
            .map(|(_, record)| record.bytes())
            .sum();
        if self.is_dead() {
            return Err(Error::Unavailable {
                doing: "appending",
                source: None,
            });
        }
        self.context().reserve(bytes, self.bytes_max)?;
        let batch = Batch::new(records.len());
        for (index, (partition, record)) in records.iter().enumerate() {
            if record.is_too_large() {
                batch.fill(index, TOO_LARGE);
                continue;
            }
            let ticket = Ticket {
                batch: Arc::clone(&batch),
                index,
                bytes: record.bytes(),
            };
            if let Err((error, bytes)) =
                self.send(*partition, record, topics.name(partition.family), ticket)
            {
                self.context().release(bytes);
                batch.fill(index, self.context().judge(&error));
            }
        }
        Ok(batch)
    }

    fn send(
        &self,
        partition: Partition,
        record: &Encoded,
        topic: &str,
        ticket: Ticket,
    ) -> Result<(), (KafkaError, usize)> {
        let bytes = ticket.bytes;
        let mut headers = OwnedHeaders::new_with_capacity(5);
        for (key, value) in record.headers() {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let message = BaseRecord::with_opaque_to(topic, Box::new(ticket))
            // Always ours: the library's own choice would tear streams in two.
            .partition(i32::try_from(partition.number).unwrap_or(i32::MAX))
            .key(&record.key)
            .payload(&record.value)
            .headers(headers)
            .timestamp(record.recorded_at.timestamp_millis());
        self.client
            .send(message)
            .map_err(|(error, _)| (error, bytes))
    }

    /// Ends what is under way as unknown. Blocks for a while.
    pub(super) fn give_up(&self) {
        self.client.purge(PurgeConfig::default().queue().inflight());
        self.finish();
    }

    /// Waits a while for the reports of what is under way. Blocks.
    pub(super) fn finish(&self) {
        if let Err(error) = self.client.flush(PUT_AWAY) {
            tracing::warn!(%error, "a producer was put away before all its records were reported");
        }
    }
}
