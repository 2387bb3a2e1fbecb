use std::fmt;

use super::{Call, Command, Decision, Run, Verdict, confirm, request, vote};
use crate::decision::{Rejection, RejectionKind};
use crate::ids::RecordId;
use crate::policy::{Judgement, Subject};
use crate::scope::Actor;
use crate::time::Timestamp;

/// What a command is judged by, besides what is known of its run and its call.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub at: Timestamp,
    /// Who sent the command.
    pub actor: Actor,
    /// The command's own id.
    pub command: RecordId,
    /// The scope's policies.
    pub judge: &'a dyn Fn(&Subject<'_>) -> Judgement,
}

impl fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment")
            .field("at", &self.at)
            .field("actor", &self.actor)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// Judges a command about a call of `run`. `call`: what is known of the call that it names.
///
/// # Errors
/// When the command is refused: what is wrong and what to do.
pub fn decide(
    run: &Run,
    call: Option<&Call>,
    command: &Command,
    moment: &Moment<'_>,
) -> Result<Decision, Rejection> {
    match command {
        Command::RequestToolCall(command) => request::decide(run, call, command, moment)
            .map(Box::new)
            .map(Decision::ToolCallDecided),
        Command::DecideApproval(command) => {
            vote::decide(run, call, command, moment).map(Decision::ApprovalVoted)
        }
        Command::ConfirmExecution(command) => {
            confirm::decide(run, call, command, moment).map(Decision::ExecutionConfirmed)
        }
    }
}

/// The state of things does not allow it.
pub(super) fn not_now(reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(RejectionKind::Precondition, reason, message)
}

/// What people read of a moment.
pub(super) fn told(at: Timestamp) -> impl fmt::Display {
    at.format("%Y-%m-%dT%H:%M:%S%.6fZ")
}

/// A call that no policy stands in the way of.
pub(super) fn is_free(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allowed | Verdict::Warned)
}
