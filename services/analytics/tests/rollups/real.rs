//! The real runs of the demo, counted.

use std::collections::{BTreeMap, HashSet};

use runledger_analytics::Analytics;
use runledger_domain::Fact;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Kind, Partition, Position, Stream};
use runledger_domain::run::{
    self, Ended, Limits, Outcome, Started, ToolCallEnded, ToolCallStarted, Trigger, WorkStatus,
};
use runledger_domain::scope::Scope;
use runledger_projection::{Applied, Kept, Projection as _};
use runledger_proto::encode;
use runledger_testkit::Database;
use serde_json::Value;
use uuid::Uuid;

use crate::events::{applied, moment, scope};

const RUNS: &str = include_str!("../../../../deploy/demo/airline-agent-runs.jsonl");

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap()
}

/// The facts of a recorded run. Ids of calls repeat inside a run, so their place is part of them.
fn facts(recorded: &Value) -> Vec<Fact> {
    let run_id = || text(recorded, "run").parse().unwrap();
    let mut facts = vec![run::Fact::Started(Box::new(Started {
        run_id: run_id(),
        agent_id: text(recorded, "agent").parse().unwrap(),
        agent_version: String::new(),
        parent_run_id: None,
        conversation_id: None,
        space_id: None,
        account_id: None,
        trigger: Trigger::Api,
        task: String::new(),
        reason: String::new(),
        agent_context: None,
        model: text(recorded, "model").into(),
        input: None,
        labels: BTreeMap::new(),
        limits: Limits::default(),
    }))];
    let calls = recorded["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["kind"] == "tool_call");
    for (number, call) in calls.enumerate() {
        let tool_call_id = || format!("c{number}").parse().unwrap();
        facts.push(run::Fact::ToolCallStarted(ToolCallStarted {
            run_id: run_id(),
            tool_call_id: tool_call_id(),
            step_id: None,
            tool: text(call, "tool").parse().unwrap(),
            arguments: None,
            action_hint: String::new(),
            reason: String::new(),
            agent_context: None,
        }));
        let failed = call["failed"].as_bool().unwrap();
        facts.push(run::Fact::ToolCallEnded(ToolCallEnded {
            run_id: run_id(),
            tool_call_id: tool_call_id(),
            status: if failed {
                WorkStatus::Failed
            } else {
                WorkStatus::Succeeded
            },
            result: None,
            error: None,
        }));
    }
    let succeeded = recorded["succeeded"].as_bool().unwrap();
    facts.push(run::Fact::Ended(Ended {
        run_id: run_id(),
        outcome: if succeeded {
            Outcome::Succeeded
        } else {
            Outcome::Failed
        },
        error: None,
        result: None,
        counters: BTreeMap::new(),
    }));
    facts.into_iter().map(Fact::Run).collect()
}

/// All of them in one partition, a second apart.
fn records(scope: Scope) -> Vec<Applied> {
    let mut records: Vec<Applied> = Vec::new();
    for line in RUNS.lines() {
        for fact in facts(&serde_json::from_str(line).unwrap()) {
            let number = records.len();
            let (type_name, payload) = encode::payload(&fact);
            let position = Position {
                partition: Partition {
                    family: Family::Run,
                    number: 0,
                },
                incarnation: Incarnation::new(Uuid::from_u128(1)),
                offset: number as u64 + 1,
            };
            let stream: Stream = fact.stream();
            let at = moment(i64::try_from(number).unwrap());
            records.push(applied(
                scope,
                stream,
                Kind::Fact,
                type_name,
                payload,
                number as u128,
                at,
                position,
            ));
        }
    }
    records
}

#[tokio::test]
async fn the_real_runs_are_counted_exactly() {
    let database = Database::fresh().await;
    let pool = database.pool("runledger_analytics_writer", "analytics");
    let scope = scope(1);
    let records = records(scope);
    for batch in records.chunks(97) {
        let mut tx = pool.begin().await.unwrap();
        let batch: Vec<&Applied> = batch.iter().collect();
        let standings = Analytics.keep(&mut tx, &batch).await.unwrap();
        let kept = batch.iter().zip(standings);
        let kept: Vec<Kept<'_>> = kept
            .map(|(applied, standing)| Kept { applied, standing })
            .collect();
        Analytics.apply(&mut tx, &kept).await.unwrap();
        tx.commit().await.unwrap();
    }
    let counted: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT subject, status, tool, sum(count)::bigint FROM rollups WHERE grain = 'day' GROUP BY subject, status, tool",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let sum = |wanted: &dyn Fn(&str, &str, &str) -> bool| -> i64 {
        let of = counted
            .iter()
            .filter(|(subject, status, tool, _)| wanted(subject, status, tool));
        of.map(|row| row.3).sum()
    };
    assert_eq!(sum(&|subject, _, _| subject == "run"), 200);
    assert_eq!(
        sum(&|subject, status, _| (subject, status) == ("run", "succeeded")),
        84
    );
    assert_eq!(sum(&|subject, _, _| subject == "tool_call"), 1_164);
    assert_eq!(
        sum(&|subject, status, _| (subject, status) == ("tool_call", "failed")),
        73
    );
    let tools: HashSet<&str> = counted
        .iter()
        .map(|row| row.2.as_str())
        .filter(|tool| !tool.is_empty())
        .collect();
    assert_eq!(tools.len(), 14);
    let calls = |tool: &str| sum(&|subject, _, of| subject == "tool_call" && of == tool);
    let top = tools.iter().max_by_key(|tool| calls(tool)).unwrap();
    assert_eq!((*top, calls(top)), ("get_reservation_details", 377));
}
