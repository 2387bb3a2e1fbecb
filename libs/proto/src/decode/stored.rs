//! What lies in the log. Total: whatever the bytes, the answer is a value or an error.

use prost::Message;
use runledger_domain::approval::Decision;
use runledger_domain::digest::Digest;
use runledger_domain::ids::{Incarnation, PrincipalId, RecordId, TenantId};
use runledger_domain::log::{
    Asked, Author, Cause, Decided, Family, Genesis, Kind, Partition, Position, Record, Skipped,
    Stream, Terms,
};
use runledger_domain::scope::Scope;
use runledger_domain::{Fact, run as runs};
use uuid::Uuid;

use super::approval::stored_approval_decision;
use super::fields::Fields;
use super::{message_fact, run_fact, schedule_fact, timestamp, usage_fact};
use crate::words::{Word, known};
use crate::{common, log, types};

/// One value of the log, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a Genesis comes once a partition; boxing records would cost all of them"
)]
pub enum Stored {
    Genesis(Genesis),
    Record(Record),
}

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a message of type {type_name} has more than {ENTRIES_MAX} entries")]
    Entries { type_name: Box<str> },
    #[error("decode a message of type {type_name}")]
    Decode {
        type_name: Box<str>,
        #[source]
        source: prost::DecodeError,
    },
    #[error("a message of type {type_name} says what this version does not understand")]
    NotUnderstood { type_name: Box<str> },
    #[error("envelope field {field} is missing or malformed")]
    Envelope { field: &'static str },
    #[error("stream {name:?} is no stream of family {family}")]
    Stream { family: Family, name: Box<str> },
    #[error("a record of type {type_name}")]
    NotGenesis { type_name: Box<str> },
}

/// The envelope of a value stored in a topic of `family`. Its payload stays bytes: see [`fact`].
///
/// # Errors
/// When the bytes are no envelope. What a later version may add to one (a kind of stream, of
/// principal, a role, a seal) is kept as far as it is understood.
pub fn record(family: Family, bytes: &[u8]) -> Result<Stored, Error> {
    let wire: log::v1::Record = message(RECORD, bytes)?;
    match known::<log::v1::Kind>(wire.kind).ok_or(Error::Envelope { field: "kind" })? {
        Kind::Genesis => payload_of_genesis(&wire).map(Stored::Genesis),
        kind @ (Kind::Fact | Kind::Command | Kind::Decision) => {
            envelope(family, wire, kind).map(Stored::Record)
        }
    }
}

const RECORD: &str = "runledger.log.v1.Record";

/// The Genesis in a stored value.
///
/// # Errors
/// When the bytes are no envelope, or that of another record.
pub fn genesis(bytes: &[u8]) -> Result<Genesis, Error> {
    let wire: log::v1::Record = message(RECORD, bytes)?;
    if known::<log::v1::Kind>(wire.kind) == Some(Kind::Genesis) {
        payload_of_genesis(&wire)
    } else {
        Err(Error::NotGenesis {
            type_name: wire.r#type.into(),
        })
    }
}

fn payload_of_genesis(wire: &log::v1::Record) -> Result<Genesis, Error> {
    if wire.r#type != types::GENESIS {
        return Err(Error::Envelope { field: "type" });
    }
    let genesis: log::v1::Genesis = message(types::GENESIS, &wire.payload)?;
    Ok(Genesis {
        incarnation: Incarnation::new(uuid("incarnation", &genesis.incarnation)?),
        topic: genesis.topic,
        partition: genesis.partition,
        partition_count: genesis.partition_count,
        hash_version: genesis.hash_version,
    })
}

fn envelope(family: Family, wire: log::v1::Record, kind: Kind) -> Result<Record, Error> {
    let scope = Scope {
        tenant: TenantId::new(uuid("tenant_id", &wire.tenant_id)?),
        mode: word::<common::v1::Mode>("mode", wire.mode)?,
    };
    let stream = Stream::stored(family, &wire.stream).ok_or_else(|| Error::Stream {
        family,
        name: wire.stream.into(),
    })?;
    if wire.r#type.is_empty() {
        return Err(Error::Envelope { field: "type" });
    }
    let cause = cause(&wire.cause_id, wire.cause_stream)?;
    let terms = terms(wire.terms)?;
    Ok(Record {
        id: RecordId::new(uuid("id", &wire.id)?),
        scope,
        stream,
        kind,
        type_name: wire.r#type.into(),
        occurred_at: time("occurred_at", wire.occurred_at.as_ref())?,
        recorded_at: time("recorded_at", wire.recorded_at.as_ref())?,
        author: author(wire.actor.as_ref())?,
        cause,
        request_digest: digest("request_digest", &wire.request_digest)?,
        key: Some(wire.key_id)
            .filter(|key| !key.is_empty())
            .map(Into::into),
        payload: wire.payload.into(),
        terms,
    })
}

/// Terms of a kind that a later version knows are none to this one.
fn terms(wire: Option<log::v1::Terms>) -> Result<Option<Terms>, Error> {
    use log::v1::terms::Terms as Wire;
    Ok(match wire.and_then(|wire| wire.terms) {
        None => None,
        Some(Wire::Asked(wire)) => Some(Terms::Asked(Asked {
            deadline: time("terms.asked.deadline", wire.deadline.as_ref())?,
            expected_version: wire.expected_version,
            at_least: positions(wire.at_least),
        })),
        Some(Wire::Decided(wire)) => Some(Terms::Decided(Decided {
            read_to: wire.read_to,
            rules_version: wire.rules_version,
            stream_version: wire.stream_version,
            views: positions(wire.views),
        })),
    })
}

/// Those that this version understands.
fn positions(wire: Vec<common::v1::Position>) -> Vec<Position> {
    wire.iter().filter_map(position).collect()
}

fn position(wire: &common::v1::Position) -> Option<Position> {
    Some(Position {
        partition: Partition {
            family: wire.family.parse().ok()?,
            number: wire.partition,
        },
        incarnation: Incarnation::new(Uuid::try_parse(&wire.incarnation).ok()?),
        offset: wire.offset,
    })
}

fn cause(id: &[u8], stream: String) -> Result<Option<Cause>, Error> {
    let stream = match stream.as_str() {
        "" => None,
        name if Stream::is_name(name) => Some(stream.into()),
        _ => {
            return Err(Error::Envelope {
                field: "cause_stream",
            });
        }
    };
    match (id, stream) {
        ([], None) => Ok(None),
        (id, stream) => Ok(Some(Cause {
            stream,
            id: RecordId::new(uuid("cause_id", id)?),
        })),
    }
}

/// The fact in a stored record. `Ok(None)`: it is sealed, or beyond this version: see [`payload`].
///
/// # Errors
/// When the payload is no message of its type.
pub fn fact(record: &Record) -> Result<Option<Fact>, Error> {
    match record.key {
        Some(_) => Ok(None),
        None => payload(&record.type_name, &record.payload),
    }
}

/// What a stored record says about a record that a projection is to leave out. `Ok(None)`: it says
/// nothing of that, is sealed, or names a place that this version does not know.
///
/// # Errors
/// When it says it in bytes that are no message.
pub fn skipped(record: &Record) -> Result<Option<Skipped>, Error> {
    if &*record.type_name != types::RECORD_SKIPPED || record.key.is_some() {
        return Ok(None);
    }
    let wire: log::v1::RecordSkipped = message(types::RECORD_SKIPPED, &record.payload)?;
    let position = wire.position.as_ref().and_then(position);
    Ok(position.map(|position| Skipped {
        projection: wire.projection.into(),
        position,
        reason: wire.reason.into(),
    }))
}

/// The fact in a stored payload, or the start that a decision is. `Ok(None)`: its type is unknown to this version, or it breaks a
/// rule of this version. The same rules hold as when it came in, so only a version that knows more
/// values, or allows more, can have let it in; and that must not stop the readers of this one.
///
/// Tightening a rule would hide stored facts.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn payload(type_name: &str, bytes: &[u8]) -> Result<Option<Fact>, Error> {
    let of_run = Fact::Run as fn(runs::Fact) -> Fact;
    match type_name {
        types::RUN_STARTED => read(type_name, bytes, run_fact::started, of_run),
        types::RUN_PROGRESSED => read(type_name, bytes, run_fact::progressed, of_run),
        types::RUN_ENDED => read(type_name, bytes, run_fact::ended, of_run),
        types::STEP_STARTED => read(type_name, bytes, run_fact::step_started, of_run),
        types::STEP_ENDED => read(type_name, bytes, run_fact::step_ended, of_run),
        types::TOOL_CALL_STARTED => read(type_name, bytes, run_fact::tool_call_started, of_run),
        // A governed call's decision is its start: nothing else reports it.
        types::TOOL_CALL_DECIDED => Ok(match stored_approval_decision(type_name, bytes)? {
            Some(Decision::ToolCallDecided(decided)) => {
                Some(of_run(runs::Fact::ToolCallStarted(decided.call)))
            }
            Some(_) | None => None,
        }),
        types::TOOL_CALL_ENDED => read(type_name, bytes, run_fact::tool_call_ended, of_run),
        types::USAGE_RECORDED => read(type_name, bytes, run_fact::usage_recorded, of_run),
        types::OCCURRENCE_RECORDED => {
            let convert = schedule_fact::occurrence_recorded;
            read(type_name, bytes, convert, Fact::Schedule)
        }
        types::MESSAGE_RECORDED => {
            let convert = message_fact::message_recorded;
            read(type_name, bytes, convert, Fact::Message)
        }
        types::USAGE_FORWARDED => read(type_name, bytes, usage_fact::usage_forwarded, Fact::Usage),
        _ => Ok(None),
    }
}

fn read<M: Message + Default, F>(
    type_name: &str,
    bytes: &[u8],
    convert: impl FnOnce(M, &mut Fields<'_>) -> Option<F>,
    family: impl FnOnce(F) -> Fact,
) -> Result<Option<Fact>, Error> {
    let mut violations = Vec::new();
    let fact = convert(
        message(type_name, bytes)?,
        &mut Fields::of_stored(&mut violations),
    );
    Ok(fact.filter(|_| violations.is_empty()).map(family))
}

/// Most entries of one stored message and of those right inside it: more than the largest decision has,
/// by which all that an account may have lapses at once. An empty one takes two bytes here, and
/// hundreds once it is decoded.
const ENTRIES_MAX: usize = 32_768;

/// Refuses what would take far more than it is.
pub(super) fn bounded(type_name: &str, bytes: &[u8]) -> Result<(), Error> {
    if crate::codec::has_more_entries_than(ENTRIES_MAX, bytes) {
        let type_name = type_name.into();
        return Err(Error::Entries { type_name });
    }
    Ok(())
}

pub(super) fn message<M: Message + Default>(type_name: &str, bytes: &[u8]) -> Result<M, Error> {
    M::decode(bytes).map_err(|source| Error::Decode {
        type_name: type_name.into(),
        source,
    })
}

fn uuid(field: &'static str, bytes: &[u8]) -> Result<Uuid, Error> {
    Uuid::from_slice(bytes).map_err(|_| Error::Envelope { field })
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, Error> {
    bytes.try_into().map_err(|_| Error::Envelope { field })
}

fn time(
    field: &'static str,
    at: Option<&prost_types::Timestamp>,
) -> Result<runledger_domain::time::Timestamp, Error> {
    at.and_then(|at| timestamp(at).ok())
        .ok_or(Error::Envelope { field })
}

fn word<W: Word>(field: &'static str, number: i32) -> Result<W::Domain, Error> {
    known::<W>(number).ok_or(Error::Envelope { field })
}

fn author(wire: Option<&common::v1::Actor>) -> Result<Author, Error> {
    let wire = wire.ok_or(Error::Envelope { field: "actor" })?;
    Ok(Author {
        principal: PrincipalId::new(
            Uuid::try_parse(&wire.principal_id).map_err(|_| Error::Envelope { field: "actor" })?,
        ),
        kind: known::<common::v1::PrincipalKind>(wire.kind),
        role: known::<common::v1::Role>(wire.role),
    })
}
