//! What the client library calls back when the group moves partitions.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::core::Seldom;

/// What the client library calls back, always from inside a poll, or while the consumer is dropped.
#[derive(Default)]
pub(super) struct Context {
    moves: Mutex<Moves>,
    seldom: Seldom,
}

#[derive(Default)]
pub(super) struct Moves {
    /// Rebalances not yet looked at, in order.
    pub(super) pending: VecDeque<Move>,
    /// What was really added to the consumer's assignment, and must be taken out of it.
    pub(super) fetching: BTreeSet<(String, i32)>,
}

pub(super) enum Move {
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
}

impl Context {
    pub(super) fn moves(&self) -> MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if self.seldom.now() {
            tracing::warn!(%error, reason, "a subscription has trouble with Kafka");
        }
    }
}

impl ConsumerContext for Context {
    /// Answers at once, so that neither the group nor a closing consumer waits for anyone.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let named: Vec<(String, i32)> = list
            .elements()
            .iter()
            .map(|one| (one.topic().to_owned(), one.partition()))
            .collect();
        let mut answer = TopicPartitionList::new();
        let answered = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.moves().pending.push_back(Move::Assign(named));
            consumer.incremental_assign(&answer)
        } else {
            let mut moves = self.moves();
            for one in named.iter().filter(|one| moves.fetching.contains(*one)) {
                answer.add_partition(&one.0, one.1);
            }
            moves.fetching.retain(|one| !named.contains(one));
            moves.pending.push_back(Move::Revoke(named));
            drop(moves);
            consumer.incremental_unassign(&answer)
        };
        if let Err(error) = answered {
            tracing::error!(%error, "a rebalance could not be answered");
        }
    }
}
