//! What is answered to a command about a call. Pure: everything it depends on is handed in.

use std::time::Duration;

use chrono::TimeDelta;

use super::state::Held;
use super::{
    ApprovalTerms, ApprovalVoted, Call, Command, ConfirmExecution, DecideApproval, Decision,
    ExecutionConfirmed, RequestToolCall, Run, Status, ToolCallDecided, Verdict, digest_arguments,
};
use crate::decision::{Rejection, RejectionKind};
use crate::ids::{ApprovalId, RecordId};
use crate::policy::{Action, Hold, Judgement, Match, Severity, Subject};
use crate::run::Limits;
use crate::scope::{Actor, PrincipalKind, Role};
use crate::time::Timestamp;

/// When a command is judged, who asks, and by which policies.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub at: Timestamp,
    pub actor: Actor,
    pub command: RecordId,
    pub judge: &'a dyn Fn(&Subject<'_>) -> Judgement,
}

/// The decision, or why the command is refused. `call`: the one it is about, when it is known.
///
/// # Errors
/// The refusal, as it is to be recorded.
pub fn decide(
    run: &Run,
    call: Option<&Call>,
    command: &Command,
    moment: &Moment<'_>,
) -> Result<Decision, Rejection> {
    match command {
        Command::RequestToolCall(request) => {
            let decided = ask(run, call, request, moment)?;
            Ok(Decision::ToolCallDecided(Box::new(decided)))
        }
        Command::DecideApproval(asked) => {
            vote(run, call, asked, moment).map(Decision::ApprovalVoted)
        }
        Command::ConfirmExecution(asked) => {
            confirm(run, call, asked, moment).map(Decision::ExecutionConfirmed)
        }
    }
}

fn precondition(reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(RejectionKind::Precondition, reason, message)
}

fn forbidden(reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(RejectionKind::Forbidden, reason, message)
}

fn ask(
    run: &Run,
    call: Option<&Call>,
    request: &RequestToolCall,
    moment: &Moment<'_>,
) -> Result<ToolCallDecided, Rejection> {
    let asked = &request.call;
    if call.is_some() {
        let message = format!(
            "call {} of run {} was asked for before, with another command id; every call has an id of its own",
            asked.tool_call_id, asked.run_id
        );
        let kind = RejectionKind::AlreadyExists;
        return Err(Rejection::new(kind, "TOOL_CALL_EXISTS", message));
    }
    let judgement = (moment.judge)(&Subject {
        tool: &asked.tool,
        // What the run's start says goes before what the request says.
        agent: run.agent.as_ref().unwrap_or(&request.agent_id),
        action_hint: &asked.action_hint,
        run: &asked.run_id,
        model: &run.model,
        arguments: asked.arguments.as_ref(),
        labels: &run.labels,
    });
    let told = tell(run, request, &judgement, moment);
    Ok(ToolCallDecided {
        call: asked.clone(),
        agent_id: request.agent_id.clone(),
        requester: moment.actor,
        verdict: told.verdict,
        reason: told.reason.into(),
        message: told.message,
        arguments_digest: digest_arguments(asked.arguments.as_ref()),
        held: match (told.verdict, &judgement.hold) {
            (Verdict::AwaitingApproval, Some(hold)) => Some(held(hold, moment)),
            _ => None,
        },
        opens_run: run.since.is_none(),
        severity: told.severity,
        matches: judgement.matches,
    })
}

/// A verdict and why.
struct Told {
    verdict: Verdict,
    reason: &'static str,
    message: String,
    severity: Option<Severity>,
}

fn tell(run: &Run, request: &RequestToolCall, judgement: &Judgement, moment: &Moment<'_>) -> Told {
    let tool = &request.call.tool;
    let blocked = |reason, message: String| Told {
        verdict: Verdict::Blocked,
        reason,
        message,
        severity: judgement.severity,
    };
    if run.ended {
        let message = format!(
            "run {} has ended; {tool} must not be called",
            request.call.run_id
        );
        return blocked("RUN_ENDED", message);
    }
    if let Some((reason, message)) = limited(run, request, &judgement.limits, moment.at) {
        return blocked(reason, message);
    }
    let named = |first: Option<&Match>| match first {
        Some(one) => format!("policy \"{}\" matches {tool}", one.name),
        None => format!("no policy matches {tool}"),
    };
    let named = named(judgement.matches.first());
    let (verdict, message) = match judgement.action {
        Action::Block => (Verdict::Blocked, format!("{named}: it must not be called")),
        Action::RequireApproval => (
            Verdict::AwaitingApproval,
            format!("{named}: it waits for approval"),
        ),
        Action::Warn => (
            Verdict::Warned,
            format!("{named}: it may be called, and is noted"),
        ),
        Action::Allow => (Verdict::Allowed, format!("{named}: it may be called")),
    };
    let decided = !judgement.matches.is_empty();
    Told {
        verdict,
        reason: if decided { "POLICY" } else { "NO_POLICY" },
        message,
        severity: judgement.severity,
    }
}

/// Which limit one more call would break, of the run's own and of those its policies set.
fn limited(
    run: &Run,
    request: &RequestToolCall,
    by_policy: &Limits,
    at: Timestamp,
) -> Option<(&'static str, String)> {
    let least = |own: Option<u32>, other: Option<u32>| -> Option<u64> {
        own.into_iter().chain(other).min().map(u64::from)
    };
    let tool = &request.call.tool;
    let limits = &run.limits;
    let is_full = |limit: &u64, count: u64| count >= *limit;
    if let Some(limit) = least(limits.blocked_calls, by_policy.blocked_calls)
        .filter(|limit| is_full(limit, run.blocked))
    {
        let message = format!("the run may have {limit} calls blocked, and has; it must not go on");
        return Some(("RUN_LIMIT_BLOCKED_CALLS", message));
    }
    if let Some(limit) = least(limits.tool_calls, by_policy.tool_calls)
        .filter(|limit| is_full(limit, run.tool_calls))
    {
        let message = format!("the run may call tools {limit} times, and has");
        return Some(("RUN_LIMIT_TOOL_CALLS", message));
    }
    let of_tool = run.of_tool.get(tool).copied().unwrap_or_default();
    if let Some(limit) = least(limits.calls_of_one_tool, by_policy.calls_of_one_tool)
        .filter(|limit| is_full(limit, of_tool))
    {
        let message = format!("the run may call {tool} {limit} times, and has");
        return Some(("RUN_LIMIT_CALLS_OF_ONE_TOOL", message));
    }
    let duration = limits.duration.into_iter().chain(by_policy.duration).min();
    let over = run.since.zip(duration).is_some_and(|(since, duration)| {
        let passed = at.signed_duration_since(since).to_std();
        passed.unwrap_or_default() > duration
    });
    over.then(|| {
        let message = "the run may last no longer, counted from its start".to_owned();
        ("RUN_LIMIT_DURATION", message)
    })
}

fn held(hold: &Hold, moment: &Moment<'_>) -> (ApprovalId, ApprovalTerms) {
    let terms = ApprovalTerms {
        quorum: hold.quorum,
        approvers: hold.approvers.clone(),
        requester_may_approve: hold.requester_may_approve,
        decide_by: after(moment.at, hold.time_to_decide),
        use_within: hold.time_to_use,
    };
    (ApprovalId::new(moment.command.as_uuid()), terms)
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(span).unwrap_or(Timestamp::MAX_UTC)
}

fn not_found() -> Rejection {
    let message = "there is no such approval in this run";
    Rejection::new(RejectionKind::NotFound, "APPROVAL_NOT_FOUND", message)
}

fn vote(
    run: &Run,
    call: Option<&Call>,
    asked: &DecideApproval,
    moment: &Moment<'_>,
) -> Result<ApprovalVoted, Rejection> {
    let call = call.ok_or_else(not_found)?;
    let held = call.held.as_ref();
    let held = held.filter(|held| held.approval_id == asked.approval_id);
    let held = held.ok_or_else(not_found)?;
    open(run, held, moment.at)?;
    entitled(call, held, asked, moment.actor)?;
    let is_other = |seen| seen != call.arguments_digest;
    if asked.arguments_digest.is_some_and(is_other) {
        let message =
            "the arguments are not those that you saw: they were edited since; look again";
        return Err(precondition("ARGUMENTS_CHANGED", message));
    }
    let edited = asked.edited_arguments.as_ref().filter(|_| asked.approve);
    let digest = match edited {
        Some(arguments) => digest_arguments(Some(arguments)),
        None => call.arguments_digest,
    };
    let is_same = digest == call.arguments_digest;
    if asked.approve && is_same && held.approved_by.contains(&moment.actor.principal) {
        let message = "you have approved these arguments before; others have to as well";
        return Err(precondition("ALREADY_VOTED", message));
    }
    // Who approves other arguments approves them alone.
    let before = if is_same { held.approved_by.len() } else { 0 };
    let approved = before.saturating_add(usize::from(asked.approve));
    let approved = u32::try_from(approved).unwrap_or(u32::MAX);
    let status = match asked.approve {
        false => Status::Rejected,
        true if approved >= held.terms.quorum => Status::Approved,
        true => Status::Pending,
    };
    Ok(ApprovalVoted {
        approval_id: held.approval_id,
        tool_call_id: asked.tool_call_id.clone(),
        voter: moment.actor,
        approve: asked.approve,
        reason: asked.reason.clone(),
        edited_arguments: edited.filter(|_| !is_same).cloned(),
        arguments_digest: digest,
        approved,
        status,
        use_by: (status == Status::Approved).then(|| after(moment.at, held.terms.use_within)),
    })
}

/// Whether it can still be decided.
fn open(run: &Run, held: &Held, at: Timestamp) -> Result<(), Rejection> {
    let since = held
        .decided_at
        .map_or_else(String::new, |at| format!(" at {at}"));
    match held.status {
        Status::Pending if run.ended => {
            let message = "the run has ended, so the call will not be made";
            Err(precondition("APPROVAL_CANCELLED", message))
        }
        Status::Pending if at >= held.terms.decide_by => {
            let message = format!(
                "it was to be decided by {}; it counts as rejected",
                held.terms.decide_by
            );
            Err(precondition("APPROVAL_EXPIRED", message))
        }
        Status::Pending => Ok(()),
        Status::Approved | Status::Rejected => {
            let message = format!("it was {}{since}; the first decision stands", held.status);
            Err(precondition("ALREADY_DECIDED", message))
        }
        Status::Expired => {
            let message = format!("nobody decided in time{since}; it counts as rejected");
            Err(precondition("APPROVAL_EXPIRED", message))
        }
        Status::Cancelled => {
            let message = format!("it was cancelled{since}, because the run ended");
            Err(precondition("APPROVAL_CANCELLED", message))
        }
    }
}

/// Whether the actor may decide it.
fn entitled(
    call: &Call,
    held: &Held,
    asked: &DecideApproval,
    actor: Actor,
) -> Result<(), Rejection> {
    if actor.kind == PrincipalKind::Agent || actor.role == Role::Agent {
        let message = "agents never decide on approvals; a person has to, with a key of his own";
        return Err(forbidden("AGENTS_DO_NOT_APPROVE", message));
    }
    let admits = |set: &crate::policy::ApproverSet| set.admits(actor);
    if !held.terms.approvers.iter().all(admits) {
        let message = "the policy that holds this call names other approvers; see its rule";
        return Err(forbidden("NOT_AN_APPROVER", message));
    }
    let is_own = call.requester.principal == actor.principal;
    if asked.approve && is_own && !held.terms.requester_may_approve {
        let message = "whoever asked for a call does not approve it; another approver has to";
        return Err(forbidden("REQUESTER_MAY_NOT_APPROVE", message));
    }
    Ok(())
}

fn confirm(
    run: &Run,
    call: Option<&Call>,
    asked: &ConfirmExecution,
    moment: &Moment<'_>,
) -> Result<ExecutionConfirmed, Rejection> {
    let call = call.ok_or_else(|| {
        let message = "nobody has asked for this call; ask with RequestToolCall before it is made";
        Rejection::new(RejectionKind::NotFound, "TOOL_CALL_NOT_FOUND", message)
    })?;
    if call.verdict == Verdict::Blocked {
        let message = "the call was blocked; it must not be made";
        return Err(precondition("TOOL_CALL_BLOCKED", message));
    }
    if let Some(held) = &call.held {
        granted(held, moment.at)?;
    }
    if run.ended {
        let message = "the run has ended; the call must not be made";
        return Err(precondition("RUN_ENDED", message));
    }
    if call.used_at.is_some() {
        let message = "the call was confirmed before; every call is made once, ask for another";
        return Err(precondition("ALREADY_USED", message));
    }
    if asked.arguments_digest != call.arguments_digest {
        let message = "these are not the arguments that were let pass; make the call with those, or ask for another";
        return Err(precondition("ARGUMENTS_DIFFER", message));
    }
    Ok(ExecutionConfirmed {
        tool_call_id: asked.tool_call_id.clone(),
        arguments_digest: asked.arguments_digest,
        actor: moment.actor,
        approval_id: call.held.as_ref().map(|held| held.approval_id),
    })
}

/// Whether an approval is there, and in time.
fn granted(held: &Held, at: Timestamp) -> Result<(), Rejection> {
    match held.status {
        Status::Approved if held.use_by.is_none_or(|use_by| at <= use_by) => Ok(()),
        Status::Approved => {
            let message =
                "the approval was to be used in time, and was not; ask for the call again";
            Err(precondition("APPROVAL_LAPSED", message))
        }
        Status::Pending => {
            let message = "nobody has decided yet; wait with WaitForApproval";
            Err(precondition("APPROVAL_PENDING", message))
        }
        Status::Rejected => {
            let message = "it was rejected; the call must not be made";
            Err(precondition("APPROVAL_REJECTED", message))
        }
        Status::Expired => {
            let message = "nobody decided in time; the call must not be made";
            Err(precondition("APPROVAL_EXPIRED", message))
        }
        Status::Cancelled => {
            let message = "the run ended before anybody decided; the call must not be made";
            Err(precondition("APPROVAL_CANCELLED", message))
        }
    }
}
