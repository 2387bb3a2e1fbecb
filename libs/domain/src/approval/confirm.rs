//! The call is about to be made: once, in time, and with the arguments that were judged.

use super::decide::{Moment, is_free, not_now, told};
use super::{Call, ConfirmExecution, ExecutionConfirmed, Held, Run, Status, Verdict};
use crate::decision::{Rejection, RejectionKind};

pub(super) fn decide(
    run: &Run,
    call: Option<&Call>,
    command: &ConfirmExecution,
    moment: &Moment<'_>,
) -> Result<ExecutionConfirmed, Rejection> {
    let call = call.ok_or_else(|| {
        let id = &command.tool_call_id;
        Rejection::new(
            RejectionKind::NotFound,
            "TOOL_CALL_NOT_FOUND",
            format!("the run has no governed call {id}: ask for it first"),
        )
    })?;
    let approval = approval(run, call, moment)?;
    if let Some(used_at) = call.used_at {
        return Err(not_now(
            "ALREADY_USED",
            format!(
                "its one execution was granted at {}: ask for a call of its own",
                told(used_at)
            ),
        ));
    }
    if run.ended {
        return Err(not_now("RUN_ENDED", "the run has ended"));
    }
    if command.arguments_digest != call.arguments_digest {
        return Err(not_now(
            "ARGUMENTS_DIFFER",
            "these are not the arguments that were judged: run those, or ask for another call",
        ));
    }
    if let Some(use_by) = approval
        .and_then(|held| held.use_by)
        .filter(|by| moment.at > *by)
    {
        return Err(not_now(
            "APPROVAL_LAPSED",
            format!(
                "the approval could be used until {}: ask again",
                told(use_by)
            ),
        ));
    }
    Ok(ExecutionConfirmed {
        tool_call_id: command.tool_call_id.clone(),
        arguments_digest: command.arguments_digest,
        actor: moment.actor,
        approval_id: approval.map(|held| held.approval_id),
    })
}

/// The approval that lets it run; `None`: it needs none.
fn approval<'a>(
    run: &Run,
    call: &'a Call,
    moment: &Moment<'_>,
) -> Result<Option<&'a Held>, Rejection> {
    if is_free(call.verdict) {
        return Ok(None);
    }
    let held = match (call.verdict, &call.held) {
        (Verdict::AwaitingApproval, Some(held)) => held,
        _ => return Err(not_now("TOOL_CALL_BLOCKED", "the call is blocked")),
    };
    match held.status_at(run, moment.at) {
        Status::Approved => Ok(Some(held)),
        Status::Pending => Err(not_now(
            "APPROVAL_PENDING",
            "the call is not approved yet: wait for its approval",
        )),
        Status::Rejected => Err(not_now("APPROVAL_REJECTED", "the call was rejected")),
        Status::Expired => Err(not_now(
            "APPROVAL_EXPIRED",
            format!(
                "nobody decided before {}: the call counts as rejected",
                told(held.terms.decide_by)
            ),
        )),
        Status::Cancelled => Err(not_now(
            "APPROVAL_CANCELLED",
            "the run ended before the call was approved",
        )),
    }
}
