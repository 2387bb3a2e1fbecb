//! What is known of a run and of its governed calls, and what changes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ApprovalClosed, ApprovalTerms, ApprovalVoted, Decision, ExecutionConfirmed, Status,
    ToolCallDecided, Verdict, digest_arguments,
};
use crate::digest::Digest;
use crate::ids::{AgentId, ApprovalId, Name, PrincipalId, ToolCallId};
use crate::json::Json;
use crate::run::{self, Fact};
use crate::scope::Actor;
use crate::time::Timestamp;

/// A run, as far as its governed calls have to do with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// `None`: neither reported nor opened by a call.
    pub agent: Option<AgentId>,
    /// Its start was reported; a call that opened it reports none.
    pub reported: bool,
    /// Empty: not known.
    pub model: String,
    pub labels: BTreeMap<Name, String>,
    pub limits: run::Limits,
    /// When it was reported or opened, whichever came first in the log.
    pub started_at: Option<Timestamp>,
    pub ended: bool,
    /// Governed calls that were not blocked.
    pub tool_calls: u64,
    /// The same by tool.
    pub calls_of_tools: BTreeMap<Name, u64>,
    /// Governed calls that were blocked.
    pub blocked: u64,
}

impl Run {
    pub fn is_known(&self) -> bool {
        self.agent.is_some() || self.ended
    }
}

/// One governed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub verdict: Verdict,
    pub agent: AgentId,
    pub requester: Actor,
    /// Of the arguments as they are now.
    pub arguments_digest: Digest,
    /// The arguments as they are now, when an approver has edited them.
    pub edited_arguments: Option<Json>,
    /// With [`Verdict::AwaitingApproval`].
    pub held: Option<Held>,
    /// When its one execution was granted.
    pub used_at: Option<Timestamp>,
}

/// The approval that a call needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub approval_id: ApprovalId,
    pub terms: ApprovalTerms,
    pub status: Status,
    /// Who has approved the arguments as they are now.
    pub votes: BTreeSet<PrincipalId>,
    /// Since when it is no longer pending.
    pub settled_at: Option<Timestamp>,
    /// Whose vote settled it.
    pub settled_by: Option<PrincipalId>,
    /// Once it is approved.
    pub use_by: Option<Timestamp>,
}

/// When a call is owed a decision that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Now,
    At(Timestamp),
}

/// Whether [`heed`] takes notice of a fact at all.
pub fn heeds(fact: &Fact) -> bool {
    match fact {
        Fact::Started(_) | Fact::Ended(_) => true,
        Fact::Progressed(_)
        | Fact::StepStarted(_)
        | Fact::StepEnded(_)
        | Fact::ToolCallStarted(_)
        | Fact::ToolCallEnded(_)
        | Fact::UsageRecorded(_) => false,
    }
}

/// Takes in a fact of the run's stream. The first start and the first end stand. A start that comes
/// after a call has opened the run tells what the call could not: model, labels, limits.
pub fn heed(run: &mut Run, fact: &Fact, at: Timestamp) {
    match fact {
        Fact::Started(started) if !run.reported => {
            run.reported = true;
            run.agent = Some(started.agent_id.clone());
            run.model.clone_from(&started.model);
            run.labels.clone_from(&started.labels);
            run.limits.clone_from(&started.limits);
            run.started_at.get_or_insert(at);
        }
        Fact::Ended(_) => run.ended = true,
        Fact::Started(_)
        | Fact::Progressed(_)
        | Fact::StepStarted(_)
        | Fact::StepEnded(_)
        | Fact::ToolCallStarted(_)
        | Fact::ToolCallEnded(_)
        | Fact::UsageRecorded(_) => {}
    }
}

/// Takes in a decision in force, taken at `at`, about the call that it names. Returns whether it fits
/// what is known; a misfit changes nothing.
///
/// A fact may have come between: a run that ended after its decider had read it fits all the same,
/// and what is then left pending is [`due`].
#[must_use]
pub fn evolve(run: &mut Run, call: &mut Option<Call>, decision: &Decision, at: Timestamp) -> bool {
    match (decision, call) {
        (Decision::ToolCallDecided(decided), call @ None) => {
            if decided.held.is_some() != (decided.verdict == Verdict::AwaitingApproval) {
                return false;
            }
            count(run, decided, at);
            *call = Some(begun(decided));
            true
        }
        (Decision::ApprovalVoted(voted), Some(call)) => vote(call, voted, at),
        (Decision::ApprovalClosed(closed), Some(call)) => close(call, closed, at),
        (Decision::ExecutionConfirmed(confirmed), Some(call)) => confirm(call, confirmed, at),
        (Decision::ToolCallDecided(_), Some(_))
        | (
            Decision::ApprovalVoted(_)
            | Decision::ApprovalClosed(_)
            | Decision::ExecutionConfirmed(_),
            None,
        ) => false,
    }
}

fn count(run: &mut Run, decided: &ToolCallDecided, at: Timestamp) {
    if decided.opens_run {
        run.agent.get_or_insert_with(|| decided.agent_id.clone());
        run.started_at.get_or_insert(at);
    }
    if decided.verdict == Verdict::Blocked {
        run.blocked = run.blocked.saturating_add(1);
    } else {
        run.tool_calls = run.tool_calls.saturating_add(1);
        let tool = decided.call.tool.clone();
        let of_tool = run.calls_of_tools.entry(tool).or_default();
        *of_tool = of_tool.saturating_add(1);
    }
}

fn begun(decided: &ToolCallDecided) -> Call {
    Call {
        verdict: decided.verdict,
        agent: decided.agent_id.clone(),
        requester: decided.requester,
        arguments_digest: decided.arguments_digest,
        edited_arguments: None,
        held: decided.held.as_ref().map(|(approval_id, terms)| Held {
            approval_id: *approval_id,
            terms: terms.clone(),
            status: Status::Pending,
            votes: BTreeSet::new(),
            settled_at: None,
            settled_by: None,
            use_by: None,
        }),
        used_at: None,
    }
}

fn vote(call: &mut Call, voted: &ApprovalVoted, at: Timestamp) -> bool {
    let Some(held) = pending(&mut call.held, voted.approval_id) else {
        return false;
    };
    let edits = voted.edited_arguments.as_ref();
    let arguments_fit = match edits {
        Some(edited) => voted.approve && voted.arguments_digest == digest_arguments(Some(edited)),
        None => voted.arguments_digest == call.arguments_digest,
    };
    let status_fits = match voted.status {
        Status::Pending | Status::Approved => {
            voted.approve && voted.use_by.is_some() == (voted.status == Status::Approved)
        }
        Status::Rejected => !voted.approve,
        Status::Expired | Status::Cancelled => false,
    };
    if !arguments_fit || !status_fits {
        return false;
    }
    if voted.arguments_digest != call.arguments_digest {
        // They were approved for other arguments.
        held.votes.clear();
        call.arguments_digest = voted.arguments_digest;
        call.edited_arguments = edits.cloned();
    }
    if voted.approve {
        held.votes.insert(voted.voter.principal);
    }
    if voted.status != Status::Pending {
        held.status = voted.status;
        held.settled_at = Some(at);
        held.settled_by = Some(voted.voter.principal);
        held.use_by = voted.use_by;
    }
    true
}

fn close(call: &mut Call, closed: &ApprovalClosed, at: Timestamp) -> bool {
    let Some(held) = pending(&mut call.held, closed.approval_id) else {
        return false;
    };
    match closed.status {
        Status::Expired | Status::Cancelled => {
            held.status = closed.status;
            held.settled_at = Some(at);
            true
        }
        Status::Pending | Status::Approved | Status::Rejected => false,
    }
}

fn pending(held: &mut Option<Held>, approval_id: ApprovalId) -> Option<&mut Held> {
    held.as_mut()
        .filter(|held| held.approval_id == approval_id && held.status == Status::Pending)
}

fn confirm(call: &mut Call, confirmed: &ExecutionConfirmed, at: Timestamp) -> bool {
    let may_run = match call.verdict {
        Verdict::Allowed | Verdict::Warned => confirmed.approval_id.is_none(),
        Verdict::Blocked => false,
        Verdict::AwaitingApproval => call.held.as_ref().is_some_and(|held| {
            held.status == Status::Approved && confirmed.approval_id == Some(held.approval_id)
        }),
    };
    let fits =
        may_run && call.used_at.is_none() && confirmed.arguments_digest == call.arguments_digest;
    if fits {
        call.used_at = Some(at);
    }
    fits
}

impl Held {
    /// Its status at a moment, whether or not a decision has recorded it yet.
    pub(super) fn status_at(&self, run: &Run, at: Timestamp) -> Status {
        match self.status {
            Status::Pending if run.ended => Status::Cancelled,
            Status::Pending if self.terms.decide_by <= at => Status::Expired,
            status @ (Status::Pending
            | Status::Approved
            | Status::Rejected
            | Status::Expired
            | Status::Cancelled) => status,
        }
    }
}

/// What a call is owed at a moment, whoever's decision or fact brought it there.
pub fn due(
    run: &Run,
    call: &Call,
    tool_call_id: &ToolCallId,
    at: Timestamp,
) -> Option<ApprovalClosed> {
    let held = call.held.as_ref()?;
    let status = held.status_at(run, at);
    (status != held.status).then(|| ApprovalClosed {
        approval_id: held.approval_id,
        tool_call_id: tool_call_id.clone(),
        status,
    })
}

/// From when on something is [`due`]; `None`: never, as things are.
pub fn next_due(run: &Run, call: &Call) -> Option<Due> {
    let held = call.held.as_ref()?;
    let pending = held.status == Status::Pending;
    pending.then_some(if run.ended {
        Due::Now
    } else {
        Due::At(held.terms.decide_by)
    })
}
