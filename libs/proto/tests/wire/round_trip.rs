use proptest::prelude::*;
use prost::Message as _;
use runledger_domain::ids::{Incarnation, RecordId};
use runledger_domain::log::{Genesis, Partition, Position, Record};
use runledger_domain::{Fact, log, run};
use runledger_proto::decode::fields::Path;
use runledger_proto::decode::{self, Bounds, Reported, Stored};
use runledger_proto::{encode, log as wire_log, message, run as wire_run, schedule, types};
use uuid::Uuid;

use crate::any::{any_fact, any_record};
use crate::samples::{facts, moment, record, record_of_skipped};

/// Sends a fact as a caller would and parses it as ingest would.
fn report(id: Uuid, fact: &Fact) -> Result<Reported, Vec<runledger_domain::fault::Violation>> {
    use wire_run::v1::timeline_item::Fact as Wire;
    let now = moment(1_767_225_600_000_000);
    let bounds = Bounds::at(now);
    let (id, occurred_at) = (id.to_string(), Some(encode::timestamp(now)));
    let at = Path::ROOT;
    let of_run = |fact, id| {
        let fact = wire_run::v1::RunFact {
            id,
            occurred_at,
            fact: Some(fact),
            ..Default::default()
        };
        decode::run_fact(fact, &bounds, at)
    };
    let of_tool_call = |fact, id| {
        let fact = wire_run::v1::ToolCallFact {
            id,
            occurred_at,
            fact: Some(fact),
            ..Default::default()
        };
        decode::tool_call_fact(fact, &bounds, at)
    };
    match encode::timeline_fact(fact).expect("a fact that callers report") {
        Wire::RunStarted(fact) => of_run(wire_run::v1::run_fact::Fact::RunStarted(fact), id),
        Wire::RunProgressed(fact) => of_run(wire_run::v1::run_fact::Fact::RunProgressed(fact), id),
        Wire::RunEnded(fact) => of_run(wire_run::v1::run_fact::Fact::RunEnded(fact), id),
        Wire::StepStarted(fact) => of_run(wire_run::v1::run_fact::Fact::StepStarted(fact), id),
        Wire::StepEnded(fact) => of_run(wire_run::v1::run_fact::Fact::StepEnded(fact), id),
        Wire::UsageRecorded(fact) => of_run(wire_run::v1::run_fact::Fact::UsageRecorded(fact), id),
        Wire::ToolCallStarted(fact) => of_tool_call(
            wire_run::v1::tool_call_fact::Fact::ToolCallStarted(fact),
            id,
        ),
        Wire::ToolCallEnded(fact) => {
            of_tool_call(wire_run::v1::tool_call_fact::Fact::ToolCallEnded(fact), id)
        }
        Wire::OccurrenceRecorded(fact) => {
            let fact = Some(schedule::v1::schedule_fact::Fact::OccurrenceRecorded(fact));
            decode::schedule_fact(
                schedule::v1::ScheduleFact {
                    id,
                    occurred_at,
                    fact,
                    ..Default::default()
                },
                &bounds,
                at,
            )
        }
        Wire::Decision(_) => unreachable!("a decision is no fact"),
        Wire::MessageRecorded(fact) => {
            let fact = Some(message::v1::message_fact::Fact::MessageRecorded(fact));
            decode::message_fact(
                message::v1::MessageFact {
                    id,
                    occurred_at,
                    fact,
                    ..Default::default()
                },
                &bounds,
                at,
            )
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_fact_comes_back_as_it_was_stored(fact in any_fact()) {
        let (type_name, bytes) = encode::payload(&fact);
        prop_assert_eq!(decode::payload(type_name, &bytes).unwrap(), Some(fact));
    }

    #[test]
    fn a_fact_comes_in_as_it_was_sent(fact in any_fact(), id in 1..u128::MAX) {
        let id = Uuid::from_u128(id);
        let reported = report(id, &fact).unwrap();
        prop_assert_eq!(reported.id, RecordId::new(id));
        prop_assert_eq!(reported.fact, fact);
    }

    #[test]
    fn a_record_comes_back_as_it_was_stored(record in any_record()) {
        let bytes = encode::record(record.clone());
        prop_assert_eq!(encode::record_bytes(&record), bytes.len());
        prop_assert_eq!(decode::record(record.stream.family(), &bytes).unwrap(), Stored::Record(record));
    }

    #[test]
    fn arbitrary_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _either = decode::record(log::Family::Run, &bytes);
        for type_name in types::ALL {
            let _either = decode::payload(type_name, &bytes);
        }
        let skipped = Record { payload: bytes.clone(), ..record_of_skipped() };
        let _either = decode::skipped(&skipped);
        if let Ok(asked) = runledger_proto::log::v1::SkipRequest::decode(bytes.as_slice()) {
            let _either = decode::skip(asked, Path::ROOT);
        }
    }

    #[test]
    fn damaged_bytes_are_a_value_or_an_error(which in 0..10_usize, at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let fact = &facts()[which];
        let (type_name, mut payload) = encode::payload(fact);
        let mut value = encode::record(record(fact));
        for bytes in [&mut payload, &mut value] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _either = decode::payload(type_name, &payload[..=cut.index(payload.len())]);
        let _either = decode::record(log::Family::Run, &value[..=cut.index(value.len())]);
        let _either = decode::payload(type_name, &payload);
        let _either = decode::record(log::Family::Run, &value);
    }

    #[test]
    fn whatever_a_caller_sends_is_a_fact_or_faults(bytes in proptest::collection::vec(any::<u8>(), 0..200), seconds: i64, nanos: i32) {
        let bounds = Bounds::at(moment(0));
        let occurred_at = Some(prost_types::Timestamp { seconds, nanos });
        if let Ok(fact) = wire_run::v1::RunFact::decode(bytes.as_slice()) {
            let _either = decode::run_fact(wire_run::v1::RunFact { occurred_at, ..fact }, &bounds, Path::ROOT);
        }
        if let Ok(started) = wire_run::v1::RunStarted::decode(bytes.as_slice()) {
            let fact = Some(wire_run::v1::run_fact::Fact::RunStarted(started));
            let fact = wire_run::v1::RunFact { fact, occurred_at, ..Default::default() };
            prop_assert!(decode::run_fact(fact, &bounds, Path::ROOT).is_err());
        }
    }

    #[test]
    fn any_time_is_a_time_or_an_error(seconds: i64, nanos: i32) {
        if let Ok(at) = decode::timestamp(&prost_types::Timestamp { seconds, nanos }) {
            prop_assert_eq!(decode::timestamp(&encode::timestamp(at)), Ok(at));
        }
        if let Ok(span) = decode::duration(&prost_types::Duration { seconds, nanos }) {
            prop_assert_eq!(decode::duration(&encode::duration(span)), Ok(span));
        }
    }
}

#[test]
fn a_genesis_comes_back_as_it_was_stored() {
    let genesis = Genesis {
        incarnation: Incarnation::new(Uuid::from_u128(1)),
        topic: "runledger.dev.run.v1".into(),
        partition: 3,
        partition_count: 4,
        hash_version: log::HASH_VERSION,
    };
    let bytes = encode::genesis(&genesis, moment(1));
    assert_eq!(
        decode::record(log::Family::Run, &bytes).unwrap(),
        Stored::Genesis(genesis)
    );
}

#[test]
fn a_position_comes_back_as_it_was_handed_out() {
    let position = Position {
        partition: Partition {
            family: log::Family::Message,
            number: 11,
        },
        incarnation: Incarnation::new(Uuid::from_u128(5)),
        offset: u64::MAX,
    };
    assert_eq!(
        decode::position(&encode::position(&position), Path::ROOT),
        Ok(position)
    );
}

#[test]
fn a_type_of_a_later_version_is_no_error() {
    assert_eq!(
        decode::payload("runledger.run.v1.RunDreamt", b"\xff").unwrap(),
        None
    );
}

#[test]
fn fields_of_a_later_version_are_left_out_of_what_is_stored() {
    let run_id = "run-1".parse().unwrap();
    let fact = Fact::Run(run::Fact::Progressed(run::Progressed {
        run_id,
        phase: run::Phase::Running,
        note: String::new(),
    }));
    let (type_name, bytes) = encode::payload(&fact);
    // Field 99, a varint.
    let later = [bytes.as_slice(), &[0x98, 0x06, 0x01]].concat();
    let read = decode::payload(type_name, &later).unwrap().unwrap();
    assert_eq!(encode::payload(&read).1, bytes);
}

fn sound() -> wire_log::v1::Record {
    let bytes = encode::record(record(&facts()[0]));
    wire_log::v1::Record::decode(bytes.as_slice()).expect("a record")
}

#[test]
fn what_a_later_version_adds_stops_no_reader() {
    type Later = fn(&mut wire_log::v1::Record);
    let read = |later: Later| {
        let mut record = sound();
        later(&mut record);
        match decode::record(log::Family::Run, &record.encode_to_vec()).unwrap() {
            Stored::Record(record) => record,
            Stored::Genesis(genesis) => panic!("{genesis:?}"),
        }
    };
    let payload = |change: fn(&mut wire_run::v1::RunStarted)| {
        let mut started = wire_run::v1::RunStarted::decode(sound().payload).unwrap();
        change(&mut started);
        decode::payload(types::RUN_STARTED, &started.encode_to_vec()).unwrap()
    };
    assert!(payload(|_| ()).is_some());
    assert_eq!(payload(|started| started.trigger = 99), None, "a value");
    let longer = payload(|started| started.model = "m".repeat(129));
    assert_eq!(longer, None, "a limit that was loosened");

    let of_a_kind = read(|record| record.stream = "dream/1".into());
    assert_eq!(of_a_kind.stream.as_str(), "dream/1");
    assert_eq!(of_a_kind.stream.family(), log::Family::Run);
    let sealed = read(|record| record.key_id = "k".into());
    assert_eq!(sealed.key.as_deref(), Some("k"));
    assert_eq!(decode::fact(&sealed).unwrap(), None, "a sealed payload");
    let by = read(|record| {
        let actor = record.actor.as_mut().unwrap();
        (actor.role, actor.kind) = (99, 99);
    });
    assert_eq!((by.author.kind, by.author.role), (None, None));
    assert_eq!(by.author.principal, record(&facts()[0]).author.principal);
    assert!(decode::fact(&by).unwrap().is_some(), "a role");
}

#[test]
fn a_torn_record_says_where() {
    type Damage = fn(&mut wire_log::v1::Record);
    let cases: [(Damage, &str); 7] = [
        (
            |record| record.stream = "conversation/1".into(),
            "stream \"conversation/1\" is no stream of family run",
        ),
        (
            |record| record.cause_stream = "a b".into(),
            "envelope field cause_stream is missing or malformed",
        ),
        (
            |record| record.tenant_id.clear(),
            "envelope field tenant_id is missing or malformed",
        ),
        (
            |record| record.mode = 9,
            "envelope field mode is missing or malformed",
        ),
        (
            |record| record.kind = 0,
            "envelope field kind is missing or malformed",
        ),
        (
            |record| record.actor = None,
            "envelope field actor is missing or malformed",
        ),
        (
            |record| record.request_digest.truncate(31),
            "envelope field request_digest is missing or malformed",
        ),
    ];
    for (damage, message) in cases {
        let mut record = sound();
        damage(&mut record);
        let error = decode::record(log::Family::Run, &record.encode_to_vec()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = decode::genesis(&sound().encode_to_vec()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("a record of type {}", types::RUN_STARTED)
    );
}
