//! Judges a history by what the read model holds in the end. Pure: rows go in one by one, in any
//! order, and a verdict comes out. Keeps two counts a record and one tally a run.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::scope::Scope;
use uuid::Uuid;

use crate::history::{
    Fate, History, Kind, Place, RecordKey, RunKey, Sent, fails, parse_part, quantity,
};

#[cfg(test)]
mod tests;

/// How many broken promises are told in full.
const TOLD_MAX: usize = 20;

/// A row of `runs.records`.
#[derive(Clone, Debug)]
pub(crate) struct RecordRow {
    pub(crate) scope: Scope,
    pub(crate) stream: String,
    pub(crate) id: Uuid,
    pub(crate) run_id: Option<String>,
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) late: bool,
    pub(crate) conflicts: i64,
}

/// A row of `runs.tool_calls`.
#[derive(Clone, Debug)]
pub(crate) struct CallRow {
    pub(crate) scope: Scope,
    pub(crate) run_id: String,
    pub(crate) tool_call_id: String,
    pub(crate) started: Option<Uuid>,
    pub(crate) ended: Option<Uuid>,
}

/// A row of `runs.messages` or of `runs.occurrences`.
#[derive(Clone, Debug)]
pub(crate) struct PartRow {
    pub(crate) scope: Scope,
    /// The conversation or the schedule.
    pub(crate) belongs_to: String,
    /// The message's id; an occurrence has none.
    pub(crate) part_id: Option<String>,
    pub(crate) record: Uuid,
}

/// A row of `runs.runs`, with its row of `runs.usage_totals`.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) scope: Scope,
    pub(crate) run_id: String,
    pub(crate) started: Option<Uuid>,
    pub(crate) ended: Option<Uuid>,
    pub(crate) conflicts: i64,
    pub(crate) counts: Counts,
}

/// What a run adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: i64,
    pub(crate) failed: i64,
    pub(crate) messages: i64,
    pub(crate) late: i64,
    pub(crate) uses: i64,
    pub(crate) used: i64,
}

/// What the records of a run, as found, must add up to.
#[derive(Debug, Default)]
struct Tally {
    calls: BTreeSet<u16>,
    counts: Counts,
    started: Option<Uuid>,
    ended: Option<Uuid>,
    has_row: bool,
}

/// How often a record was found: among the records, and in the table of its kind.
#[derive(Clone, Copy, Default)]
struct Found {
    records: u8,
    rows: u8,
}

/// What became of the promises.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    /// Of those, how many are there.
    pub(crate) unknown_present: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) stale: u64,
    /// Promises broken in another way.
    pub(crate) otherwise: u64,
    /// The first that were found, in words.
    pub(crate) broken: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_kept(&self) -> bool {
        self.lost + self.doubled + self.stale + self.otherwise == 0
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.broken.len() < TOLD_MAX {
            self.broken.push(what());
        }
    }

    fn lose(&mut self, what: impl FnOnce() -> String) {
        self.lost += 1;
        self.tell(what);
    }

    fn double(&mut self, what: impl FnOnce() -> String) {
        self.doubled += 1;
        self.tell(what);
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.otherwise += 1;
        self.tell(what);
    }
}

pub(crate) struct Checker<'a> {
    history: &'a History,
    found: Vec<Vec<Found>>,
    runs: BTreeMap<RunKey, Tally>,
    /// Records of runs that were tailed which the read model holds, by tail.
    tailed: BTreeMap<RunKey, BTreeMap<Uuid, (Place, u64)>>,
    verdict: Verdict,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        let tailed = history.tails.iter().map(|tail| tail.run);
        let none = |writer: &crate::history::Writer| vec![Found::default(); writer.sent.len()];
        Self {
            history,
            found: history.writers.iter().map(none).collect(),
            runs: BTreeMap::new(),
            tailed: tailed.map(|run| (run, BTreeMap::new())).collect(),
            verdict: Verdict::default(),
        }
    }

    /// The record with this id, if one of our writers sent it to this scope.
    fn sent(&self, scope: Scope, id: Uuid) -> Option<(RecordKey, Sent)> {
        let key = RecordKey::parse(id, self.history.nonce)?;
        let sent = self.history.find(key)?;
        let writer = &self.history.writers[usize::from(key.writer)];
        (self.history.scopes[writer.scope] == scope).then_some((key, sent))
    }

    fn found(&mut self, key: RecordKey) -> &mut Found {
        &mut self.found[usize::from(key.writer)][key.number as usize]
    }

    pub(crate) fn record(&mut self, row: &RecordRow) {
        let sent = self.sent(row.scope, row.id);
        let Some((key, sent)) = sent.filter(|(key, sent)| {
            let run = run_of(*key, *sent);
            row.stream == stream(run, sent.kind) && row.run_id == Some(run.to_string())
        }) else {
            self.verdict
                .wrong(|| format!("a record that no client sent there: {row:?}"));
            return;
        };
        if row.conflicts != 0 {
            self.verdict
                .wrong(|| format!("a copy passes for another content: {row:?}"));
        }
        let run = run_of(key, sent);
        let found = self.found(key);
        found.records = found.records.saturating_add(1);
        if found.records > 1 {
            return;
        }
        self.runs
            .entry(run)
            .or_default()
            .count(sent, row.id, row.late);
        if let Some(tailed) = self.tailed.get_mut(&run) {
            tailed.insert(row.id, (row.place.clone(), row.offset));
        }
    }

    pub(crate) fn call(&mut self, row: &CallRow) {
        let mut good = row.started.is_some() || row.ended.is_some();
        let halves = [
            (row.started, Kind::CallStarted),
            (row.ended, Kind::CallEnded),
        ];
        for (id, kind) in halves {
            let Some(id) = id else { continue };
            let Some((key, sent)) = self.sent(row.scope, id) else {
                good = false;
                continue;
            };
            good &= sent.kind == kind
                && RunKey::parse(&row.run_id) == Some(run_of(key, sent))
                && parse_part(&row.tool_call_id) == Some(sent.part);
            self.row(key);
        }
        if !good {
            self.verdict
                .wrong(|| format!("a tool call that no client sent like this: {row:?}"));
        }
    }

    pub(crate) fn message(&mut self, row: &PartRow) {
        self.part(row, Kind::Message);
    }

    pub(crate) fn occurrence(&mut self, row: &PartRow) {
        self.part(row, Kind::Occurrence);
    }

    fn part(&mut self, row: &PartRow, kind: Kind) {
        let sent = self.sent(row.scope, row.record);
        let Some((key, _)) = sent.filter(|(key, sent)| {
            let run = run_of(*key, *sent);
            let (belongs_to, part) = match kind {
                Kind::Message => (run.conversation(), Some(sent.part)),
                _ => (run.schedule(), None),
            };
            let shown = row.part_id.as_deref().map(parse_part);
            sent.kind == kind && row.belongs_to == belongs_to && shown == part.map(Some)
        }) else {
            self.verdict
                .wrong(|| format!("a {kind:?} that no client sent like this: {row:?}"));
            return;
        };
        self.row(key);
    }

    fn row(&mut self, key: RecordKey) {
        let found = self.found(key);
        found.rows = found.rows.saturating_add(1);
    }

    /// To be called when all records are in.
    pub(crate) fn run(&mut self, row: &RunRow) {
        let tally = RunKey::parse(&row.run_id)
            .filter(|run| {
                let writer = self.history.writers.get(usize::from(run.writer));
                writer.is_some_and(|writer| self.history.scopes[writer.scope] == row.scope)
            })
            .and_then(|run| self.runs.get_mut(&run));
        let Some(tally) = tally else {
            self.verdict
                .wrong(|| format!("a run of which there is no record: {row:?}"));
            return;
        };
        if std::mem::replace(&mut tally.has_row, true) {
            self.verdict.double(|| format!("a run twice: {row:?}"));
            return;
        }
        let expected = tally.total();
        if (row.started, row.ended, row.conflicts) != (tally.started, tally.ended, 0) {
            let ends = (tally.started, tally.ended);
            self.verdict
                .wrong(|| format!("{row:?}, but its records say {ends:?} and no conflicts"));
        }
        let pairs = row.counts.pairs(&expected);
        if pairs.iter().any(|(found, records)| found > records) {
            self.verdict
                .double(|| format!("{row:?} counts more than its records: {expected:?}"));
        } else if row.counts != expected {
            self.verdict
                .lose(|| format!("{row:?} counts less than its records: {expected:?}"));
        }
    }

    /// When all rows are in: what became of every record, run, read and tail.
    pub(crate) fn verdict(mut self) -> Verdict {
        self.settle_records();
        for (run, tally) in &self.runs {
            if !tally.has_row {
                self.verdict
                    .lose(|| format!("{run} has records and no row of its own"));
            }
        }
        let reads = &self.history.reads;
        self.verdict.stale += reads.stale;
        self.verdict.otherwise += reads.wrong;
        for example in &reads.examples {
            self.verdict.tell(|| example.clone());
        }
        for surprise in &self.history.surprises {
            self.verdict.wrong(|| surprise.clone());
        }
        self.settle_tails();
        self.verdict
    }

    fn settle_records(&mut self) {
        let writers = self.history.writers.iter().zip(&self.found);
        for (number, (writer, found)) in writers.enumerate() {
            for (index, (sent, found)) in writer.sent.iter().zip(found).enumerate() {
                let said = || {
                    format!(
                        "record {index} of writer {number}, {sent:?}: found {} times among the records and {} \
                         times in the table of its kind",
                        found.records, found.rows
                    )
                };
                settle(sent, *found, &mut self.verdict, said);
            }
        }
    }

    fn settle_tails(&mut self) {
        let verdict = &mut self.verdict;
        for tail in &self.history.tails {
            let run = tail.run;
            if tail.repeats > 0 {
                verdict.double(|| format!("a tail of {run} repeated {} items", tail.repeats));
            }
            if tail.turned > 0 {
                verdict.wrong(|| format!("a tail of {run} turned {} items around", tail.turned));
            }
            if !tail.complete {
                verdict.lose(|| format!("a tail of {run} never showed all that was acknowledged"));
            }
            let none = BTreeMap::new();
            let kept = self.tailed.get(&run).unwrap_or(&none);
            for (id, place) in &tail.items {
                if kept.get(id) != Some(place) {
                    verdict.wrong(|| {
                        let now = kept.get(id);
                        format!("a tail of {run} showed {id} at {place:?}, where there is {now:?}")
                    });
                }
            }
            for (id, (place, offset)) in kept {
                let passed = tail.last.get(place).is_some_and(|last| last >= offset);
                if passed && !tail.items.contains_key(id) {
                    verdict.lose(|| {
                        format!("a tail of {run} went past {id} at {place:?} {offset} without showing it")
                    });
                }
            }
        }
    }
}

/// Judges one record by how often it was found.
fn settle(sent: &Sent, found: Found, verdict: &mut Verdict, said: impl Fn() -> String) {
    let rows = if sent.kind.has_row() {
        found.rows
    } else {
        found.records.min(1)
    };
    match sent.fate {
        Fate::Acknowledged => verdict.acknowledged += 1,
        Fate::Unknown => verdict.unknown += 1,
        Fate::Denied => {}
    }
    if found.records > 1 || rows > 1 {
        verdict.double(said);
    } else if sent.fate == Fate::Acknowledged && (found.records == 0 || rows == 0) {
        verdict.lose(said);
    } else if found.records != rows {
        verdict.wrong(said);
    } else if sent.fate == Fate::Denied && found.records > 0 {
        verdict.wrong(|| {
            format!(
                "{}, but its client was told that nothing was appended",
                said()
            )
        });
    } else if sent.fate == Fate::Unknown {
        verdict.unknown_present += u64::from(found.records);
    }
}

fn run_of(key: RecordKey, sent: Sent) -> RunKey {
    RunKey {
        writer: key.writer,
        number: sent.run,
    }
}

fn stream(run: RunKey, kind: Kind) -> String {
    match kind {
        Kind::Message => format!("conversation/{}", run.conversation()),
        Kind::Occurrence => format!("schedules/{}", run.owner()),
        Kind::Started
        | Kind::Progressed
        | Kind::Used
        | Kind::CallStarted
        | Kind::CallEnded
        | Kind::Ended => format!("run/{run}"),
    }
}

impl Counts {
    fn pairs(&self, other: &Self) -> [(i64, i64); 6] {
        [
            (self.calls, other.calls),
            (self.failed, other.failed),
            (self.messages, other.messages),
            (self.late, other.late),
            (self.uses, other.uses),
            (self.used, other.used),
        ]
    }
}

impl Tally {
    fn count(&mut self, sent: Sent, id: Uuid, late: bool) {
        self.counts.late += i64::from(late);
        match sent.kind {
            Kind::Started => self.started = Some(id),
            Kind::Ended => self.ended = Some(id),
            Kind::Used => {
                self.counts.uses += 1;
                self.counts.used += quantity(sent.part);
            }
            Kind::CallStarted => {
                self.calls.insert(sent.part);
            }
            Kind::CallEnded => {
                self.calls.insert(sent.part);
                self.counts.failed += i64::from(fails(sent.part));
            }
            Kind::Message => self.counts.messages += 1,
            Kind::Progressed | Kind::Occurrence => {}
        }
    }

    fn total(&self) -> Counts {
        let calls = i64::try_from(self.calls.len()).expect("a small count");
        Counts {
            calls,
            ..self.counts
        }
    }
}
