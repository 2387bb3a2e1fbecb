//! From facts about runs to the usage that follows from them, and what has to be known for that.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::ids::{Name, RecordId, RunId, ToolCallId};
use runledger_domain::log::{Position, Stream};
use runledger_domain::run::{Fact, Outcome, UsageRecorded, WorkStatus};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_domain::usage::{Forwarded, Of, Payer};
use runledger_projection::{Applied, ApplyError};
use sqlx::PgConnection;
use uuid::Uuid;

use super::rows;

pub(super) type RunKey = (Scope, RunId);
pub(super) type CallKey = (Scope, RunId, ToolCallId);

/// A run: who pays for it, and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) payer: Option<Payer>,
    pub(super) end: Option<(RecordId, Timestamp, Outcome)>,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) start: Option<(Name, Timestamp)>,
    pub(super) end: Option<(RecordId, Timestamp, WorkStatus)>,
    pub(super) forwarded: bool,
}

/// Reported usage that waits for its run's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) source_id: RecordId,
    pub(super) offset: u64,
    pub(super) used_at: Timestamp,
    pub(super) usage: UsageRecorded,
}

/// Usage as it is to be forwarded.
#[derive(Clone, Debug)]
pub(super) struct Derived {
    pub(super) scope: Scope,
    pub(super) run: RunId,
    pub(super) stream: Stream,
    /// The record that says so, and the one whose coming lets it go.
    pub(super) source_id: RecordId,
    pub(super) source: Position,
    pub(super) used_at: Timestamp,
    pub(super) usage: Forwarded,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Report,
    Call(ToolCallId),
    CallTime(ToolCallId),
    Run,
}

impl Derived {
    pub(super) fn of(&self) -> Of<'_> {
        match &self.what {
            What::Report => Of::Report(self.source_id),
            What::Call(call) => Of::Call(call.as_str()),
            What::CallTime(call) => Of::CallTime(call.as_str()),
            What::Run => Of::Run,
        }
    }
}

/// What is at hand of the runs of a batch.
#[derive(Default)]
pub(super) struct Fold {
    pub(super) runs: BTreeMap<RunKey, Run>,
    pub(super) calls: BTreeMap<CallKey, Call>,
    waiting: BTreeMap<RunKey, Vec<Waiting>>,
    changed_runs: BTreeSet<RunKey>,
    changed_calls: BTreeSet<CallKey>,
    derived: Vec<Derived>,
    /// Runs whose start was taken in, and where it lies.
    begun: Vec<(RunKey, Position)>,
    /// More may wait for them than was loaded.
    is_cut: bool,
}

/// Most reports, and most calls, that wait for runs and are loaded at once.
const PIECE: u16 = 1_000;

/// What waits for the start of a run beyond what was loaded with it. However much it is, it goes piece by
/// piece.
pub(super) struct Rest {
    run: RunKey,
    payer: Payer,
    /// Where the start lies.
    position: Position,
    /// The last that was taken.
    report: Uuid,
    call: String,
}

impl Rest {
    /// The next piece of it, taken in; `None`: there is none.
    pub(super) async fn piece(
        &mut self,
        tx: &mut PgConnection,
    ) -> Result<Option<Fold>, ApplyError> {
        let waiting = rows::take_waiting_of_run(tx, &self.run, self.report, PIECE).await?;
        let mut calls = rows::calls_of_run(tx, &self.run, &self.call, PIECE).await?;
        if waiting.is_empty() && calls.is_empty() {
            return Ok(None);
        }
        let reports = waiting.iter().map(|one| one.source_id.as_uuid());
        self.report = reports.max().unwrap_or(self.report);
        if let Some((.., call)) = calls.keys().next_back() {
            call.as_str().clone_into(&mut self.call);
        }
        let named = named_by(&self.run, &waiting).collect();
        calls.extend(rows::calls(tx, &named, &BTreeSet::new(), 0).await?);
        Ok(Some(self.release(waiting, calls)))
    }

    fn release(&self, waiting: Vec<Waiting>, calls: BTreeMap<CallKey, Call>) -> Fold {
        // Its end, if it has one, was forwarded with the first piece.
        let run = Run {
            payer: Some(self.payer.clone()),
            end: None,
        };
        let mut fold = Fold {
            runs: BTreeMap::from([(self.run.clone(), run)]),
            calls,
            waiting: BTreeMap::from([(self.run.clone(), waiting)]),
            ..Fold::default()
        };
        fold.release(Place {
            scope: self.run.0,
            run: &self.run.1,
            position: self.position,
        });
        fold
    }
}

/// What waits may name a call whose start is known.
fn named_by<'a>(
    (scope, run): &'a RunKey,
    waiting: &'a [Waiting],
) -> impl Iterator<Item = CallKey> + 'a {
    let named = waiting
        .iter()
        .filter_map(|one| one.usage.tool_call_id.clone());
    named.map(|call| (*scope, run.clone(), call))
}

/// Where a fact lies that is taken in.
#[derive(Clone, Copy)]
struct Place<'a> {
    scope: Scope,
    run: &'a RunId,
    position: Position,
}

impl Fold {
    pub(super) async fn load(
        tx: &mut PgConnection,
        facts: &[(&Applied, &Fact)],
    ) -> Result<Self, ApplyError> {
        let (mut runs, mut calls, mut starting) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (applied, fact) in facts {
            let key = (applied.record.scope, fact.run_id().clone());
            if let Some(call) = call_of(fact) {
                calls.insert((key.0, key.1.clone(), call.clone()));
            }
            if matches!(fact, Fact::Started(_)) {
                starting.insert(key.clone());
            }
            runs.insert(key);
        }
        let runs = rows::runs(tx, &runs).await?;
        // Of runs that had their start before nothing waits.
        starting.retain(|key| runs.get(key).is_none_or(|run| run.payer.is_none()));
        let waiting = rows::take_waiting(tx, &starting, PIECE).await?;
        for (run, all) in &waiting {
            calls.extend(named_by(run, all));
        }
        let calls = rows::calls(tx, &calls, &starting, PIECE).await?;
        let reports: usize = waiting.values().map(Vec::len).sum();
        let is_cut = [reports, calls.len()]
            .iter()
            .any(|loaded| *loaded >= usize::from(PIECE));
        Ok(Self {
            runs,
            calls,
            waiting,
            is_cut,
            ..Self::default()
        })
    }

    /// What waits beyond what was loaded, once all is taken in and written.
    pub(super) fn rests(&self) -> Vec<Rest> {
        let begun = self.begun.iter().filter(|_| self.is_cut);
        let rest = begun.filter_map(|(key, position)| {
            let payer = self.runs.get(key)?.payer.clone()?;
            Some(Rest {
                run: key.clone(),
                payer,
                position: *position,
                report: Uuid::nil(),
                call: String::new(),
            })
        });
        rest.collect()
    }

    /// Of each start and each end the first counts.
    pub(super) fn take_in(&mut self, applied: &Applied, fact: &Fact) {
        let place = Place {
            scope: applied.record.scope,
            run: fact.run_id(),
            position: applied.position,
        };
        let key = (place.scope, place.run.clone());
        let (id, at) = (applied.record.id, applied.record.occurred_at);
        match fact {
            Fact::Started(started) => {
                let run = self.runs.entry(key.clone()).or_default();
                if run.payer.is_none() {
                    run.payer = Some(Payer::of(started, at));
                    self.changed_runs.insert(key.clone());
                    self.begun.push((key, place.position));
                    self.release(place);
                }
            }
            Fact::Ended(ended) => {
                let run = self.runs.entry(key.clone()).or_default();
                if run.end.is_none() {
                    run.end = Some((id, at, ended.outcome));
                    self.changed_runs.insert(key);
                    self.run_ended(place);
                }
            }
            Fact::ToolCallStarted(started) => {
                let key = (place.scope, place.run.clone(), started.tool_call_id.clone());
                let call = self.calls.entry(key.clone()).or_default();
                if call.start.is_none() {
                    call.start = Some((started.tool.clone(), at));
                    self.changed_calls.insert(key.clone());
                    self.call_ended(place, &key);
                }
            }
            Fact::ToolCallEnded(ended) => {
                let key = (place.scope, place.run.clone(), ended.tool_call_id.clone());
                let call = self.calls.entry(key.clone()).or_default();
                if call.end.is_none() {
                    call.end = Some((id, at, ended.status));
                    self.changed_calls.insert(key.clone());
                    self.call_ended(place, &key);
                }
            }
            Fact::UsageRecorded(usage) => {
                let waiting = Waiting {
                    source_id: id,
                    offset: place.position.offset,
                    used_at: at,
                    usage: usage.clone(),
                };
                match self.runs.get(&key).and_then(|run| run.payer.clone()) {
                    Some(payer) => self.report(place, &payer, &waiting),
                    None => self.waiting.entry(key).or_default().push(waiting),
                }
            }
            Fact::Progressed(_) | Fact::StepStarted(_) | Fact::StepEnded(_) => {}
        }
    }

    /// The start of a run lets go what has waited for it, in the order of the log of each kind.
    fn release(&mut self, place: Place<'_>) {
        let key = (place.scope, place.run.clone());
        let Some(payer) = self.runs.get(&key).and_then(|run| run.payer.clone()) else {
            return;
        };
        let mut waiting = self.waiting.remove(&key).unwrap_or_default();
        waiting.sort_by_key(|one| one.offset);
        waiting.dedup_by_key(|one| one.source_id);
        for one in &waiting {
            self.report(place, &payer, one);
        }
        let is_his = |(scope, run, _): &CallKey| *scope == place.scope && run == place.run;
        let calls: Vec<CallKey> = self
            .calls
            .keys()
            .filter(|key| is_his(key))
            .cloned()
            .collect();
        for call in calls {
            self.call_ended(place, &call);
        }
        self.run_ended(place);
    }

    fn report(&mut self, place: Place<'_>, payer: &Payer, waiting: &Waiting) {
        let call = waiting.usage.tool_call_id.clone();
        let call = call.and_then(|call| self.calls.get(&(place.scope, place.run.clone(), call)));
        let tool = call
            .and_then(|call| call.start.as_ref())
            .map(|(tool, _)| tool);
        let usage = payer.reported(&waiting.usage, tool);
        self.derive(
            place,
            (waiting.source_id, waiting.used_at),
            usage,
            What::Report,
        );
    }

    /// A call is forwarded when its start, its end and its run's start are known.
    fn call_ended(&mut self, place: Place<'_>, key: &CallKey) {
        let payer = self.runs.get(&(place.scope, place.run.clone()));
        let Some(payer) = payer.and_then(|run| run.payer.clone()) else {
            return;
        };
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.forwarded) else {
            return;
        };
        let (Some((tool, from)), Some((id, to, status))) = (&call.start, &call.end) else {
            return;
        };
        call.forwarded = true;
        self.changed_calls.insert(key.clone());
        let [one, time] = payer.called(tool, *from, *to, *status);
        let source = (*id, *to);
        self.derive(place, source, one, What::Call(key.2.clone()));
        self.derive(place, source, time, What::CallTime(key.2.clone()));
    }

    fn run_ended(&mut self, place: Place<'_>) {
        let Some(run) = self.runs.get(&(place.scope, place.run.clone())) else {
            return;
        };
        if let (Some(payer), Some((id, at, outcome))) = (&run.payer, run.end) {
            let usage = payer.ran(at, outcome);
            self.derive(place, (id, at), usage, What::Run);
        }
    }

    fn derive(
        &mut self,
        place: Place<'_>,
        (source_id, used_at): (RecordId, Timestamp),
        usage: Forwarded,
        what: What,
    ) {
        self.derived.push(Derived {
            scope: place.scope,
            run: place.run.clone(),
            stream: Stream::run(place.run),
            source_id,
            source: place.position,
            used_at,
            usage,
            what,
        });
    }

    /// Writes what is known now; what is to be forwarded comes back.
    pub(super) async fn write(self, tx: &mut PgConnection) -> Result<Vec<Derived>, ApplyError> {
        let runs = self.changed_runs.iter();
        let runs: Vec<_> = runs
            .filter_map(|key| self.runs.get_key_value(key))
            .collect();
        rows::write_runs(tx, &runs).await?;
        let calls = self.changed_calls.iter();
        let calls: Vec<_> = calls
            .filter_map(|key| self.calls.get_key_value(key))
            .collect();
        rows::write_calls(tx, &calls).await?;
        rows::write_waiting(tx, &self.waiting).await?;
        Ok(self.derived)
    }
}

fn call_of(fact: &Fact) -> Option<&ToolCallId> {
    match fact {
        Fact::ToolCallStarted(fact) => Some(&fact.tool_call_id),
        Fact::ToolCallEnded(fact) => Some(&fact.tool_call_id),
        Fact::UsageRecorded(fact) => fact.tool_call_id.as_ref(),
        Fact::Started(_)
        | Fact::Progressed(_)
        | Fact::Ended(_)
        | Fact::StepStarted(_)
        | Fact::StepEnded(_) => None,
    }
}

#[cfg(test)]
mod tests;
