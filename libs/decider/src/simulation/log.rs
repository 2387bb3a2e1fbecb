//! The partition's log, and the records in it.

use chrono::DateTime;
use runledger_domain::digest::Digest;
use runledger_domain::ids::{Incarnation, PrincipalId, RecordId, RunId};
use runledger_domain::log::{
    Cause, Decided, Family, Genesis, HASH_VERSION, Kind, Partition, Position, Record, Stream, Terms,
};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_eventlog::{Headers, Stored};
use runledger_proto::encode;
use uuid::Uuid;

pub(super) const PARTITION: Partition = Partition {
    family: Family::Run,
    number: 0,
};

pub(super) fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_767_225_600 + second, 0).expect("a moment")
}

pub(super) fn record_id(number: u64) -> RecordId {
    RecordId::new(Uuid::from_u128(number.into()))
}

fn incarnation() -> Incarnation {
    Incarnation::new(Uuid::from_u128(7))
}

pub(super) fn reviewer(number: u128) -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(number)),
        kind: PrincipalKind::User,
        role: Role::Reviewer,
    }
}

pub(super) fn agent() -> Actor {
    Actor {
        kind: PrincipalKind::Agent,
        role: Role::Agent,
        ..reviewer(1)
    }
}

/// What lies in the log, or is on its way to it: all but its offset.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    headers: Headers,
}

/// What a record is about, besides its run.
pub(super) struct Body {
    pub(super) kind: Kind,
    pub(super) actor: Actor,
    pub(super) payload: (Box<str>, Vec<u8>),
    /// Of a decision: what it continues.
    pub(super) prev: Option<Digest>,
    pub(super) cause: Option<RecordId>,
}

pub(super) fn written(id: u64, run: &RunId, second: i64, body: Body) -> Written {
    let scope = Scope {
        tenant: "0192f0c4-0000-7000-8000-000000000001"
            .parse()
            .expect("a UUID"),
        mode: Mode::Live,
    };
    let (type_name, payload) = body.payload;
    let record = Record {
        id: record_id(id),
        scope,
        stream: Stream::run(run),
        kind: body.kind,
        type_name: type_name.clone(),
        occurred_at: at(second),
        recorded_at: at(second),
        author: body.actor.into(),
        cause: body.cause.map(|id| Cause { stream: None, id }),
        request_digest: Record::digest_request(&type_name, at(second), None, &payload),
        key: None,
        payload,
        terms: (body.kind == Kind::Decision).then(|| {
            Terms::Decided(Decided {
                read_to: 0,
                rules_version: 1,
                stream_version: 0,
                views: Vec::new(),
            })
        }),
    };
    Written {
        key: record.stream.key(scope),
        value: encode::record(record),
        headers: Headers {
            kind: body.kind,
            type_name,
            scope: Some(scope),
            prev: body.prev,
            trace: None,
        },
    }
}

#[derive(Debug)]
pub(super) struct Log(Vec<Stored>);

impl Log {
    pub(super) fn new() -> Self {
        let genesis = Genesis {
            incarnation: incarnation(),
            topic: "runledger.simulated.run.v1".into(),
            partition: 0,
            partition_count: 1,
            hash_version: HASH_VERSION,
        };
        let mut log = Self(Vec::new());
        log.append(Written {
            key: String::new(),
            value: encode::genesis(&genesis, at(0)),
            headers: Headers {
                kind: Kind::Genesis,
                type_name: runledger_proto::types::GENESIS.into(),
                scope: None,
                prev: None,
                trace: None,
            },
        });
        log
    }

    pub(super) fn append(&mut self, written: Written) {
        self.0.push(Stored {
            position: Position {
                partition: PARTITION,
                incarnation: incarnation(),
                offset: self.end(),
            },
            key: written.key.into(),
            value: written.value.into(),
            headers: Ok(written.headers),
            log_timestamp: None,
        });
    }

    pub(super) fn end(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn at(&self, offset: u64) -> Option<&Stored> {
        self.0.get(usize::try_from(offset).ok()?)
    }
}
