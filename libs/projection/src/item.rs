//! A record as the projection takes it in: decoded as far as its bytes allow.

use bytes::Bytes;
use runledger_domain::digest::{self, Digest};
use runledger_domain::log::{Partition, Position, Skipped, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_eventlog::Stored;
use runledger_proto::decode;

use crate::apply::Applied;

/// A stream as the log knows it: by the key of its records, whatever that says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamKey {
    pub(crate) partition: Partition,
    pub(crate) bytes: Bytes,
}

impl StreamKey {
    pub(crate) fn digest(&self) -> Digest {
        digest::of(&self.bytes)
    }

    /// The scope and the stream that the key names; `None`: it is no key of ours.
    pub(crate) fn parse(&self) -> Option<(Scope, Stream)> {
        Stream::of_key(self.partition.family, &self.bytes)
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
    /// Decodes. `None`: a later Genesis, which is ignored.
    pub(crate) fn read(stored: &Stored) -> Option<Self> {
        let partition = stored.position.partition;
        let type_name = match &stored.headers {
            Ok(headers) => headers.type_name.clone(),
            Err(_) => "".into(),
        };
        let mut item = Self {
            position: stored.position,
            stream: StreamKey {
                partition,
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
        if record.stream.key(record.scope).as_bytes() != &*stored.key {
            // Its rows would be written by whoever owns this partition, not by the owner of its stream.
            item.fault = Some(format!(
                "the envelope says {}, which is not the key it was appended under",
                record.stream.key(record.scope)
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
