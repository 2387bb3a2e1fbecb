//! Belonging to a consumer group, or to none, and nothing else: this client neither fetches nor commits. A
//! commit that waits for a broker to come back would be sent under a membership that has ended
//! meanwhile, and cost the member its name.
//!
//! The group deals out partitions in one round, for all members at once (`range`, which moves few
//! and always the same). A round that ends is complete: there is never a moment between two rounds
//! in which a partition is nobody's. With `cooperative-sticky` there is, and a member that is
//! killed in it and comes back under its name before its session ends finds the group content with
//! that deal, for ever.
//!
//! A round need not disturb what stays where it was: a member holds still until it knows the new
//! deal, and then lets go only of what is missing from it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use runledger_domain::log::Partition;

use super::core::{Core, Seldom};
use crate::subscription::SubscriptionOptions;

/// Topic and number of a partition.
pub(super) type Named = (String, i32);

/// What the group says.
pub(super) enum Said {
    /// A round begins: what was dealt is about to be dealt anew.
    Hold,
    /// A round ended: this is all that is this member's.
    Dealt(Vec<Named>),
}

/// Who says which partitions are this member's.
pub(super) enum Membership {
    /// A group. Dropped, the client stays a member until its session ends.
    Group(BaseConsumer<Context>),
    /// Nobody else: the deal that is still to be said.
    Alone(Option<Vec<Named>>),
}

impl Membership {
    pub(super) fn new(core: &Core, options: &SubscriptionOptions) -> KafkaResult<Self> {
        let Some(partitions) = &options.alone else {
            let config = core.config.member(options);
            let consumer = BaseConsumer::from_config_and_context(&config, Context::default())?;
            return Ok(Self::Group(consumer));
        };
        let named = |partition: &Partition| {
            let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
            (core.topics.name(partition.family).to_owned(), number)
        };
        Ok(Self::Alone(Some(partitions.iter().map(named).collect())))
    }

    pub(super) fn join(&self, topics: &[&str]) -> KafkaResult<()> {
        match self {
            Self::Group(consumer) => consumer.subscribe(topics),
            Self::Alone(_) => Ok(()),
        }
    }

    /// Keeps the membership alive; to be called many times a session. Answers with the last that
    /// was said since.
    pub(super) fn poll(&mut self, wait: Duration) -> KafkaResult<Option<Said>> {
        let consumer = match self {
            Self::Group(consumer) => consumer,
            Self::Alone(unsaid) => {
                let said = unsaid.take().map(Said::Dealt);
                if said.is_none() {
                    std::thread::park_timeout(wait);
                }
                return Ok(said);
            }
        };
        let polled = consumer.poll(wait);
        if let Some(said) = consumer.context().said().take() {
            return Ok(Some(said));
        }
        match polled {
            Some(Err(error)) => Err(error),
            // Nothing is assigned to this client, so nothing can have been fetched.
            Some(Ok(_)) | None => Ok(None),
        }
    }
}

/// What the client library calls back, always from inside a poll, or while the client is dropped.
#[derive(Default)]
pub(super) struct Context {
    said: Mutex<Option<Said>>,
    seldom: Seldom,
}

impl Context {
    fn said(&self) -> MutexGuard<'_, Option<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if self.seldom.now() {
            tracing::warn!(%error, reason, "a member of a group has trouble with Kafka");
        }
    }
}

impl ConsumerContext for Context {
    /// Answers at once and with nothing, so that neither the group nor a closing client waits for
    /// anyone.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let answered = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let named =
                |one: &TopicPartitionListElem<'_>| (one.topic().to_owned(), one.partition());
            let dealt = list.elements().iter().map(named).collect();
            *self.said() = Some(Said::Dealt(dealt));
            consumer.assign(&TopicPartitionList::new())
        } else {
            *self.said() = Some(Said::Hold);
            consumer.unassign()
        };
        if let Err(error) = answered {
            tracing::error!(%error, "a rebalance could not be answered");
        }
    }
}
