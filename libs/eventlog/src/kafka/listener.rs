//! What the client library calls back of a consumer that belongs to no group.

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::core::Seldom;

#[derive(Default)]
pub(super) struct Listener {
    seldom: Seldom,
}

impl ClientContext for Listener {
    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is news that was asked for; what nobody waits for any more when a
        // consumer is dropped comes here.
        let is_end = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF);
        if !is_end && self.seldom.now() {
            tracing::warn!(%error, reason, "a consumer has trouble with Kafka");
        }
    }
}

impl ConsumerContext for Listener {}
