use std::collections::BTreeMap;

use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::run::{
    Ended, Limits, Progressed, Started, StepEnded, StepStarted, ToolCallEnded, ToolCallStarted,
    Trigger, UsageRecorded,
};

fn run_id() -> crate::ids::RunId {
    "r".parse().unwrap()
}

fn started() -> Fact {
    Fact::Started(Box::new(Started {
        run_id: run_id(),
        agent_id: "a".parse().unwrap(),
        agent_version: String::new(),
        parent_run_id: None,
        conversation_id: None,
        space_id: None,
        account_id: None,
        trigger: Trigger::Api,
        task: String::new(),
        reason: String::new(),
        agent_context: None,
        model: String::new(),
        input: None,
        labels: BTreeMap::new(),
        limits: Limits::default(),
    }))
}

fn ended(outcome: Outcome) -> Fact {
    Fact::Ended(Ended {
        run_id: run_id(),
        outcome,
        error: None,
        result: None,
        counters: BTreeMap::new(),
    })
}

fn step_started(id: u8) -> Fact {
    let step_id = format!("s{id}").parse().unwrap();
    Fact::StepStarted(StepStarted {
        run_id: run_id(),
        step_id,
        parent_step_id: None,
        name: String::new(),
    })
}

fn step_ended(id: u8, status: WorkStatus) -> Fact {
    let step_id = format!("s{id}").parse().unwrap();
    Fact::StepEnded(StepEnded {
        run_id: run_id(),
        step_id,
        status,
        error: None,
    })
}

fn call_started(id: u8, tool: &str) -> Fact {
    Fact::ToolCallStarted(ToolCallStarted {
        run_id: run_id(),
        tool_call_id: format!("c{id}").parse().unwrap(),
        step_id: None,
        tool: tool.parse().unwrap(),
        arguments: None,
        action_hint: String::new(),
        reason: String::new(),
        agent_context: None,
    })
}

fn call_ended(id: u8, status: WorkStatus) -> Fact {
    let tool_call_id = format!("c{id}").parse().unwrap();
    Fact::ToolCallEnded(ToolCallEnded {
        run_id: run_id(),
        tool_call_id,
        status,
        result: None,
        error: None,
    })
}

fn usage() -> Fact {
    let meter = "tokens".parse().unwrap();
    let dimensions = BTreeMap::new();
    Fact::UsageRecorded(UsageRecorded {
        run_id: run_id(),
        meter,
        quantity: 1,
        tool_call_id: None,
        dimensions,
    })
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let work = prop::sample::select(WorkStatus::ALL);
    let progress = (prop::sample::select(Phase::ALL), "[ab]?");
    prop_oneof![
        2 => Just(started()),
        3 => progress.prop_map(|(phase, note)| Fact::Progressed(Progressed { run_id: run_id(), phase, note })),
        1 => prop::sample::select(Outcome::ALL).prop_map(ended),
        3 => (0..3_u8).prop_map(step_started),
        3 => (0..3_u8, work.clone()).prop_map(|(id, status)| step_ended(id, status)),
        3 => (0..3_u8, "[ab]").prop_map(|(id, tool)| call_started(id, &tool)),
        3 => (0..3_u8, work).prop_map(|(id, status)| call_ended(id, status)),
        1 => Just(usage()),
    ]
}

fn moment(number: usize) -> Moment {
    let at = DateTime::from_timestamp(i64::try_from(number).unwrap(), 0).unwrap();
    Moment {
        record: RecordId::new(Uuid::from_u128(number as u128)),
        at,
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Folded {
    run: Run,
    steps: BTreeMap<String, Work>,
    calls: BTreeMap<String, ToolCall>,
    late: Vec<bool>,
}

impl Folded {
    fn step(&mut self, id: &impl ToString) -> Part<'_> {
        Part::Step(self.steps.entry(id.to_string()).or_default())
    }

    /// Folds `facts` in, the first of which is the log's `number`th.
    fn fold(&mut self, facts: &[Fact], number: usize) {
        for (number, fact) in facts
            .iter()
            .enumerate()
            .map(|(at, fact)| (number + at, fact))
        {
            let mut run = std::mem::take(&mut self.run);
            let part = match fact {
                Fact::StepStarted(fact) => self.step(&fact.step_id),
                Fact::StepEnded(fact) => self.step(&fact.step_id),
                Fact::ToolCallStarted(fact) => {
                    Part::ToolCall(self.calls.entry(fact.tool_call_id.to_string()).or_default())
                }
                Fact::ToolCallEnded(fact) => {
                    Part::ToolCall(self.calls.entry(fact.tool_call_id.to_string()).or_default())
                }
                Fact::Started(_)
                | Fact::Progressed(_)
                | Fact::Ended(_)
                | Fact::UsageRecorded(_) => Part::None,
            };
            let late = evolve(&mut run, part, fact, moment(number));
            self.run = run;
            self.late.push(late);
        }
    }
}

fn fold(facts: &[Fact]) -> Folded {
    let mut folded = Folded::default();
    folded.fold(facts, 0);
    folded
}

/// The first fact that `pick` picks something from, with its number.
fn first<T>(facts: &[Fact], pick: impl Fn(&Fact) -> Option<T>) -> Option<(usize, T)> {
    facts
        .iter()
        .enumerate()
        .find_map(|(number, fact)| Some((number, pick(fact)?)))
}

fn total(count: usize) -> i64 {
    i64::try_from(count).unwrap()
}

proptest! {
    /// What the fold arrives at one by one is what one would say with all facts laid out at once.
    #[test]
    fn a_run_is_what_its_facts_say_as_a_whole(facts in prop::collection::vec(any_fact(), 0..40)) {
        let folded = fold(&facts);
        let end = first(&facts, |fact| if let Fact::Ended(fact) = fact { Some(fact.outcome) } else { None });
        let open = &facts[..end.map_or(facts.len(), |(number, _)| number)];
        let late = end.map_or(0, |(number, _)| facts.len() - number - 1);
        let progress: Vec<_> =
            open.iter().filter_map(|fact| if let Fact::Progressed(fact) = fact { Some(fact) } else { None }).collect();
        let start = first(&facts, |fact| matches!(fact, Fact::Started(_)).then_some(()));

        prop_assert_eq!(folded.run.started, start.map(|(number, ())| moment(number)));
        prop_assert_eq!(folded.run.ended, end.map(|(number, outcome)| (moment(number), outcome)));
        prop_assert_eq!(folded.run.phase, progress.last().map(|fact| fact.phase));
        let note = progress.iter().rev().find(|fact| !fact.note.is_empty());
        prop_assert_eq!(&folded.run.note, note.map_or("", |fact| &fact.note));
        prop_assert_eq!(folded.run.status().is_final(), end.is_some());
        prop_assert_eq!(folded.late.iter().filter(|late| **late).count(), late);
        let failed = |call: &&ToolCall| matches!(call.work.ended, Some((_, WorkStatus::Failed)));
        prop_assert_eq!(folded.run.totals, Totals {
            steps: total(folded.steps.len()),
            tool_calls: total(folded.calls.len()),
            failed_tool_calls: total(folded.calls.values().filter(failed).count()),
            late_facts: total(late),
        });
    }

    #[test]
    fn a_call_has_the_first_start_and_the_first_end(facts in prop::collection::vec(any_fact(), 0..40)) {
        for (id, call) in &fold(&facts).calls {
            let start = first(&facts, |fact| {
                let Fact::ToolCallStarted(fact) = fact else { return None };
                (fact.tool_call_id.as_str() == id).then(|| fact.tool.clone())
            });
            let end = first(&facts, |fact| {
                let Fact::ToolCallEnded(fact) = fact else { return None };
                (fact.tool_call_id.as_str() == id).then_some(fact.status)
            });
            prop_assert_eq!(call.work.started, start.as_ref().map(|(number, _)| moment(*number)));
            prop_assert_eq!(call.tool.as_ref(), start.as_ref().map(|(_, tool)| tool));
            prop_assert_eq!(call.work.ended, end.map(|(number, status)| (moment(number), status)));
        }
    }

    /// A projector loads the state without its totals and adds what the batch counted: the same.
    #[test]
    fn where_a_batch_ends_makes_no_difference(facts in prop::collection::vec(any_fact(), 0..40), cut in 0..40_usize) {
        let cut = cut.min(facts.len());
        let mut folded = fold(&facts[..cut]);
        let before = std::mem::take(&mut folded.run.totals);
        folded.fold(&facts[cut..], cut);
        let totals = &mut folded.run.totals;
        totals.steps += before.steps;
        totals.tool_calls += before.tool_calls;
        totals.failed_tool_calls += before.failed_tool_calls;
        totals.late_facts += before.late_facts;
        prop_assert_eq!(folded, fold(&facts));
    }
}

#[test]
fn a_late_start_completes_a_run_that_has_ended() {
    let folded = fold(&[ended(Outcome::Failed), started(), call_started(1, "a")]);
    assert_eq!(folded.run.status(), Status::Failed);
    assert_eq!(folded.run.started, Some(moment(1)));
    assert_eq!(folded.late, [false, true, true]);
    assert!(folded.calls["c1"].work.late);
}

#[test]
fn a_fact_without_its_part_changes_nothing() {
    let mut run = Run::default();
    assert!(!evolve(
        &mut run,
        Part::None,
        &call_ended(1, WorkStatus::Failed),
        moment(0)
    ));
    assert_eq!(run, Run::default());
}

#[test]
fn totals_stay_at_the_largest_number() {
    let mut run = Run {
        ended: Some((moment(0), Outcome::Completed)),
        ..Run::default()
    };
    run.totals.late_facts = i64::MAX;
    assert!(run.heed());
    assert_eq!(run.totals.late_facts, i64::MAX);
}
