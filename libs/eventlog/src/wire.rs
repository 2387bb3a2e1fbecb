//! From entries to what lies in the log, for Kafka and its twin alike.

use chrono::DateTime;
use runledger_domain::digest::Digest;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Genesis, HASH_VERSION, Kind, Partition, partition_of};
use runledger_domain::time::Timestamp;
use runledger_proto::{decode, encode, types};
use uuid::{NoContext, Uuid};

use crate::error::Error;
use crate::log::Entry;
use crate::stored::{KIND, PREV, SCOPE, TRACE, TYPE};

/// `max.message.bytes` of every topic.
pub(crate) const TOPIC_BYTES_MAX: usize = 1_048_588;
/// What a record costs in the log beyond key, value and headers, counted generously: its share of
/// lengths and timestamps, and a batch header in case it travels alone.
const OVERHEAD_BYTES: usize = 256;

/// A record ready to be appended.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) family: Family,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) recorded_at: Timestamp,
    kind: Kind,
    type_name: Box<str>,
    scope: Option<String>,
    prev: Option<Digest>,
    trace: Option<String>,
}

impl Encoded {
    pub(crate) fn entry(entry: Entry) -> Self {
        let Entry {
            record,
            prev,
            trace,
        } = entry;
        Self {
            family: record.stream.family(),
            key: record.stream.key(record.scope),
            recorded_at: record.recorded_at,
            kind: record.kind,
            scope: Some(record.scope.to_string()),
            type_name: record.type_name.clone(),
            value: encode::record(record),
            prev,
            trace,
        }
    }

    pub(crate) fn genesis(family: Family, genesis: &Genesis, at: Timestamp) -> Self {
        Self {
            family,
            key: String::new(),
            value: encode::genesis(genesis, at),
            recorded_at: at,
            kind: Kind::Genesis,
            type_name: types::GENESIS.into(),
            scope: None,
            prev: None,
            trace: None,
        }
    }

    pub(crate) fn partition(&self, count: u32) -> Partition {
        Partition {
            family: self.family,
            number: partition_of(&self.key, count),
        }
    }

    /// Headers in the order in which they are stored.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        [
            (KIND, Some(self.kind.as_str().as_bytes())),
            (TYPE, Some(self.type_name.as_bytes())),
            (SCOPE, self.scope.as_ref().map(String::as_bytes)),
            (PREV, self.prev.as_ref().map(|prev| prev.as_slice())),
            (TRACE, self.trace.as_ref().map(String::as_bytes)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// What it takes up in the log and in the queue to it, at most.
    pub(crate) fn bytes(&self) -> usize {
        let headers: usize = self
            .headers()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.key.len() + self.value.len() + headers + OVERHEAD_BYTES
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.bytes() > TOPIC_BYTES_MAX
    }
}

/// The Genesis of a partition that is made now.
pub(crate) fn new_genesis(topic: &str, partition: u32, count: u32, now: Timestamp) -> Genesis {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(
        NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ));
    Genesis {
        incarnation: Incarnation::new(id),
        topic: topic.to_owned(),
        partition,
        partition_count: count,
        hash_version: HASH_VERSION,
    }
}

/// Takes the first record of a partition for its Genesis, or says why it cannot be.
pub(crate) fn check_genesis(
    value: &[u8],
    topic: &str,
    partition: u32,
    count: u32,
) -> Result<Genesis, Error> {
    let genesis =
        decode::genesis(value).map_err(|error| not_genesis(topic, partition, error.to_string()))?;
    if genesis.partition != partition {
        let found = format!("a Genesis of partition {}", genesis.partition);
        return Err(not_genesis(topic, partition, found));
    }
    if genesis.partition_count != count {
        return Err(Error::PartitionCount {
            topic: topic.to_owned(),
            found: count,
            genesis: genesis.partition_count,
        });
    }
    if genesis.hash_version != HASH_VERSION {
        return Err(Error::HashVersion {
            topic: topic.to_owned(),
            partition,
            found: genesis.hash_version,
            known: HASH_VERSION,
        });
    }
    Ok(genesis)
}

fn not_genesis(topic: &str, partition: u32, found: String) -> Error {
    Error::NotGenesis {
        topic: topic.to_owned(),
        partition,
        found,
    }
}

/// The log's timestamp, from milliseconds since 1970.
pub(crate) fn timestamp(millis: i64) -> Option<Timestamp> {
    DateTime::from_timestamp_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_partitions_own_genesis_is_taken_for_it() {
        let now = Timestamp::UNIX_EPOCH;
        let made = new_genesis("t", 2, 4, now);
        let value = Encoded::genesis(Family::Run, &made, now).value;
        assert_eq!(check_genesis(&value, "t", 2, 4).unwrap(), made);
        assert!(matches!(
            check_genesis(&value, "t", 1, 4),
            Err(Error::NotGenesis { partition: 1, .. })
        ));
        let counted = check_genesis(&value, "t", 2, 5);
        assert!(matches!(
            counted,
            Err(Error::PartitionCount {
                found: 5,
                genesis: 4,
                ..
            })
        ));
        assert!(matches!(
            check_genesis(b"\xff", "t", 2, 4),
            Err(Error::NotGenesis { .. })
        ));
        let other = Genesis {
            hash_version: HASH_VERSION + 1,
            ..made
        };
        let value = Encoded::genesis(Family::Run, &other, now).value;
        assert!(matches!(
            check_genesis(&value, "t", 2, 4),
            Err(Error::HashVersion { .. })
        ));
    }
}
