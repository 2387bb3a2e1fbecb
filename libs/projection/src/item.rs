//! A record as the projection takes it in: decoded as far as its bytes allow.

use bytes::Bytes;
use runledger_domain::digest::{self, Digest};
use runledger_domain::log::{Partition, Position, Skipped, Stream, partition_of};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_eventlog::Stored;
use runledger_proto::decode;

use crate::apply::Applied;

/// A stream as the log knows it: by the key of its records, whatever that says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamKey {
    pub(crate) partition: Partition,
    /// How many partitions the topic has.
    pub(crate) partitions: u32,
    pub(crate) bytes: Bytes,
}

impl StreamKey {
    pub(crate) fn digest(&self) -> Digest {
        digest::of(&self.bytes)
    }

    /// The scope and the stream that the key names; `None`: it is no key of ours, or belongs to
    /// another partition, so that no scope has to do with what lies under it here.
    pub(crate) fn parse(&self) -> Option<(Scope, Stream)> {
        let named = Stream::of_key(self.partition.family, &self.bytes);
        named
            .filter(|(scope, stream)| self.belongs_to(&stream.key(*scope)) == self.partition.number)
    }

    fn belongs_to(&self, key: &str) -> u32 {
        partition_of(key, self.partitions)
    }
}

/// One record that applies, or would if its bytes allowed it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) position: Position,
    pub(crate) stream: StreamKey,
    /// As the header has it.
    pub(crate) type_name: Box<str>,
    /// By the log's own clock.
    pub(crate) recorded_at: Option<Timestamp>,
    /// `None`: its envelope cannot be decoded, so that it has no identity.
    pub(crate) applied: Option<Applied>,
    /// Why it can never be applied, as far as its bytes tell.
    pub(crate) fault: Option<String>,
    /// It tells a projection to leave a record out.
    pub(crate) skips: Option<Skipped>,
    /// A fact that was read before says to leave it out.
    pub(crate) left_out: bool,
}

impl Item {
    /// Whether it tells this projection to leave a record out.
    pub(crate) fn orders(&self, projection: &str) -> bool {
        let for_it = |skipped: &Skipped| &*skipped.projection == projection;
        self.skips.as_ref().is_some_and(for_it)
    }

    /// Decodes. `partitions`: how many the topic has. `None`: a later Genesis, which is ignored.
    pub(crate) fn read(stored: &Stored, partitions: u32) -> Option<Self> {
        let partition = stored.position.partition;
        let type_name = match &stored.headers {
            Ok(headers) => headers.type_name.clone(),
            Err(_) => "".into(),
        };
        let mut item = Self {
            position: stored.position,
            stream: StreamKey {
                partition,
                partitions,
                bytes: stored.key.clone(),
            },
            type_name,
            recorded_at: stored.log_timestamp,
            applied: None,
            fault: None,
            skips: None,
            left_out: false,
        };
        let record = match decode::record(partition.family, &stored.value) {
            Ok(decode::Stored::Record(record)) => record,
            Ok(decode::Stored::Genesis(_)) => return None,
            Err(error) => {
                item.fault = Some(chain(&error));
                return Some(item);
            }
        };
        // In either case its rows would be written by whoever owns this partition, not by the owner of
        // its stream.
        let key = record.stream.key(record.scope);
        if key.as_bytes() != &*stored.key {
            item.fault = Some(format!(
                "the envelope says {key}, which is not the key it was appended under"
            ));
            return Some(item);
        }
        let belongs_to = item.stream.belongs_to(&key);
        if belongs_to != partition.number {
            item.fault = Some(format!(
                "the key belongs to partition {belongs_to} of {partitions}; whoever appended it here did not \
                 choose the partition as this log does, and must append it again there"
            ));
            return Some(item);
        }
        let fact = decode::fact(&record).unwrap_or_else(|error| {
            item.fault = Some(chain(&error));
            None
        });
        item.skips = decode::skipped(&record).unwrap_or_else(|error| {
            item.fault = Some(chain(&error));
            None
        });
        item.applied = Some(Applied {
            position: stored.position,
            record,
            fact,
        });
        Some(item)
    }
}

/// An error and everything that caused it, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use runledger_domain::ids::{Incarnation, PrincipalId, RecordId};
    use runledger_domain::log::{Author, Family, Kind, Record};
    use runledger_domain::scope::Mode;
    use runledger_eventlog::HeaderFault;
    use runledger_proto::encode;
    use uuid::Uuid;

    use super::*;

    fn scope(mode: Mode) -> Scope {
        Scope {
            tenant: "0192f0c4-0000-7000-8000-000000000001".parse().unwrap(),
            mode,
        }
    }

    fn record(type_name: &str, payload: &[u8]) -> Record {
        Record {
            id: RecordId::new(Uuid::from_u128(1)),
            scope: scope(Mode::Live),
            stream: Stream::run(&"r-1".parse().unwrap()),
            kind: Kind::Fact,
            type_name: type_name.into(),
            occurred_at: Timestamp::UNIX_EPOCH,
            recorded_at: Timestamp::UNIX_EPOCH,
            author: Author {
                principal: PrincipalId::new(Uuid::nil()),
                kind: None,
                role: None,
            },
            cause: None,
            request_digest: [0; 32],
            key: None,
            payload: payload.to_vec(),
            terms: None,
        }
    }

    fn item(key: String, value: Vec<u8>) -> Item {
        item_among(1, key, value)
    }

    /// Read from the first of so many partitions.
    fn item_among(partitions: u32, key: String, value: Vec<u8>) -> Item {
        let partition = Partition {
            family: Family::Run,
            number: 0,
        };
        let stored = Stored {
            position: Position {
                partition,
                incarnation: Incarnation::new(Uuid::from_u128(7)),
                offset: 3,
            },
            key: key.into(),
            value: value.into(),
            headers: Err(HeaderFault::Missing("type")),
            log_timestamp: None,
        };
        Item::read(&stored, partitions).unwrap()
    }

    #[test]
    fn what_cannot_be_applied_is_told_as_early_as_its_bytes_allow() {
        let started = "runledger.run.v1.RunStarted";
        let key = |mode| Stream::run(&"r-1".parse().unwrap()).key(scope(mode));
        let whole = item(key(Mode::Live), encode::record(record("unheard", b"x")));
        assert!(whole.fault.is_none() && whole.applied.is_some());
        // The payload is broken: it has an identity. The envelope is: it has none.
        let payload = item(key(Mode::Live), encode::record(record(started, b"\xff")));
        assert!(payload.fault.is_some() && payload.applied.is_some());
        let envelope = item(key(Mode::Live), b"\xff".to_vec());
        assert!(envelope.fault.is_some() && envelope.applied.is_none());
        // Under another's key it must touch nobody's rows.
        let misplaced = item(key(Mode::Sandbox), encode::record(record("unheard", b"x")));
        assert!(misplaced.fault.is_some() && misplaced.applied.is_none());
    }

    #[test]
    fn what_lies_in_another_partition_is_nobodys() {
        let key = Stream::run(&"r-1".parse().unwrap()).key(scope(Mode::Live));
        for partitions in 1..20 {
            let belongs_here = partition_of(&key, partitions) == 0;
            let whole = encode::record(record("unheard", b"x"));
            let item = item_among(partitions, key.clone(), whole);
            assert_eq!(item.fault.is_none(), belongs_here);
            assert_eq!(item.applied.is_some(), belongs_here);
            assert_eq!(item.stream.parse().is_some(), belongs_here);
        }
    }
}
