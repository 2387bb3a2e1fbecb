use prost::Message as _;
use runledger_domain::approval as domain;
use runledger_domain::policy::Match;

use super::{actor, text, timestamp};
use crate::approval::v1 as wire;
use crate::{policy, types};

/// The type name and the encoded payload of a command about a tool call, as they are stored.
pub fn approval_command(command: &domain::Command) -> (&'static str, Vec<u8>) {
    match command {
        domain::Command::RequestToolCall(command) => {
            let message = wire::RequestToolCall {
                call: Some((&command.call).into()),
                agent_id: command.agent_id.to_string(),
            };
            (types::REQUEST_TOOL_CALL, message.encode_to_vec())
        }
        domain::Command::DecideApproval(command) => {
            let digest = command.arguments_digest.as_ref();
            let message = wire::DecideApproval {
                approval_id: command.approval_id.to_string(),
                tool_call_id: command.tool_call_id.to_string(),
                approve: command.approve,
                reason: command.reason.clone(),
                edited_arguments_json: text(command.edited_arguments.as_ref()),
                arguments_digest: digest.map(|digest| digest.to_vec()).unwrap_or_default(),
            };
            (types::DECIDE_APPROVAL, message.encode_to_vec())
        }
        domain::Command::ConfirmExecution(command) => {
            let message = wire::ConfirmExecution {
                tool_call_id: command.tool_call_id.to_string(),
                arguments_digest: command.arguments_digest.to_vec(),
            };
            (types::CONFIRM_EXECUTION, message.encode_to_vec())
        }
    }
}

/// The type name and the encoded payload of a decision about a tool call, as they are stored.
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
        domain::Decision::ApprovalClosed(decision) => {
            let message = wire::ApprovalClosed {
                approval_id: decision.approval_id.to_string(),
                tool_call_id: decision.tool_call_id.to_string(),
                status: wire::ApprovalStatus::from(decision.status).into(),
            };
            (types::APPROVAL_CLOSED, message.encode_to_vec())
        }
        domain::Decision::ExecutionConfirmed(decision) => {
            let message = wire::ExecutionConfirmed {
                tool_call_id: decision.tool_call_id.to_string(),
                arguments_digest: decision.arguments_digest.to_vec(),
                actor: Some(actor(&decision.actor)),
                approval_id: text(decision.approval_id.as_ref()),
            };
            (types::EXECUTION_CONFIRMED, message.encode_to_vec())
        }
    }
}

impl From<&domain::ToolCallDecided> for wire::ToolCallDecided {
    fn from(decided: &domain::ToolCallDecided) -> Self {
        let held = decided.held.as_ref();
        let severity = decided.severity;
        Self {
            call: Some((&decided.call).into()),
            agent_id: decided.agent_id.to_string(),
            requester: Some(actor(&decided.requester)),
            verdict: wire::Verdict::from(decided.verdict).into(),
            reason: decided.reason.to_string(),
            message: decided.message.clone(),
            matches: decided.matches.iter().map(Into::into).collect(),
            arguments_digest: decided.arguments_digest.to_vec(),
            approval_id: text(held.map(|(id, _)| id)),
            terms: held.map(|(_, terms)| terms.into()),
            opens_run: decided.opens_run,
            severity: severity.map_or(0, |one| policy::v1::Severity::from(one).into()),
        }
    }
}

impl From<&Match> for wire::PolicyMatch {
    fn from(one: &Match) -> Self {
        let severity = one.severity;
        Self {
            policy_id: one.policy.to_string(),
            version: one.version,
            name: one.name.clone(),
            action: policy::v1::Action::from(one.action).into(),
            severity: severity.map_or(0, |one| policy::v1::Severity::from(one).into()),
            error: one.error.clone().unwrap_or_default(),
        }
    }
}

impl From<&domain::ApprovalTerms> for wire::ApprovalTerms {
    fn from(terms: &domain::ApprovalTerms) -> Self {
        let micros = terms.use_within.as_micros();
        Self {
            quorum: terms.quorum,
            approvers: terms.approvers.iter().map(Into::into).collect(),
            requester_may_approve: terms.requester_may_approve,
            decide_by: Some(timestamp(terms.decide_by)),
            use_within_micros: u64::try_from(micros).unwrap_or(u64::MAX),
        }
    }
}

impl From<&domain::ApprovalVoted> for wire::ApprovalVoted {
    fn from(voted: &domain::ApprovalVoted) -> Self {
        Self {
            approval_id: voted.approval_id.to_string(),
            tool_call_id: voted.tool_call_id.to_string(),
            voter: Some(actor(&voted.voter)),
            approve: voted.approve,
            reason: voted.reason.clone(),
            edited_arguments_json: text(voted.edited_arguments.as_ref()),
            arguments_digest: voted.arguments_digest.to_vec(),
            approved: voted.approved,
            status: wire::ApprovalStatus::from(voted.status).into(),
            use_by: voted.use_by.map(timestamp),
        }
    }
}
