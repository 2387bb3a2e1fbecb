//! Fetching, and nothing else: partitions come and go at real offsets, and nothing here knows of
//! groups.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use runledger_domain::log::Partition;

use super::FOLLOWING;
use super::core::Core;
use super::listener::Listener;
use super::reader::{add, fault};
use crate::error::Error;
use crate::subscription::SubscriptionOptions;

pub(super) struct Fetcher {
    core: Arc<Core>,
    consumer: BaseConsumer<Listener>,
}

impl Fetcher {
    pub(super) fn new(core: &Arc<Core>, options: &SubscriptionOptions) -> KafkaResult<Self> {
        let config = core.config.fetcher(options);
        Ok(Self {
            core: Arc::clone(core),
            consumer: BaseConsumer::from_config_and_context(&config, Listener::default())?,
        })
    }

    /// The next message of any partition, or trouble; `None` when nothing came in time.
    pub(super) fn poll(&self, wait: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(wait)
    }

    /// Adds a partition to what is fetched, at a real offset: without one, the first error would
    /// leave it nowhere to go, since Kafka may not choose.
    ///
    /// One that was removed while it was paused is paused still, as the library has it: it would
    /// never be fetched again.
    pub(super) fn add(&self, partition: Partition, offset: u64) -> Result<(), Error> {
        self.order(partition, offset, BaseConsumer::incremental_assign)?;
        self.resume(partition)
    }

    pub(super) fn remove(&self, partition: Partition) -> Result<(), Error> {
        self.order(partition, 0, BaseConsumer::incremental_unassign)
    }

    pub(super) fn pause(&self, partition: Partition) -> Result<(), Error> {
        let pause =
            |consumer: &BaseConsumer<_>, list: &_| consumer.pause(list).and_then(|()| each(list));
        self.order(partition, 0, pause)
    }

    pub(super) fn resume(&self, partition: Partition) -> Result<(), Error> {
        let resume =
            |consumer: &BaseConsumer<_>, list: &_| consumer.resume(list).and_then(|()| each(list));
        self.order(partition, 0, resume)
    }

    fn order(
        &self,
        partition: Partition,
        offset: u64,
        order: impl FnOnce(&BaseConsumer<Listener>, &TopicPartitionList) -> KafkaResult<()>,
    ) -> Result<(), Error> {
        let list = self.list([(partition, offset)])?;
        order(&self.consumer, &list).map_err(|error| self.fault(partition, error))
    }

    /// Low and high watermark.
    pub(super) fn watermarks(&self, partition: Partition) -> Result<(u64, u64), Error> {
        let within = self.core.config.request_timeout;
        let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
        let (low, high) = self
            .consumer
            .fetch_watermarks(self.core.topics.name(partition.family), number, within)
            .map_err(|error| self.fault(partition, error))?;
        Ok((
            u64::try_from(low).unwrap_or_default(),
            u64::try_from(high).unwrap_or_default(),
        ))
    }

    /// Tells Kafka how far its lag tools may take this member to be: next offsets.
    pub(super) fn hint(&self, at: impl IntoIterator<Item = (Partition, u64)>) {
        let Ok(list) = self.list(at) else {
            return;
        };
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "a hint was not taken");
        }
    }

    fn list(
        &self,
        at: impl IntoIterator<Item = (Partition, u64)>,
    ) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in at {
            let topic = self.core.topics.name(partition.family);
            add(&mut list, topic, partition.number, offset)
                .map_err(|error| self.fault(partition, error))?;
        }
        Ok(list)
    }

    fn fault(&self, partition: Partition, error: KafkaError) -> Error {
        fault(FOLLOWING, self.core.topics.name(partition.family), error)
    }
}

/// The library says Ok to a list whose elements failed.
fn each(list: &TopicPartitionList) -> KafkaResult<()> {
    list.elements().iter().try_for_each(|one| one.error())
}
