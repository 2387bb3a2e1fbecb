use prost_types::Timestamp as WireTime;
use runledger_domain::time::Timestamp;
use runledger_proto::common::v1::Mode;

use super::*;

fn record<F: Message>(stream: &str, type_name: &str, fact: &F) -> Record {
    Record {
        id: vec![1; 16].into(),
        tenant_id: vec![2; 16].into(),
        mode: Mode::Live.into(),
        stream: stream.into(),
        kind: Kind::Fact.into(),
        r#type: type_name.into(),
        occurred_at: Some(WireTime {
            seconds: 1_700_000_000,
            nanos: 5_000,
        }),
        cause_id: vec![3; 16].into(),
        cause_stream: "conversation/c".into(),
        payload: fact.encode_to_vec().into(),
        ..Record::default()
    }
}

fn started() -> Record {
    let started = RunStarted {
        run_id: "r".into(),
        agent_id: "a".into(),
        parent_run_id: "parent".into(),
        conversation_id: "c".into(),
        account_id: "account".into(),
        agent_context: Some(AgentContext {
            conversation_id: "c".into(),
            ..AgentContext::default()
        }),
        ..RunStarted::default()
    };
    record("run/r", types::RUN_STARTED, &started)
}

fn new() -> Ids {
    Ids::New {
        prefix: "x-".into(),
    }
}

#[test]
fn a_fact_with_its_ids_is_the_one_that_was_recorded() {
    let told = tell(&started(), &Ids::Kept, TimeDelta::zero()).unwrap();
    let recorded = as_recorded(&started()).unwrap();
    assert_eq!(
        (told.stream.as_str(), told.digest, told.identity),
        ("run/r", recorded.digest, recorded.identity)
    );
    let Facts::Runs(facts) = told.fact else {
        panic!("a fact of a run")
    };
    assert_eq!(facts[0].id, Uuid::from_bytes([1; 16]).to_string());
    assert_eq!(facts[0].cause_stream, "conversation/c");
}

#[test]
fn new_ids_go_through_everything_that_names_one() {
    let told = tell(&started(), &new(), TimeDelta::seconds(7)).unwrap();
    assert_eq!(told.stream, "run/x-r");
    let Facts::Runs(facts) = told.fact else {
        panic!("a fact of a run")
    };
    let fact = facts.into_iter().next().unwrap();
    assert_ne!(fact.id, Uuid::from_bytes([1; 16]).to_string());
    assert_eq!(fact.occurred_at.unwrap().seconds, 1_700_000_007);
    assert_eq!(fact.cause_stream, "conversation/x-c");
    assert_ne!(fact.cause_id, Uuid::from_bytes([3; 16]).to_string());
    let Some(run_fact::Fact::RunStarted(started)) = fact.fact else {
        panic!("a start")
    };
    let ids = [
        &started.run_id,
        &started.parent_run_id,
        &started.conversation_id,
        &started.agent_context.unwrap().conversation_id,
    ];
    assert_eq!(ids, ["x-r", "x-parent", "x-c", "x-c"]);
    assert_eq!((&*started.agent_id, &*started.account_id), ("a", "account"));
}

/// What is read back from the log is what was told, and nothing else is.
#[test]
fn the_digest_tells_of_any_change() {
    let told = tell(&started(), &new(), TimeDelta::seconds(7)).unwrap();
    let Facts::Runs(facts) = told.fact else {
        panic!("a fact of a run")
    };
    let Some(run_fact::Fact::RunStarted(fact)) = &facts[0].fact else {
        panic!("a start")
    };
    let arrived = Record {
        id: Uuid::parse_str(&facts[0].id)
            .unwrap()
            .as_bytes()
            .to_vec()
            .into(),
        stream: "run/x-r".into(),
        occurred_at: facts[0].occurred_at,
        cause_id: Uuid::parse_str(&facts[0].cause_id)
            .unwrap()
            .as_bytes()
            .to_vec()
            .into(),
        cause_stream: "conversation/x-c".into(),
        payload: fact.encode_to_vec().into(),
        ..started()
    };
    assert_eq!(as_recorded(&arrived).unwrap().digest, told.digest);
    let later = Some(WireTime {
        seconds: 1_700_000_008,
        nanos: 5_000,
    });
    for other in [
        Record {
            id: vec![9; 16].into(),
            ..arrived.clone()
        },
        Record {
            stream: "run/x-s".into(),
            ..arrived.clone()
        },
        Record {
            occurred_at: later,
            ..arrived.clone()
        },
        Record {
            cause_id: Vec::new().into(),
            ..arrived.clone()
        },
        Record {
            cause_stream: String::new(),
            ..arrived.clone()
        },
        Record {
            payload: Vec::new().into(),
            ..arrived.clone()
        },
    ] {
        assert_ne!(
            as_recorded(&other).unwrap().digest,
            told.digest,
            "{other:?}"
        );
    }
}

#[test]
fn commands_and_decisions_are_not_told() {
    let mut record = started();
    record.kind = Kind::Decision.into();
    assert!(!is_told(record.kind, &record.r#type));
    assert!(matches!(as_recorded(&record), Err(Untold::NoReport(_))));
    assert!(!is_told(Kind::Fact.into(), types::RECORD_SKIPPED));
}

#[test]
fn a_prefix_that_is_too_long_is_refused() {
    let ids = Ids::New {
        prefix: "x".repeat(128),
    };
    let refused = tell(&started(), &ids, TimeDelta::zero()).err();
    assert_eq!(refused, Some(Untold::TooLong("r".into())));
}

#[test]
fn an_early_time_cannot_be_moved_beyond_all_times() {
    let far = Timestamp::MAX_UTC - Timestamp::UNIX_EPOCH;
    let refused = tell(&started(), &Ids::Kept, far).err();
    assert_eq!(refused, Some(Untold::Malformed("its time")));
}
