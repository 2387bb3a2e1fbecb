//! What a batch's new records make of the rows they touch. Pure: rows come in as they were loaded
//! and leave as they are to be written.

use runledger_domain::Fact;
use runledger_domain::ids::{RunId, ScheduleId};
use runledger_domain::log::Family;
use runledger_domain::message::MessageRecorded;
use runledger_domain::run::{self, Moment, Part, Run, ToolCall, Work};
use runledger_domain::schedule::OccurrenceRecorded;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::Applied;
use runledger_proto::types;

use super::identity::Conflict;
use super::rows::{Key, Rows, signed, time};

/// Decisions that this read model keeps in the run's timeline and nowhere else.
const DECISIONS: &[&str] = &[
    types::COMMAND_REJECTED,
    types::APPROVAL_VOTED,
    types::APPROVAL_CLOSED,
    types::EXECUTION_CONFIRMED,
];

/// Whether a record makes no run and changes none: what is decided about one is no fact of it, and
/// anybody may ask about a run that there never was.
fn is_only_decided(applied: &Applied) -> bool {
    DECISIONS.contains(&&*applied.record.type_name)
}

/// A run, as a batch changes it.
#[derive(Debug, Default)]
pub(super) struct RunRow<'a> {
    /// Whether a record of the run's own stream is among the batch: only then is it folded.
    pub(super) owned: bool,
    /// As loaded but for the totals, which count this batch alone.
    pub(super) state: Run,
    /// The start that stands, when it is in this batch.
    pub(super) started: Option<&'a run::Started>,
    /// The end that stands, when it is in this batch.
    pub(super) ended: Option<&'a run::Ended>,
    /// Least and greatest time of appending.
    pub(super) recorded: Option<(Timestamp, Timestamp)>,
    pub(super) messages: i64,
    pub(super) conflicts: i64,
}

impl RunRow<'_> {
    fn saw(&mut self, at: Timestamp) {
        let at = time(at);
        let (first, last) = self.recorded.unwrap_or((at, at));
        self.recorded = Some((first.min(at), last.max(at)));
    }
}

/// What steps and tool calls have in common.
pub(super) trait Worked: Default {
    fn work(&self) -> &Work;
    fn part(&mut self) -> Part<'_>;
}

impl Worked for Work {
    fn work(&self) -> &Work {
        self
    }

    fn part(&mut self) -> Part<'_> {
        Part::Step(self)
    }
}

impl Worked for ToolCall {
    fn work(&self) -> &Work {
        &self.work
    }

    fn part(&mut self) -> Part<'_> {
        Part::ToolCall(self)
    }
}

/// A step or a tool call, as a batch changes it. `F` is the fact of its start.
#[derive(Debug)]
pub(super) struct WorkRow<'a, S, F> {
    pub(super) state: S,
    /// Offset of the batch's first record that names it.
    pub(super) log_offset: Option<i64>,
    /// The start that stands, when it is in this batch.
    pub(super) started: Option<&'a F>,
    /// Code of the error in the end that stands, when it is in this batch.
    pub(super) error_code: Option<&'a str>,
}

impl<S: Default, F> Default for WorkRow<'_, S, F> {
    fn default() -> Self {
        Self {
            state: S::default(),
            log_offset: None,
            started: None,
            error_code: None,
        }
    }
}

impl<'a, S: Worked, F> WorkRow<'a, S, F> {
    /// Keeps `start`, when the start of `moment` is the one that stands.
    fn keep_start(&mut self, start: &'a F, moment: Moment) {
        if self.state.work().started == Some(moment) {
            self.started = Some(start);
        }
    }

    /// Keeps the error's code, when the end of `moment` is the one that stands.
    fn keep_end(&mut self, error: Option<&'a run::Error>, moment: Moment) {
        if self.state.work().ended.is_some_and(|(at, _)| at == moment) {
            self.error_code = error.map(|error| error.code.as_str());
        }
    }
}

pub(super) type StepRow<'a> = WorkRow<'a, Work, run::StepStarted>;
pub(super) type ToolCallRow<'a> = WorkRow<'a, ToolCall, run::ToolCallStarted>;

/// How much of one meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) quantity: i64,
    pub(super) records: i64,
}

/// The rows that a batch touches.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) runs: Rows<'a, RunRow<'a>>,
    pub(super) steps: Rows<'a, StepRow<'a>>,
    pub(super) calls: Rows<'a, ToolCallRow<'a>>,
    pub(super) usage: Rows<'a, Use>,
    /// By conversation and message; the first of the batch.
    pub(super) messages: Rows<'a, Option<(&'a Applied, &'a MessageRecorded)>>,
    pub(super) occurrences: Vec<(&'a Applied, &'a OccurrenceRecorded)>,
    /// Records that came after their run had ended.
    pub(super) late: Vec<&'a Applied>,
    /// Records that were not folded.
    pub(super) unknown: Vec<&'a Applied>,
}

impl<'a> Batch<'a> {
    /// The rows that `fresh` and `conflicts` touch, still empty.
    pub(super) fn new(fresh: &[&'a Applied], conflicts: &'a [Conflict]) -> Self {
        let (mut runs, mut steps, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        let (mut usage, mut messages) = (Vec::new(), Vec::new());
        for applied in fresh {
            let scope = applied.record.scope;
            if !is_only_decided(applied) {
                runs.extend(run_of(applied).map(|run| (scope, run, "")));
            }
            match fact_of(applied) {
                Some(Fact::Run(fact)) => {
                    let run = fact.run_id().as_str();
                    match fact {
                        run::Fact::StepStarted(fact) => {
                            steps.push((scope, run, fact.step_id.as_str()))
                        }
                        run::Fact::StepEnded(fact) => {
                            steps.push((scope, run, fact.step_id.as_str()))
                        }
                        run::Fact::ToolCallStarted(fact) => {
                            calls.push((scope, run, fact.tool_call_id.as_str()))
                        }
                        run::Fact::ToolCallEnded(fact) => {
                            calls.push((scope, run, fact.tool_call_id.as_str()))
                        }
                        run::Fact::UsageRecorded(fact) => {
                            usage.push((scope, run, fact.meter.as_str()))
                        }
                        run::Fact::Started(_) | run::Fact::Progressed(_) | run::Fact::Ended(_) => {}
                    }
                }
                Some(Fact::Message(fact)) => messages.push(message_key(scope, fact.message())),
                Some(Fact::Schedule(_) | Fact::Usage(_)) | None => {}
            }
        }
        runs.extend(
            conflicts
                .iter()
                .map(|conflict| (conflict.scope, conflict.run_id.as_str(), "")),
        );
        let mut batch = Self {
            runs: Rows::new(runs),
            steps: Rows::new(steps),
            calls: Rows::new(calls),
            usage: Rows::new(usage),
            messages: Rows::new(messages),
            occurrences: Vec::new(),
            late: Vec::new(),
            unknown: Vec::new(),
        };
        batch.touch(fresh, conflicts);
        batch
    }

    /// What can be said of the runs without knowing their state.
    fn touch(&mut self, fresh: &[&'a Applied], conflicts: &'a [Conflict]) {
        for applied in fresh {
            let Some(run) =
                run_of(applied).and_then(|run| self.runs.get_mut((applied.record.scope, run, "")))
            else {
                continue;
            };
            run.owned |= applied.record.stream.family() == Family::Run;
            run.saw(applied.record.recorded_at);
        }
        for conflict in conflicts {
            if let Some(run) = self.runs.get_mut((conflict.scope, &conflict.run_id, "")) {
                run.conflicts = run.conflicts.saturating_add(conflict.copies);
                run.saw(conflict.recorded_at);
            }
        }
    }

    /// Folds the records in, in the order of the log. The rows' states must have been loaded.
    pub(super) fn fold(&mut self, fresh: &[&'a Applied]) {
        for applied in fresh {
            match fact_of(applied) {
                Some(Fact::Run(fact)) => self.fold_run(applied, fact),
                Some(Fact::Message(fact)) => {
                    let message = fact.message();
                    if let Some(row) = self
                        .messages
                        .get_mut(message_key(applied.record.scope, message))
                    {
                        row.get_or_insert((applied, message));
                    }
                }
                Some(Fact::Schedule(fact)) => self.occurrences.push((applied, fact.occurrence())),
                Some(Fact::Usage(_)) | None => self.fold_unknown(applied),
            }
        }
        self.occurrences
            .sort_unstable_by_key(|(applied, occurrence)| occurrence_key(applied, occurrence));
        self.late.sort_unstable_by_key(|applied| {
            (
                applied.record.scope,
                applied.record.stream.as_str(),
                applied.record.id,
            )
        });
    }

    /// A type that this version does not know, or a fact in a stream where it does not belong: it
    /// is kept, and its run has heard of it.
    fn fold_unknown(&mut self, applied: &'a Applied) {
        if *applied.record.type_name == *types::RECORD_SKIPPED {
            return; // no word of the run's reporter: it is neither late nor unknown
        }
        if is_only_decided(applied) {
            return;
        }
        self.unknown.push(applied);
        let run =
            run_of(applied).and_then(|run| self.runs.get_mut((applied.record.scope, run, "")));
        if run.is_some_and(|run| run.state.heed()) {
            self.late.push(applied);
        }
    }

    fn fold_run(&mut self, applied: &'a Applied, fact: &'a run::Fact) {
        let (scope, run_id) = (applied.record.scope, fact.run_id().as_str());
        let moment = Moment {
            record: applied.record.id,
            at: time(applied.record.occurred_at),
        };
        let log_offset = signed(applied.position.offset);
        let Some(run) = self.runs.get_mut((scope, run_id, "")) else {
            return;
        };
        let late = match fact {
            run::Fact::StepStarted(start) => {
                let step = self.steps.get_mut((scope, run_id, start.step_id.as_str()));
                fold_work(run, step, fact, moment, log_offset, |step| {
                    step.keep_start(start, moment)
                })
            }
            run::Fact::StepEnded(end) => {
                let step = self.steps.get_mut((scope, run_id, end.step_id.as_str()));
                fold_work(run, step, fact, moment, log_offset, |step| {
                    step.keep_end(end.error.as_ref(), moment)
                })
            }
            run::Fact::ToolCallStarted(start) => {
                let call = self
                    .calls
                    .get_mut((scope, run_id, start.tool_call_id.as_str()));
                fold_work(run, call, fact, moment, log_offset, |call| {
                    call.keep_start(start, moment)
                })
            }
            run::Fact::ToolCallEnded(end) => {
                let call = self
                    .calls
                    .get_mut((scope, run_id, end.tool_call_id.as_str()));
                fold_work(run, call, fact, moment, log_offset, |call| {
                    call.keep_end(end.error.as_ref(), moment)
                })
            }
            run::Fact::UsageRecorded(used) => {
                if let Some(row) = self.usage.get_mut((scope, run_id, used.meter.as_str())) {
                    row.quantity = row.quantity.saturating_add(used.quantity.max(0));
                    row.records = row.records.saturating_add(1);
                }
                run::evolve(&mut run.state, Part::None, fact, moment)
            }
            run::Fact::Started(_) | run::Fact::Progressed(_) | run::Fact::Ended(_) => {
                fold_state(run, fact, moment)
            }
        };
        if late {
            self.late.push(applied);
        }
    }
}

fn fold_state<'a>(run: &mut RunRow<'a>, fact: &'a run::Fact, moment: Moment) -> bool {
    let late = run::evolve(&mut run.state, Part::None, fact, moment);
    match fact {
        run::Fact::Started(start) if run.state.started == Some(moment) => run.started = Some(start),
        run::Fact::Ended(end) if run.state.ended.is_some_and(|(at, _)| at == moment) => {
            run.ended = Some(end)
        }
        _ => {}
    }
    late
}

/// Folds a fact of a step or a tool call in; `keep` keeps of the fact what its row wants.
fn fold_work<'a, S: Worked, F>(
    run: &mut RunRow<'_>,
    row: Option<&mut WorkRow<'a, S, F>>,
    fact: &run::Fact,
    moment: Moment,
    log_offset: i64,
    keep: impl FnOnce(&mut WorkRow<'a, S, F>),
) -> bool {
    let Some(row) = row else {
        return run::evolve(&mut run.state, Part::None, fact, moment);
    };
    row.log_offset.get_or_insert(log_offset);
    let late = run::evolve(&mut run.state, row.state.part(), fact, moment);
    keep(row);
    late
}

/// The fact of a record, if it lies in the stream to which it belongs. Anything else is not folded:
/// only the owner of a stream's partition may write what the stream tells.
fn fact_of(applied: &Applied) -> Option<&Fact> {
    let fact = applied.fact.as_ref()?;
    let (prefix, id) = applied.record.stream.as_str().split_once('/')?;
    let belongs = match fact {
        Fact::Run(fact) => prefix == "run" && id == fact.run_id().as_str(),
        Fact::Schedule(fact) => prefix == "schedules" && id == fact.occurrence().owner_id.as_str(),
        Fact::Message(fact) => {
            prefix == "conversation" && id == fact.message().conversation_id.as_str()
        }
        Fact::Usage(_) => false,
    };
    belongs.then_some(fact)
}

/// The run whose timeline a record belongs to: that of its stream, or the one it names.
pub(super) fn run_of(applied: &Applied) -> Option<&str> {
    match applied.record.stream.as_str().split_once('/') {
        Some(("run", id)) => Some(id),
        _ => fact_of(applied).and_then(Fact::run_id).map(RunId::as_str),
    }
}

fn message_key(scope: Scope, message: &MessageRecorded) -> Key<'_> {
    (
        scope,
        message.conversation_id.as_str(),
        message.message_id.as_str(),
    )
}

fn occurrence_key<'a>(
    applied: &'a Applied,
    occurrence: &'a OccurrenceRecorded,
) -> impl Ord + use<'a> {
    let (id, owner) = (
        ScheduleId::as_str(&occurrence.schedule_id),
        occurrence.owner_id.as_str(),
    );
    (
        applied.record.scope,
        id,
        occurrence.scheduled_at,
        owner,
        applied.record.id,
    )
}
