//! Facts about runs: limits are those that the proto comments promise.

use std::collections::BTreeMap;

use runledger_domain::ids::{
    AccountId, AgentId, ConversationId, Name, RunId, SpaceId, StepId, ToolCallId,
};
use runledger_domain::run as domain;

use super::fields::{Fields, reason};
use crate::run::v1 as wire;

const SHORT_CHARS_MAX: usize = 128;
const WORDS_CHARS_MAX: usize = 4_096;
const LONG_CHARS_MAX: usize = 16_384;
const LABELS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 1_024;
const COUNTERS_MAX: usize = 64;
const DIMENSIONS_MAX: usize = 16;

pub(super) fn started(wire: wire::RunStarted, see: &mut Fields<'_>) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let agent_id = see.id("agent_id", wire.agent_id, AgentId::parse);
    let agent_version = see.text("agent_version", wire.agent_version, SHORT_CHARS_MAX);
    let parent_run_id = see.optional_id("parent_run_id", wire.parent_run_id, RunId::parse);
    let conversation_id = see.optional_id(
        "conversation_id",
        wire.conversation_id,
        ConversationId::parse,
    );
    let space_id = see.optional_id("space_id", wire.space_id, SpaceId::parse);
    let account_id = see.optional_id("account_id", wire.account_id, AccountId::parse);
    let trigger = see.word::<wire::Trigger>("trigger", wire.trigger);
    let task = see.text("task", wire.task, LONG_CHARS_MAX);
    let reason = see.text("reason", wire.reason, WORDS_CHARS_MAX);
    let agent_context = see.optional("agent_context", wire.agent_context, agent_context);
    let model = model(wire.model, see);
    let input = see.optional_json("input_json", wire.input_json);
    let labels = labels(wire.labels, see);
    let limits = see
        .optional("limits", wire.limits, limits)
        .unwrap_or_default();
    Some(domain::Fact::Started(Box::new(domain::Started {
        run_id: run_id?,
        agent_id: agent_id?,
        agent_version,
        parent_run_id,
        conversation_id,
        space_id,
        account_id,
        trigger: trigger?,
        task,
        reason,
        agent_context,
        model,
        input,
        labels,
        limits,
    })))
}

pub(super) fn model(model: String, see: &mut Fields<'_>) -> String {
    see.text("model", model, SHORT_CHARS_MAX)
}

pub(super) fn labels(
    labels: BTreeMap<String, String>,
    see: &mut Fields<'_>,
) -> BTreeMap<Name, String> {
    see.texts("labels", labels, LABELS_MAX, LABEL_CHARS_MAX)
}

fn agent_context(wire: wire::AgentContext, see: &mut Fields<'_>) -> Option<domain::AgentContext> {
    Some(domain::AgentContext {
        goal: see.text("goal", wire.goal, WORDS_CHARS_MAX),
        reasoning: see.text("reasoning", wire.reasoning, LONG_CHARS_MAX),
        conversation_id: see.optional_id(
            "conversation_id",
            wire.conversation_id,
            ConversationId::parse,
        ),
    })
}

pub(super) fn limits(wire: wire::RunLimits, see: &mut Fields<'_>) -> Option<domain::Limits> {
    Some(domain::Limits {
        tool_calls: wire.tool_calls,
        calls_of_one_tool: wire.calls_of_one_tool,
        duration: see.optional_duration("duration", wire.duration),
        blocked_calls: wire.blocked_calls,
    })
}

fn error(wire: wire::FactError, see: &mut Fields<'_>) -> Option<domain::Error> {
    let code = see.id("code", wire.code, Name::parse);
    let message = see.text("message", wire.message, WORDS_CHARS_MAX);
    Some(domain::Error {
        code: code?,
        message,
    })
}

pub(super) fn progressed(wire: wire::RunProgressed, see: &mut Fields<'_>) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let phase = see.word::<wire::RunPhase>("phase", wire.phase);
    let note = see.text("note", wire.note, WORDS_CHARS_MAX);
    Some(domain::Fact::Progressed(domain::Progressed {
        run_id: run_id?,
        phase: phase?,
        note,
    }))
}

pub(super) fn ended(wire: wire::RunEnded, see: &mut Fields<'_>) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let outcome = see.word::<wire::RunOutcome>("outcome", wire.outcome);
    let error = see.optional("error", wire.error, error);
    let result = see.optional_json("result_json", wire.result_json);
    let counters = see.numbers("counters", wire.counters, COUNTERS_MAX);
    let finished = matches!(
        outcome,
        Some(domain::Outcome::Completed | domain::Outcome::Succeeded)
    );
    if finished && error.is_some() {
        let why = "goes only with failed, stopped, skipped or cancelled: leave it out, or say another outcome";
        see.fault("error", reason::NOT_ALLOWED, why);
    }
    Some(domain::Fact::Ended(domain::Ended {
        run_id: run_id?,
        outcome: outcome?,
        error,
        result,
        counters,
    }))
}

pub(super) fn step_started(wire: wire::StepStarted, see: &mut Fields<'_>) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let step_id = see.id("step_id", wire.step_id, StepId::parse);
    let parent_step_id = see.optional_id("parent_step_id", wire.parent_step_id, StepId::parse);
    let name = see.text("name", wire.name, WORDS_CHARS_MAX);
    Some(domain::Fact::StepStarted(domain::StepStarted {
        run_id: run_id?,
        step_id: step_id?,
        parent_step_id,
        name,
    }))
}

pub(super) fn step_ended(wire: wire::StepEnded, see: &mut Fields<'_>) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let step_id = see.id("step_id", wire.step_id, StepId::parse);
    let status = see.word::<wire::WorkStatus>("status", wire.status);
    let error = see.optional("error", wire.error, error);
    Some(domain::Fact::StepEnded(domain::StepEnded {
        run_id: run_id?,
        step_id: step_id?,
        status: status?,
        error,
    }))
}

pub(super) fn tool_call_started(
    wire: wire::ToolCallStarted,
    see: &mut Fields<'_>,
) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let step_id = see.optional_id("step_id", wire.step_id, StepId::parse);
    let tool = see.id("tool", wire.tool, Name::parse);
    let arguments = see.optional_json("arguments_json", wire.arguments_json);
    let action_hint = see.text("action_hint", wire.action_hint, SHORT_CHARS_MAX);
    let reason = see.text("reason", wire.reason, WORDS_CHARS_MAX);
    let agent_context = see.optional("agent_context", wire.agent_context, agent_context);
    Some(domain::Fact::ToolCallStarted(domain::ToolCallStarted {
        run_id: run_id?,
        tool_call_id: tool_call_id?,
        step_id,
        tool: tool?,
        arguments,
        action_hint,
        reason,
        agent_context,
    }))
}

pub(super) fn tool_call_ended(
    wire: wire::ToolCallEnded,
    see: &mut Fields<'_>,
) -> Option<domain::Fact> {
    use wire::tool_call_ended::Result;
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let status = see.word::<wire::WorkStatus>("status", wire.status);
    let result = wire.result.and_then(|result| match result {
        Result::ResultJson(text) => see.json("result_json", text).map(domain::ToolResult::Json),
        Result::ResultChars(chars) => {
            Some(domain::ToolResult::Chars(see.count("result_chars", chars)))
        }
    });
    let error = see.optional("error", wire.error, error);
    Some(domain::Fact::ToolCallEnded(domain::ToolCallEnded {
        run_id: run_id?,
        tool_call_id: tool_call_id?,
        status: status?,
        result,
        error,
    }))
}

pub(super) fn usage_recorded(
    wire: wire::UsageRecorded,
    see: &mut Fields<'_>,
) -> Option<domain::Fact> {
    let run_id = see.id("run_id", wire.run_id, RunId::parse);
    let meter = see.id("meter", wire.meter, Name::parse);
    let tool_call_id = see.optional_id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let dimensions = see.texts(
        "dimensions",
        wire.dimensions,
        DIMENSIONS_MAX,
        SHORT_CHARS_MAX,
    );
    if wire.quantity < 0 {
        see.fault("quantity", reason::OUT_OF_RANGE, "must be at least 0");
    }
    Some(domain::Fact::UsageRecorded(domain::UsageRecorded {
        run_id: run_id?,
        meter: meter?,
        quantity: wire.quantity,
        tool_call_id,
        dimensions,
    }))
}
