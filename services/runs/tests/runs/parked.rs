//! A stream that was parked and redriven leaves the tables as if it never had been.

use std::sync::Arc;
use std::time::Duration;

use runledger_domain::Fact;
use runledger_domain::log::Record;
use runledger_domain::run::{Outcome, Phase, WorkStatus};
use runledger_domain::scope::{Role, Scope};
use runledger_domain::time::SystemClock;
use runledger_eventlog::Log;
use runledger_projection::dead_letters::{DeadLetters, Filter};
use runledger_proto::run::v1::GetRunRequest;
use runledger_runs::{Runs, TABLES};
use runledger_service::status::reason;
use runledger_testkit::eventually;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tonic::Code;

use crate::facts::{
    call_end, call_start, end, message, progress, record, scope, start, step_end, step_start, usage,
};
use crate::refusals::fetch;
use crate::world::{World, at_least};

const SOON: Duration = Duration::from_secs(20);

/// A run with a bit of everything: what lies behind the poison depends on its order and on who came
/// first.
fn story(scope: Scope) -> Vec<Record> {
    let facts: Vec<Fact> = vec![
        start("r1"),
        call_start("r1", "c1", "search"),
        usage("r1", "poison", 5),
        progress("r1", Phase::Running, "behind it"),
        step_start("r1", "s1"),
        call_end("r1", "c1", WorkStatus::Failed),
        step_end("r1", "s1", WorkStatus::Succeeded),
        end("r1", Outcome::Failed),
        progress("r1", Phase::Running, "too late"),
        usage("r1", "tokens", 7),
        message("k1", "m1", Some("r1")),
    ];
    let mut records: Vec<Record> = facts
        .iter()
        .zip(0..)
        .map(|(fact, number)| record(scope, 100 + number, fact, i64::try_from(number).unwrap()))
        .collect();
    // A copy of one behind the poison, and what contradicts it and another before it.
    records.push(record(scope, 103, &facts[3], 3));
    records.push(record(
        scope,
        103,
        &progress("r1", Phase::Running, "other"),
        3,
    ));
    records.push(record(
        scope,
        100,
        &progress("r1", Phase::Running, "other"),
        3,
    ));
    records
}

/// All rows of a tenant, but for whose they are and where they lie.
async fn dump(pool: &PgPool, scope: Scope) -> Vec<String> {
    let mut rows = Vec::new();
    for table in TABLES {
        let sql = format!(
            "SELECT '{table} ' || (to_jsonb(t) - 'tenant_id' - 'partition' - 'log_offset' - 'conflicts_to')::text AS row
               FROM runs.{table} t WHERE tenant_id = $1 ORDER BY row"
        );
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(scope.tenant.as_uuid())
            .fetch_all(pool)
            .await
            .unwrap();
        rows.extend(found);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redriven_is_as_if_it_had_never_been_parked() {
    let world = World::new().await;
    let (sick, sound) = (scope(1), scope(2));
    let admin = world.database.admin();
    let refuse = format!(
        "ALTER TABLE runs.usage_totals ADD CONSTRAINT refuse CHECK (meter <> 'poison' OR tenant_id <> '{}')",
        sick.tenant
    );
    admin.execute(AssertSqlSafe(refuse)).await.unwrap();
    let client = world.client(sick, Role::Viewer).await;
    let token = world.append_records(story(sick)).await;
    let other = world.append_records(story(sound)).await;
    let read = async |client: &crate::world::Client, token: &str| {
        let request = GetRunRequest {
            run_id: "r1".into(),
            read: at_least(token),
        };
        client.clone().get_run(request).await
    };
    let refused = read(&client, &token).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_deref()),
        (Code::FailedPrecondition, Some("READ_MODEL_PARKED"))
    );
    let theirs = world.client(sound, Role::Viewer).await;
    read(&theirs, &other).await.unwrap();
    // Its identity is kept all the same: the timeline has every record, once.
    let records = "SELECT count(*) FROM runs.records WHERE tenant_id = $1";
    for scope in [sick, sound] {
        let count: i64 = sqlx::query_scalar(records)
            .bind(scope.tenant.as_uuid())
            .fetch_one(&admin)
            .await
            .unwrap();
        assert_eq!(count, 11);
    }
    eventually(SOON, async || {
        let said = fetch(world.projector.metrics, "/metrics").await;
        let shown = |name: &str, value: &str| {
            let line = said
                .lines()
                .find(|line| line.starts_with(name) && line.contains("runledger.runs"));
            line.is_some_and(|line| line.ends_with(value))
        };
        let all = shown("runledger_projection_parked_records", " 11")
            && shown("runledger_projection_parked_streams", " 1")
            && shown("runledger_projection_streams_parked_total", " 1");
        if all { Ok(()) } else { Err(said) }
    })
    .await;

    admin
        .execute("ALTER TABLE runs.usage_totals DROP CONSTRAINT refuse")
        .await
        .unwrap();
    let log: Arc<dyn Log> = Arc::new(world.log.clone());
    let writer = world.database.pool("runledger_runs_writer", "runs");
    let letters = DeadLetters::open(writer.clone()).await.unwrap();
    let streams = letters.streams(&Filter::default(), 10).await.unwrap();
    let redriven = letters
        .redrive(
            log.as_ref(),
            &mut Runs::default(),
            &SystemClock,
            &streams[0],
            false,
        )
        .await
        .unwrap();
    assert_eq!((redriven.applied, redriven.stopped), (11, None));
    read(&client, &token).await.unwrap();
    let expected = dump(&admin, sound).await;
    assert!(expected.len() > 15, "{expected:#?}");
    assert_eq!(dump(&admin, sick).await, expected);
    writer.close().await;
    admin.close().await;
    world.stop().await;
}
