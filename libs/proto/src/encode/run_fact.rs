use runledger_domain::run as domain;

use super::{duration, text};
use crate::run::v1 as wire;

impl From<&domain::Started> for wire::RunStarted {
    fn from(fact: &domain::Started) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            agent_id: fact.agent_id.to_string(),
            agent_version: fact.agent_version.clone(),
            parent_run_id: text(fact.parent_run_id.as_ref()),
            conversation_id: text(fact.conversation_id.as_ref()),
            space_id: text(fact.space_id.as_ref()),
            account_id: text(fact.account_id.as_ref()),
            trigger: wire::Trigger::from(fact.trigger).into(),
            task: fact.task.clone(),
            reason: fact.reason.clone(),
            agent_context: fact.agent_context.as_ref().map(Into::into),
            model: fact.model.clone(),
            input_json: text(fact.input.as_ref()),
            labels: fact
                .labels
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            limits: (fact.limits != domain::Limits::default()).then(|| (&fact.limits).into()),
        }
    }
}

impl From<&domain::AgentContext> for wire::AgentContext {
    fn from(context: &domain::AgentContext) -> Self {
        Self {
            goal: context.goal.clone(),
            reasoning: context.reasoning.clone(),
            conversation_id: text(context.conversation_id.as_ref()),
        }
    }
}

impl From<&domain::Limits> for wire::RunLimits {
    fn from(limits: &domain::Limits) -> Self {
        Self {
            tool_calls: limits.tool_calls,
            calls_of_one_tool: limits.calls_of_one_tool,
            duration: limits.duration.map(duration),
            blocked_calls: limits.blocked_calls,
        }
    }
}

impl From<&domain::Error> for wire::FactError {
    fn from(error: &domain::Error) -> Self {
        Self {
            code: error.code.to_string(),
            message: error.message.clone(),
        }
    }
}

impl From<&domain::Progressed> for wire::RunProgressed {
    fn from(fact: &domain::Progressed) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            phase: wire::RunPhase::from(fact.phase).into(),
            note: fact.note.clone(),
        }
    }
}

impl From<&domain::Ended> for wire::RunEnded {
    fn from(fact: &domain::Ended) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            outcome: wire::RunOutcome::from(fact.outcome).into(),
            error: fact.error.as_ref().map(Into::into),
            result_json: text(fact.result.as_ref()),
            counters: fact
                .counters
                .iter()
                .map(|(name, count)| (name.to_string(), *count))
                .collect(),
        }
    }
}

impl From<&domain::StepStarted> for wire::StepStarted {
    fn from(fact: &domain::StepStarted) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            step_id: fact.step_id.to_string(),
            parent_step_id: text(fact.parent_step_id.as_ref()),
            name: fact.name.clone(),
        }
    }
}

impl From<&domain::StepEnded> for wire::StepEnded {
    fn from(fact: &domain::StepEnded) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            step_id: fact.step_id.to_string(),
            status: wire::WorkStatus::from(fact.status).into(),
            error: fact.error.as_ref().map(Into::into),
        }
    }
}

impl From<&domain::ToolCallStarted> for wire::ToolCallStarted {
    fn from(fact: &domain::ToolCallStarted) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            tool_call_id: fact.tool_call_id.to_string(),
            step_id: text(fact.step_id.as_ref()),
            tool: fact.tool.to_string(),
            arguments_json: text(fact.arguments.as_ref()),
            action_hint: fact.action_hint.clone(),
            reason: fact.reason.clone(),
            agent_context: fact.agent_context.as_ref().map(Into::into),
        }
    }
}

impl From<&domain::ToolCallEnded> for wire::ToolCallEnded {
    fn from(fact: &domain::ToolCallEnded) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            tool_call_id: fact.tool_call_id.to_string(),
            status: wire::WorkStatus::from(fact.status).into(),
            result: fact.result.as_ref().map(Into::into),
            error: fact.error.as_ref().map(Into::into),
        }
    }
}

impl From<&domain::ToolResult> for wire::tool_call_ended::Result {
    fn from(result: &domain::ToolResult) -> Self {
        match result {
            domain::ToolResult::Json(json) => Self::ResultJson(json.to_string()),
            domain::ToolResult::Chars(chars) => Self::ResultChars(*chars),
        }
    }
}

impl From<&domain::UsageRecorded> for wire::UsageRecorded {
    fn from(fact: &domain::UsageRecorded) -> Self {
        Self {
            run_id: fact.run_id.to_string(),
            meter: fact.meter.to_string(),
            quantity: fact.quantity,
            tool_call_id: text(fact.tool_call_id.as_ref()),
            dimensions: fact
                .dimensions
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
        }
    }
}
