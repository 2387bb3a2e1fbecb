//! Commands and decisions about governed calls, as they are stored.

use std::time::Duration;

use prost::Message;
use runledger_domain::approval::{
    ApprovalClosed, ApprovalTerms, ApprovalVoted, Command, ConfirmExecution, DecideApproval,
    Decision, ExecutionConfirmed, RequestToolCall, ToolCallDecided,
};
use runledger_domain::digest::Digest;
use runledger_domain::ids::{AgentId, ApprovalId, PolicyId, PrincipalId, RecordId, ToolCallId};
use runledger_domain::policy::{ApproverSet, Match, Severity};
use runledger_domain::run::{self, ToolCallStarted};
use runledger_domain::scope::Actor;

use super::fields::{Fields, reason};
use super::run_fact;
use super::stored::{Error, message};
use crate::approval::v1 as wire;
use crate::{common, policy, run as wire_run, types};

/// Longest reason of a vote, in characters.
const REASON_CHARS_MAX: usize = 4_096;

/// The command about a governed call in a stored payload. `Ok(None)`: its type is none of those, or it
/// says what this version does not understand.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_approval_command(type_name: &str, bytes: &[u8]) -> Result<Option<Command>, Error> {
    match type_name {
        types::REQUEST_TOOL_CALL => read(type_name, bytes, request_tool_call),
        types::DECIDE_APPROVAL => read(type_name, bytes, decide_approval),
        types::CONFIRM_EXECUTION => read(type_name, bytes, confirm_execution),
        _ => Ok(None),
    }
}

/// The decision about a governed call in a stored payload. `Ok(None)`: as in
/// [`stored_approval_command`].
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_approval_decision(type_name: &str, bytes: &[u8]) -> Result<Option<Decision>, Error> {
    match type_name {
        types::TOOL_CALL_DECIDED => read(type_name, bytes, tool_call_decided),
        types::APPROVAL_VOTED => read(type_name, bytes, approval_voted),
        types::APPROVAL_CLOSED => read(type_name, bytes, approval_closed),
        types::EXECUTION_CONFIRMED => read(type_name, bytes, execution_confirmed),
        _ => Ok(None),
    }
}

/// A request as an agent makes it: the command's id, and what it asks for.
pub fn tool_call_request(
    wire: wire::ToolCallRequest,
    see: &mut Fields<'_>,
) -> Option<(RecordId, RequestToolCall)> {
    let id = see.uuid("id", &wire.id).map(RecordId::new);
    let request = call_of_agent(wire.call, wire.agent_id, see);
    Some((id?, request?))
}

/// A call, and the agent that asks for it.
pub(super) fn call_of_agent(
    call: Option<wire_run::v1::ToolCallStarted>,
    agent_id: String,
    see: &mut Fields<'_>,
) -> Option<RequestToolCall> {
    let agent_id = see.id("agent_id", agent_id, AgentId::parse);
    let call = see.required("call", call);
    let call = call.and_then(|call| started(Some(call), see));
    Some(RequestToolCall {
        call: call?,
        agent_id: agent_id?,
    })
}

fn request_tool_call(wire: wire::RequestToolCall, see: &mut Fields<'_>) -> Option<Command> {
    let call = started(wire.call, see);
    let agent_id = see.id("agent_id", wire.agent_id, AgentId::parse);
    Some(Command::RequestToolCall(Box::new(RequestToolCall {
        call: call?,
        agent_id: agent_id?,
    })))
}

fn started(
    wire: Option<wire_run::v1::ToolCallStarted>,
    see: &mut Fields<'_>,
) -> Option<ToolCallStarted> {
    match see.optional("call", wire, run_fact::tool_call_started)? {
        run::Fact::ToolCallStarted(call) => Some(call),
        _ => None,
    }
}

fn decide_approval(wire: wire::DecideApproval, see: &mut Fields<'_>) -> Option<Command> {
    let approval_id = approval_id(&wire.approval_id, see);
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let reason = see.text("reason", wire.reason, REASON_CHARS_MAX);
    let edited_arguments = see.optional_json("edited_arguments_json", wire.edited_arguments_json);
    let arguments_digest = match wire.arguments_digest {
        none if none.is_empty() => None,
        given => digest(&given, see),
    };
    Some(Command::DecideApproval(DecideApproval {
        approval_id: approval_id?,
        tool_call_id: tool_call_id?,
        approve: wire.approve,
        reason,
        edited_arguments,
        arguments_digest,
    }))
}

fn confirm_execution(wire: wire::ConfirmExecution, see: &mut Fields<'_>) -> Option<Command> {
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let arguments_digest = digest(&wire.arguments_digest, see);
    Some(Command::ConfirmExecution(ConfirmExecution {
        tool_call_id: tool_call_id?,
        arguments_digest: arguments_digest?,
    }))
}

fn tool_call_decided(wire: wire::ToolCallDecided, see: &mut Fields<'_>) -> Option<Decision> {
    let call = started(wire.call, see);
    let agent_id = see.id("agent_id", wire.agent_id, AgentId::parse);
    let requester = actor("requester", wire.requester, see);
    let verdict = see.word::<wire::Verdict>("verdict", wire.verdict);
    let matches = wire.matches.into_iter();
    let matches = matches
        .map(|found| see.within("matches", |see| policy_match(found, see)))
        .collect::<Option<Vec<_>>>();
    let arguments_digest = digest(&wire.arguments_digest, see);
    let held = match (wire.approval_id.as_str(), wire.terms) {
        ("", None) => None,
        (id, terms) => {
            let id = approval_id(id, see);
            let terms = see.required("terms", terms);
            let terms = see.optional("terms", terms, self::terms);
            Some((id?, terms?))
        }
    };
    let severity = severity(wire.severity, see);
    Some(Decision::ToolCallDecided(Box::new(ToolCallDecided {
        call: call?,
        agent_id: agent_id?,
        requester: requester?,
        verdict: verdict?,
        reason: wire.reason.into(),
        message: wire.message,
        matches: matches?,
        arguments_digest: arguments_digest?,
        held,
        opens_run: wire.opens_run,
        severity,
        run_reported: wire.run_reported,
    })))
}

fn policy_match(wire: wire::PolicyMatch, see: &mut Fields<'_>) -> Option<Match> {
    let policy = see.id("policy_id", wire.policy_id, PolicyId::parse);
    let action = see.word::<policy::v1::Action>("action", wire.action);
    let severity = severity(wire.severity, see);
    Some(Match {
        policy: policy?,
        version: wire.version,
        name: wire.name,
        action: action?,
        severity,
        error: Some(wire.error).filter(|error| !error.is_empty()),
    })
}

fn severity(number: i32, see: &mut Fields<'_>) -> Option<Severity> {
    match number {
        0 => None,
        number => see.word::<policy::v1::Severity>("severity", number),
    }
}

fn terms(wire: wire::ApprovalTerms, see: &mut Fields<'_>) -> Option<ApprovalTerms> {
    let sets = wire.approvers.into_iter();
    let approvers = sets
        .map(|set| see.within("approvers", |see| approvers(set, see)))
        .collect();
    let decide_by = see.time("decide_by", wire.decide_by);
    Some(ApprovalTerms {
        quorum: wire.quorum,
        approvers,
        requester_may_approve: wire.requester_may_approve,
        decide_by: decide_by?,
        use_within: Duration::from_micros(wire.use_within_micros),
    })
}

/// A role that this version does not know is a fault: left out, it would leave an empty set, which
/// stands for others.
fn approvers(wire: policy::v1::ApproverSet, see: &mut Fields<'_>) -> ApproverSet {
    let roles = wire.roles.into_iter();
    let roles = roles
        .filter_map(|role| see.word::<common::v1::Role>("roles", role))
        .collect();
    let principals = wire.principals.iter();
    let principals = principals
        .filter_map(|id| see.uuid("principals", id))
        .map(PrincipalId::new)
        .collect();
    ApproverSet { roles, principals }
}

fn approval_voted(wire: wire::ApprovalVoted, see: &mut Fields<'_>) -> Option<Decision> {
    let approval_id = approval_id(&wire.approval_id, see);
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let voter = actor("voter", wire.voter, see);
    let edited_arguments = see.optional_json("edited_arguments_json", wire.edited_arguments_json);
    let arguments_digest = digest(&wire.arguments_digest, see);
    let status = see.word::<wire::ApprovalStatus>("status", wire.status);
    let use_by = see.optional_time("use_by", wire.use_by);
    Some(Decision::ApprovalVoted(ApprovalVoted {
        approval_id: approval_id?,
        tool_call_id: tool_call_id?,
        voter: voter?,
        approve: wire.approve,
        reason: wire.reason,
        edited_arguments,
        arguments_digest: arguments_digest?,
        approved: wire.approved,
        status: status?,
        use_by,
    }))
}

fn approval_closed(wire: wire::ApprovalClosed, see: &mut Fields<'_>) -> Option<Decision> {
    let approval_id = approval_id(&wire.approval_id, see);
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let status = see.word::<wire::ApprovalStatus>("status", wire.status);
    Some(Decision::ApprovalClosed(ApprovalClosed {
        approval_id: approval_id?,
        tool_call_id: tool_call_id?,
        status: status?,
    }))
}

fn execution_confirmed(wire: wire::ExecutionConfirmed, see: &mut Fields<'_>) -> Option<Decision> {
    let tool_call_id = see.id("tool_call_id", wire.tool_call_id, ToolCallId::parse);
    let arguments_digest = digest(&wire.arguments_digest, see);
    let actor = actor("actor", wire.actor, see);
    let approval_id = see.optional_uuid("approval_id", &wire.approval_id);
    Some(Decision::ExecutionConfirmed(ExecutionConfirmed {
        tool_call_id: tool_call_id?,
        arguments_digest: arguments_digest?,
        actor: actor?,
        approval_id: approval_id.map(ApprovalId::new),
    }))
}

fn approval_id(text: &str, see: &mut Fields<'_>) -> Option<ApprovalId> {
    see.uuid("approval_id", text).map(ApprovalId::new)
}

pub(super) fn actor(
    name: &'static str,
    wire: Option<common::v1::Actor>,
    see: &mut Fields<'_>,
) -> Option<Actor> {
    let wire = see.required(name, wire)?;
    see.within(name, |see| {
        // Whoever it is was authenticated when it was recorded, the nil UUID included.
        let principal = uuid::Uuid::try_parse(&wire.principal_id).ok();
        let principal = see.required("principal_id", principal);
        let kind = see.word::<common::v1::PrincipalKind>("kind", wire.kind);
        let role = see.word::<common::v1::Role>("role", wire.role);
        Some(Actor {
            principal: PrincipalId::new(principal?),
            kind: kind?,
            role: role?,
        })
    })
}

fn digest(bytes: &[u8], see: &mut Fields<'_>) -> Option<Digest> {
    let digest = Digest::try_from(bytes).ok();
    if digest.is_none() {
        see.fault("arguments_digest", reason::OUT_OF_RANGE, "must be 32 bytes");
    }
    digest
}

pub(super) fn read<M: Message + Default, T>(
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
