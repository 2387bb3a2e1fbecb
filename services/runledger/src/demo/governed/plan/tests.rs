use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use runledger_domain::ids::{AgentId, Name};
use runledger_domain::json::Json;
use runledger_domain::policy::{Action, Change, Policy, PolicySet, Subject};
use runledger_proto::decode;
use runledger_proto::decode::fields::Path as Field;

use super::*;
use crate::import;

pub(in super::super) fn demo_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/demo/airline-agent-runs.jsonl")
}

fn demo_runs() -> Vec<Governed> {
    runs(&import::read(&demo_file()).unwrap(), "l").unwrap()
}

#[test]
fn everything_has_an_id_of_its_own_that_never_changes() {
    let runs = demo_runs();
    let mut ids = BTreeSet::new();
    let mut calls = 0;
    let at = prost_types::Timestamp::default();
    for run in &runs {
        ids.insert(run.started(at).id);
        ids.insert(run.ended(at).id);
        for call in &run.calls {
            calls += 1;
            ids.insert(call.request.id.clone());
            ids.extend(["vote", "confirm", "complete"].map(|what| call.id(what)));
        }
    }
    assert_eq!((runs.len(), calls), (182, 1_164));
    assert_eq!(ids.len(), 2 * 182 + 4 * 1_164);
    // Had they changed, a second demo would ask for everything anew.
    assert_eq!(runs[0].run_id, "governed-airline-0-0");
    assert_eq!(
        runs[0].calls[0].request.id,
        "6f94ba15-a420-8a73-b527-5721676c1e45"
    );
    assert_eq!(policies()[0].id, "a6a25d49-41d3-8c2e-9a67-576855ba3112");
}

#[test]
fn each_policy_matches_a_good_handful_of_the_real_calls() {
    let saved: Vec<Policy> = policies()
        .into_iter()
        .map(|request| {
            let spec = decode::policy(request.spec.unwrap(), Field::ROOT.field("spec")).unwrap();
            Policy {
                id: runledger_domain::ids::PolicyId::parse(request.policy_id).unwrap(),
                version: 1,
                spec,
                created: None::<Change>,
                updated: None,
                deleted: false,
            }
        })
        .collect();
    let set = PolicySet::compile(&saved);
    let mut by_action: BTreeMap<Action, u32> = BTreeMap::new();
    let mut by_policy: BTreeMap<String, u32> = BTreeMap::new();
    for run in demo_runs() {
        for call in run.calls {
            let asked = call.request.call.unwrap();
            let arguments = Json::parse(&asked.arguments_json).unwrap();
            let judged = set.judge(&Subject {
                tool: &Name::parse(asked.tool).unwrap(),
                agent: &AgentId::parse(call.request.agent_id).unwrap(),
                action_hint: "",
                run: &RunId::parse(asked.run_id).unwrap(),
                model: "",
                arguments: Some(&arguments),
                labels: &BTreeMap::new(),
            });
            *by_action.entry(judged.action).or_default() += 1;
            for one in judged.matches {
                assert_eq!(one.error, None);
                *by_policy.entry(one.policy.to_string()).or_default() += 1;
            }
        }
    }
    let matched = [
        ("demo-cancellations", 69),
        ("demo-large-bookings", 22),
        ("demo-one-certificate", 6),
    ];
    assert_eq!(
        by_policy,
        matched.map(|(name, calls)| (name.to_owned(), calls)).into()
    );
    assert_eq!(by_action[&Action::Warn], 69);
    assert_eq!(by_action[&Action::Block], 6);
}

#[test]
fn held_calls_meet_every_choice() {
    let held = |call: &&Call| {
        let json: serde_json::Value = serde_json::from_str(call.arguments_json()).unwrap();
        json["payment_methods"][0]["amount"].as_u64() >= Some(u64::from(LARGE))
    };
    let runs = demo_runs();
    let chosen: Vec<Choice> = runs
        .iter()
        .flat_map(|run| &run.calls)
        .filter(held)
        .map(Call::choice)
        .collect();
    for choice in [Choice::Approve, Choice::Reject, Choice::Leave] {
        assert!(
            chosen.iter().filter(|one| **one == choice).count() >= 3,
            "{chosen:?}"
        );
    }
}

#[test]
fn batches_are_bounded_and_keep_the_order_of_a_run() {
    let runs = demo_runs();
    for most in [1, 5, 100] {
        let cut = batches(&runs, most);
        assert!(cut.iter().all(|batch| (1..=most).contains(&batch.len())));
        let ids = |calls: Vec<&Call>| -> Vec<String> {
            calls.iter().map(|call| call.request.id.clone()).collect()
        };
        let in_order = runs.iter().flat_map(|run| &run.calls).collect();
        assert_eq!(ids(cut.into_iter().flatten().collect()), ids(in_order));
    }
    assert_eq!(batches(&runs, 100).len(), 13);
}
