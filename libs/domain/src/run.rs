//! Runs: their facts, and the fold that makes a run of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, AgentId, ConversationId, Name, RunId, SpaceId, StepId, ToolCallId};
use crate::json::Json;
use crate::scope::worded;

mod fold;
pub use fold::{Moment, Part, Run, Status, ToolCall, Totals, Work, evolve};

worded! {
    /// What sets a run off.
    Trigger { Manual = "manual", Schedule = "schedule", Api = "api", Message = "message", Run = "run", Event = "event" }
}

worded! {
    /// Where a run is on its way.
    Phase {
        Queued = "queued", Starting = "starting", Running = "running", Waiting = "waiting",
        Exporting = "exporting", Stopping = "stopping",
    }
}

worded! {
    /// How a run ended. Every outcome is final.
    Outcome {
        Completed = "completed", Succeeded = "succeeded", Failed = "failed", Stopped = "stopped",
        Skipped = "skipped", Cancelled = "cancelled",
    }
}

worded! {
    /// How a step or a tool call ended.
    WorkStatus { Succeeded = "succeeded", Failed = "failed", Skipped = "skipped", Cancelled = "cancelled" }
}

/// What an agent says of itself when it acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentContext {
    pub goal: String,
    pub reasoning: String,
    pub conversation_id: Option<ConversationId>,
}

/// Limits of one run. `None`: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub tool_calls: Option<u32>,
    pub calls_of_one_tool: Option<u32>,
    pub duration: Option<Duration>,
    pub blocked_calls: Option<u32>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Name,
    pub message: String,
}

/// What a tool call returned, or only how long it was where the text stays elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolResult {
    Json(Json),
    Chars(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub run_id: RunId,
    pub agent_id: AgentId,
    pub agent_version: String,
    pub parent_run_id: Option<RunId>,
    pub conversation_id: Option<ConversationId>,
    pub space_id: Option<SpaceId>,
    pub account_id: Option<AccountId>,
    pub trigger: Trigger,
    pub task: String,
    pub reason: String,
    pub agent_context: Option<AgentContext>,
    pub model: String,
    pub input: Option<Json>,
    pub labels: BTreeMap<Name, String>,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progressed {
    pub run_id: RunId,
    pub phase: Phase,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub run_id: RunId,
    pub outcome: Outcome,
    pub error: Option<Error>,
    pub result: Option<Json>,
    pub counters: BTreeMap<Name, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepStarted {
    pub run_id: RunId,
    pub step_id: StepId,
    pub parent_step_id: Option<StepId>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnded {
    pub run_id: RunId,
    pub step_id: StepId,
    pub status: WorkStatus,
    pub error: Option<Error>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCallStarted {
    pub run_id: RunId,
    pub tool_call_id: ToolCallId,
    pub step_id: Option<StepId>,
    pub tool: Name,
    pub arguments: Option<Json>,
    pub action_hint: String,
    pub reason: String,
    pub agent_context: Option<AgentContext>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCallEnded {
    pub run_id: RunId,
    pub tool_call_id: ToolCallId,
    pub status: WorkStatus,
    pub result: Option<ToolResult>,
    pub error: Option<Error>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecorded {
    pub run_id: RunId,
    pub meter: Name,
    /// In the meter's own unit; at least 0.
    pub quantity: i64,
    pub tool_call_id: Option<ToolCallId>,
    pub dimensions: BTreeMap<Name, String>,
}

/// A fact of the family `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Boxed: it is several times the size of the others.
    Started(Box<Started>),
    Progressed(Progressed),
    Ended(Ended),
    StepStarted(StepStarted),
    StepEnded(StepEnded),
    ToolCallStarted(ToolCallStarted),
    ToolCallEnded(ToolCallEnded),
    UsageRecorded(UsageRecorded),
}

impl Fact {
    pub fn run_id(&self) -> &RunId {
        match self {
            Self::Started(fact) => &fact.run_id,
            Self::Progressed(fact) => &fact.run_id,
            Self::Ended(fact) => &fact.run_id,
            Self::StepStarted(fact) => &fact.run_id,
            Self::StepEnded(fact) => &fact.run_id,
            Self::ToolCallStarted(fact) => &fact.run_id,
            Self::ToolCallEnded(fact) => &fact.run_id,
            Self::UsageRecorded(fact) => &fact.run_id,
        }
    }
}
