//! May this tool be called?

use std::time::Duration;

use chrono::{DateTime, TimeDelta};

use super::decide::Moment;
use super::{
    ApprovalTerms, Call, RequestToolCall, Run, ToolCallDecided, Verdict, digest_arguments,
};
use crate::decision::{Rejection, RejectionKind};
use crate::ids::{ApprovalId, Name};
use crate::policy::{Action, Hold, Judgement, Subject};
use crate::run::Limits;
use crate::time::Timestamp;

pub(super) const POLICY: &str = "POLICY";
pub(super) const NO_POLICY: &str = "NO_POLICY";
const RUN_ENDED: &str = "RUN_ENDED";

pub(super) fn decide(
    run: &Run,
    call: Option<&Call>,
    command: &RequestToolCall,
    moment: &Moment<'_>,
) -> Result<ToolCallDecided, Rejection> {
    let RequestToolCall {
        call: asked,
        agent_id,
    } = command;
    if call.is_some() {
        let id = &asked.tool_call_id;
        return Err(Rejection::new(
            RejectionKind::AlreadyExists,
            "TOOL_CALL_EXISTS",
            format!("the run already has a governed call {id}: give each call an id of its own"),
        ));
    }
    let judgement = (moment.judge)(&Subject {
        tool: &asked.tool,
        agent: agent_id,
        action_hint: &asked.action_hint,
        run: &asked.run_id,
        model: &run.model,
        arguments: asked.arguments.as_ref(),
        labels: &run.labels,
    });
    let stopped = stopped(run, &judgement.limits, &asked.tool, moment.at);
    let (verdict, reason, message) = match stopped {
        Some((reason, message)) => (Verdict::Blocked, reason, message),
        None => by_policies(&judgement),
    };
    let held = match (verdict, &judgement.hold) {
        (Verdict::AwaitingApproval, Some(hold)) => Some((
            ApprovalId::new(moment.command.as_uuid()),
            terms(hold, moment.at),
        )),
        _ => None,
    };
    Ok(ToolCallDecided {
        call: asked.clone(),
        agent_id: agent_id.clone(),
        requester: moment.actor,
        verdict,
        reason: reason.into(),
        message,
        matches: judgement.matches,
        arguments_digest: digest_arguments(asked.arguments.as_ref()),
        held,
        opens_run: !run.is_known(),
        severity: judgement.severity,
        run_reported: run.reported,
    })
}

/// Why a run may make no further call of this tool, whatever its policies say of the call.
fn stopped(
    run: &Run,
    of_policies: &Limits,
    tool: &Name,
    at: Timestamp,
) -> Option<(&'static str, String)> {
    if run.ended {
        return Some((RUN_ENDED, "the run has ended".into()));
    }
    let of_run = &run.limits;
    let blocked = least(of_run.blocked_calls, of_policies.blocked_calls);
    if let Some(most) = blocked.filter(|most| run.blocked >= u64::from(*most)) {
        let message = format!("the run may go on until {most} of its calls are blocked");
        return Some(("RUN_LIMIT_BLOCKED_CALLS", message));
    }
    let calls = least(of_run.tool_calls, of_policies.tool_calls);
    if let Some(most) = calls.filter(|most| run.tool_calls >= u64::from(*most)) {
        let message = format!("the run may make at most {most} tool calls");
        return Some(("RUN_LIMIT_TOOL_CALLS", message));
    }
    let of_tool = run.calls_of_tools.get(tool).copied().unwrap_or_default();
    let calls = least(of_run.calls_of_one_tool, of_policies.calls_of_one_tool);
    if let Some(most) = calls.filter(|most| of_tool >= u64::from(*most)) {
        let message = format!("the run may make at most {most} calls of one tool, here {tool}");
        return Some(("RUN_LIMIT_CALLS_OF_ONE_TOOL", message));
    }
    let elapsed = at.signed_duration_since(run.started_at.unwrap_or(at));
    // A start that is reported to lie ahead has not begun to count.
    let elapsed = elapsed.to_std().unwrap_or_default();
    let longest = least(of_run.duration, of_policies.duration);
    longest
        .filter(|longest| elapsed >= *longest)
        .map(|longest| {
            let message = format!("the run may make calls for {longest:?} from its start");
            ("RUN_LIMIT_DURATION", message)
        })
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn by_policies(judgement: &Judgement) -> (Verdict, &'static str, String) {
    let Some(first) = judgement.matches.first() else {
        if judgement.action == Action::Allow {
            return (Verdict::Allowed, NO_POLICY, "no policy matches".into());
        }
        // No policies of ours judge so; what they may have meant is no permission.
        return (Verdict::Blocked, POLICY, "a policy blocks this call".into());
    };
    let name = &first.name;
    match judgement.action {
        Action::Allow => (
            Verdict::Allowed,
            POLICY,
            format!("policy \"{name}\" allows this call"),
        ),
        Action::Warn => (
            Verdict::Warned,
            POLICY,
            format!("policy \"{name}\" warns of this call"),
        ),
        Action::RequireApproval if judgement.hold.is_some() => {
            let message = format!("policy \"{name}\" holds this call until it is approved");
            (Verdict::AwaitingApproval, POLICY, message)
        }
        // One that holds a call without saying what approving takes leaves nobody to approve it.
        Action::RequireApproval | Action::Block => (
            Verdict::Blocked,
            POLICY,
            format!("policy \"{name}\" blocks this call"),
        ),
    }
}

fn terms(hold: &Hold, at: Timestamp) -> ApprovalTerms {
    let micros = u64::try_from(hold.time_to_use.as_micros()).unwrap_or(u64::MAX);
    ApprovalTerms {
        quorum: hold.quorum.max(1),
        approvers: hold.approvers.clone(),
        requester_may_approve: hold.requester_may_approve,
        decide_by: after(at, hold.time_to_decide),
        // As it is stored.
        use_within: Duration::from_micros(micros),
    }
}

/// `at` and `span` later, but within the years that can be stored.
pub(super) fn after(at: Timestamp, span: Duration) -> Timestamp {
    /// 9999-12-31T23:59:59.999999Z
    const LAST_MICROS: i64 = 253_402_300_799_999_999;
    let last = DateTime::from_timestamp_micros(LAST_MICROS).unwrap_or(at);
    let later = TimeDelta::from_std(span)
        .ok()
        .and_then(|span| at.checked_add_signed(span));
    later.map_or(last, |later| crate::time::micros(later.min(last)))
}
