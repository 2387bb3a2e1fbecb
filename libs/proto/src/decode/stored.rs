//! What lies in the log. Total: whatever the bytes, the answer is a value or an error.

use prost::Message;
use runledger_domain::digest::Digest;
use runledger_domain::fault::Violation;
use runledger_domain::ids::{Incarnation, PrincipalId, RecordId, TenantId};
use runledger_domain::log::{Cause, Genesis, Kind, Record, Stream};
use runledger_domain::scope::{Actor, Scope};
use runledger_domain::{Fact, run as runs};
use uuid::Uuid;

use super::fields::{Fields, Path};
use super::{message_fact, run_fact, schedule_fact, timestamp};
use crate::words::{Word, known};
use crate::{common, log, types};

/// One value of the log, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    Genesis(Genesis),
    Record(Record),
}

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("decode a message of type {type_name}")]
    Decode {
        type_name: Box<str>,
        #[source]
        source: prost::DecodeError,
    },
    #[error("envelope field {field} is missing or malformed")]
    Envelope { field: &'static str },
    #[error("stream {name:?} belongs to no family that this version knows")]
    UnknownStream { name: Box<str> },
    #[error("payload is sealed with key {key_id:?}")]
    Sealed { key_id: Box<str> },
    #[error("payload of type {type_name} breaks its rules in {} fields, first {:?}", violations.len(), violations.first())]
    Payload {
        type_name: Box<str>,
        violations: Vec<Violation>,
    },
}

/// The envelope of a stored value. Its payload stays bytes: see [`payload`].
pub fn record(bytes: &[u8]) -> Result<Stored, Error> {
    let wire: log::v1::Record = message(RECORD, bytes)?;
    match known::<log::v1::Kind>(wire.kind).ok_or(Error::Envelope { field: "kind" })? {
        Kind::Genesis => genesis(&wire).map(Stored::Genesis),
        kind @ (Kind::Fact | Kind::Command | Kind::Decision) => {
            envelope(wire, kind).map(Stored::Record)
        }
    }
}

const RECORD: &str = "runledger.log.v1.Record";

fn genesis(wire: &log::v1::Record) -> Result<Genesis, Error> {
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

fn envelope(wire: log::v1::Record, kind: Kind) -> Result<Record, Error> {
    if !wire.key_id.is_empty() {
        return Err(Error::Sealed {
            key_id: wire.key_id.into(),
        });
    }
    let scope = Scope {
        tenant: TenantId::new(uuid("tenant_id", &wire.tenant_id)?),
        mode: word::<common::v1::Mode>("mode", wire.mode)?,
    };
    let stream = Stream::parse(&wire.stream).ok_or_else(|| Error::UnknownStream {
        name: wire.stream.into(),
    })?;
    if wire.r#type.is_empty() {
        return Err(Error::Envelope { field: "type" });
    }
    let cause = cause(&wire.cause_id, wire.cause_stream)?;
    Ok(Record {
        id: RecordId::new(uuid("id", &wire.id)?),
        scope,
        stream,
        kind,
        type_name: wire.r#type.into(),
        occurred_at: time("occurred_at", wire.occurred_at.as_ref())?,
        recorded_at: time("recorded_at", wire.recorded_at.as_ref())?,
        actor: actor(wire.actor.as_ref())?,
        cause,
        request_digest: digest("request_digest", &wire.request_digest)?,
        payload: wire.payload.into(),
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

/// The fact in a stored payload. `Ok(None)`: its type is unknown to this version.
///
/// The same limits hold as when it came in. Loosening one is therefore safe, and tightening one
/// would make stored facts unreadable.
pub fn payload(type_name: &str, bytes: &[u8]) -> Result<Option<Fact>, Error> {
    let of_run = Fact::Run as fn(runs::Fact) -> Fact;
    let fact = match type_name {
        types::RUN_STARTED => read(type_name, bytes, run_fact::started).map(of_run),
        types::RUN_PROGRESSED => read(type_name, bytes, run_fact::progressed).map(of_run),
        types::RUN_ENDED => read(type_name, bytes, run_fact::ended).map(of_run),
        types::STEP_STARTED => read(type_name, bytes, run_fact::step_started).map(of_run),
        types::STEP_ENDED => read(type_name, bytes, run_fact::step_ended).map(of_run),
        types::TOOL_CALL_STARTED => read(type_name, bytes, run_fact::tool_call_started).map(of_run),
        types::TOOL_CALL_ENDED => read(type_name, bytes, run_fact::tool_call_ended).map(of_run),
        types::USAGE_RECORDED => read(type_name, bytes, run_fact::usage_recorded).map(of_run),
        types::OCCURRENCE_RECORDED => {
            read(type_name, bytes, schedule_fact::occurrence_recorded).map(Fact::Schedule)
        }
        types::MESSAGE_RECORDED => {
            read(type_name, bytes, message_fact::message_recorded).map(Fact::Message)
        }
        _ => return Ok(None),
    };
    fact.map(Some)
}

fn read<M: Message + Default, F>(
    type_name: &str,
    bytes: &[u8],
    convert: impl FnOnce(M, &mut Fields<'_>) -> Option<F>,
) -> Result<F, Error> {
    let mut violations = Vec::new();
    let fact = convert(
        message(type_name, bytes)?,
        &mut Fields::new(Path::ROOT, &mut violations),
    );
    match fact {
        Some(fact) if violations.is_empty() => Ok(fact),
        _ => Err(Error::Payload {
            type_name: type_name.into(),
            violations,
        }),
    }
}

fn message<M: Message + Default>(type_name: &str, bytes: &[u8]) -> Result<M, Error> {
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

fn actor(wire: Option<&common::v1::Actor>) -> Result<Actor, Error> {
    let wire = wire.ok_or(Error::Envelope { field: "actor" })?;
    Ok(Actor {
        principal: PrincipalId::new(
            Uuid::try_parse(&wire.principal_id).map_err(|_| Error::Envelope { field: "actor" })?,
        ),
        kind: word::<common::v1::PrincipalKind>("actor.kind", wire.kind)?,
        role: word::<common::v1::Role>("actor.role", wire.role)?,
    })
}
