//! Facts as they go over the wire.

use rand::Rng;
use runledger_domain::time::{Clock, SystemClock};
use runledger_proto::encode;
use runledger_proto::message::v1::message_fact::Fact as InMessage;
use runledger_proto::message::v1::message_recorded::Content;
use runledger_proto::message::v1::{MessageFact, MessageRecorded, SenderRole};
use runledger_proto::run::v1::run_fact::Fact as InRun;
use runledger_proto::run::v1::tool_call_fact::Fact as InToolCall;
use runledger_proto::run::v1::{
    AgentContext, RunFact, RunStarted, ToolCallEnded, ToolCallFact, ToolCallStarted, Trigger,
    WorkStatus,
};
use runledger_proto::schedule::v1::schedule_fact::Fact as InSchedule;
use runledger_proto::schedule::v1::{OccurrenceRecorded, OccurrenceStatus, ScheduleFact};

/// A fact of a run, happening now.
pub fn run_fact(rng: &mut impl Rng, fact: InRun) -> RunFact {
    RunFact {
        id: id(rng),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(fact),
    }
}

/// A run begins.
pub fn run_started(rng: &mut impl Rng, run_id: &str) -> RunFact {
    let started = RunStarted {
        run_id: run_id.into(),
        agent_id: "agent-1".into(),
        trigger: Trigger::Api.into(),
        task: "tell a story".into(),
        agent_context: Some(AgentContext::default()),
        ..RunStarted::default()
    };
    run_fact(rng, InRun::RunStarted(started))
}

/// A tool call of a run begins.
pub fn tool_call_started(
    rng: &mut impl Rng,
    run_id: &str,
    tool_call_id: &str,
    tool: &str,
) -> ToolCallFact {
    let started = ToolCallStarted {
        run_id: run_id.into(),
        tool_call_id: tool_call_id.into(),
        tool: tool.into(),
        arguments_json: format!("{{\"call\":\"{tool_call_id}\"}}"),
        ..ToolCallStarted::default()
    };
    tool_call_fact(rng, InToolCall::ToolCallStarted(started))
}

/// A tool call of a run ends.
pub fn tool_call_ended(
    rng: &mut impl Rng,
    run_id: &str,
    tool_call_id: &str,
    status: WorkStatus,
) -> ToolCallFact {
    let ended = ToolCallEnded {
        run_id: run_id.into(),
        tool_call_id: tool_call_id.into(),
        status: status.into(),
        ..ToolCallEnded::default()
    };
    tool_call_fact(rng, InToolCall::ToolCallEnded(ended))
}

fn tool_call_fact(rng: &mut impl Rng, fact: InToolCall) -> ToolCallFact {
    ToolCallFact {
        id: id(rng),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(fact),
    }
}

/// A message of a conversation that belongs to a run.
pub fn message(
    rng: &mut impl Rng,
    run_id: &str,
    conversation_id: &str,
    message_id: &str,
    text: &str,
) -> MessageFact {
    let recorded = MessageRecorded {
        conversation_id: conversation_id.into(),
        message_id: message_id.into(),
        sender_id: "agent-1".into(),
        role: SenderRole::Agent.into(),
        kind: "text".into(),
        content: Some(Content::Text(text.into())),
        in_reply_to: String::new(),
        run_id: run_id.into(),
    };
    MessageFact {
        id: id(rng),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(InMessage::MessageRecorded(recorded)),
    }
}

/// An occurrence of a schedule that started a run.
pub fn occurrence(
    rng: &mut impl Rng,
    run_id: &str,
    schedule_id: &str,
    result: &str,
) -> ScheduleFact {
    let recorded = OccurrenceRecorded {
        owner_id: "agent-1".into(),
        schedule_id: schedule_id.into(),
        scheduled_at: now(),
        status: OccurrenceStatus::Completed.into(),
        result: result.into(),
        run_id: run_id.into(),
        next_occurrence_at: None,
    };
    ScheduleFact {
        id: id(rng),
        occurred_at: now(),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(InSchedule::OccurrenceRecorded(recorded)),
    }
}

/// A new id of a record.
pub fn id(rng: &mut impl Rng) -> String {
    uuid::Builder::from_random_bytes(rng.random())
        .into_uuid()
        .to_string()
}

/// Now, as the wire says it.
pub fn now() -> Option<prost_types::Timestamp> {
    Some(encode::timestamp(SystemClock.now()))
}
