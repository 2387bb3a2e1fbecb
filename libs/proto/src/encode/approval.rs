use prost::Message as _;
use runledger_domain::approval as domain;
use runledger_domain::policy::{ApproverSet, Match};

use super::{actor, text, timestamp};
use crate::approval::v1 as wire;
use crate::policy::v1 as wire_policy;
use crate::{common, types};

/// The type name and the encoded payload of a command about a governed call, as they are stored.
pub fn approval_command(command: &domain::Command) -> (&'static str, Vec<u8>) {
    match command {
        domain::Command::RequestToolCall(command) => (
            types::REQUEST_TOOL_CALL,
            wire::RequestToolCall::from(command.as_ref()).encode_to_vec(),
        ),
        domain::Command::DecideApproval(command) => (
            types::DECIDE_APPROVAL,
            wire::DecideApproval::from(command).encode_to_vec(),
        ),
        domain::Command::ConfirmExecution(command) => (
            types::CONFIRM_EXECUTION,
            wire::ConfirmExecution::from(command).encode_to_vec(),
        ),
    }
}

/// The type name and the encoded payload of a decision about a governed call, as they are stored.
pub fn approval_decision(decision: &domain::Decision) -> (&'static str, Vec<u8>) {
    match decision {
        domain::Decision::ToolCallDecided(decision) => (
            types::TOOL_CALL_DECIDED,
            wire::ToolCallDecided::from(decision.as_ref()).encode_to_vec(),
        ),
        domain::Decision::ApprovalVoted(decision) => (
            types::APPROVAL_VOTED,
            wire::ApprovalVoted::from(decision).encode_to_vec(),
        ),
        domain::Decision::ApprovalClosed(decision) => (
            types::APPROVAL_CLOSED,
            wire::ApprovalClosed::from(decision).encode_to_vec(),
        ),
        domain::Decision::ExecutionConfirmed(decision) => (
            types::EXECUTION_CONFIRMED,
            wire::ExecutionConfirmed::from(decision).encode_to_vec(),
        ),
    }
}

impl From<&domain::RequestToolCall> for wire::RequestToolCall {
    fn from(command: &domain::RequestToolCall) -> Self {
        Self {
            call: Some((&command.call).into()),
            agent_id: command.agent_id.to_string(),
        }
    }
}

impl From<&domain::DecideApproval> for wire::DecideApproval {
    fn from(command: &domain::DecideApproval) -> Self {
        let digest = command.arguments_digest.as_ref();
        Self {
            approval_id: command.approval_id.to_string(),
            tool_call_id: command.tool_call_id.to_string(),
            approve: command.approve,
            reason: command.reason.clone(),
            edited_arguments_json: text(command.edited_arguments.as_ref()),
            arguments_digest: digest.map(bytes).unwrap_or_default(),
        }
    }
}

impl From<&domain::ConfirmExecution> for wire::ConfirmExecution {
    fn from(command: &domain::ConfirmExecution) -> Self {
        Self {
            tool_call_id: command.tool_call_id.to_string(),
            arguments_digest: bytes(&command.arguments_digest),
        }
    }
}

impl From<&domain::ToolCallDecided> for wire::ToolCallDecided {
    fn from(decision: &domain::ToolCallDecided) -> Self {
        let held = decision.held.as_ref();
        Self {
            call: Some((&decision.call).into()),
            agent_id: decision.agent_id.to_string(),
            requester: Some(actor(&decision.requester)),
            verdict: wire::Verdict::from(decision.verdict).into(),
            reason: decision.reason.to_string(),
            message: decision.message.clone(),
            matches: decision.matches.iter().map(Into::into).collect(),
            arguments_digest: bytes(&decision.arguments_digest),
            approval_id: text(held.map(|(id, _)| id)),
            terms: held.map(|(_, terms)| terms.into()),
            opens_run: decision.opens_run,
            severity: severity(decision.severity),
            run_reported: decision.run_reported,
        }
    }
}

impl From<&Match> for wire::PolicyMatch {
    fn from(found: &Match) -> Self {
        Self {
            policy_id: found.policy.to_string(),
            version: found.version,
            name: found.name.clone(),
            action: wire_policy::Action::from(found.action).into(),
            severity: severity(found.severity),
            error: found.error.clone().unwrap_or_default(),
        }
    }
}

impl From<&domain::ApprovalTerms> for wire::ApprovalTerms {
    fn from(terms: &domain::ApprovalTerms) -> Self {
        Self {
            quorum: terms.quorum,
            approvers: terms.approvers.iter().map(approvers).collect(),
            requester_may_approve: terms.requester_may_approve,
            decide_by: Some(timestamp(terms.decide_by)),
            use_within_micros: u64::try_from(terms.use_within.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

fn approvers(set: &ApproverSet) -> wire_policy::ApproverSet {
    let role = |role| common::v1::Role::from(role).into();
    wire_policy::ApproverSet {
        roles: set.roles.iter().copied().map(role).collect(),
        principals: set.principals.iter().map(ToString::to_string).collect(),
    }
}

impl From<&domain::ApprovalVoted> for wire::ApprovalVoted {
    fn from(decision: &domain::ApprovalVoted) -> Self {
        Self {
            approval_id: decision.approval_id.to_string(),
            tool_call_id: decision.tool_call_id.to_string(),
            voter: Some(actor(&decision.voter)),
            approve: decision.approve,
            reason: decision.reason.clone(),
            edited_arguments_json: text(decision.edited_arguments.as_ref()),
            arguments_digest: bytes(&decision.arguments_digest),
            approved: decision.approved,
            status: wire::ApprovalStatus::from(decision.status).into(),
            use_by: decision.use_by.map(timestamp),
        }
    }
}

impl From<&domain::ApprovalClosed> for wire::ApprovalClosed {
    fn from(decision: &domain::ApprovalClosed) -> Self {
        Self {
            approval_id: decision.approval_id.to_string(),
            tool_call_id: decision.tool_call_id.to_string(),
            status: wire::ApprovalStatus::from(decision.status).into(),
        }
    }
}

impl From<&domain::ExecutionConfirmed> for wire::ExecutionConfirmed {
    fn from(decision: &domain::ExecutionConfirmed) -> Self {
        Self {
            tool_call_id: decision.tool_call_id.to_string(),
            arguments_digest: bytes(&decision.arguments_digest),
            actor: Some(actor(&decision.actor)),
            approval_id: text(decision.approval_id.as_ref()),
        }
    }
}

fn severity(severity: Option<runledger_domain::policy::Severity>) -> i32 {
    severity.map_or(0, |severity| wire_policy::Severity::from(severity).into())
}

fn bytes(digest: &runledger_domain::digest::Digest) -> Vec<u8> {
    digest.to_vec()
}
