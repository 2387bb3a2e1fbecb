//! The fold of a run: what its facts, in the order of the log, make of it.
//!
//! The first start and the first end stand. What comes after the end is kept and counted as late;
//! it may still complete what was unknown (a start, a step, a tool call), but the run's state is
//! final. Facts may come in any order: a call known only by its end is completed when its start
//! arrives. Copies of a record are left out by the caller: identity is not judged here.

use super::{Fact, Outcome, Phase, WorkStatus};
use crate::ids::{Name, RecordId};
use crate::scope::worded;
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

worded! {
    /// The state of a run.
    Status {
        Unknown = "unknown", Queued = "queued", Starting = "starting", Running = "running",
        Waiting = "waiting", Exporting = "exporting", Stopping = "stopping",
        Completed = "completed", Succeeded = "succeeded", Failed = "failed", Stopped = "stopped",
        Skipped = "skipped", Cancelled = "cancelled",
    }
}

impl Status {
    /// Whether nothing can follow it.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed
            | Self::Succeeded
            | Self::Failed
            | Self::Stopped
            | Self::Skipped
            | Self::Cancelled => true,
            Self::Unknown
            | Self::Queued
            | Self::Starting
            | Self::Running
            | Self::Waiting
            | Self::Exporting
            | Self::Stopping => false,
        }
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Stopped => Self::Stopped,
            Outcome::Skipped => Self::Skipped,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Phase> for Status {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Queued => Self::Queued,
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Waiting => Self::Waiting,
            Phase::Exporting => Self::Exporting,
            Phase::Stopping => Self::Stopping,
        }
    }
}

/// A record that changed something, and when it says it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub record: RecordId,
    pub at: Timestamp,
}

/// Counts over a run. They stay at the largest number rather than wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Steps heard of, by their start or their end.
    pub steps: i64,
    /// Tool calls heard of, by their start or their end.
    pub tool_calls: i64,
    /// Tool calls that ended failed.
    pub failed_tool_calls: i64,
    /// Facts that came after the end.
    pub late_facts: i64,
}

/// A run, as far as the log has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub started: Option<Moment>,
    pub phase: Option<Phase>,
    pub note: String,
    pub ended: Option<(Moment, Outcome)>,
    pub totals: Totals,
}

impl Run {
    pub fn status(&self) -> Status {
        match (&self.ended, self.phase, &self.started) {
            (Some((_, outcome)), _, _) => (*outcome).into(),
            (None, Some(phase), _) => phase.into(),
            (None, None, Some(_)) => Status::Running,
            (None, None, None) => Status::Unknown,
        }
    }

    /// Takes note of a record of the run's stream and returns whether it came after the end. All
    /// that can be said of a record whose type this version does not know.
    pub fn heed(&mut self) -> bool {
        let late = self.ended.is_some();
        count(&mut self.totals.late_facts, late);
        late
    }
}

fn count(total: &mut i64, one_more: bool) {
    *total = total.saturating_add(i64::from(one_more));
}

/// A step or a tool call, as far as the log has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub started: Option<Moment>,
    pub ended: Option<(Moment, WorkStatus)>,
    /// A fact of it came after its run had ended.
    pub late: bool,
}

impl Work {
    fn is_new(&self) -> bool {
        self.started.is_none() && self.ended.is_none()
    }

    fn start(&mut self, moment: Moment, late: bool) {
        self.started.get_or_insert(moment);
        self.late |= late;
    }

    /// Returns whether this was the end that stands.
    fn end(&mut self, moment: Moment, status: WorkStatus, late: bool) -> bool {
        self.late |= late;
        let first = self.ended.is_none();
        self.ended.get_or_insert((moment, status));
        first
    }
}

/// A tool call: work of one tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub tool: Option<Name>,
    pub work: Work,
}

/// What a fact about a run touches besides the run itself.
#[derive(Debug)]
pub enum Part<'a> {
    None,
    Step(&'a mut Work),
    ToolCall(&'a mut ToolCall),
}

/// Folds one fact in. `part` is the step or the tool call that the fact names, or [`Part::None`].
/// Returns whether the fact came after the run had ended. Total: a misfit changes nothing.
pub fn evolve(run: &mut Run, part: Part<'_>, fact: &Fact, moment: Moment) -> bool {
    let late = run.heed();
    match (fact, part) {
        (Fact::Started(_), _) => {
            run.started.get_or_insert(moment);
        }
        (Fact::Progressed(fact), _) if !late => {
            run.phase = Some(fact.phase);
            if !fact.note.is_empty() {
                run.note.clone_from(&fact.note);
            }
        }
        (Fact::Ended(fact), _) => {
            run.ended.get_or_insert((moment, fact.outcome));
        }
        (Fact::StepStarted(_), Part::Step(step)) => {
            count(&mut run.totals.steps, step.is_new());
            step.start(moment, late);
        }
        (Fact::StepEnded(fact), Part::Step(step)) => {
            count(&mut run.totals.steps, step.is_new());
            step.end(moment, fact.status, late);
        }
        (Fact::ToolCallStarted(fact), Part::ToolCall(call)) => {
            count(&mut run.totals.tool_calls, call.work.is_new());
            call.tool.get_or_insert_with(|| fact.tool.clone());
            call.work.start(moment, late);
        }
        (Fact::ToolCallEnded(fact), Part::ToolCall(call)) => {
            count(&mut run.totals.tool_calls, call.work.is_new());
            let stands = call.work.end(moment, fact.status, late);
            count(
                &mut run.totals.failed_tool_calls,
                stands && fact.status == WorkStatus::Failed,
            );
        }
        (
            Fact::Progressed(_)
            | Fact::StepStarted(_)
            | Fact::StepEnded(_)
            | Fact::ToolCallStarted(_)
            | Fact::ToolCallEnded(_)
            | Fact::UsageRecorded(_),
            _,
        ) => {}
    }
    late
}
