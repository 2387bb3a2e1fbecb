//! One full record of every type.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use runledger_domain::Fact;
use runledger_domain::credit::Spender;
use runledger_domain::decision::{Rejection, RejectionKind};
use runledger_domain::fault::Violation;
use runledger_domain::ids::{Incarnation, InvalidId, PrincipalId, RecordId, RunId, TenantId};
use runledger_domain::json::Json;
use runledger_domain::log::{Cause, Family, Kind, Partition, Position, Record, Skipped, Stream};
use runledger_domain::message::{self, Content, SenderRole};
use runledger_domain::policy::{
    Action, ApprovalRule, ApproverSet, Change, Changed, Changing, Command, Condition, Operator,
    Policy, Severity, Spec, When,
};
use runledger_domain::run::{self, AgentContext, Limits, ToolResult};
use runledger_domain::schedule::{self, OccurrenceStatus};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_domain::usage;
use runledger_proto::{encode, types};
use uuid::Uuid;

pub(crate) fn moment(micros: i64) -> Timestamp {
    DateTime::from_timestamp_micros(micros).expect("a moment within range")
}

pub(crate) fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str) -> T {
    text.parse().expect("an id")
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn context() -> AgentContext {
    AgentContext {
        goal: "file the claim".into(),
        reasoning: "the invoice is over its due date".into(),
        conversation_id: Some(id("c-1")),
    }
}

fn error() -> run::Error {
    run::Error {
        code: id("GOAL_NOT_REACHED"),
        message: "the page said no – twice".into(),
    }
}

/// A fact of every type, with every field set.
pub(crate) fn facts() -> Vec<Fact> {
    [vec![started()], progress(), work(), elsewhere(), used()].concat()
}

fn used() -> Vec<Fact> {
    vec![Fact::Usage(usage::Fact::Forwarded(usage::Forwarded {
        account_id: id("account-1"),
        meter: id("tokens_output"),
        quantity: 1_500,
        dimensions: [(id("model"), "large".to_owned())].into(),
        spender: Spender {
            agent: Some(id("agent-7")),
            run: Some(run_id()),
        },
    }))]
}

fn run_id() -> RunId {
    id("run-1")
}

fn started() -> Fact {
    Fact::Run(run::Fact::Started(Box::new(run::Started {
        run_id: run_id(),
        agent_id: id("agent-7"),
        agent_version: "2026.11".into(),
        parent_run_id: Some(id("run-0")),
        conversation_id: Some(id("c-1")),
        space_id: Some(id("space-1")),
        account_id: Some(id("account-1")),
        trigger: run::Trigger::Schedule,
        task: "Book the cheapest train to Zürich".into(),
        reason: "asked by a person".into(),
        agent_context: Some(context()),
        model: "gpt-4o".into(),
        input: Some(json(r#"{"b":[1,2.5,null],"a":9007199254740993}"#)),
        labels: BTreeMap::from([
            (id("suite"), "airline".into()),
            (id("empty"), String::new()),
        ]),
        limits: Limits {
            tool_calls: Some(0),
            calls_of_one_tool: Some(5),
            duration: Some(Duration::from_micros(90_000_001)),
            blocked_calls: Some(3),
        },
    })))
}

fn progress() -> Vec<Fact> {
    vec![
        Fact::Run(run::Fact::Progressed(run::Progressed {
            run_id: run_id(),
            phase: run::Phase::Waiting,
            note: "for an answer".into(),
        })),
        Fact::Run(run::Fact::Ended(run::Ended {
            run_id: run_id(),
            outcome: run::Outcome::Failed,
            error: Some(error()),
            result: Some(json("[]")),
            counters: BTreeMap::from([(id("turns"), 12), (id("balance"), -3)]),
        })),
        Fact::Run(run::Fact::StepStarted(run::StepStarted {
            run_id: run_id(),
            step_id: id("step-2"),
            parent_step_id: Some(id("step-1")),
            name: "look for trains".into(),
        })),
    ]
}

fn work() -> Vec<Fact> {
    vec![
        Fact::Run(run::Fact::StepEnded(run::StepEnded {
            run_id: run_id(),
            step_id: id("step-2"),
            status: run::WorkStatus::Cancelled,
            error: Some(error()),
        })),
        Fact::Run(run::Fact::ToolCallStarted(run::ToolCallStarted {
            run_id: run_id(),
            tool_call_id: id("call-1"),
            step_id: Some(id("step-2")),
            tool: id("search"),
            arguments: Some(json(r#"{"from":"Basel"}"#)),
            action_hint: "read".into(),
            reason: "to know the prices".into(),
            agent_context: Some(context()),
        })),
        Fact::Run(run::Fact::ToolCallEnded(run::ToolCallEnded {
            run_id: run_id(),
            tool_call_id: id("call-1"),
            status: run::WorkStatus::Succeeded,
            result: Some(ToolResult::Json(json(r#""48.00""#))),
            error: Some(error()),
        })),
        Fact::Run(run::Fact::UsageRecorded(run::UsageRecorded {
            run_id: run_id(),
            meter: id("tokens.output"),
            quantity: 1_234,
            tool_call_id: Some(id("call-1")),
            dimensions: BTreeMap::from([(id("model"), "gpt-4o".into())]),
        })),
    ]
}

fn elsewhere() -> Vec<Fact> {
    vec![
        Fact::Schedule(schedule::Fact::OccurrenceRecorded(
            schedule::OccurrenceRecorded {
                owner_id: id("agent-7"),
                schedule_id: id("nightly"),
                scheduled_at: moment(1_767_225_600_000_000),
                status: OccurrenceStatus::Skipped,
                result: "nothing to do".into(),
                run_id: Some(run_id()),
                next_occurrence_at: Some(moment(1_767_312_000_000_000)),
            },
        )),
        Fact::Message(message::Fact::MessageRecorded(message::MessageRecorded {
            conversation_id: id("c-1"),
            message_id: id("m-2"),
            sender_id: "user 7".into(),
            role: SenderRole::User,
            kind: id("text"),
            content: Content::Text("Grüezi 👋".into()),
            in_reply_to: Some(id("m-1")),
            run_id: Some(run_id()),
        })),
    ]
}

/// The decision that a record is left out, with every field set.
pub(crate) fn skipped() -> Skipped {
    Skipped {
        projection: "runledger.runs".into(),
        position: Position {
            partition: Partition {
                family: Family::Run,
                number: 3,
            },
            incarnation: Incarnation::new(Uuid::from_u128(
                0x0198_f0c2_5f1e_7b9a_8c55_3f2f_6f0e_8d12,
            )),
            offset: 4_711,
        },
        reason: "cut short on its way – see the report".into(),
    }
}

/// The record that carries it, in the stream of a run.
pub(crate) fn record_of_skipped() -> Record {
    carry(Stream::run(&run_id()), encode::skipped(&skipped()))
}

/// A policy with every field set.
pub(crate) fn policy_spec() -> Spec {
    let condition = |field: &str, operator, value| Condition {
        field: field.into(),
        operator,
        value: json(value),
    };
    Spec {
        name: "Dear bookings – ask first".into(),
        description: "above 400 a person decides".into(),
        when: When::Conditions(vec![
            condition("tool", Operator::Matches, r#""^book""#),
            condition("arguments.payment.amount", Operator::Gt, "400.5"),
        ]),
        action: Action::RequireApproval,
        approval: Some(ApprovalRule {
            quorum: 2,
            approvers: ApproverSet {
                roles: [Role::Admin, Role::Reviewer].into(),
                principals: [PrincipalId::new(Uuid::from_u128(11))].into(),
            },
            requester_may_approve: true,
            time_to_decide: Duration::from_secs(3_600),
            time_to_use: Duration::from_micros(90_000_001),
        }),
        severity: Some(Severity::Critical),
        limits: Limits {
            tool_calls: Some(7),
            calls_of_one_tool: Some(5),
            duration: Some(Duration::from_secs(9)),
            blocked_calls: Some(3),
        },
        disabled: true,
    }
}

/// A command of every type about policies, with every field set.
pub(crate) fn policy_commands() -> Vec<Command> {
    let policy = || id("dear-bookings");
    let expected_version = Some(3);
    let by_expression = Spec {
        when: When::Cel("arguments.payment.amount > 400".into()),
        ..policy_spec()
    };
    vec![
        Command::Create {
            id: policy(),
            spec: policy_spec(),
        },
        Command::Update {
            id: policy(),
            spec: by_expression,
            expected_version,
        },
        Command::SetEnabled {
            id: policy(),
            enabled: true,
            expected_version,
        },
        Command::Delete {
            id: policy(),
            expected_version,
        },
    ]
}

/// The decision that a policy was changed, with every field set.
pub(crate) fn policy_changed() -> Changed {
    let by = Actor {
        principal: PrincipalId::new(Uuid::from_u128(9)),
        kind: PrincipalKind::User,
        role: Role::Admin,
    };
    let change = |micros| {
        let at = moment(micros);
        Some(Change { at, by })
    };
    Changed {
        changing: Changing::Deleted,
        policy: Policy {
            id: id("dear-bookings"),
            version: 4,
            spec: policy_spec(),
            created: change(1_767_225_600_123_456),
            updated: change(1_767_225_601_123_456),
            deleted: true,
        },
    }
}

/// The refusal of a command, with every field set.
pub(crate) fn rejection() -> Rejection {
    Rejection {
        kind: RejectionKind::Invalid,
        reason: "INVALID_FIELDS".into(),
        message: "spec.name: must be given".into(),
        violations: vec![Violation {
            field: "spec.name".into(),
            reason: "REQUIRED".into(),
            description: "must be given".into(),
        }],
    }
}

/// The records that carry what is said of policies, in their stream.
pub(crate) fn records_of_policies() -> Vec<Record> {
    let of = |kind, said| Record {
        kind,
        ..carry(Stream::policies(), said)
    };
    let commands = policy_commands();
    let commands = commands.iter().map(encode::policy_command);
    let rejected = encode::rejected(&rejection(), types::CREATE_POLICY);
    commands
        .map(|command| of(Kind::Command, command))
        .chain([
            of(Kind::Decision, encode::policy_changed(&policy_changed())),
            of(Kind::Decision, rejected),
        ])
        .collect()
}

/// The record that carries `fact`: always the same.
pub(crate) fn record(fact: &Fact) -> Record {
    carry(fact.stream(), encode::payload(fact))
}

/// A record of a type with this payload: always the same.
pub(crate) fn carry(stream: Stream, (type_name, payload): (&str, Vec<u8>)) -> Record {
    let occurred_at = moment(1_767_225_600_123_456);
    let cause = Cause {
        stream: Some("conversation/c-1".into()),
        id: RecordId::new(Uuid::from_u128(0x0198_f0c2_5f1e_7b9a_8c55_3f2f_6f0e_8d10)),
    };
    Record {
        id: RecordId::new(Uuid::from_u128(0x0198_f0c2_5f1e_7b9a_8c55_3f2f_6f0e_8d11)),
        scope: Scope {
            tenant: TenantId::new(Uuid::from_u128(7)),
            mode: Mode::Sandbox,
        },
        stream,
        kind: Kind::Fact,
        type_name: type_name.into(),
        occurred_at,
        recorded_at: moment(1_767_225_601_000_001),
        author: Actor {
            principal: PrincipalId::new(Uuid::from_u128(9)),
            kind: PrincipalKind::Service,
            role: Role::Agent,
        }
        .into(),
        request_digest: Record::digest_request(type_name, occurred_at, Some(&cause), &payload),
        cause: Some(cause),
        key: None,
        payload,
        terms: None,
    }
}
