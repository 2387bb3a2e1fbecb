//! The partition's log, and the records in it.

use runledger_decider::Rules as _;
use runledger_domain::Fact;
use runledger_domain::credit::Command;
use runledger_domain::digest::Digest;
use runledger_domain::ids::{AccountId, Incarnation, PrincipalId, RecordId};
use runledger_domain::log::{
    Asked, Author, Cause, Decided, Family, Genesis, HASH_VERSION, Kind, Partition, Position,
    Record, Stream, Terms,
};
use runledger_domain::scope::{Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_eventlog::{Headers, Stored};
use runledger_proto::{encode, types};
use uuid::Uuid;

use crate::rules::{Decision, Rules};

pub(super) const PARTITION: Partition = Partition {
    family: Family::Billing,
    number: 0,
};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_767_225_600 + second, 0).expect("a moment")
}

pub(super) fn record_id(number: u64) -> RecordId {
    RecordId::new(Uuid::from_u128(number.into()))
}

pub(super) fn account(number: usize) -> AccountId {
    format!("a{number}").parse().expect("an id")
}

pub(super) fn scope() -> Scope {
    Scope {
        tenant: "0192f0c4-0000-7000-8000-000000000001"
            .parse()
            .expect("a UUID"),
        mode: Mode::Live,
    }
}

fn incarnation() -> Incarnation {
    Incarnation::new(Uuid::from_u128(7))
}

pub(super) fn position(offset: u64) -> Position {
    Position {
        partition: PARTITION,
        incarnation: incarnation(),
        offset,
    }
}

/// What lies in the log, or is on its way to it: all but its offset.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    headers: Headers,
}

fn written(record: Record, prev: Option<Digest>) -> Written {
    Written {
        key: record.stream.key(record.scope),
        headers: Headers {
            kind: record.kind,
            type_name: record.type_name.clone(),
            scope: Some(record.scope),
            prev,
            trace: None,
        },
        value: encode::record(record),
    }
}

fn record(id: RecordId, stream: Stream, kind: Kind, second: i64) -> Record {
    Record {
        id,
        scope: scope(),
        stream,
        kind,
        type_name: "".into(),
        occurred_at: at(second),
        recorded_at: at(second),
        author: Author {
            principal: PrincipalId::new(Uuid::from_u128(1)),
            kind: Some(PrincipalKind::User),
            role: Some(Role::Admin),
        },
        cause: None,
        request_digest: [0; 32],
        key: None,
        payload: Vec::new(),
        terms: None,
    }
}

pub(super) fn command(id: RecordId, of: &AccountId, second: i64, command: &Command) -> Written {
    let (type_name, payload) = encode::account_command(command, "");
    let asked = Asked {
        deadline: at(1_000_000),
        expected_version: None,
        at_least: Vec::new(),
    };
    let record = Record {
        type_name: type_name.into(),
        payload,
        terms: Some(Terms::Asked(asked)),
        ..record(id, Stream::account(of), Kind::Command, second)
    };
    written(record, None)
}

pub(super) fn fact(id: RecordId, second: i64, fact: &Fact) -> Written {
    let (type_name, payload) = encode::payload(fact);
    let record = Record {
        type_name: type_name.into(),
        payload,
        ..record(id, fact.stream(), Kind::Fact, second)
    };
    written(record, None)
}

/// `decision`: `None` refuses.
pub(super) fn decision(
    rules: &Rules,
    id: RecordId,
    (stream, moment): (&Stream, Timestamp),
    (cause, decision): (Option<RecordId>, Option<&Decision>),
    prev: Digest,
) -> Written {
    let (type_name, payload) = match decision {
        Some(decision) => rules.encode(decision),
        None => (types::COMMAND_REJECTED, Vec::new()),
    };
    let decided = Decided {
        read_to: 0,
        rules_version: 1,
        stream_version: 0,
        views: Vec::new(),
    };
    let record = Record {
        type_name: type_name.into(),
        payload,
        occurred_at: moment,
        cause: cause.map(|id| Cause { stream: None, id }),
        terms: Some(Terms::Decided(decided)),
        ..record(id, stream.clone(), Kind::Decision, 0)
    };
    written(record, Some(prev))
}

#[derive(Debug)]
pub(super) struct Log(Vec<Stored>);

impl Log {
    pub(super) fn new() -> Self {
        let genesis = Genesis {
            incarnation: incarnation(),
            topic: "runledger.simulated.billing.v1".into(),
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
                type_name: types::GENESIS.into(),
                scope: None,
                prev: None,
                trace: None,
            },
        });
        log
    }

    pub(super) fn append(&mut self, written: Written) {
        self.0.push(Stored {
            position: position(self.end()),
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
