//! What callers get wrong: each with its code or its reason, and the good ones still accepted.

use std::collections::BTreeMap;

use prost::Message;
use runledger_domain::log::Family;
use runledger_proto::encode;
use runledger_proto::message::v1::message_ingest_service_client::MessageIngestServiceClient;
use runledger_proto::message::v1::{
    MessageFact, MessageIngestServiceAppendRequest, MessageRecorded, SenderRole, message_fact,
    message_recorded,
};
use runledger_proto::run::v1::tool_call_ingest_service_client::ToolCallIngestServiceClient;
use runledger_proto::run::v1::{
    RunFact, RunStarted, ToolCallFact, ToolCallIngestServiceAppendRequest, ToolCallStarted,
    UsageRecorded, run_fact, tool_call_fact,
};
use runledger_proto::schedule::v1::schedule_ingest_service_client::ScheduleIngestServiceClient;
use runledger_proto::schedule::v1::{
    OccurrenceRecorded, OccurrenceStatus, ScheduleFact, ScheduleIngestServiceAppendRequest,
    schedule_fact,
};
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

use crate::world::{
    NOW_MICROS, World, append, expect, fact, id, now, progressed, started, word, words,
};

/// A fact whose start is changed.
fn start(change: impl FnOnce(&mut RunStarted)) -> RunFact {
    let mut fact = started(50, "r-bad");
    if let Some(run_fact::Fact::RunStarted(started)) = &mut fact.fact {
        change(started);
    }
    fact
}

fn at(seconds: i64) -> RunFact {
    let occurred_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    RunFact {
        occurred_at,
        ..started(50, "r-bad")
    }
}

fn input(text: &str) -> RunFact {
    start(|fact| fact.input_json = text.into())
}

/// Facts that are bad in themselves or in their times, and what each is refused for.
fn bad_envelopes() -> Vec<(RunFact, &'static str)> {
    let now = NOW_MICROS / 1_000_000;
    vec![
        (
            RunFact::default(),
            "facts[1].id REQUIRED, facts[1].occurred_at REQUIRED, facts[1].fact REQUIRED",
        ),
        (
            RunFact {
                id: "7".into(),
                ..started(50, "r")
            },
            "facts[1].id INVALID_UUID",
        ),
        (
            RunFact {
                cause_id: "7".into(),
                ..started(50, "r")
            },
            "facts[1].cause_id INVALID_UUID",
        ),
        (at(now + 3_600), "facts[1].occurred_at OUT_OF_RANGE"),
        (at(0), "facts[1].occurred_at OUT_OF_RANGE"),
        (at(i64::MAX), "facts[1].occurred_at OUT_OF_RANGE"),
    ]
}

/// Bad facts and what each is refused for.
fn bad_facts() -> Vec<(RunFact, &'static str)> {
    let json = "facts[1].run_started.input_json INVALID_JSON";
    let usage = UsageRecorded {
        run_id: "r".into(),
        meter: "m".into(),
        quantity: -1,
        ..UsageRecorded::default()
    };
    vec![
        (
            start(|fact| fact.run_id.clear()),
            "facts[1].run_started.run_id REQUIRED",
        ),
        (
            start(|fact| fact.run_id = "r".repeat(129)),
            "facts[1].run_started.run_id TOO_LONG",
        ),
        (
            start(|fact| fact.agent_id = "a b".into()),
            "facts[1].run_started.agent_id NOT_PRINTABLE",
        ),
        (
            start(|fact| fact.trigger = 0),
            "facts[1].run_started.trigger REQUIRED",
        ),
        (
            start(|fact| fact.trigger = 99),
            "facts[1].run_started.trigger UNKNOWN_VALUE",
        ),
        (
            start(|fact| fact.task = "t".repeat(16_385)),
            "facts[1].run_started.task TOO_LONG",
        ),
        (
            start(|fact| fact.task = "a\0b".into()),
            "facts[1].run_started.task NUL_CHARACTER",
        ),
        (
            start(|fact| {
                fact.labels = (0..65)
                    .map(|label| (format!("l{label}"), String::new()))
                    .collect()
            }),
            "facts[1].run_started.labels TOO_MANY",
        ),
        (
            start(|fact| fact.labels = BTreeMap::from([("a b".into(), String::new())])),
            "facts[1].run_started.labels[\"a b\"] NOT_PRINTABLE",
        ),
        (input(r#""\u0000""#), json),
        (input(r#""\ud83d""#), json),
        (input(r#"{"a":1,"a":2}"#), json),
        (
            input(&format!("{}{}", "[".repeat(65), "]".repeat(65))),
            json,
        ),
        (input("{"), json),
        (
            fact(50, run_fact::Fact::UsageRecorded(usage)),
            "facts[1].usage_recorded.quantity OUT_OF_RANGE",
        ),
        (
            input(&format!("\"{}\"", "x".repeat(256 * 1024))),
            "facts[1] RECORD_TOO_LARGE",
        ),
    ]
}

#[tokio::test]
async fn a_bad_fact_is_refused_with_every_reason_and_the_good_ones_around_it_are_accepted() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let cases = [bad_envelopes(), bad_facts()].concat();
    let count = cases.len();
    for (number, (bad, reasons)) in (100..).step_by(2).zip(cases) {
        let facts = vec![
            started(number, "r-1"),
            bad.clone(),
            progressed(number + 1, "r-2", "x"),
        ];
        let answer = append(&mut client, facts).await.unwrap();
        assert_eq!(words(&answer.results), ["accepted", reasons, "accepted"]);
        assert_eq!(answer.results[1].id, bad.id);
        assert!(!answer.token.is_empty());
    }
    assert_eq!(world.count().await, 2 * count);
}

#[tokio::test]
async fn a_batch_of_bad_facts_alone_is_answered_fact_by_fact() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let answer = append(&mut client, vec![RunFact::default(), at(0)])
        .await
        .unwrap();
    assert_eq!(
        words(&answer.results)[1],
        "facts[1].occurred_at OUT_OF_RANGE"
    );
    assert_eq!(answer.token, "");
    assert_eq!(world.count().await, 0);
}

#[tokio::test]
async fn what_is_unusual_but_sound_is_accepted() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let keys: Vec<_> = (0..10_000)
        .map(|key| format!("\"k{key:05}\":9007199254740993"))
        .collect();
    let wide = format!("{{{}}}", keys.join(","));
    assert!(wide.len() < 256 * 1024 - 300);
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let facts = [
        wide.clone(),
        deep,
        r#" { "b" : 1.0, "a" : "\u00e9" } "#.to_owned(),
    ];
    let facts = facts
        .iter()
        .zip(1..)
        .map(|(text, number)| RunFact {
            id: id(number),
            ..input(text)
        })
        .collect();
    let answer = append(&mut client, facts).await.unwrap();
    assert_eq!(words(&answer.results), ["accepted"; 3]);
    let payloads: Vec<_> = world
        .records(Family::Run)
        .await
        .into_iter()
        .map(|record| record.payload)
        .collect();
    let holds = |text: &str| {
        payloads.iter().any(|payload| {
            payload
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        })
    };
    assert!(holds(&wide) && holds("{\"a\":\"é\",\"b\":1}"));
}

#[tokio::test]
async fn a_batch_is_of_1_to_1000_facts_and_1_mib() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    expect(
        append(&mut client, vec![]).await,
        Code::InvalidArgument,
        "EMPTY_BATCH",
    );
    let facts = |count: u128| {
        (0..count)
            .map(|number| progressed(number, "r", ""))
            .collect()
    };
    expect(
        append(&mut client, facts(1_001)).await,
        Code::InvalidArgument,
        "BATCH_TOO_LARGE",
    );
    let large = (0..5)
        .map(|_| input(&format!("\"{}\"", "x".repeat(220_000))))
        .collect();
    expect(
        append(&mut client, large).await,
        Code::InvalidArgument,
        "REQUEST_TOO_LARGE",
    );
    assert_eq!(world.count().await, 0);
    let answer = append(&mut client, facts(1_000)).await.unwrap();
    assert_eq!(answer.results.len(), 1_000);
    assert_eq!(world.count().await, 1_000);
}

#[tokio::test]
async fn faults_do_not_outgrow_the_answer() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let labels = || {
        (0..64)
            .map(|label| (format!(" {label}"), "\0".into()))
            .collect()
    };
    let facts = (0..900)
        .map(|_| start(|fact| fact.labels = labels()))
        .collect();
    let answer = append(&mut client, facts).await.unwrap();
    assert_eq!(answer.results.len(), 900);
    assert!(
        answer.encoded_len() < 3 * 1024 * 1024,
        "{}",
        answer.encoded_len()
    );
    assert_eq!(
        word(&answer.results[0]).matches("NUL_CHARACTER").count(),
        64
    );
    assert_eq!(word(&answer.results[899]), "facts[899] FAULTS_NOT_LISTED");
}

#[tokio::test]
async fn an_id_twice_in_a_batch_is_a_copy_or_a_conflict_that_readers_see() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let facts = vec![
        progressed(1, "r-1", "a"),
        progressed(1, "r-1", "a"),
        progressed(1, "r-1", "b"),
        progressed(1, "r-2", "b"),
        progressed(1, "r-1", "a"),
        progressed(1, "r-2", "b"),
    ];
    let answer = append(&mut client, facts).await.unwrap();
    assert_eq!(words(&answer.results), ["accepted"; 6]);
    assert_eq!(answer.results[0].outcome, answer.results[1].outcome);
    assert_eq!(answer.results[0].outcome, answer.results[4].outcome);
    assert_eq!(answer.results[3].outcome, answer.results[5].outcome);
    assert_ne!(answer.results[0].outcome, answer.results[2].outcome);
    assert_ne!(answer.results[0].outcome, answer.results[3].outcome);
    let records = world.records(Family::Run).await;
    let of_the_first: Vec<_> = records
        .iter()
        .filter(|record| record.stream.as_str() == "run/r-1")
        .collect();
    let [first, conflict] = of_the_first[..] else {
        panic!("{of_the_first:?}")
    };
    assert_eq!(first.id, conflict.id);
    assert_ne!(first.request_digest, conflict.request_digest);
    assert_eq!(records.len(), 3);
}

/// A request as broken clients send it: its facts are any bytes.
#[derive(Clone, PartialEq, Message)]
struct Broken {
    #[prost(bytes = "vec", repeated, tag = "1")]
    facts: Vec<Vec<u8>>,
}

#[tokio::test]
async fn bytes_that_are_no_request_are_their_senders_fault() {
    let world = World::new().await;
    let connection = world.connect(Some(world.agent())).await;
    // A fact whose id is not UTF-8; a fact that is cut short.
    for fact in [vec![0x0a, 0x02, 0xc3, 0x28], vec![0x0a, 0x7f]] {
        let mut client = tonic::client::Grpc::new(connection.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Broken, Broken>::default();
        let path = PathAndQuery::from_static("/runledger.run.v1.RunIngestService/Append");
        let request = tonic::Request::new(Broken { facts: vec![fact] });
        expect(
            client.unary(request, path, codec).await,
            Code::InvalidArgument,
            "REQUEST_MALFORMED",
        );
    }
    assert_eq!(world.count().await, 0);
}

fn tool_call(number: u128, tool: &str) -> ToolCallFact {
    ToolCallFact {
        id: id(number),
        occurred_at: Some(encode::timestamp(now())),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(tool_call_fact::Fact::ToolCallStarted(ToolCallStarted {
            run_id: "r-1".into(),
            tool_call_id: "t-1".into(),
            tool: tool.into(),
            ..ToolCallStarted::default()
        })),
    }
}

fn occurrence(number: u128, status: OccurrenceStatus) -> ScheduleFact {
    ScheduleFact {
        id: id(number),
        occurred_at: Some(encode::timestamp(now())),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(schedule_fact::Fact::OccurrenceRecorded(
            OccurrenceRecorded {
                owner_id: "agent-1".into(),
                schedule_id: "nightly".into(),
                scheduled_at: Some(encode::timestamp(now())),
                status: status.into(),
                ..OccurrenceRecorded::default()
            },
        )),
    }
}

fn message(number: u128, text: Option<&str>) -> MessageFact {
    MessageFact {
        id: id(number),
        occurred_at: Some(encode::timestamp(now())),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(message_fact::Fact::MessageRecorded(MessageRecorded {
            conversation_id: "c-1".into(),
            message_id: "m-1".into(),
            role: SenderRole::User.into(),
            content: text.map(|text| message_recorded::Content::Text(text.into())),
            ..MessageRecorded::default()
        })),
    }
}

#[tokio::test]
async fn all_four_services_answer_alike() {
    let world = World::new().await;
    let connection = world.connect(Some(world.agent())).await;

    let facts = vec![tool_call(1, "search"), tool_call(2, "")];
    let mut client = ToolCallIngestServiceClient::new(connection.clone());
    let answer = client
        .append(ToolCallIngestServiceAppendRequest { facts })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        words(&answer.results),
        ["accepted", "facts[1].tool_call_started.tool REQUIRED"]
    );

    let facts = vec![
        occurrence(1, OccurrenceStatus::Completed),
        occurrence(2, OccurrenceStatus::Unspecified),
    ];
    let mut client = ScheduleIngestServiceClient::new(connection.clone());
    let answer = client
        .append(ScheduleIngestServiceAppendRequest { facts })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        words(&answer.results),
        ["accepted", "facts[1].occurrence_recorded.status REQUIRED"]
    );

    let facts = vec![message(1, Some("hello")), message(2, None)];
    let mut client = MessageIngestServiceClient::new(connection);
    let answer = client
        .append(MessageIngestServiceAppendRequest { facts })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        words(&answer.results),
        ["accepted", "facts[1].message_recorded.content REQUIRED"]
    );

    let mut streams = Vec::new();
    for family in [Family::Run, Family::Schedule, Family::Message] {
        streams.extend(
            world
                .records(family)
                .await
                .iter()
                .map(|record| record.stream.to_string()),
        );
    }
    assert_eq!(
        streams,
        ["run/r-1", "schedules/agent-1", "conversation/c-1"]
    );
}
