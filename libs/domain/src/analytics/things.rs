//! What is counted, and what each contributes.

use std::collections::BTreeMap;

use super::{Cell, Durations, Measures, Origin, Subject};
use crate::approval::Status as ApprovalStatus;
use crate::approval::{ApprovalClosed, ApprovalVoted, Decision, ToolCallDecided, Verdict};
use crate::credit::{Line, Pricing};
use crate::ids::Name;
use crate::message::MessageRecorded;
use crate::run::{self, Moment, Part, ToolCall};
use crate::schedule::OccurrenceRecorded;
use crate::text::storable;
use crate::time::Timestamp;

/// What a run with errors is counted under as kind.
pub const WITH_ERRORS: &str = "with_errors";

/// The dimension by which usage names a model that is not its run's.
const MODEL: &str = "model";

/// A run, as far as it is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub state: run::Run,
    pub origin: Origin,
    /// Its start was reported, so its origin stands.
    pub is_reported: bool,
    /// Of the end that stands.
    pub error: Option<run::Error>,
    /// A call in it failed, or it says that it counted errors.
    pub has_errors: bool,
    /// What was used in it beyond a limit of spending, charged or not.
    pub charges_over_limits: i64,
}

/// The counter by which runs say that something went wrong on their way.
const ERRORS: &str = "errors";

impl Run {
    /// Folds a fact of the run in; `call` is the one it names.
    pub fn evolve(&mut self, call: Option<&mut Call>, fact: &run::Fact, moment: Moment) {
        let part = call.map_or(Part::None, |call| {
            if let run::Fact::ToolCallEnded(end) = fact
                && call.state.work.ended.is_none()
            {
                call.error = end.error.as_ref().map(|error| error.code.clone());
                self.has_errors |= end.status == run::WorkStatus::Failed;
            }
            Part::ToolCall(&mut call.state)
        });
        match fact {
            run::Fact::Started(start) if !self.is_reported => {
                self.is_reported = true;
                self.origin = Origin {
                    agent: start.agent_id.to_string(),
                    agent_version: storable(&start.agent_version).into_owned(),
                    model: storable(&start.model).into_owned(),
                    space: start
                        .space_id
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                };
            }
            run::Fact::Ended(end) if self.state.ended.is_none() => {
                self.error.clone_from(&end.error);
                let errors = end
                    .counters
                    .iter()
                    .find(|(name, _)| name.as_str() == ERRORS);
                self.has_errors |= errors.is_some_and(|(_, count)| *count > 0);
            }
            run::Fact::Started(_)
            | run::Fact::Progressed(_)
            | run::Fact::Ended(_)
            | run::Fact::StepStarted(_)
            | run::Fact::StepEnded(_)
            | run::Fact::ToolCallStarted(_)
            | run::Fact::ToolCallEnded(_)
            | run::Fact::UsageRecorded(_) => {}
        }
        run::evolve(&mut self.state, part, fact, moment);
    }

    /// An agent asked for a call in it: until its start is reported, all that is known of its origin.
    pub fn asked(&mut self, decided: &ToolCallDecided) {
        if !self.is_reported && self.origin.agent.is_empty() {
            self.origin.agent = decided.agent_id.to_string();
        }
    }

    /// Something that was used in it was charged.
    pub fn charged(&mut self, line: &Line) {
        let is_over = !line.over.is_empty() || line.pricing == Pricing::Rejected;
        let over = self.charges_over_limits.saturating_add(i64::from(is_over));
        self.charges_over_limits = over;
    }

    /// When it counts: when it began, or when it ended where its start was not reported. `None`: not yet.
    pub fn at(&self) -> Option<Timestamp> {
        let ended = self.state.ended.map(|(end, _)| end.at);
        self.state.started.map(|start| start.at).or(ended)
    }

    pub fn contribution(&self) -> Option<(Cell, Measures)> {
        let mut cell = Cell::new(Subject::Run, self.at()?);
        self.state.status().as_str().clone_into(&mut cell.status);
        cell.error = code(self.error.as_ref().map(|error| &error.code));
        if self.has_errors {
            WITH_ERRORS.clone_into(&mut cell.kind);
        }
        let ended = self.state.ended.map(|(end, _)| end.at);
        Some((
            cell,
            lasting(self.state.started.map(|start| start.at), ended),
        ))
    }
}

/// A call of a tool, as far as it is counted, with the approval that it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub state: ToolCall,
    /// Of the end that stands.
    pub error: Option<Name>,
    pub governed: Option<Governed>,
    /// When its approval was asked for, while it waits or has waited for one.
    pub asked_at: Option<Timestamp>,
    /// What became of the approval, and when.
    pub answered: Option<(Timestamp, ApprovalStatus)>,
}

/// What was decided when a call was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Governed {
    pub verdict: Verdict,
    /// A policy matched.
    pub is_covered: bool,
}

impl Call {
    /// Folds in what was decided about it at `at`. Its start is a fact of its own.
    pub fn decide(&mut self, decision: &Decision, at: Timestamp) {
        match decision {
            Decision::ToolCallDecided(decided) => self.govern(decided, at),
            Decision::ApprovalVoted(ApprovalVoted { status, .. })
            | Decision::ApprovalClosed(ApprovalClosed { status, .. }) => {
                if *status != ApprovalStatus::Pending {
                    self.answered.get_or_insert((at, *status));
                }
            }
            Decision::ExecutionConfirmed(_) => {}
        }
    }

    fn govern(&mut self, decided: &ToolCallDecided, at: Timestamp) {
        if self.governed.is_some() {
            return;
        }
        self.governed = Some(Governed {
            verdict: decided.verdict,
            is_covered: !decided.matches.is_empty(),
        });
        if decided.verdict == Verdict::AwaitingApproval {
            self.asked_at = Some(at);
        }
    }

    /// How it ended, or where it stands.
    fn status(&self) -> &'static str {
        if let Some((_, status)) = self.state.work.ended {
            return status.as_str();
        }
        match (self.governed.map(|one| one.verdict), self.answered) {
            (Some(Verdict::Blocked), _) => "blocked",
            (Some(Verdict::AwaitingApproval), None) => "awaiting_approval",
            (Some(Verdict::AwaitingApproval), Some((_, ApprovalStatus::Approved))) => "running",
            (Some(Verdict::AwaitingApproval), Some(_)) => "rejected",
            (Some(Verdict::Allowed | Verdict::Warned) | None, _) => "running",
        }
    }

    pub fn contributions(&self) -> impl Iterator<Item = (Cell, Measures)> {
        self.as_call().into_iter().chain(self.as_approval())
    }

    fn as_call(&self) -> Option<(Cell, Measures)> {
        let started = self.state.work.started.map(|start| start.at);
        let ended = self.state.work.ended.map(|(end, _)| end.at);
        let mut cell = Cell::new(Subject::ToolCall, started.or(ended)?);
        cell.tool = code(self.state.tool.as_ref());
        self.status().clone_into(&mut cell.status);
        cell.error = code(self.error.as_ref());
        let governed = self
            .governed
            .map(|one| (one.verdict.as_str(), one.is_covered));
        let (verdict, kind) = match governed {
            Some((verdict, true)) => (verdict, "covered"),
            Some((verdict, false)) => (verdict, "uncovered"),
            None => ("", "reported"),
        };
        verdict.clone_into(&mut cell.verdict);
        kind.clone_into(&mut cell.kind);
        Some((cell, lasting(started, ended)))
    }

    fn as_approval(&self) -> Option<(Cell, Measures)> {
        let mut cell = Cell::new(Subject::Approval, self.asked_at?);
        cell.tool = code(self.state.tool.as_ref());
        let status = self
            .answered
            .map_or(ApprovalStatus::Pending, |(_, status)| status);
        status.as_str().clone_into(&mut cell.status);
        Some((
            cell,
            lasting(self.asked_at, self.answered.map(|(at, _)| at)),
        ))
    }
}

/// What a run counted itself, when it ended at `at`.
pub fn counters(ended: &run::Ended, at: Timestamp) -> impl Iterator<Item = (Cell, Measures)> {
    let counter = move |(name, value): (&Name, &i64)| {
        let mut cell = Cell::new(Subject::Counter, at);
        cell.kind = code(Some(name));
        (cell, amounting(i128::from(*value)))
    };
    ended.counters.iter().map(counter)
}

/// What was used at `at`.
pub fn usage(used: &run::UsageRecorded, at: Timestamp) -> (Cell, Measures) {
    let mut cell = Cell::new(Subject::Usage, at);
    cell.kind = code(Some(&used.meter));
    cell.model = model(&used.dimensions);
    (cell, amounting(i128::from(used.quantity)))
}

/// What usage was charged, when it was used.
pub fn charge(line: &Line) -> (Cell, Measures) {
    let mut cell = Cell::new(Subject::Cost, line.used_at);
    cell.kind = code(Some(&line.meter));
    line.pricing.as_str().clone_into(&mut cell.status);
    (cell, amounting(i128::from(line.amount.as_micros())))
}

/// A message that was sent at `at`.
pub fn message(message: &MessageRecorded, at: Timestamp) -> (Cell, Measures) {
    let mut cell = Cell::new(Subject::Message, at);
    message.role.as_str().clone_into(&mut cell.kind);
    (cell, amounting(i128::from(message.content.chars())))
}

/// A schedule that came due.
pub fn occurrence(occurrence: &OccurrenceRecorded) -> (Cell, Measures) {
    let mut cell = Cell::new(Subject::Occurrence, occurrence.scheduled_at);
    occurrence.status.as_str().clone_into(&mut cell.status);
    (cell, Measures::ONE)
}

fn code(name: Option<&Name>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

fn model(dimensions: &BTreeMap<Name, String>) -> String {
    let named = dimensions.iter().find(|(name, _)| name.as_str() == MODEL);
    named
        .map(|(_, model)| storable(model).into_owned())
        .unwrap_or_default()
}

fn amounting(quantity: i128) -> Measures {
    Measures {
        quantity,
        ..Measures::ONE
    }
}

fn lasting(from: Option<Timestamp>, to: Option<Timestamp>) -> Measures {
    let length = from
        .zip(to)
        .map(|(from, to)| to.signed_duration_since(from));
    Measures {
        durations: length.and_then(Durations::one).unwrap_or_default(),
        ..Measures::ONE
    }
}
