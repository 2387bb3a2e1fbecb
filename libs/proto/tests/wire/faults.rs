//! What callers may get wrong: the field, the stable reason, and all of them at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use runledger_domain::Fact;
use runledger_domain::fault::Violation;
use runledger_proto::decode::fields::Path;
use runledger_proto::decode::{self, Bounds, Reported};
use runledger_proto::encode;
use runledger_proto::message::v1::{MessageFact, MessageRecorded, message_fact, message_recorded};
use runledger_proto::run::v1::{
    AgentContext, FactError, RunEnded, RunFact, RunLimits, RunOutcome, RunStarted, ToolCallEnded,
    ToolCallFact, Trigger, UsageRecorded, WorkStatus, run_fact, tool_call_ended, tool_call_fact,
};
use runledger_proto::schedule::v1::{OccurrenceRecorded, ScheduleFact, schedule_fact};

use crate::samples::moment;

const NOW_MICROS: i64 = 1_767_225_600_000_000;
const ID: &str = "0198f0c2-5f1e-7b9a-8c55-3f2f6f0e8d11";

fn now() -> Option<prost_types::Timestamp> {
    Some(encode::timestamp(moment(NOW_MICROS)))
}

fn bounds() -> Bounds {
    Bounds::at(moment(NOW_MICROS))
}

fn started() -> RunStarted {
    RunStarted {
        run_id: "r-1".into(),
        agent_id: "a-1".into(),
        trigger: Trigger::Api.into(),
        ..Default::default()
    }
}

fn parse(fact: run_fact::Fact) -> Result<Reported, Vec<Violation>> {
    let fact = RunFact {
        id: ID.into(),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(fact),
    };
    decode::run_fact(fact, &bounds(), Path::ROOT.field("facts").item(3))
}

fn of_started(change: impl FnOnce(&mut RunStarted)) -> Vec<(String, &'static str)> {
    let mut fact = started();
    change(&mut fact);
    faults(parse(run_fact::Fact::RunStarted(fact)))
}

fn faults(result: Result<Reported, Vec<Violation>>) -> Vec<(String, &'static str)> {
    result
        .map_or_else(|faults| faults, |_| Vec::new())
        .into_iter()
        .map(|fault| match fault.reason {
            Cow::Borrowed(reason) => (fault.field, reason),
            Cow::Owned(reason) => (fault.field, &*reason.leak()),
        })
        .collect()
}

#[track_caller]
fn expect(found: Vec<(String, &'static str)>, expected: &[(&str, &str)]) {
    let found: Vec<_> = found
        .iter()
        .map(|(field, reason)| (field.as_str(), *reason))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_sound_fact_has_none() {
    expect(of_started(|_| {}), &[]);
}

#[test]
fn an_empty_fact_lists_all_that_is_missing() {
    let empty = decode::run_fact(
        RunFact::default(),
        &bounds(),
        Path::ROOT.field("facts").item(0),
    );
    expect(
        faults(empty),
        &[
            ("facts[0].id", "REQUIRED"),
            ("facts[0].occurred_at", "REQUIRED"),
            ("facts[0].fact", "REQUIRED"),
        ],
    );
    expect(
        faults(parse(run_fact::Fact::RunStarted(RunStarted::default()))),
        &[
            ("facts[3].run_started.run_id", "REQUIRED"),
            ("facts[3].run_started.agent_id", "REQUIRED"),
            ("facts[3].run_started.trigger", "REQUIRED"),
        ],
    );
}

#[test]
fn every_fault_is_listed_at_once_with_its_path() {
    let found = of_started(|fact| {
        fact.run_id = "a b".into();
        fact.agent_version = "v".repeat(129);
        fact.parent_run_id = "é".into();
        fact.trigger = 99;
        fact.task = "nul\0".into();
        fact.agent_context = Some(AgentContext {
            goal: "g".repeat(4_097),
            ..Default::default()
        });
        fact.input_json = r#"{"a":1,"a":2}"#.into();
        fact.labels = BTreeMap::from([
            (String::new(), "v".into()),
            ("no space".into(), "v".into()),
            ("long".into(), "v".repeat(1_025)),
            ("x".into(), "\0".into()),
        ]);
        fact.limits = Some(RunLimits {
            duration: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
            ..Default::default()
        });
    });
    expect(
        found,
        &[
            ("facts[3].run_started.run_id", "NOT_PRINTABLE"),
            ("facts[3].run_started.agent_version", "TOO_LONG"),
            ("facts[3].run_started.parent_run_id", "NOT_PRINTABLE"),
            ("facts[3].run_started.trigger", "UNKNOWN_VALUE"),
            ("facts[3].run_started.task", "NUL_CHARACTER"),
            ("facts[3].run_started.agent_context.goal", "TOO_LONG"),
            ("facts[3].run_started.input_json", "INVALID_JSON"),
            (r#"facts[3].run_started.labels[""]"#, "REQUIRED"),
            (r#"facts[3].run_started.labels["long"]"#, "TOO_LONG"),
            (
                r#"facts[3].run_started.labels["no space"]"#,
                "NOT_PRINTABLE",
            ),
            (r#"facts[3].run_started.labels["x"]"#, "NUL_CHARACTER"),
            ("facts[3].run_started.limits.duration", "OUT_OF_RANGE"),
        ],
    );
}

#[test]
fn json_that_must_not_enter_the_log_is_refused() {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for text in [
        r#""\u0000""#,
        r#""\ud800""#,
        r#"{"a":1,"\u0061":2}"#,
        "{",
        "1e400",
        "\0",
        &deep,
    ] {
        expect(
            of_started(|fact| fact.input_json = text.into()),
            &[("facts[3].run_started.input_json", "INVALID_JSON")],
        );
    }
    let keys: Vec<_> = (0..10_000)
        .map(|key| format!("\"k{key}\":9007199254740993"))
        .collect();
    expect(
        of_started(|fact| fact.input_json = format!("{{{}}}", keys.join(","))),
        &[],
    );
}

#[test]
fn lengths_are_counted_in_characters_and_the_limit_itself_is_allowed() {
    expect(of_started(|fact| fact.task = "ä".repeat(16_384)), &[]);
    expect(
        of_started(|fact| fact.task = "ä".repeat(16_385)),
        &[("facts[3].run_started.task", "TOO_LONG")],
    );
    expect(of_started(|fact| fact.run_id = "r".repeat(128)), &[]);
    expect(
        of_started(|fact| fact.run_id = "r".repeat(129)),
        &[("facts[3].run_started.run_id", "TOO_LONG")],
    );
}

#[test]
fn a_map_that_is_too_large_is_one_fault_and_a_huge_key_is_cut() {
    let labels = |count: usize| {
        (0..count)
            .map(|label| (format!("bad {label}"), "\0".into()))
            .collect()
    };
    expect(
        of_started(|fact| fact.labels = labels(65)),
        &[("facts[3].run_started.labels", "TOO_MANY")],
    );
    let huge =
        of_started(|fact| fact.labels = BTreeMap::from([("é".repeat(100_000), String::new())]));
    let [(field, "TOO_LONG")] = huge.as_slice() else {
        panic!("{huge:?}")
    };
    assert!(field.len() < 400, "{field}");
}

#[test]
fn times_must_be_sound_and_near() {
    let at = |seconds, nanos| {
        let fact = RunFact {
            id: ID.into(),
            occurred_at: Some(prost_types::Timestamp { seconds, nanos }),
            cause_id: String::new(),
            cause_stream: String::new(),
            fact: Some(run_fact::Fact::RunStarted(started())),
        };
        faults(decode::run_fact(
            fact,
            &bounds(),
            Path::ROOT.field("facts").item(0),
        ))
    };
    let now = NOW_MICROS / 1_000_000;
    expect(at(now + 300, 0), &[]);
    expect(at(now - 3_653 * 86_400, 0), &[]);
    for (seconds, nanos) in [
        (now + 300, 1_000),
        (now - 3_653 * 86_400 - 1, 0),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (now, -1),
        (now, 1_000_000_000),
        (now * 1_000, 0),
    ] {
        expect(
            at(seconds, nanos),
            &[("facts[0].occurred_at", "OUT_OF_RANGE")],
        );
    }
}

#[test]
fn ids_of_records_are_uuids() {
    for (id, reason) in [
        ("", "REQUIRED"),
        ("1", "INVALID_UUID"),
        ("00000000-0000-0000-0000-000000000000", "INVALID_UUID"),
    ] {
        let fact = Some(run_fact::Fact::RunStarted(started()));
        let fact = RunFact {
            id: id.into(),
            occurred_at: now(),
            cause_id: "x".into(),
            cause_stream: String::new(),
            fact,
        };
        expect(
            faults(decode::run_fact(
                fact,
                &bounds(),
                Path::ROOT.field("facts").item(0),
            )),
            &[
                ("facts[0].id", reason),
                ("facts[0].cause_id", "INVALID_UUID"),
            ],
        );
    }
}

#[test]
fn a_cause_is_a_record_of_a_known_stream() {
    let cause = |cause_id: &str, cause_stream: &str| {
        let fact = RunFact {
            id: ID.into(),
            occurred_at: now(),
            cause_id: cause_id.into(),
            cause_stream: cause_stream.into(),
            fact: Some(run_fact::Fact::RunStarted(started())),
        };
        decode::run_fact(fact, &bounds(), Path::ROOT)
    };
    let stream = |cause_stream| cause(ID, cause_stream).unwrap().cause.unwrap().stream;
    assert_eq!(cause("", "").unwrap().cause, None);
    assert_eq!(stream(""), None);
    assert_eq!(
        stream("run/another").as_deref(),
        Some("run/another"),
        "an id alone would name a record of this run"
    );
    let own = format!("run/{}", started().run_id);
    assert_eq!(stream(&own), None, "both ways to say it are one");
    for (id, stream, reason) in [
        ("", "run/another", "NOT_ALLOWED"),
        (ID, "another", "UNKNOWN_VALUE"),
        (ID, "dream/1", "UNKNOWN_VALUE"),
        (ID, "run/a b", "UNKNOWN_VALUE"),
    ] {
        expect(faults(cause(id, stream)), &[("cause_stream", reason)]);
    }
}

#[test]
fn an_error_goes_only_with_a_run_that_did_not_finish() {
    let ended = |outcome: RunOutcome| {
        let error = Some(FactError {
            code: "E".into(),
            message: String::new(),
        });
        let fact = RunEnded {
            run_id: "r".into(),
            outcome: outcome.into(),
            error,
            ..Default::default()
        };
        faults(parse(run_fact::Fact::RunEnded(fact)))
    };
    expect(ended(RunOutcome::Failed), &[]);
    expect(
        ended(RunOutcome::Succeeded),
        &[("facts[3].run_ended.error", "NOT_ALLOWED")],
    );
    expect(
        ended(RunOutcome::Completed),
        &[("facts[3].run_ended.error", "NOT_ALLOWED")],
    );
}

#[test]
fn quantities_are_at_least_nothing_and_counts_fit() {
    let usage = UsageRecorded {
        run_id: "r".into(),
        meter: "m".into(),
        quantity: -1,
        ..Default::default()
    };
    expect(
        faults(parse(run_fact::Fact::UsageRecorded(usage))),
        &[("facts[3].usage_recorded.quantity", "OUT_OF_RANGE")],
    );
    let ended = ToolCallEnded {
        run_id: "r".into(),
        tool_call_id: "t".into(),
        status: WorkStatus::Succeeded.into(),
        result: Some(tool_call_ended::Result::ResultChars(u64::MAX)),
        error: None,
    };
    let fact = ToolCallFact {
        id: ID.into(),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(tool_call_fact::Fact::ToolCallEnded(ended)),
    };
    let found = faults(decode::tool_call_fact(
        fact,
        &bounds(),
        Path::ROOT.field("facts").item(0),
    ));
    expect(
        found,
        &[("facts[0].tool_call_ended.result_chars", "OUT_OF_RANGE")],
    );
}

#[test]
fn messages_need_content_and_are_text_by_default() {
    let parse = |message: MessageRecorded| {
        let fact = Some(message_fact::Fact::MessageRecorded(message));
        let fact = MessageFact {
            id: ID.into(),
            occurred_at: now(),
            cause_id: String::new(),
            cause_stream: String::new(),
            fact,
        };
        decode::message_fact(fact, &bounds(), Path::ROOT.field("facts").item(0))
    };
    let sound = MessageRecorded {
        conversation_id: "c".into(),
        message_id: "m".into(),
        role: 1,
        content: Some(message_recorded::Content::Chars(3)),
        ..Default::default()
    };
    let Ok(Reported {
        fact: Fact::Message(fact),
        ..
    }) = parse(sound.clone())
    else {
        panic!("it is sound")
    };
    assert_eq!(fact.message().kind.as_str(), "text");
    expect(
        faults(parse(MessageRecorded {
            content: None,
            ..sound.clone()
        })),
        &[("facts[0].message_recorded.content", "REQUIRED")],
    );
    let long = Some(message_recorded::Content::Text("x".repeat(131_073)));
    expect(
        faults(parse(MessageRecorded {
            content: long,
            ..sound
        })),
        &[("facts[0].message_recorded.text", "TOO_LONG")],
    );
}

#[test]
fn occurrences_say_when_they_were_due() {
    let fact = Some(schedule_fact::Fact::OccurrenceRecorded(
        OccurrenceRecorded::default(),
    ));
    let fact = ScheduleFact {
        id: ID.into(),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact,
    };
    expect(
        faults(decode::schedule_fact(
            fact,
            &bounds(),
            Path::ROOT.field("facts").item(0),
        )),
        &[
            ("facts[0].occurrence_recorded.owner_id", "REQUIRED"),
            ("facts[0].occurrence_recorded.schedule_id", "REQUIRED"),
            ("facts[0].occurrence_recorded.scheduled_at", "REQUIRED"),
            ("facts[0].occurrence_recorded.status", "REQUIRED"),
        ],
    );
}
