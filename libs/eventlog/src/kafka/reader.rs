//! Reading without a group: Genesis records, bounded reads, watermarks. Everything here blocks, each
//! time for at most the request timeout; it is called from blocking tasks and poll threads only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Genesis, Partition, Position};

use super::AGAIN;
use super::config::Config;
use super::listener::Listener;
use crate::error::Error;
use crate::stored::{Headers, Stored};
use crate::wire;

const GENESIS: &str = "reading the Genesis records";
const RECORDS: &str = "reading records";

/// A consumer of its own for one question, so that no two questions disturb each other.
pub(super) struct Reader {
    consumer: BaseConsumer<Listener>,
    deadline: Instant,
}

impl Reader {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let consumer = BaseConsumer::from_config_and_context(&config.reader(), Listener::default())
            .map_err(|error| Error::Refused {
                doing: "making a Kafka consumer",
                source: error.into(),
            })?;
        Ok(Self {
            consumer,
            deadline: Instant::now() + config.request_timeout,
        })
    }

    /// How many partitions a topic has.
    pub(super) fn partitions(&self, topic: &str) -> Result<u32, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), left)
            .map_err(|error| fault(GENESIS, topic, error))?;
        let found = metadata.topics().iter().find(|one| one.name() == topic);
        let missing = || Error::NoTopic {
            topic: topic.to_owned(),
        };
        let found = found.ok_or_else(missing)?;
        if let Some(error) = found.error() {
            return Err(fault(
                GENESIS,
                topic,
                KafkaError::MetadataFetch(error.into()),
            ));
        }
        let count = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
        if count == 0 {
            Err(missing())
        } else {
            Ok(count)
        }
    }

    /// The Genesis records of a topic, by partition.
    pub(super) fn genesis(&self, topic: &str) -> Result<Arc<[Genesis]>, Error> {
        let count = self.partitions(topic)?;
        self.assign(topic, (0..count).map(|partition| (partition, 0)), GENESIS)?;
        let mut found: BTreeMap<u32, Genesis> = BTreeMap::new();
        while found.len() < count as usize {
            match self.poll(GENESIS)? {
                Ok(message) => {
                    let partition = u32::try_from(message.partition()).unwrap_or(u32::MAX);
                    if message.offset() == 0 {
                        let value = message.payload().unwrap_or_default();
                        found.insert(
                            partition,
                            wire::check_genesis(value, topic, partition, count)?,
                        );
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                    if !found.contains_key(&partition) {
                        return Err(Error::NoGenesis {
                            topic: topic.to_owned(),
                            partition,
                        });
                    }
                }
                Err(error) if is_out_of_range(&error) => {
                    let trimmed = (0..count)
                        .find(|partition| !found.contains_key(partition))
                        .unwrap_or_default();
                    let found = "offset 0 is gone".to_owned();
                    return Err(Error::NotGenesis {
                        topic: topic.to_owned(),
                        partition: trimmed,
                        found,
                    });
                }
                Err(error) => transient(GENESIS, topic, error)?,
            }
        }
        Ok(found.into_values().collect())
    }

    /// At most `max` records from offset `from` on, up to where the partition ends now.
    pub(super) fn records(
        &self,
        topic: &str,
        at: Position,
        max: usize,
    ) -> Result<Vec<Stored>, Error> {
        let Partition { number, .. } = at.partition;
        let (low, high) = self.watermarks(topic, number)?;
        if at.offset >= high || max == 0 {
            return Ok(Vec::new());
        }
        if at.offset < low {
            return Err(Error::OffsetOutOfRange {
                topic: topic.to_owned(),
                partition: number,
                offset: at.offset,
            });
        }
        self.assign(topic, [(number, at.offset)], RECORDS)?;
        let mut records = Vec::new();
        loop {
            match self.poll(RECORDS)? {
                Ok(message) => {
                    let record = stored(&message, at.partition, at.incarnation);
                    let last = record.position.offset + 1 >= high;
                    records.push(record);
                    if last || records.len() >= max {
                        return Ok(records);
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => return Ok(records),
                Err(error) => transient(RECORDS, topic, error)?,
            }
        }
    }

    /// Low and high watermark.
    pub(super) fn watermarks(&self, topic: &str, partition: u32) -> Result<(u64, u64), Error> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let error = match self.consumer.fetch_watermarks(topic, number, left) {
                Ok((low, high)) => {
                    return Ok((
                        u64::try_from(low).unwrap_or_default(),
                        u64::try_from(high).unwrap_or_default(),
                    ));
                }
                Err(error) => fault("reading the watermark", topic, error),
            };
            if !error.is_weather() || left.is_zero() {
                return Err(error);
            }
            // A partition that has just got its leader is refused for a moment. Nothing is assigned
            // yet, so this poll is a wait.
            drop(self.consumer.poll(AGAIN));
        }
    }

    fn assign(
        &self,
        topic: &str,
        at: impl IntoIterator<Item = (u32, u64)>,
        doing: &'static str,
    ) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in at {
            add(&mut list, topic, partition, offset).map_err(|error| fault(doing, topic, error))?;
        }
        self.consumer
            .assign(&list)
            .map_err(|error| fault(doing, topic, error))
    }

    /// The next message or error; the deadline is weather.
    fn poll(&self, doing: &'static str) -> Result<Result<BorrowedMessage<'_>, KafkaError>, Error> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Unavailable {
                    doing,
                    source: None,
                });
            }
            if let Some(result) = self.consumer.poll(left) {
                return Ok(result);
            }
        }
    }
}

/// Adds a partition at an offset to a list.
pub(super) fn add(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: u32,
    offset: u64,
) -> Result<(), KafkaError> {
    let number = i32::try_from(partition).unwrap_or(i32::MAX);
    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    list.add_partition_offset(topic, number, offset)
}

pub(super) fn is_out_of_range(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(
        error.rdkafka_error_code(),
        Some(OffsetOutOfRange | AutoOffsetReset)
    )
}

/// Lets an error pass that polling on may mend.
fn transient(doing: &'static str, topic: &str, error: KafkaError) -> Result<(), Error> {
    match fault(doing, topic, error) {
        Error::Unavailable { source, .. } => {
            tracing::debug!(doing, topic, source, "trouble while reading");
            Ok(())
        }
        other => Err(other),
    }
}

/// What an error of the client library means to us.
pub(super) fn fault(doing: &'static str, topic: &str, error: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let code = match &error {
        // An answer to the whole request, which the client library does not count as a code.
        KafkaError::AdminOp(Code::OperationTimedOut) => Some(Code::OperationTimedOut),
        error => error.rdkafka_error_code(),
    };
    match code {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Error::NoTopic {
                topic: topic.to_owned(),
            }
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::InvalidArgument
            | Code::InvalidTopic
            | Code::FencedInstanceId
            | Code::Fatal,
        )
        | None => Error::Refused {
            doing,
            source: error.into(),
        },
        Some(_) => Error::Unavailable {
            doing,
            source: Some(error.into()),
        },
    }
}

/// A message as we keep it: key and value in one piece of memory of our own.
pub(super) fn stored(
    message: &BorrowedMessage<'_>,
    partition: Partition,
    incarnation: Incarnation,
) -> Stored {
    let (key, value) = (
        message.key().unwrap_or_default(),
        message.payload().unwrap_or_default(),
    );
    let mut bytes = BytesMut::with_capacity(key.len() + value.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let mut bytes = bytes.freeze();
    let key = bytes.split_to(key.len());
    let headers = message.headers();
    let pairs = headers
        .iter()
        .flat_map(|headers| headers.iter())
        .map(|header| (header.key, header.value));
    Stored {
        position: Position {
            partition,
            incarnation,
            offset: u64::try_from(message.offset()).unwrap_or_default(),
        },
        key,
        value: bytes,
        headers: Headers::parse(pairs),
        log_timestamp: message.timestamp().to_millis().and_then(wire::timestamp),
    }
}
