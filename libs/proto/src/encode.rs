//! Outward: from the domain to the wire and to stored bytes. Cannot fail.
//!
//! The bytes are deterministic: fields in order of their numbers, maps sorted, times in whole
//! microseconds, JSON in canonical form. Request digests are taken over them, so a change here that
//! alters the bytes of a fact would turn every honest repeat into a conflict.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use prost::{Message as _, length_delimiter_len};
use runledger_domain::log::{
    Asked, Author, Cause, Decided, Genesis, Kind, Position, Record, Skipped, Terms,
};
use runledger_domain::scope::Actor;
use runledger_domain::time::{Timestamp, micros};
use runledger_domain::{Fact, message as messages, run as runs, schedule as schedules, usage};
use uuid::Uuid;

use crate::{common, log, message, run, schedule, types};

pub mod analytics;
mod approval;
mod billing;
mod directory;
mod message_fact;
mod policy;
mod price;
mod rejection;
mod run_fact;
mod schedule_fact;
mod usage_fact;

pub use approval::{approval_command, approval_decision};
pub use billing::{account_command, account_posted, hold, ledger};
pub use directory::directory_changed;
pub use policy::{policy_book, policy_changed, policy_command};
pub use price::{prices_published, publish_prices};
pub use rejection::rejected;

/// The type name and the encoded payload of a fact, as they are stored.
pub fn payload(fact: &Fact) -> (&'static str, Vec<u8>) {
    match fact {
        Fact::Run(fact) => match fact {
            runs::Fact::Started(fact) => (
                types::RUN_STARTED,
                run::v1::RunStarted::from(fact.as_ref()).encode_to_vec(),
            ),
            runs::Fact::Progressed(fact) => (
                types::RUN_PROGRESSED,
                run::v1::RunProgressed::from(fact).encode_to_vec(),
            ),
            runs::Fact::Ended(fact) => (
                types::RUN_ENDED,
                run::v1::RunEnded::from(fact).encode_to_vec(),
            ),
            runs::Fact::StepStarted(fact) => (
                types::STEP_STARTED,
                run::v1::StepStarted::from(fact).encode_to_vec(),
            ),
            runs::Fact::StepEnded(fact) => (
                types::STEP_ENDED,
                run::v1::StepEnded::from(fact).encode_to_vec(),
            ),
            runs::Fact::ToolCallStarted(fact) => (
                types::TOOL_CALL_STARTED,
                run::v1::ToolCallStarted::from(fact).encode_to_vec(),
            ),
            runs::Fact::ToolCallEnded(fact) => (
                types::TOOL_CALL_ENDED,
                run::v1::ToolCallEnded::from(fact).encode_to_vec(),
            ),
            runs::Fact::UsageRecorded(fact) => (
                types::USAGE_RECORDED,
                run::v1::UsageRecorded::from(fact).encode_to_vec(),
            ),
        },
        Fact::Schedule(schedules::Fact::OccurrenceRecorded(fact)) => (
            types::OCCURRENCE_RECORDED,
            schedule::v1::OccurrenceRecorded::from(fact).encode_to_vec(),
        ),
        Fact::Message(messages::Fact::MessageRecorded(fact)) => (
            types::MESSAGE_RECORDED,
            message::v1::MessageRecorded::from(fact).encode_to_vec(),
        ),
        Fact::Usage(usage::Fact::Forwarded(fact)) => (
            types::USAGE_FORWARDED,
            crate::billing::v1::UsageForwarded::from(fact).encode_to_vec(),
        ),
    }
}

/// The type name and the encoded payload of a decision to leave a record out, as they are stored.
pub fn skipped(skipped: &Skipped) -> (&'static str, Vec<u8>) {
    let wire = log::v1::RecordSkipped {
        projection: skipped.projection.to_string(),
        position: Some(position(&skipped.position)),
        reason: skipped.reason.to_string(),
    };
    (types::RECORD_SKIPPED, wire.encode_to_vec())
}

/// The value of a record, as it lies in the log.
pub fn record(record: Record) -> Vec<u8> {
    let (cause_id, cause_stream) = match record.cause {
        Some(Cause { stream, id }) => (id_bytes(id.as_uuid()), stream),
        None => (Bytes::new(), None),
    };
    log::v1::Record {
        id: id_bytes(record.id.as_uuid()),
        tenant_id: id_bytes(record.scope.tenant.as_uuid()),
        mode: common::v1::Mode::from(record.scope.mode).into(),
        stream: record.stream.as_str().to_owned(),
        kind: log::v1::Kind::from(record.kind).into(),
        r#type: record.type_name.into(),
        occurred_at: Some(timestamp(record.occurred_at)),
        recorded_at: Some(timestamp(record.recorded_at)),
        actor: Some(author(&record.author)),
        cause_id,
        request_digest: Bytes::copy_from_slice(&record.request_digest),
        key_id: record.key.map(String::from).unwrap_or_default(),
        payload: record.payload.into(),
        cause_stream: cause_stream.map(String::from).unwrap_or_default(),
        terms: record.terms.as_ref().map(terms),
    }
    .encode_to_vec()
}

fn terms(terms: &Terms) -> log::v1::Terms {
    let positions = |of: &[Position]| of.iter().map(position).collect();
    let terms = match terms {
        Terms::Asked(Asked {
            deadline,
            expected_version,
            at_least,
        }) => log::v1::terms::Terms::Asked(log::v1::Asked {
            deadline: Some(timestamp(*deadline)),
            expected_version: *expected_version,
            at_least: positions(at_least),
        }),
        Terms::Decided(Decided {
            read_to,
            rules_version,
            stream_version,
            views,
        }) => log::v1::terms::Terms::Decided(log::v1::Decided {
            read_to: *read_to,
            rules_version: *rules_version,
            stream_version: *stream_version,
            views: positions(views),
        }),
    };
    log::v1::Terms { terms: Some(terms) }
}

/// How many bytes [`record`] makes of it, without making them.
pub fn record_bytes(record: &Record) -> usize {
    const UUID: usize = 16;
    const WORD: usize = 2;
    let field = |len: usize| {
        // A key of one byte, as all our field numbers have, the length, and what it is the length of.
        if len == 0 {
            0
        } else {
            1 + length_delimiter_len(len) + len
        }
    };
    let time = |at: Timestamp| {
        let len = timestamp(at).encoded_len();
        1 + length_delimiter_len(len) + len
    };
    2 * field(UUID)
        + 2 * WORD
        + field(record.stream.as_str().len())
        + field(record.type_name.len())
        + time(record.occurred_at)
        + time(record.recorded_at)
        + field(
            field(uuid::fmt::Hyphenated::LENGTH)
                + record.author.kind.map_or(0, |_| WORD)
                + record.author.role.map_or(0, |_| WORD),
        )
        + record.cause.as_ref().map_or(0, |cause| {
            field(UUID) + field(cause.stream.as_deref().map_or(0, str::len))
        })
        + field(record.request_digest.len())
        + field(record.key.as_deref().map_or(0, str::len))
        + field(record.payload.len())
        + record
            .terms
            .as_ref()
            .map_or(0, |one| field(terms(one).encoded_len()))
}

/// The value of the first record of a partition. Its id is the incarnation; it has no scope, no
/// stream and no actor.
pub fn genesis(genesis: &Genesis, recorded_at: Timestamp) -> Vec<u8> {
    let payload = log::v1::Genesis {
        incarnation: id_bytes(genesis.incarnation.as_uuid()),
        topic: genesis.topic.clone(),
        partition: genesis.partition,
        partition_count: genesis.partition_count,
        hash_version: genesis.hash_version,
    };
    log::v1::Record {
        id: id_bytes(genesis.incarnation.as_uuid()),
        kind: log::v1::Kind::from(Kind::Genesis).into(),
        r#type: types::GENESIS.to_owned(),
        occurred_at: Some(timestamp(recorded_at)),
        recorded_at: Some(timestamp(recorded_at)),
        payload: payload.encode_to_vec().into(),
        ..log::v1::Record::default()
    }
    .encode_to_vec()
}

/// A moment, in whole microseconds.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let at = micros(at);
    // A leap second counts beyond 10^9 in chrono; the wire has no such thing.
    let nanos = i32::try_from(at.timestamp_subsec_nanos().min(999_999_000)).unwrap_or_default();
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos,
    }
}

/// A span of time; stays at the longest the wire knows rather than wrap.
pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs())
            .unwrap_or(i64::MAX)
            .min(crate::decode::DURATION_SECONDS_MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or_default(),
    }
}

/// Who caused a record. What this version has no word for stays unspecified.
fn author(author: &Author) -> common::v1::Actor {
    common::v1::Actor {
        principal_id: author.principal.to_string(),
        kind: author
            .kind
            .map_or(0, |kind| common::v1::PrincipalKind::from(kind).into()),
        role: author
            .role
            .map_or(0, |role| common::v1::Role::from(role).into()),
    }
}

pub fn actor(actor: &Actor) -> common::v1::Actor {
    common::v1::Actor {
        principal_id: actor.principal.to_string(),
        kind: common::v1::PrincipalKind::from(actor.kind).into(),
        role: common::v1::Role::from(actor.role).into(),
    }
}

pub fn position(position: &Position) -> common::v1::Position {
    common::v1::Position {
        family: position.partition.family.to_string(),
        partition: position.partition.number,
        incarnation: position.incarnation.to_string(),
        offset: position.offset,
    }
}

/// How fresh an answer is: the token of what it reflects, and its lag.
pub fn as_of(token: impl Display, lag: Duration) -> common::v1::AsOf {
    common::v1::AsOf {
        token: token.to_string(),
        lag: Some(duration(lag)),
    }
}

/// A fact as a timeline shows it. `None`: of a family that no timeline shows.
pub fn timeline_fact(fact: &Fact) -> Option<run::v1::timeline_item::Fact> {
    use run::v1::timeline_item::Fact as Wire;
    Some(match fact {
        Fact::Run(fact) => match fact {
            runs::Fact::Started(fact) => Wire::RunStarted(fact.as_ref().into()),
            runs::Fact::Progressed(fact) => Wire::RunProgressed(fact.into()),
            runs::Fact::Ended(fact) => Wire::RunEnded(fact.into()),
            runs::Fact::StepStarted(fact) => Wire::StepStarted(fact.into()),
            runs::Fact::StepEnded(fact) => Wire::StepEnded(fact.into()),
            runs::Fact::ToolCallStarted(fact) => Wire::ToolCallStarted(fact.into()),
            runs::Fact::ToolCallEnded(fact) => Wire::ToolCallEnded(fact.into()),
            runs::Fact::UsageRecorded(fact) => Wire::UsageRecorded(fact.into()),
        },
        Fact::Schedule(schedules::Fact::OccurrenceRecorded(fact)) => {
            Wire::OccurrenceRecorded(fact.into())
        }
        Fact::Message(messages::Fact::MessageRecorded(fact)) => Wire::MessageRecorded(fact.into()),
        Fact::Usage(_) => return None,
    })
}

fn id_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// An absent id is the empty text on the wire.
fn text<T: Display>(id: Option<&T>) -> String {
    id.map(T::to_string).unwrap_or_default()
}
