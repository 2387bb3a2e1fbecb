//! Approvers decide.

use super::decide::{Moment, not_now, told};
use super::request::after;
use super::{
    ApprovalTerms, ApprovalVoted, Call, DecideApproval, Held, Run, Status, digest_arguments,
};
use crate::decision::{Rejection, RejectionKind};
use crate::fault::Violation;
use crate::policy::ApproverSet;
use crate::scope::{Actor, PrincipalKind, Role};

pub(super) fn decide(
    run: &Run,
    call: Option<&Call>,
    command: &DecideApproval,
    moment: &Moment<'_>,
) -> Result<ApprovalVoted, Rejection> {
    let (call, held) = call
        .and_then(|call| Some((call, call.held.as_ref()?)))
        .filter(|(_, held)| held.approval_id == command.approval_id)
        .ok_or_else(|| not_found(command))?;
    still_pending(run, held, moment)?;
    may_vote(call, &held.terms, command, moment.actor)?;
    if command.edited_arguments.is_some() && !command.approve {
        return Err(Rejection::invalid(vec![Violation {
            field: "edited_arguments_json".into(),
            reason: "NOT_ALLOWED".into(),
            description: "goes only with approving: leave it out to reject the call".into(),
        }]));
    }
    let seen = command.arguments_digest.unwrap_or(call.arguments_digest);
    if seen != call.arguments_digest {
        return Err(not_now(
            "ARGUMENTS_CHANGED",
            "the arguments were edited since you saw them: look at them again",
        ));
    }
    let edited = command.edited_arguments.as_ref();
    let arguments_digest = edited.map_or(call.arguments_digest, |_| digest_arguments(edited));
    let same = arguments_digest == call.arguments_digest;
    // Who has approved may think better of it.
    if command.approve && same && held.votes.contains(&moment.actor.principal) {
        return Err(not_now(
            "ALREADY_VOTED",
            "you have already approved these arguments; others have to approve them too",
        ));
    }
    // Approvals of other arguments do not count for these.
    let earlier = if same { held.votes.len() } else { 0 };
    let earlier = u32::try_from(earlier).unwrap_or(u32::MAX);
    let approved = earlier.saturating_add(u32::from(command.approve));
    let status = match command.approve {
        false => Status::Rejected,
        true if approved >= held.terms.quorum => Status::Approved,
        true => Status::Pending,
    };
    Ok(ApprovalVoted {
        approval_id: command.approval_id,
        tool_call_id: command.tool_call_id.clone(),
        voter: moment.actor,
        approve: command.approve,
        reason: command.reason.clone(),
        edited_arguments: command.edited_arguments.clone(),
        arguments_digest,
        approved,
        status,
        use_by: (status == Status::Approved).then(|| after(moment.at, held.terms.use_within)),
    })
}

fn not_found(command: &DecideApproval) -> Rejection {
    let id = command.approval_id;
    let call = &command.tool_call_id;
    Rejection::new(
        RejectionKind::NotFound,
        "APPROVAL_NOT_FOUND",
        format!("the call {call} of this run awaits no approval {id}"),
    )
}

fn still_pending(run: &Run, held: &Held, moment: &Moment<'_>) -> Result<(), Rejection> {
    let since = held.settled_at.map(told);
    let since = since.map_or_else(String::new, |at| format!(" at {at}"));
    let by = held.settled_by;
    let by = by.map_or_else(String::new, |principal| {
        format!(" by principal {principal}")
    });
    match held.status_at(run, moment.at) {
        Status::Pending => Ok(()),
        status @ (Status::Approved | Status::Rejected) => Err(not_now(
            "ALREADY_DECIDED",
            format!("the call was {status}{since}{by}"),
        )),
        Status::Expired => Err(not_now(
            "APPROVAL_EXPIRED",
            format!(
                "nobody decided before {}: the call counts as rejected",
                told(held.terms.decide_by)
            ),
        )),
        Status::Cancelled => Err(not_now(
            "APPROVAL_CANCELLED",
            format!("the run has ended; the approval was cancelled{since}"),
        )),
    }
}

fn may_vote(
    call: &Call,
    terms: &ApprovalTerms,
    command: &DecideApproval,
    actor: Actor,
) -> Result<(), Rejection> {
    let forbidden = |reason: &'static str, message: &str| {
        Err(Rejection::new(RejectionKind::Forbidden, reason, message))
    };
    if actor.kind == PrincipalKind::Agent || actor.role == Role::Agent {
        return forbidden(
            "AGENTS_DO_NOT_APPROVE",
            "keys of agents decide on no approval: use the key of a person",
        );
    }
    // Nobody named is not everybody.
    let usual = [ApproverSet::default()];
    let sets = if terms.approvers.is_empty() {
        &usual
    } else {
        &*terms.approvers
    };
    if !sets.iter().all(|set| has(set, actor)) {
        return forbidden(
            "NOT_AN_APPROVER",
            "you are not among those who may decide on this call",
        );
    }
    let own = actor.principal == call.requester.principal;
    if own && command.approve && !terms.requester_may_approve {
        return forbidden(
            "REQUESTER_MAY_NOT_APPROVE",
            "you have asked for this call yourself: somebody else has to approve it",
        );
    }
    Ok(())
}

/// An empty set stands for admins and reviewers.
fn has(set: &ApproverSet, actor: Actor) -> bool {
    if set.roles.is_empty() && set.principals.is_empty() {
        return matches!(actor.role, Role::Admin | Role::Reviewer);
    }
    set.roles.contains(&actor.role) || set.principals.contains(&actor.principal)
}
