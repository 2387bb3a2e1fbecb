//! Facts and records for tests.

use std::collections::BTreeMap;

use chrono::DateTime;
use runledger_domain::Fact;
use runledger_domain::ids::{PrincipalId, RecordId, TenantId};
use runledger_domain::log::{Kind, Record};
use runledger_domain::message::{self, Content, MessageRecorded, SenderRole};
use runledger_domain::run::{
    self, Ended, Limits, Outcome, Phase, Progressed, Started, StepEnded, StepStarted,
    ToolCallEnded, ToolCallStarted, Trigger, UsageRecorded, WorkStatus,
};
use runledger_domain::schedule::{self, OccurrenceRecorded, OccurrenceStatus};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_proto::encode;
use uuid::Uuid;

/// The live scope of tenant number `tenant`.
pub(crate) fn scope(tenant: u128) -> Scope {
    Scope {
        tenant: TenantId::new(Uuid::from_u128(tenant)),
        mode: Mode::Live,
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
}

/// The record of `fact` number `id`, which happened and was appended at `seconds`.
pub(crate) fn record(scope: Scope, id: u128, fact: &Fact, seconds: i64) -> Record {
    let (type_name, payload) = encode::payload(fact);
    let occurred_at = at(seconds);
    Record {
        id: RecordId::new(Uuid::from_u128(id)),
        scope,
        stream: fact.stream(),
        kind: Kind::Fact,
        type_name: type_name.into(),
        occurred_at,
        recorded_at: occurred_at,
        author: Actor {
            principal: PrincipalId::new(Uuid::from_u128(7)),
            kind: PrincipalKind::Service,
            role: Role::Agent,
        }
        .into(),
        cause: None,
        request_digest: Record::digest_request(type_name, occurred_at, None, &payload),
        key: None,
        payload,
        terms: None,
    }
}

pub(crate) fn started(run: &str, task: &str) -> Started {
    Started {
        run_id: run.parse().unwrap(),
        agent_id: "agent-1".parse().unwrap(),
        agent_version: "3".into(),
        parent_run_id: None,
        conversation_id: None,
        space_id: Some("space-1".parse().unwrap()),
        account_id: None,
        trigger: Trigger::Api,
        task: task.into(),
        reason: "because".into(),
        agent_context: None,
        model: "m".into(),
        input: None,
        labels: BTreeMap::from([
            ("team".parse().unwrap(), "red".into()),
            ("tier".parse().unwrap(), "gold".into()),
        ]),
        limits: Limits::default(),
    }
}

pub(crate) fn start(run: &str) -> Fact {
    Fact::Run(run::Fact::Started(Box::new(started(run, "Pay the bill"))))
}

pub(crate) fn progress(run: &str, phase: Phase, note: &str) -> Fact {
    Fact::Run(run::Fact::Progressed(Progressed {
        run_id: run.parse().unwrap(),
        phase,
        note: note.into(),
    }))
}

pub(crate) fn end(run: &str, outcome: Outcome) -> Fact {
    let error = (outcome == Outcome::Failed).then(|| run::Error {
        code: "BROKEN".parse().unwrap(),
        message: "x".into(),
    });
    let run_id = run.parse().unwrap();
    Fact::Run(run::Fact::Ended(Ended {
        run_id,
        outcome,
        error,
        result: None,
        counters: BTreeMap::new(),
    }))
}

pub(crate) fn step_start(run: &str, step: &str) -> Fact {
    let (run_id, step_id) = (run.parse().unwrap(), step.parse().unwrap());
    Fact::Run(run::Fact::StepStarted(StepStarted {
        run_id,
        step_id,
        parent_step_id: None,
        name: "a step".into(),
    }))
}

pub(crate) fn step_end(run: &str, step: &str, status: WorkStatus) -> Fact {
    let (run_id, step_id) = (run.parse().unwrap(), step.parse().unwrap());
    Fact::Run(run::Fact::StepEnded(StepEnded {
        run_id,
        step_id,
        status,
        error: None,
    }))
}

pub(crate) fn call_start(run: &str, call: &str, tool: &str) -> Fact {
    Fact::Run(run::Fact::ToolCallStarted(ToolCallStarted {
        run_id: run.parse().unwrap(),
        tool_call_id: call.parse().unwrap(),
        step_id: None,
        tool: tool.parse().unwrap(),
        arguments: None,
        action_hint: "read".into(),
        reason: String::new(),
        agent_context: None,
    }))
}

pub(crate) fn call_end(run: &str, call: &str, status: WorkStatus) -> Fact {
    let (run_id, tool_call_id) = (run.parse().unwrap(), call.parse().unwrap());
    Fact::Run(run::Fact::ToolCallEnded(ToolCallEnded {
        run_id,
        tool_call_id,
        status,
        result: None,
        error: None,
    }))
}

pub(crate) fn usage(run: &str, meter: &str, quantity: i64) -> Fact {
    Fact::Run(run::Fact::UsageRecorded(UsageRecorded {
        run_id: run.parse().unwrap(),
        meter: meter.parse().unwrap(),
        quantity,
        tool_call_id: None,
        dimensions: BTreeMap::new(),
    }))
}

pub(crate) fn message(conversation: &str, id: &str, run: Option<&str>) -> Fact {
    Fact::Message(message::Fact::MessageRecorded(MessageRecorded {
        conversation_id: conversation.parse().unwrap(),
        message_id: id.parse().unwrap(),
        sender_id: "user-1".into(),
        role: SenderRole::User,
        kind: "text".parse().unwrap(),
        content: Content::Text(format!("message {id}")),
        in_reply_to: None,
        run_id: run.map(|run| run.parse().unwrap()),
    }))
}

pub(crate) fn occurrence(schedule: &str, scheduled_at: i64, run: Option<&str>) -> Fact {
    Fact::Schedule(schedule::Fact::OccurrenceRecorded(OccurrenceRecorded {
        owner_id: "owner-1".parse().unwrap(),
        schedule_id: schedule.parse().unwrap(),
        scheduled_at: at(scheduled_at),
        status: OccurrenceStatus::Completed,
        result: String::new(),
        run_id: run.map(|run| run.parse().unwrap()),
        next_occurrence_at: None,
    }))
}

/// Everything that can be said about one run.
pub(crate) fn one_run() -> Vec<Fact> {
    vec![
        start("r1"),
        progress("r1", Phase::Running, "on it"),
        step_start("r1", "s1"),
        call_start("r1", "c1", "search"),
        message("k1", "m1", Some("r1")),
        call_end("r1", "c1", WorkStatus::Failed),
        call_start("r1", "c2", "pay"),
        call_end("r1", "c2", WorkStatus::Succeeded),
        usage("r1", "tokens", 40),
        usage("r1", "tokens", 2),
        step_end("r1", "s1", WorkStatus::Succeeded),
        message("k1", "m2", Some("r1")),
        end("r1", Outcome::Succeeded),
        occurrence("daily", 5, Some("r1")),
        call_start("r1", "c3", "late"),
    ]
}
