//! The tables do not depend on how the log was cut into batches, on copies in it, or on how the
//! partitions were interleaved and spread over processes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runledger_domain::Fact;
use runledger_domain::ids::{Incarnation, RunId};
use runledger_domain::log::{Partition, Position, Record, Stream, partition_of};
use runledger_domain::run::{Outcome, Phase, WorkStatus};
use runledger_domain::scope::Scope;
use runledger_projection::{Applied, Kept, Projection};
use runledger_runs::{Runs, TABLES};
use runledger_testkit::Database;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::facts::{
    call_end, call_start, end, message, occurrence, progress, record, scope, start, started,
    step_end, step_start, usage,
};

const PARTITIONS: u32 = 3;

/// What happens: a fact under an id; a copy has the id of an earlier one.
#[derive(Clone, Debug)]
struct Event {
    id: u8,
    fact: Fact,
    /// A type that nobody knows, in the fact's stream.
    unknown: bool,
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let run = prop::sample::select(vec!["r1", "r2", "r3"]);
    let work = prop::sample::select(WorkStatus::ALL);
    prop_oneof![
        run.clone().prop_map(start),
        (run.clone(), prop::sample::select(Phase::ALL), "[ab]?")
            .prop_map(|(run, phase, note)| progress(run, phase, &note)),
        (run.clone(), prop::sample::select(Outcome::ALL))
            .prop_map(|(run, outcome)| end(run, outcome)),
        (run.clone(), "s[12]").prop_map(|(run, step)| step_start(run, &step)),
        (run.clone(), "s[12]", work.clone())
            .prop_map(|(run, step, status)| step_end(run, &step, status)),
        (run.clone(), "c[12]", "[ab]").prop_map(|(run, call, tool)| call_start(run, &call, &tool)),
        (run.clone(), "c[12]", work).prop_map(|(run, call, status)| call_end(run, &call, status)),
        (run.clone(), "m[12]", prop_oneof![0..9_i64, Just(i64::MAX)])
            .prop_map(|(run, meter, much)| usage(run, &meter, much)),
        ("k[123]", "m[123]", prop::option::of(run.clone()))
            .prop_map(|(conversation, id, run)| message(&conversation, &id, run)),
        ("o[12]", 0..3_i64, prop::option::of(run))
            .prop_map(|(schedule, at, run)| occurrence(&schedule, at, run)),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    // Few ids, so that many come again: the same, or with another content.
    (0..40_u8, any_fact(), prop::bool::weighted(0.05)).prop_map(|(id, fact, unknown)| Event {
        id,
        fact,
        unknown,
    })
}

/// The log of a scope: by partition, in order. Which partition does not depend on the tenant.
fn log(scope: Scope, events: &[Event]) -> BTreeMap<Partition, Vec<Applied>> {
    let mut log: BTreeMap<Partition, Vec<Applied>> = BTreeMap::new();
    for (second, event) in events.iter().enumerate() {
        // Every third time the clock was a little behind.
        let second = i64::try_from(second).unwrap() - if second % 3 == 0 { 2 } else { 0 };
        let mut record = record(scope, u128::from(event.id), &event.fact, second);
        if event.unknown {
            record.type_name = "runledger.run.v9.Unheard".into();
        }
        let partition = Partition {
            family: record.stream.family(),
            number: partition_of(record.stream.as_str(), PARTITIONS),
        };
        let records = log.entry(partition).or_default();
        let position = Position {
            partition,
            incarnation: Incarnation::new(Uuid::from_u128(1)),
            offset: records.len() as u64 + 1,
        };
        records.push(Applied {
            position,
            record,
            fact: (!event.unknown).then(|| event.fact.clone()),
        });
    }
    log
}

/// One transaction.
async fn apply(pool: &PgPool, batch: &[Applied]) {
    let mut tx = pool.begin().await.unwrap();
    let mut runs = Runs::default();
    let records: Vec<&Applied> = batch.iter().collect();
    let standings = runs.keep(&mut tx, &records).await.unwrap();
    let kept = records.iter().zip(standings);
    let kept: Vec<Kept<'_>> = kept
        .map(|(applied, standing)| Kept { applied, standing })
        .collect();
    runs.apply(&mut tx, &kept).await.unwrap();
    tx.commit().await.unwrap();
}

/// Takes the partitions' records in an order and in batches that `choices` tell.
async fn apply_interleaved(
    pool: &PgPool,
    mut log: BTreeMap<Partition, Vec<Applied>>,
    choices: &[u8],
) {
    let mut choices = choices.iter().copied().cycle().map(usize::from);
    while !log.is_empty() {
        let mut batch = Vec::new();
        for _ in 0..=choices.next().unwrap() % 4 {
            let Some(partition) = log
                .keys()
                .nth(choices.next().unwrap() % log.len().max(1))
                .copied()
            else {
                break;
            };
            let records = log.get_mut(&partition).unwrap();
            let count = (1 + choices.next().unwrap() % 6).min(records.len());
            batch.extend(records.drain(..count));
            if records.is_empty() {
                log.remove(&partition);
            }
        }
        apply(pool, &batch).await;
        // Postgres may have said nothing although it had committed: the same batch comes again.
        if choices.next().unwrap() % 5 == 0 {
            apply(pool, &batch).await;
        }
    }
}

/// All rows of a tenant but for the tenant, as text.
async fn dump(pool: &PgPool, scope: Scope) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for table in TABLES.iter().copied() {
        let sql = format!(
            "SELECT (to_jsonb(t) - 'tenant_id')::text AS row FROM runs.{table} t WHERE tenant_id = $1 ORDER BY row"
        );
        let rows = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(scope.tenant.as_uuid())
            .fetch_all(pool)
            .await
            .unwrap();
        tables.insert(table, rows);
    }
    tables
}

/// Each total is what counting the rows gives. Returns the runs for which one is not.
async fn miscounted(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(include_str!("miscounted.sql"))
        .fetch_all(pool)
        .await
        .unwrap()
}

#[test]
fn no_batching_copying_or_interleaving_changes_the_tables() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let database = runtime.block_on(Database::fresh());
    let (writer, admin) = (
        database.pool("runledger_runs_writer", "runs"),
        database.admin(),
    );
    let tenants = std::cell::Cell::new(0_u128);
    let next = || {
        tenants.set(tenants.get() + 1);
        scope(tenants.get())
    };
    let events = prop::collection::vec(any_event(), 1..60);
    let choices = prop::collection::vec(any::<u8>(), 1..40);
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&(events, choices), |(events, choices)| {
        let (one_by_one, at_once, mixed, shared) = (next(), next(), next(), next());
        let dumps = runtime.block_on(async {
            for applied in log(one_by_one, &events).into_values().flatten() {
                apply(&writer, &[applied]).await;
            }
            let all: Vec<Applied> = log(at_once, &events).into_values().flatten().collect();
            apply(&writer, &all).await;
            apply_interleaved(&writer, log(mixed, &events), &choices).await;
            // Three processes at the same time, each with its partitions.
            let parts = (0..PARTITIONS).map(|number| {
                let part = log(shared, &events)
                    .into_iter()
                    .filter(|(partition, _)| partition.number == number)
                    .collect();
                apply_interleaved(&writer, part, &choices)
            });
            futures::future::join_all(parts).await;
            let mut dumps = Vec::new();
            for scope in [one_by_one, at_once, mixed, shared] {
                dumps.push(dump(&admin, scope).await);
            }
            dumps
        });
        for other in &dumps[1..] {
            prop_assert_eq!(&dumps[0], other);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(runtime.block_on(miscounted(&admin)), Vec::<String>::new());
    runtime.block_on(async { futures::join!(writer.close(), admin.close()) });
}

fn applied(offset: u64, record: Record, fact: Option<Fact>) -> Applied {
    let partition = Partition {
        family: record.stream.family(),
        number: 0,
    };
    let incarnation = Incarnation::new(Uuid::from_u128(1));
    Applied {
        position: Position {
            partition,
            incarnation,
            offset,
        },
        record,
        fact,
    }
}

#[tokio::test]
async fn what_nobody_should_have_appended_is_kept_and_harms_nothing() {
    let database = Database::fresh().await;
    let writer = database.pool("runledger_runs_writer", "runs");
    let scope = scope(1);
    let mut strange = started("r1", "to\0do");
    strange.agent_version = "\0".into();
    strange.labels.insert("nul".parse().unwrap(), "a\0b".into());
    let strange = Fact::Run(runledger_domain::run::Fact::Started(Box::new(strange)));
    let mut ages_ago = record(scope, 1, &strange, 0);
    ages_ago.occurred_at = chrono::DateTime::<chrono::Utc>::MIN_UTC;
    // A fact of one run in the stream of another: only the owner of a stream may write what it tells.
    let mut misplaced = record(scope, 2, &end("r1", Outcome::Failed), 1);
    misplaced.stream = Stream::run(&RunId::parse("r2").unwrap());
    let huge = usage("r1", "m", i64::MAX);
    let batch = [
        applied(1, ages_ago, Some(strange)),
        applied(2, misplaced, Some(end("r1", Outcome::Failed))),
        applied(3, record(scope, 3, &huge, 2), Some(huge.clone())),
        applied(4, record(scope, 4, &huge, 3), Some(huge)),
    ];
    apply(&writer, &batch).await;
    let rows: Vec<(String, String, Option<String>)> =
        sqlx::query_as("SELECT run_id, status, task FROM runs.runs ORDER BY run_id")
            .fetch_all(&writer)
            .await
            .unwrap();
    let task = Some("to\u{fffd}do".to_owned());
    assert_eq!(
        rows,
        [
            ("r1".into(), "running".into(), task),
            ("r2".into(), "unknown".into(), None)
        ]
    );
    let total: (i64, i64) = sqlx::query_as("SELECT quantity, records FROM runs.usage_totals")
        .fetch_one(&writer)
        .await
        .unwrap();
    assert_eq!(total, (i64::MAX, 2));
    writer.close().await;
}

#[tokio::test]
async fn a_copy_with_another_content_is_counted_on_the_record_that_stands() {
    let database = Database::fresh().await;
    let writer = database.pool("runledger_runs_writer", "runs");
    let scope = scope(1);
    let (first, second) = (
        message("k1", "m1", Some("r1")),
        message("k1", "m1", Some("r2")),
    );
    let stands = applied(1, record(scope, 1, &first, 0), Some(first.clone()));
    let repeat = applied(2, record(scope, 1, &first, 0), Some(first));
    let conflict = |offset| applied(offset, record(scope, 1, &second, 9), Some(second.clone()));
    apply(&writer, &[stands, repeat, conflict(3)]).await;
    apply(&writer, &[conflict(4), conflict(5)]).await;
    let runs: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT run_id, messages, conflicts FROM runs.runs")
            .fetch_all(&writer)
            .await
            .unwrap();
    assert_eq!(runs, [("r1".to_owned(), 1, 3)]);
    let records: Vec<(i64, i64)> = sqlx::query_as("SELECT log_offset, conflicts FROM runs.records")
        .fetch_all(&writer)
        .await
        .unwrap();
    assert_eq!(records, [(1, 3)]);
    writer.close().await;
}
