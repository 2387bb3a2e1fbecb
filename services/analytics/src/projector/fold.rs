//! What a batch makes of the runs and calls it touches, and what is counted besides. Pure: states come in
//! as they were loaded and leave as they are to be written.

use std::collections::BTreeMap;

use runledger_domain::analytics::{self, Call, Origin, Run, Sums};
use runledger_domain::approval::Decision;
use runledger_domain::credit::Line;
use runledger_domain::run::{Fact, WorkStatus};
use runledger_domain::scope::Scope;

use super::said::{Said, What};

/// A run of a scope.
pub(super) type RunKey<'a> = (Scope, &'a str);
/// A call of a run of a scope.
pub(super) type CallKey<'a> = (Scope, &'a str, &'a str);

/// A state as it was loaded and as it is now.
#[derive(Debug, Default)]
pub(super) struct Change<S> {
    pub(super) before: S,
    pub(super) now: S,
}

#[derive(Debug, Default)]
pub(super) struct RunChange {
    pub(super) state: Change<Run>,
    /// Whether its row may change here, or is looked at by one who does not own it. All that are locked are
    /// locked at once, in their order, so that two wait for each other in turn and never in a circle.
    pub(super) is_locked: bool,
    /// What is counted in it, its calls aside.
    pub(super) sums: Sums,
}

/// A batch, folded.
#[derive(Debug, Default)]
pub(super) struct Fold<'a> {
    pub(super) runs: BTreeMap<RunKey<'a>, RunChange>,
    pub(super) calls: BTreeMap<CallKey<'a>, Change<Call>>,
    /// What is counted in no run.
    pub(super) others: BTreeMap<(Scope, Origin), Sums>,
}

impl<'a> Fold<'a> {
    /// The states that a batch touches, still empty.
    pub(super) fn of(said: &'a [Said<'a>]) -> Self {
        let mut fold = Self::default();
        for one in said {
            match &one.what {
                What::Run(fact) => {
                    let run = (one.scope, fact.run_id().as_str());
                    fold.runs.entry(run).or_default().is_locked |= changes_its_run(fact);
                    if let Some(call) = call_of(fact) {
                        fold.calls.entry((run.0, run.1, call)).or_default();
                    }
                }
                What::Decided { run_id, decision } => {
                    let call = decision.tool_call_id().as_str();
                    let opens = matches!(decision, Decision::ToolCallDecided(_));
                    fold.runs.entry((one.scope, run_id)).or_default().is_locked |= opens;
                    fold.calls.entry((one.scope, run_id, call)).or_default();
                }
                What::Message(message) => fold.share(one.scope, message.run_id.as_ref()),
                What::Charged(lines) => {
                    for line in lines {
                        fold.share(one.scope, line.spender.run.as_ref());
                    }
                }
                What::Occurrence(_) => {}
            }
        }
        fold
    }

    fn share(&mut self, scope: Scope, run: Option<&'a runledger_domain::ids::RunId>) {
        if let Some(run) = run {
            self.runs
                .entry((scope, run.as_str()))
                .or_default()
                .is_locked = true;
        }
    }

    /// Folds what was said in, in the order of the log. The states must have been loaded.
    pub(super) fn take_in(&mut self, said: &'a [Said<'a>]) {
        for one in said {
            match &one.what {
                What::Run(fact) => self.fold_run(one, fact),
                What::Decided { run_id, decision } => self.decide(one, run_id, decision),
                What::Message(message) => {
                    let (cell, measures) = analytics::message(message, one.moment.at);
                    let run = message.run_id.as_ref().map(|run| run.as_str());
                    self.sums(one.scope, run, Origin::default())
                        .add(cell, &measures);
                }
                What::Occurrence(occurrence) => {
                    let (cell, measures) = analytics::occurrence(occurrence);
                    self.sums(one.scope, None, Origin::default())
                        .add(cell, &measures);
                }
                What::Charged(lines) => {
                    for line in lines {
                        self.charge(one.scope, line);
                    }
                }
            }
        }
    }

    fn fold_run(&mut self, one: &Said<'_>, fact: &'a Fact) {
        let run_id = fact.run_id().as_str();
        let Some(run) = self.runs.get_mut(&(one.scope, run_id)) else {
            return;
        };
        let is_first_end = run.state.now.state.ended.is_none();
        let call = call_of(fact).and_then(|call| self.calls.get_mut(&(one.scope, run_id, call)));
        let call = call.map(|call| &mut call.now);
        run.state.now.evolve(call, fact, one.moment);
        match fact {
            Fact::UsageRecorded(used) => {
                let (cell, measures) = analytics::usage(used, one.moment.at);
                run.sums.add(cell, &measures);
            }
            Fact::Ended(ended) if is_first_end => {
                for (cell, measures) in analytics::counters(ended, one.moment.at) {
                    run.sums.add(cell, &measures);
                }
            }
            Fact::Ended(_)
            | Fact::Started(_)
            | Fact::Progressed(_)
            | Fact::StepStarted(_)
            | Fact::StepEnded(_)
            | Fact::ToolCallStarted(_)
            | Fact::ToolCallEnded(_) => {}
        }
    }

    fn decide(&mut self, one: &Said<'_>, run_id: &'a str, decision: &'a Decision) {
        if let Decision::ToolCallDecided(decided) = decision
            && let Some(run) = self.runs.get_mut(&(one.scope, run_id))
        {
            run.state.now.asked(decided);
        }
        let call = (one.scope, run_id, decision.tool_call_id().as_str());
        if let Some(call) = self.calls.get_mut(&call) {
            call.now.decide(decision, one.moment.at);
        }
    }

    fn charge(&mut self, scope: Scope, line: &'a Line) {
        let (cell, measures) = analytics::charge(line);
        let agent = line.spender.agent.as_ref().map(ToString::to_string);
        let origin = Origin {
            agent: agent.unwrap_or_default(),
            ..Origin::default()
        };
        let run = line.spender.run.as_ref().map(|run| run.as_str());
        if let Some(run) = run.and_then(|run| self.runs.get_mut(&(scope, run))) {
            run.state.now.charged(line);
        }
        self.sums(scope, run, origin).add(cell, &measures);
    }

    /// Where something is summed up: in a run, or under an origin of its own.
    fn sums(&mut self, scope: Scope, run: Option<&'a str>, origin: Origin) -> &mut Sums {
        match run {
            Some(run) => &mut self.runs.entry((scope, run)).or_default().sums,
            None => self.others.entry((scope, origin)).or_default(),
        }
    }
}

/// Whether it may change the run's row, and not only what is counted in the run.
fn changes_its_run(fact: &Fact) -> bool {
    match fact {
        Fact::Started(_) | Fact::Progressed(_) | Fact::Ended(_) => true,
        Fact::ToolCallEnded(end) => end.status == WorkStatus::Failed,
        Fact::StepStarted(_)
        | Fact::StepEnded(_)
        | Fact::ToolCallStarted(_)
        | Fact::UsageRecorded(_) => false,
    }
}

fn call_of(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::ToolCallStarted(start) => Some(start.tool_call_id.as_str()),
        Fact::ToolCallEnded(end) => Some(end.tool_call_id.as_str()),
        Fact::Started(_)
        | Fact::Progressed(_)
        | Fact::Ended(_)
        | Fact::StepStarted(_)
        | Fact::StepEnded(_)
        | Fact::UsageRecorded(_) => None,
    }
}
