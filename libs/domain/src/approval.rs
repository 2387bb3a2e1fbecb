//! Governed tool calls: what agents ask, what approvers say, and what becomes of it.
//!
//! [`decide`] judges a command, [`due`] says what is owed without one, [`evolve`] takes in a decision
//! and [`heed`] a fact. Nothing else changes what is known of a run or of a call.

use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};
use crate::ids::{AgentId, ApprovalId, ToolCallId};
use crate::json::Json;
use crate::policy::{ApproverSet, Match, Severity};
use crate::run;
use crate::scope::{Actor, worded};
use crate::time::Timestamp;
use std::time::Duration;

mod confirm;
mod decide;
mod kept;
mod request;
mod state;
#[cfg(test)]
mod tests;
mod vote;

pub use decide::{Moment, decide};
pub use kept::InvalidState;
pub use state::{Call, Due, Held, Run, due, evolve, heed, heeds, next_due};

worded! {
    /// What becomes of a call that an agent asks for.
    Verdict {
        Allowed = "allowed", Warned = "warned", Blocked = "blocked", AwaitingApproval = "awaiting_approval",
    }
}

worded! {
    /// The state of an approval.
    Status {
        Pending = "pending", Approved = "approved", Rejected = "rejected", Expired = "expired",
        Cancelled = "cancelled",
    }
}

/// A command about one tool call of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Boxed: it is several times the size of the others.
    RequestToolCall(Box<RequestToolCall>),
    DecideApproval(DecideApproval),
    ConfirmExecution(ConfirmExecution),
}

impl Command {
    /// The call that it is about.
    pub fn tool_call_id(&self) -> &ToolCallId {
        match self {
            Self::RequestToolCall(command) => &command.call.tool_call_id,
            Self::DecideApproval(command) => &command.tool_call_id,
            Self::ConfirmExecution(command) => &command.tool_call_id,
        }
    }
}

/// May this tool be called?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestToolCall {
    pub call: run::ToolCallStarted,
    pub agent_id: AgentId,
}

/// Approve or reject a held call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecideApproval {
    pub approval_id: ApprovalId,
    pub tool_call_id: ToolCallId,
    pub approve: bool,
    pub reason: String,
    /// Approve these arguments instead.
    pub edited_arguments: Option<Json>,
    /// What the approver saw; `None`: whatever it is.
    pub arguments_digest: Option<Digest>,
}

/// The call is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmExecution {
    pub tool_call_id: ToolCallId,
    pub arguments_digest: Digest,
}

/// A decision about one tool call of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Boxed: it is several times the size of the others.
    ToolCallDecided(Box<ToolCallDecided>),
    ApprovalVoted(ApprovalVoted),
    ApprovalClosed(ApprovalClosed),
    ExecutionConfirmed(ExecutionConfirmed),
}

impl Decision {
    /// The call that it is about.
    pub fn tool_call_id(&self) -> &ToolCallId {
        match self {
            Self::ToolCallDecided(decision) => &decision.call.tool_call_id,
            Self::ApprovalVoted(decision) => &decision.tool_call_id,
            Self::ApprovalClosed(decision) => &decision.tool_call_id,
            Self::ExecutionConfirmed(decision) => &decision.tool_call_id,
        }
    }
}

/// What approving a held call takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalTerms {
    pub quorum: u32,
    /// An approver must be in each of these.
    pub approvers: Vec<ApproverSet>,
    pub requester_may_approve: bool,
    /// From then on the call counts as rejected.
    pub decide_by: Timestamp,
    pub use_within: Duration,
}

/// What becomes of a call. It is the call's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCallDecided {
    pub call: run::ToolCallStarted,
    pub agent_id: AgentId,
    pub requester: Actor,
    pub verdict: Verdict,
    /// Stable, UPPER_SNAKE_CASE.
    pub reason: Box<str>,
    pub message: String,
    pub matches: Vec<Match>,
    pub arguments_digest: Digest,
    /// With [`Verdict::AwaitingApproval`].
    pub held: Option<(ApprovalId, ApprovalTerms)>,
    /// The run was not known before.
    pub opens_run: bool,
    /// `None`: no risk event.
    pub severity: Option<Severity>,
    /// The run's start had been reported: its model and labels were judged too.
    pub run_reported: bool,
}

impl ToolCallDecided {
    /// Whether the verdict is what the policies made of the call, and not the state of its run.
    pub fn is_by_policies(&self) -> bool {
        matches!(&*self.reason, request::POLICY | request::NO_POLICY)
    }
}

/// An approver's vote counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalVoted {
    pub approval_id: ApprovalId,
    pub tool_call_id: ToolCallId,
    pub voter: Actor,
    pub approve: bool,
    pub reason: String,
    pub edited_arguments: Option<Json>,
    pub arguments_digest: Digest,
    /// How many have approved these arguments, this vote included.
    pub approved: u32,
    /// Pending, approved or rejected.
    pub status: Status,
    pub use_by: Option<Timestamp>,
}

/// An approval expired, or was cancelled because its run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalClosed {
    pub approval_id: ApprovalId,
    pub tool_call_id: ToolCallId,
    pub status: Status,
}

/// The call may be made now, this once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionConfirmed {
    pub tool_call_id: ToolCallId,
    pub arguments_digest: Digest,
    pub actor: Actor,
    pub approval_id: Option<ApprovalId>,
}

/// The digest of a call's arguments: SHA-256 of their canonical text, of the empty text when there are
/// none. What was approved and what is run are the same if and only if this is.
pub fn digest_arguments(arguments: Option<&Json>) -> Digest {
    digest::of(arguments.map_or("", Json::as_str).as_bytes())
}
