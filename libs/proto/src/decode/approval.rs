//! Commands and decisions about tool calls.

use std::time::Duration;

use prost::Message;
use runledger_domain::approval::{
    ApprovalClosed, ApprovalTerms, ApprovalVoted, Command, ConfirmExecution, DecideApproval,
    Decision, ExecutionConfirmed, RequestToolCall, Status, ToolCallDecided,
};
use runledger_domain::digest::Digest;
use runledger_domain::ids::{AgentId, ApprovalId, PolicyId, PrincipalId, RecordId, ToolCallId};
use runledger_domain::policy::Match;
use runledger_domain::run;
use runledger_domain::scope::Actor;

use super::fields::{Fields, reason};
use super::policy::approvers;
use super::run_fact;
use super::stored::{Error, message};
use crate::approval::v1 as wire;
use crate::{common, policy, types};

/// A request as an agent makes it: the command's id, and what it asks for.
pub fn tool_call_request(
    wire: wire::ToolCallRequest,
    see: &mut Fields<'_>,
) -> Option<(RecordId, RequestToolCall)> {
    let id = see.uuid("id", &wire.id).map(RecordId::new);
    let agent_id = see.id("agent_id", wire.agent_id, AgentId::parse);
    let call = see.required("call", wire.call);
    let call = call.and_then(|call| see.within("call", |see| started(call, see)));
    let request = RequestToolCall {
        call: call?,
        agent_id: agent_id?,
    };
    Some((id?, request))
}

fn started(
    wire: crate::run::v1::ToolCallStarted,
    see: &mut Fields<'_>,
) -> Option<run::ToolCallStarted> {
    match run_fact::tool_call_started(wire, see)? {
        run::Fact::ToolCallStarted(started) => Some(started),
        run::Fact::Started(_)
        | run::Fact::Progressed(_)
        | run::Fact::Ended(_)
        | run::Fact::StepStarted(_)
        | run::Fact::StepEnded(_)
        | run::Fact::ToolCallEnded(_)
        | run::Fact::UsageRecorded(_) => None,
    }
}

/// The command about a tool call in a stored payload. `Ok(None)`: its type is none of those, or it
/// says what this version does not understand.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_approval_command(type_name: &str, bytes: &[u8]) -> Result<Option<Command>, Error> {
    match type_name {
        types::REQUEST_TOOL_CALL => read(type_name, bytes, |wire: wire::RequestToolCall, see| {
            let call = see.optional("call", wire.call, started)?;
            let agent_id = see.id("agent_id", wire.agent_id, AgentId::parse)?;
            let request = RequestToolCall { call, agent_id };
            Some(Command::RequestToolCall(Box::new(request)))
        }),
        types::DECIDE_APPROVAL => read(type_name, bytes, |wire: wire::DecideApproval, see| {
            Some(Command::DecideApproval(DecideApproval {
                approval_id: approval_id(see, &wire.approval_id)?,
                tool_call_id: tool_call_id(see, wire.tool_call_id)?,
                approve: wire.approve,
                reason: wire.reason,
                edited_arguments: see
                    .optional_json("edited_arguments_json", wire.edited_arguments_json),
                arguments_digest: optional_digest(see, &wire.arguments_digest),
            }))
        }),
        types::CONFIRM_EXECUTION => read(type_name, bytes, |wire: wire::ConfirmExecution, see| {
            Some(Command::ConfirmExecution(ConfirmExecution {
                tool_call_id: tool_call_id(see, wire.tool_call_id)?,
                arguments_digest: digest(see, &wire.arguments_digest)?,
            }))
        }),
        _ => Ok(None),
    }
}

/// The decision about a tool call in a stored payload. `Ok(None)`: as in [`stored_approval_command`].
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_approval_decision(type_name: &str, bytes: &[u8]) -> Result<Option<Decision>, Error> {
    match type_name {
        types::TOOL_CALL_DECIDED => read(type_name, bytes, |wire, see| {
            decided(wire, see).map(|one| Decision::ToolCallDecided(Box::new(one)))
        }),
        types::APPROVAL_VOTED => read(type_name, bytes, |wire, see| {
            voted(wire, see).map(Decision::ApprovalVoted)
        }),
        types::APPROVAL_CLOSED => read(type_name, bytes, |wire: wire::ApprovalClosed, see| {
            Some(Decision::ApprovalClosed(ApprovalClosed {
                approval_id: approval_id(see, &wire.approval_id)?,
                tool_call_id: tool_call_id(see, wire.tool_call_id)?,
                status: status(see, wire.status)?,
            }))
        }),
        types::EXECUTION_CONFIRMED => {
            read(type_name, bytes, |wire: wire::ExecutionConfirmed, see| {
                let approval_id = see.optional_uuid("approval_id", &wire.approval_id);
                Some(Decision::ExecutionConfirmed(ExecutionConfirmed {
                    tool_call_id: tool_call_id(see, wire.tool_call_id)?,
                    arguments_digest: digest(see, &wire.arguments_digest)?,
                    actor: see.optional("actor", wire.actor, actor)?,
                    approval_id: approval_id.map(ApprovalId::new),
                }))
            })
        }
        _ => Ok(None),
    }
}

fn decided(wire: wire::ToolCallDecided, see: &mut Fields<'_>) -> Option<ToolCallDecided> {
    let approval_id = see.optional_uuid("approval_id", &wire.approval_id);
    let terms = see.optional("terms", wire.terms, terms);
    let severity = match wire.severity {
        0 => None,
        number => see.word::<policy::v1::Severity>("severity", number),
    };
    let matches = wire.matches.into_iter();
    let matches: Option<Vec<Match>> = matches.map(|one| matched(one, see)).collect();
    Some(ToolCallDecided {
        call: see.optional("call", wire.call, started)?,
        agent_id: see.id("agent_id", wire.agent_id, AgentId::parse)?,
        requester: see.optional("requester", wire.requester, actor)?,
        verdict: see.word::<wire::Verdict>("verdict", wire.verdict)?,
        reason: wire.reason.into(),
        message: wire.message,
        matches: matches?,
        arguments_digest: digest(see, &wire.arguments_digest)?,
        held: approval_id.map(ApprovalId::new).zip(terms),
        opens_run: wire.opens_run,
        severity,
    })
}

fn matched(wire: wire::PolicyMatch, see: &mut Fields<'_>) -> Option<Match> {
    let severity = match wire.severity {
        0 => None,
        number => see.word::<policy::v1::Severity>("severity", number),
    };
    Some(Match {
        policy: see.id("policy_id", wire.policy_id, PolicyId::parse)?,
        version: wire.version,
        name: wire.name,
        action: see.word::<policy::v1::Action>("action", wire.action)?,
        severity,
        error: Some(wire.error).filter(|error| !error.is_empty()),
    })
}

fn terms(wire: wire::ApprovalTerms, see: &mut Fields<'_>) -> Option<ApprovalTerms> {
    let sets = wire.approvers.into_iter();
    let sets: Option<Vec<_>> = sets.map(|set| approvers(set, see)).collect();
    Some(ApprovalTerms {
        quorum: wire.quorum,
        approvers: sets?,
        requester_may_approve: wire.requester_may_approve,
        decide_by: see.time("decide_by", wire.decide_by)?,
        use_within: Duration::from_micros(wire.use_within_micros),
    })
}

fn voted(wire: wire::ApprovalVoted, see: &mut Fields<'_>) -> Option<ApprovalVoted> {
    Some(ApprovalVoted {
        approval_id: approval_id(see, &wire.approval_id)?,
        tool_call_id: tool_call_id(see, wire.tool_call_id)?,
        voter: see.optional("voter", wire.voter, actor)?,
        approve: wire.approve,
        reason: wire.reason,
        edited_arguments: see.optional_json("edited_arguments_json", wire.edited_arguments_json),
        arguments_digest: digest(see, &wire.arguments_digest)?,
        approved: wire.approved,
        status: status(see, wire.status)?,
        use_by: see.optional_time("use_by", wire.use_by),
    })
}

fn approval_id(see: &mut Fields<'_>, value: &str) -> Option<ApprovalId> {
    see.uuid("approval_id", value).map(ApprovalId::new)
}

fn tool_call_id(see: &mut Fields<'_>, value: String) -> Option<ToolCallId> {
    see.id("tool_call_id", value, ToolCallId::parse)
}

fn status(see: &mut Fields<'_>, number: i32) -> Option<Status> {
    see.word::<wire::ApprovalStatus>("status", number)
}

fn optional_digest(see: &mut Fields<'_>, bytes: &[u8]) -> Option<Digest> {
    if bytes.is_empty() {
        return None;
    }
    digest(see, bytes)
}

/// The digest of arguments, as a message has it.
pub fn digest(see: &mut Fields<'_>, bytes: &[u8]) -> Option<Digest> {
    let digest = bytes.try_into().ok();
    if digest.is_none() {
        let what = "must be the 32 bytes of a SHA-256";
        see.fault("arguments_digest", reason::OUT_OF_RANGE, what);
    }
    digest
}

fn actor(wire: common::v1::Actor, see: &mut Fields<'_>) -> Option<Actor> {
    let principal = see.uuid("principal_id", &wire.principal_id);
    let kind = see.word::<common::v1::PrincipalKind>("kind", wire.kind);
    let role = see.word::<common::v1::Role>("role", wire.role);
    Some(Actor {
        principal: principal.map(PrincipalId::new)?,
        kind: kind?,
        role: role?,
    })
}

fn read<M: Message + Default, T>(
    type_name: &str,
    bytes: &[u8],
    convert: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    let mut faults = Vec::new();
    let value = convert(
        message(type_name, bytes)?,
        &mut Fields::of_stored(&mut faults),
    );
    Ok(value.filter(|_| faults.is_empty()))
}
