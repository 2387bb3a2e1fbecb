//! The count by hand: straight from what happened, in the order of the log, without any fold.

use std::collections::{BTreeMap, HashMap, HashSet};

use runledger_domain::approval::{Status, Verdict};
use runledger_domain::run::{Outcome, WorkStatus};

use crate::events::{Event, What};
use crate::tables::{Row, Sum};

/// Of each stream the first of an id; decisions have none.
fn heard(events: &[Event]) -> Vec<&Event> {
    let mut seen = HashSet::new();
    let is_first = |event: &&Event| {
        event.is_decision() || seen.insert((event.stream().as_str().to_owned(), event.id))
    };
    events.iter().filter(is_first).collect()
}

#[derive(Clone, Default)]
struct Run {
    start: Option<(i64, u8, u8, Option<u8>)>,
    end: Option<(i64, Outcome)>,
    waits: Option<bool>,
    asked_by: Option<u8>,
    had_errors: bool,
}

impl Run {
    /// Agent, version, model, space.
    fn origin(&self) -> [String; 4] {
        match (self.start, self.asked_by) {
            (Some((_, agent, model, space)), _) => [
                format!("a{agent}"),
                format!("v{model}"),
                format!("m{model}"),
                space.map(|space| format!("s{space}")).unwrap_or_default(),
            ],
            (None, Some(agent)) => [
                format!("a{agent}"),
                String::new(),
                String::new(),
                String::new(),
            ],
            (None, None) => Default::default(),
        }
    }
}

#[derive(Clone, Default)]
struct Call {
    start: Option<(i64, u8)>,
    end: Option<(i64, WorkStatus)>,
    governed: Option<(i64, Verdict, bool)>,
    answer: Option<(i64, Status)>,
}

/// The rollups that these events, in this order, come to.
#[expect(clippy::too_many_lines, reason = "a table of all that can happen")]
pub(crate) fn count(events: &[Event]) -> BTreeMap<Row, Sum> {
    let heard = heard(events);
    let (mut runs, mut calls) = (HashMap::<u8, Run>::new(), HashMap::<(u8, u8), Call>::new());
    for event in &heard {
        match event.what {
            What::Start {
                run,
                agent,
                model,
                space,
            } => {
                runs.entry(run)
                    .or_default()
                    .start
                    .get_or_insert((event.at, agent, model, space));
            }
            What::Progress { run, waits } => {
                let run = runs.entry(run).or_default();
                if run.end.is_none() {
                    run.waits = Some(waits);
                }
            }
            What::End {
                run,
                outcome,
                counter,
            } => {
                let run = runs.entry(run).or_default();
                if run.end.is_none() {
                    run.end = Some((event.at, outcome));
                    run.had_errors |= counter > 0;
                }
            }
            What::CallStart { run, call, tool } => {
                calls
                    .entry((run, call))
                    .or_default()
                    .start
                    .get_or_insert((event.at, tool));
            }
            What::CallEnd { run, call, status } => {
                let call = calls.entry((run, call)).or_default();
                if call.end.is_none() {
                    call.end = Some((event.at, status));
                    runs.entry(run).or_default().had_errors |= status == WorkStatus::Failed;
                }
            }
            What::Decided {
                run,
                call,
                tool,
                agent,
                verdict,
                covered,
            } => {
                runs.entry(run).or_default().asked_by.get_or_insert(agent);
                let call = calls.entry((run, call)).or_default();
                call.start.get_or_insert((event.at, tool));
                call.governed.get_or_insert((event.at, verdict, covered));
            }
            What::Voted { run, call, status } | What::Closed { run, call, status } => {
                if status != Status::Pending {
                    calls
                        .entry((run, call))
                        .or_default()
                        .answer
                        .get_or_insert((event.at, status));
                }
            }
            What::Usage { .. }
            | What::Message { .. }
            | What::Occurrence { .. }
            | What::Charged { .. } => {}
        }
    }
    let mut book = Book::default();
    for run in runs.values() {
        count_run(&mut book, run);
    }
    for ((run, _), call) in &calls {
        count_call(
            &mut book,
            &runs.get(run).cloned().unwrap_or_default().origin(),
            call,
        );
    }
    count_others(&mut book, &heard, &runs);
    book.0
}

fn count_run(book: &mut Book, run: &Run) {
    let started = run.start.map(|(at, ..)| at);
    let ended = run.end.map(|(at, _)| at);
    let Some(at) = started.or(ended) else {
        return;
    };
    let status = match (run.end, run.waits) {
        (Some((_, outcome)), _) => outcome.to_string(),
        (None, Some(true)) => "waiting".into(),
        (None, Some(false) | None) => "running".into(),
    };
    let failed = run
        .end
        .is_some_and(|(_, outcome)| outcome == Outcome::Failed);
    let error = if failed { "BROKEN" } else { "" };
    let kind = if run.had_errors { "with_errors" } else { "" };
    let row = Row::new("run", run.origin())
        .status(&status)
        .kind(kind)
        .error(error);
    book.add(at, row, 0, lasting(started, ended));
}

fn count_call(book: &mut Book, origin: &[String; 4], call: &Call) {
    let tool = call
        .start
        .map(|(_, tool)| format!("t{tool}"))
        .unwrap_or_default();
    if let Some((asked, Verdict::AwaitingApproval, _)) = call.governed {
        let status = call
            .answer
            .map_or(Status::Pending, |(_, status)| status)
            .to_string();
        let row = Row::new("approval", origin.clone())
            .status(&status)
            .tool(&tool);
        book.add(
            asked,
            row,
            0,
            lasting(Some(asked), call.answer.map(|(at, _)| at)),
        );
    }
    let started = call.start.map(|(at, _)| at);
    let ended = call.end.map(|(at, _)| at);
    let Some(at) = started.or(ended) else { return };
    let verdict = call.governed.map(|(_, verdict, _)| verdict);
    let status = match (call.end, verdict, call.answer.map(|(_, status)| status)) {
        (Some((_, status)), ..) => status.as_str(),
        (None, Some(Verdict::Blocked), _) => "blocked",
        (None, Some(Verdict::AwaitingApproval), None) => "awaiting_approval",
        (None, Some(Verdict::AwaitingApproval), Some(Status::Approved)) => "running",
        (None, Some(Verdict::AwaitingApproval), Some(_)) => "rejected",
        (None, ..) => "running",
    };
    let failed = call
        .end
        .is_some_and(|(_, status)| status == WorkStatus::Failed);
    let kind = match call.governed {
        None => "reported",
        Some((_, _, true)) => "covered",
        Some((_, _, false)) => "uncovered",
    };
    let row = Row::new("tool_call", origin.clone())
        .status(status)
        .tool(&tool)
        .verdict(verdict.map_or("", |verdict| verdict.as_str()))
        .kind(kind)
        .error(if failed { "REFUSED" } else { "" });
    book.add(at, row, 0, lasting(started, ended));
}

fn count_others(book: &mut Book, heard: &[&Event], runs: &HashMap<u8, Run>) {
    let origin = |run: Option<u8>| {
        let run = run.and_then(|run| runs.get(&run));
        run.map(Run::origin).unwrap_or_default()
    };
    let (mut sent, mut ended) = (HashSet::new(), HashSet::new());
    for event in heard {
        match event.what {
            What::End { run, counter, .. } if ended.insert(run) => {
                let row = Row::new("counter", origin(Some(run))).kind("errors");
                book.add(event.at, row, counter.into(), None);
            }
            What::Usage {
                run,
                meter,
                quantity,
                model,
            } => {
                let mut of = origin(Some(run));
                if let Some(model) = model {
                    of[2] = format!("m{model}");
                }
                let row = Row::new("usage", of).kind(&format!("meter{meter}"));
                book.add(event.at, row, quantity.into(), None);
            }
            What::Message {
                conversation,
                message,
                run,
                chars,
                role,
            } if sent.insert((conversation, message)) => {
                let row = Row::new("message", origin(run)).kind(role.as_str());
                book.add(event.at, row, chars.into(), None);
            }
            What::Occurrence { status } => {
                let row = Row::new("occurrence", Default::default()).status(status.as_str());
                book.add(event.at, row, 0, None);
            }
            What::Charged {
                run,
                agent,
                meter,
                micros,
                priced,
            } => {
                let mut of = origin(run);
                if run.is_none() {
                    of[0] = agent.map(|agent| format!("a{agent}")).unwrap_or_default();
                }
                let status = if priced { "priced" } else { "unpriced" };
                let row = Row::new("cost", of)
                    .kind(&format!("meter{meter}"))
                    .status(status);
                book.add(event.at, row, if priced { micros.into() } else { 0 }, None);
            }
            _ => {}
        }
    }
}

fn lasting(from: Option<i64>, to: Option<i64>) -> Option<i64> {
    let seconds = to? - from?;
    (seconds >= 0).then_some(seconds)
}

#[derive(Default)]
struct Book(BTreeMap<Row, Sum>);

impl Book {
    /// One more, in each of its lengths of time.
    fn add(&mut self, at: i64, row: Row, quantity: i128, seconds: Option<i64>) {
        for (grain, length) in [("minute", 60), ("quarter", 900), ("day", 86_400)] {
            let at = crate::events::moment(at).timestamp() / length * length;
            let sum = self.0.entry(row.clone().within(grain, at)).or_default();
            sum.count += 1;
            sum.quantity += quantity;
            sum.micros += i128::from(seconds.unwrap_or_default()) * 1_000_000;
            sum.timed += i64::from(seconds.is_some());
        }
    }
}
