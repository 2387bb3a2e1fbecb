use std::collections::BTreeSet;
use std::path::Path;

use runledger_domain::time::PAST_MAX;

use super::*;
use crate::import::source;

fn demo() -> Vec<Run> {
    source::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/demo/airline-agent-runs.jsonl"),
    )
    .unwrap()
}

fn planned(seed: u64, prefix: &str) -> Vec<Planned> {
    let runs = demo();
    let plan = Plan::new(&runs, seed, prefix);
    runs.iter().map(|run| plan.of(run).unwrap()).collect()
}

/// Id and time of every fact of a run, in order.
fn told(planned: &Planned) -> Vec<(String, (i64, i32))> {
    let at = |time: &Option<WireTime>| time.map(|time| (time.seconds, time.nanos)).unwrap();
    let of = |segment: &Facts| match segment {
        Facts::Runs(facts) => facts
            .iter()
            .map(|fact| (fact.id.clone(), at(&fact.occurred_at)))
            .collect(),
        Facts::ToolCalls(facts) => facts
            .iter()
            .map(|fact| (fact.id.clone(), at(&fact.occurred_at)))
            .collect(),
        Facts::Messages(facts) => facts
            .iter()
            .map(|fact| (fact.id.clone(), at(&fact.occurred_at)))
            .collect::<Vec<_>>(),
        Facts::Schedules(_) => panic!("recorded runs have no schedules"),
    };
    planned.segments.iter().flat_map(of).collect()
}

fn ids(planned: &[Planned]) -> BTreeSet<String> {
    planned.iter().flat_map(told).map(|(id, _)| id).collect()
}

#[test]
fn the_same_file_and_seed_make_the_same_facts() {
    assert_eq!(planned(1, ""), planned(1, ""));
    let golden = &told(&planned(1, "")[0])[0];
    assert_eq!(golden.0, "16f36969-b525-847d-9d7c-bdda7217edc9");
    assert_eq!(
        golden.1,
        (1_728_284_422, 38_000_000),
        "times must never depend on the day of the import"
    );
}

#[test]
fn every_fact_has_an_id_of_its_own() {
    let one = ids(&planned(1, ""));
    assert_eq!(one.len(), 200 + 2 * 1_164 + 2_870 + 200);
    assert_eq!(
        planned(1, "").iter().map(Planned::len).sum::<usize>(),
        one.len()
    );
    assert!(
        one.iter()
            .all(|id| Uuid::parse_str(id).unwrap().get_version_num() == 8)
    );
    assert!(one.is_disjoint(&ids(&planned(2, ""))), "another seed");
    assert!(
        one.is_disjoint(&ids(&planned(1, "again-"))),
        "another prefix"
    );
}

#[test]
fn a_recorded_run_keeps_its_order_and_its_numbers() {
    for one in planned(7, "") {
        let calls: Vec<&str> = one
            .segments
            .iter()
            .filter_map(|segment| {
                if let Facts::ToolCalls(facts) = segment {
                    Some(facts)
                } else {
                    None
                }
            })
            .flatten()
            .filter_map(|fact| match &fact.fact {
                Some(tool_call_fact::Fact::ToolCallStarted(started)) => {
                    Some(started.tool_call_id.as_str())
                }
                _ => None,
            })
            .collect();
        let expected: Vec<String> = (1..=calls.len())
            .map(|number| format!("call-{number}"))
            .collect();
        assert_eq!(calls, expected);

        let times: Vec<(i64, i32)> = told(&one).into_iter().map(|(_, at)| at).collect();
        assert!(times.is_sorted());
        assert!(
            times.last().unwrap().0 - times[0].0 < 4 * 3_600,
            "plausible seconds"
        );
    }
}

#[test]
fn times_lie_within_what_ingest_takes() {
    let last = BASE_SECONDS + i64::try_from(2 * SPREAD_MS / 1_000).unwrap();
    assert!(last < 1_732_000_000, "before anybody can import");
    assert!(PAST_MAX > TimeDelta::days(3_650), "and until 2034");
}

#[test]
fn requests_are_bounded_in_records_and_bytes() {
    let facts = |count: usize| -> Vec<ToolCallFact> {
        let segments = planned(1, "").into_iter().flat_map(|one| one.segments);
        let calls = segments.filter_map(|one| {
            if let Facts::ToolCalls(facts) = one {
                Some(facts)
            } else {
                None
            }
        });
        calls.flatten().take(count).collect()
    };
    assert!(requests(facts(0), 10, 1 << 20).is_empty());
    let cut = requests(facts(25), 10, 1 << 20);
    assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(cut.into_iter().flatten().collect::<Vec<_>>(), facts(25));
    assert!(
        requests(facts(25), 10, 1)
            .iter()
            .all(|request| request.len() == 1)
    );
}
