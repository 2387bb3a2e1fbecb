//! What can go wrong with the log.

use runledger_domain::fault::Kind;
use runledger_domain::log::Partition;

/// Why a source of an error is boxed: no caller needs to know the client library behind it.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was handed over; the same append may be tried again a moment later.
    #[error("the append queue is full: {in_flight} of {max} bytes are waiting for Kafka")]
    Shed { in_flight: usize, max: usize },
    /// Nothing was handed over, and this batch never can be.
    #[error(
        "a batch of {bytes} bytes exceeds the append queue of {max} bytes; split it, or raise kafka.queue_bytes"
    )]
    BatchTooLarge { bytes: usize, max: usize },
    /// Weather: Kafka is away or not ready. Nothing was handed over.
    #[error("{doing}: Kafka is not available")]
    Unavailable {
        doing: &'static str,
        #[source]
        source: Option<Source>,
    },
    #[error("topic {topic} does not exist; run `runledger migrate`, which makes it")]
    NoTopic { topic: String },
    #[error(
        "partition {partition} of topic {topic} is empty; run `runledger migrate`, which appends its Genesis"
    )]
    NoGenesis { topic: String, partition: u32 },
    #[error(
        "the first record of partition {partition} of topic {topic} is not its Genesis: {found}; \
         the topic was not made by `runledger migrate` or was trimmed: restore it, or set another kafka.prefix"
    )]
    NotGenesis {
        topic: String,
        partition: u32,
        found: String,
    },
    #[error(
        "topic {topic} has {found} partitions, but its Genesis says {genesis}: the count may never change; \
         restore the topic, or set another kafka.prefix"
    )]
    PartitionCount {
        topic: String,
        found: u32,
        genesis: u32,
    },
    #[error(
        "partition {partition} of topic {topic} was made with hash version {found}, this program knows {known}: \
         use the program that made it"
    )]
    HashVersion {
        topic: String,
        partition: u32,
        found: u32,
        known: u32,
    },
    #[error(
        "offset {offset} does not exist in partition {partition} of topic {topic}: the log was trimmed or replaced, \
         or the cursor belongs to another one; do not reset the cursor before it is known which"
    )]
    OffsetOutOfRange {
        topic: String,
        partition: u32,
        offset: u64,
    },
    #[error(
        "topic {topic} has {key}={found}, but a log is kept for ever: set it to {wanted}, or set another kafka.prefix"
    )]
    TopicConfig {
        topic: String,
        key: &'static str,
        found: String,
        wanted: &'static str,
    },
    #[error(
        "another process follows the log for {group} under the same name, {instance}, and keeps taking it: \
         give each process a projection.instance of its own"
    )]
    NameTaken { group: String, instance: String },
    #[error("partition {0} does not exist")]
    NoPartition(Partition),
    #[error("{field} of the Kafka configuration: {what}")]
    Config { field: &'static str, what: String },
    /// Kafka, or the client, refuses for a reason that waiting does not mend.
    #[error("{doing}")]
    Refused {
        doing: &'static str,
        #[source]
        source: Source,
    },
}

impl Error {
    /// Whether it may pass by itself.
    pub fn is_weather(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable | Kind::Exhausted)
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Shed { .. } => Kind::Exhausted,
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::BatchTooLarge { .. } => Kind::Invalid,
            Self::NoPartition(_) => Kind::NotFound,
            Self::NoTopic { .. }
            | Self::NoGenesis { .. }
            | Self::NotGenesis { .. }
            | Self::PartitionCount { .. }
            | Self::HashVersion { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::TopicConfig { .. }
            | Self::NameTaken { .. }
            | Self::Config { .. }
            | Self::Refused { .. } => Kind::Internal,
        }
    }
}
