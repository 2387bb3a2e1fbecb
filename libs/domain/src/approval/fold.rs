//! What facts and decisions in force make of a run and its calls, and what these are owed.

use super::state::Held;
use super::{ApprovalClosed, ApprovalVoted, Call, Decision, Run, Status, ToolCallDecided, Verdict};
use crate::ids::ToolCallId;
use crate::run;
use crate::time::Timestamp;
use std::collections::BTreeSet;

/// Whether a fact can change what is known of a run.
pub fn heeds(fact: &run::Fact) -> bool {
    match fact {
        run::Fact::Started(_) | run::Fact::Ended(_) => true,
        run::Fact::Progressed(_)
        | run::Fact::StepStarted(_)
        | run::Fact::StepEnded(_)
        | run::Fact::ToolCallStarted(_)
        | run::Fact::ToolCallEnded(_)
        | run::Fact::UsageRecorded(_) => false,
    }
}

/// Folds a fact in; `at`: when it was appended. The first start and the first end stand.
pub fn heed(run: &mut Run, fact: &run::Fact, at: Timestamp) {
    match fact {
        run::Fact::Started(started) if !run.started => {
            run.started = true;
            run.since.get_or_insert(at);
            run.agent = Some(started.agent_id.clone());
            run.model.clone_from(&started.model);
            run.labels.clone_from(&started.labels);
            run.limits.clone_from(&started.limits);
        }
        run::Fact::Ended(_) => run.ended = true,
        run::Fact::Started(_)
        | run::Fact::Progressed(_)
        | run::Fact::StepStarted(_)
        | run::Fact::StepEnded(_)
        | run::Fact::ToolCallStarted(_)
        | run::Fact::ToolCallEnded(_)
        | run::Fact::UsageRecorded(_) => {}
    }
}

/// Folds a decision in force in. Total; false: it does not fit, and has changed nothing.
pub fn evolve(run: &mut Run, call: &mut Option<Call>, decision: &Decision, at: Timestamp) -> bool {
    match (decision, call) {
        (Decision::ToolCallDecided(decided), slot @ None) => {
            count(run, decided, at);
            *slot = Some(call_of(decided));
            true
        }
        (Decision::ApprovalVoted(voted), Some(call)) => match pending(call) {
            Some(held) if held.approval_id == voted.approval_id => {
                vote(held, voted, at);
                call.arguments_digest = voted.arguments_digest;
                true
            }
            Some(_) | None => false,
        },
        (Decision::ApprovalClosed(closed), Some(call)) => match pending(call) {
            Some(held) if held.approval_id == closed.approval_id => {
                held.status = closed.status;
                held.decided_at = Some(at);
                true
            }
            Some(_) | None => false,
        },
        (Decision::ExecutionConfirmed(_), Some(call)) if call.used_at.is_none() => {
            call.used_at = Some(at);
            true
        }
        (Decision::ToolCallDecided(_) | Decision::ExecutionConfirmed(_), Some(_))
        | (
            Decision::ApprovalVoted(_)
            | Decision::ApprovalClosed(_)
            | Decision::ExecutionConfirmed(_),
            None,
        ) => false,
    }
}

fn pending(call: &mut Call) -> Option<&mut Held> {
    let held = call.held.as_mut();
    held.filter(|held| held.status == Status::Pending)
}

fn count(run: &mut Run, decided: &ToolCallDecided, at: Timestamp) {
    run.since.get_or_insert(at);
    run.agent.get_or_insert_with(|| decided.agent_id.clone());
    if decided.verdict == Verdict::Blocked {
        run.blocked = run.blocked.saturating_add(1);
        return;
    }
    run.tool_calls = run.tool_calls.saturating_add(1);
    let of_tool = run.of_tool.entry(decided.call.tool.clone()).or_default();
    *of_tool = of_tool.saturating_add(1);
}

fn call_of(decided: &ToolCallDecided) -> Call {
    let held = decided.held.as_ref().map(|(approval_id, terms)| Held {
        approval_id: *approval_id,
        terms: terms.clone(),
        status: Status::Pending,
        approved_by: BTreeSet::new(),
        decided_at: None,
        use_by: None,
    });
    Call {
        verdict: decided.verdict,
        requester: decided.requester,
        arguments_digest: decided.arguments_digest,
        held,
        used_at: None,
    }
}

fn vote(held: &mut Held, voted: &ApprovalVoted, at: Timestamp) {
    if voted.edited_arguments.is_some() {
        held.approved_by.clear();
    }
    if voted.approve {
        held.approved_by.insert(voted.voter.principal);
    }
    held.status = voted.status;
    held.use_by = voted.use_by;
    if voted.status != Status::Pending {
        held.decided_at = Some(at);
    }
}

/// When something is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Now,
    At(Timestamp),
}

/// From when on a call is owed a decision that nobody asked for.
pub fn next_due(run: &Run, call: &Call) -> Option<Due> {
    let held = call.held.as_ref();
    let held = held.filter(|held| held.status == Status::Pending)?;
    Some(if run.ended {
        Due::Now
    } else {
        Due::At(held.terms.decide_by)
    })
}

/// The decision that a call is owed at `at`: its run has ended, or its time is up.
pub fn due(
    run: &Run,
    call: &Call,
    tool_call_id: &ToolCallId,
    at: Timestamp,
) -> Option<ApprovalClosed> {
    let approval_id = call.held.as_ref()?.approval_id;
    let status = match next_due(run, call)? {
        Due::Now => Status::Cancelled,
        Due::At(due_at) if due_at <= at => Status::Expired,
        Due::At(_) => return None,
    };
    Some(ApprovalClosed {
        approval_id,
        tool_call_id: tool_call_id.clone(),
        status,
    })
}
