//! Generations: built beside the one that is served, compared, switched to and back; and what
//! `verify` finds when somebody has been at the tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runledger_domain::Fact;
use runledger_domain::run::{Outcome, WorkStatus};
use runledger_domain::scope::Role;
use runledger_domain::time::SystemClock;
use runledger_projection::dead_letters::{DeadLetters, Filter};
use runledger_proto::run::v1::GetRunRequest;
use runledger_runs::rebuild::Upkeep;
use runledger_runs::rebuild::{DifferenceKind, Error, Verdict};
use runledger_runs::{Runs, TABLES, UPKEEP_DEFAULTS, UpkeepConfig, upkeep_on};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tokio_util::sync::CancellationToken;

use crate::facts::{
    call_end, call_start, end, message, occurrence, scope, start, step_end, step_start, usage,
};
use crate::world::{World, at_least, defaults};

fn upkeep(world: &World) -> Upkeep<Runs> {
    let mut config: UpkeepConfig = defaults(UPKEEP_DEFAULTS);
    config.database = world.database.config("runledger_runs_writer");
    config.owner = world.database.config("runledger_migrator");
    let log = Arc::new(world.log.clone());
    upkeep_on(
        log,
        &config,
        Arc::new(SystemClock),
        2,
        CancellationToken::new(),
    )
    .unwrap()
}

/// Everything that can happen to a run, and a message and an occurrence that name it.
fn life(run: &str) -> Vec<Fact> {
    vec![
        start(run),
        step_start(run, "s1"),
        call_start(run, "c1", "search"),
        call_end(run, "c1", WorkStatus::Succeeded),
        step_end(run, "s1", WorkStatus::Succeeded),
        usage(run, "tokens", 7),
        message(&format!("k-{run}"), "m1", Some(run)),
        occurrence("o1", 1, Some(run)),
        end(run, Outcome::Completed),
    ]
}

async fn live(world: &World, from: u128, runs: u128) -> String {
    let mut token = String::new();
    for number in from..from + runs {
        token = world
            .append(scope(1), number * 100, &life(&format!("r{number}")))
            .await;
    }
    token
}

async fn read(world: &World, token: &str, run: &str) -> u64 {
    let mut client = world.client(scope(1), Role::Viewer).await;
    let request = GetRunRequest {
        run_id: run.into(),
        read: at_least(token),
    };
    let answer = client.get_run(request).await.unwrap().into_inner();
    answer.run.unwrap().totals.unwrap().tool_calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_noticed_by_no_reader_and_can_be_taken_back() {
    let world = World::new().await;
    let token = live(&world, 0, 50).await;
    assert_eq!(read(&world, &token, "r49").await, 1);
    let upkeep = upkeep(&world);
    let done = AtomicBool::new(false);
    // Writes and reads its own writes, before, during and after every switch.
    let reader = async {
        let mut client = world.client(scope(1), Role::Viewer).await;
        let mut number = 1_000_u128;
        while !done.load(Ordering::SeqCst) {
            number += 1;
            let run = format!("r{number}");
            let token = world.append(scope(1), number * 100, &life(&run)).await;
            let read = at_least(&token);
            let request = GetRunRequest { run_id: run, read };
            let answer = client.get_run(request).await.unwrap().into_inner();
            assert_eq!(answer.run.unwrap().totals.unwrap().tool_calls, 1);
        }
        number - 1_000
    };
    let keeper = async {
        let report = upkeep.rebuild(false).await.unwrap();
        assert_eq!(report.generation, 2);
        assert!(report.rows.iter().all(|(_, rows)| *rows > 0), "{report:?}");
        assert!(matches!(upkeep.rebuild(false).await, Err(Error::Kept(1))));
        assert_eq!(upkeep.rollback().await.unwrap().generation, 1);
        // Built already, and whole: only what came since is missing.
        let again = upkeep.rebuild(false).await.unwrap();
        assert_eq!(again.generation, 2);
        assert_eq!(upkeep.finish().await.unwrap(), 1);
        assert!(matches!(upkeep.rollback().await, Err(Error::NoneKept)));
        assert_eq!(upkeep.rebuild(false).await.unwrap().generation, 3);
        done.store(true, Ordering::SeqCst);
    };
    let (reads, ()) = tokio::join!(reader, keeper);
    assert!(reads > 0);
    assert_eq!(read(&world, &token, "r7").await, 1);
    assert_whole(&upkeep.verify().await.unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_is_made_like_the_one_before() {
    let world = World::new().await;
    let token = live(&world, 0, 3).await;
    read(&world, &token, "r2").await;
    upkeep(&world).rebuild(false).await.unwrap();
    let admin = world.database.admin();
    let shape = |schema: &'static str| {
        sqlx::query_scalar::<_, String>(include_str!("shape.sql"))
            .bind(schema)
            .fetch_all(&admin)
    };
    let (first, second) = (shape("runs").await.unwrap(), shape("runs_2").await.unwrap());
    assert!(first.len() > 100, "{first:#?}");
    let lacks = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter()
            .filter(|line| !others.contains(line))
            .cloned()
            .collect()
    };
    assert_eq!(
        (lacks(&first, &second), lacks(&second, &first)),
        (vec![], vec![])
    );
    admin.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rebuilds_at_once_are_one_too_many() {
    let world = World::new().await;
    let token = live(&world, 0, 5).await;
    read(&world, &token, "r4").await;
    let (one, other) = (upkeep(&world), upkeep(&world));
    let (first, second) = tokio::join!(one.rebuild(false), other.verify());
    let refused = |error: &Error| matches!(error, Error::Running { .. });
    match (&first, &second) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => assert!(refused(error), "{error}"),
        both => panic!("{both:?}"),
    }
    world.stop().await;
}

fn assert_whole(verdict: &Verdict) {
    assert_eq!(
        (&verdict.discontinuity, &verdict.difference),
        (&None, &None)
    );
    assert!(verdict.report.records > 0 && verdict.checkpoints > 0);
}

/// What somebody does, how it is undone, and what is to be found: a table and the kind of a
/// difference, or what is said of a cursor.
type Deed = (
    &'static str,
    &'static str,
    Result<(&'static str, DifferenceKind), &'static str>,
);

const DEEDS: &[Deed] = &[
    (
        "UPDATE runs.tool_calls SET tool = 'other' WHERE run_id = 'r3'",
        "UPDATE runs.tool_calls SET tool = 'search' WHERE run_id = 'r3'",
        Ok(("tool_calls", DifferenceKind::Altered)),
    ),
    (
        "CREATE TABLE aside AS SELECT * FROM runs.records WHERE run_id = 'r3' AND family = 'run' AND log_offset % 2 = 0;
         DELETE FROM runs.records r USING aside a WHERE r.record_id = a.record_id",
        "INSERT INTO runs.records SELECT * FROM aside; DROP TABLE aside",
        Ok(("records", DifferenceKind::Missing)),
    ),
    (
        "INSERT INTO runs.messages SELECT tenant_id, mode, conversation_id, 'm2', record_id, log_offset, sender_id, sender_role,
                kind, chars, in_reply_to, run_id, occurred_at FROM runs.messages WHERE run_id = 'r3'",
        "DELETE FROM runs.messages WHERE message_id = 'm2'",
        Ok(("messages", DifferenceKind::Unaccounted)),
    ),
    (
        "UPDATE runs.records SET log_offset = -log_offset WHERE run_id = 'r3' AND family = 'run'",
        "UPDATE runs.records SET log_offset = -log_offset WHERE log_offset < 0",
        Ok(("records", DifferenceKind::Altered)),
    ),
    (
        "UPDATE runs.runs SET tool_calls = tool_calls + 1 WHERE run_id = 'r3'",
        "UPDATE runs.runs SET tool_calls = tool_calls - 1 WHERE run_id = 'r3'",
        Ok(("runs", DifferenceKind::Altered)),
    ),
    (
        "UPDATE runs.cursors SET rolling_hash = sha256(rolling_hash) WHERE family = 'run' AND partition = 1;
         DELETE FROM runs.checkpoints",
        "ROLLBACK",
        Err("rolling hash"),
    ),
];

async fn execute(admin: &PgPool, sql: &str) {
    admin
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap();
}

/// Stops both roles and waits for what the projector leaves: a checkpoint of every partition.
async fn stopped(world: &World) -> PgPool {
    let admin = world.database.admin();
    world.stopper().cancel();
    runledger_testkit::eventually(std::time::Duration::from_secs(10), || async {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM runs.checkpoints")
            .fetch_one(&admin)
            .await
            .unwrap();
        if left >= 9 {
            Ok(())
        } else {
            Err(format!("{left} checkpoints"))
        }
    })
    .await;
    admin
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_the_first_thing_that_is_not_what_the_log_says() {
    let world = World::new().await;
    let token = live(&world, 0, 20).await;
    read(&world, &token, "r19").await;
    let upkeep = upkeep(&world);
    let admin = stopped(&world).await;
    assert_whole(&upkeep.verify().await.unwrap());
    for (deed, undo, expected) in DEEDS {
        execute(&admin, deed).await;
        let verdict = upkeep.verify().await.unwrap();
        match expected {
            Ok((table, kind)) => {
                let found = verdict
                    .difference
                    .unwrap_or_else(|| panic!("nothing found after: {deed}"));
                assert_eq!(
                    (found.table.as_str(), found.kind),
                    (*table, *kind),
                    "{deed}"
                );
                let row = found.served.or(found.rebuilt).unwrap();
                assert!(row.contains("r3"), "{row}");
            }
            Err(what) => {
                let found = verdict
                    .discontinuity
                    .unwrap_or_else(|| panic!("nothing found after: {deed}"));
                assert!(found.what.contains(what), "{found}");
            }
        }
        if *undo != "ROLLBACK" {
            execute(&admin, undo).await;
            assert_whole(&upkeep.verify().await.unwrap());
        }
    }
    admin.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_looks_at_every_table() {
    let world = World::new().await;
    let token = live(&world, 0, 5).await;
    read(&world, &token, "r4").await;
    let upkeep = upkeep(&world);
    let admin = stopped(&world).await;
    assert_whole(&upkeep.verify().await.unwrap());
    // From the last on, since the first that differs is named.
    for table in TABLES.iter().rev() {
        let taken =
            format!("DELETE FROM runs.{table} WHERE ctid = (SELECT min(ctid) FROM runs.{table})");
        execute(&admin, &taken).await;
        let found = upkeep.verify().await.unwrap().difference;
        let found = found.unwrap_or_else(|| panic!("nothing found in {table}"));
        assert_eq!(
            (found.table.as_str(), found.kind),
            (*table, DifferenceKind::Missing)
        );
    }
    admin.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_cursors_and_checkpoints_that_the_log_does_not_bear_out() {
    let deeds = [
        (
            "UPDATE runs.checkpoints SET rolling_hash = sha256(rolling_hash) WHERE family = 'run' AND partition = 1",
            "the checkpoint has another rolling hash",
        ),
        (
            "UPDATE runs.checkpoints SET record_count = record_count + 1 WHERE family = 'run' AND partition = 1",
            "the checkpoint has another record count",
        ),
        (
            "UPDATE runs.cursors SET next_offset = next_offset + 1 WHERE family = 'run' AND partition = 1",
            "the log ends before",
        ),
        (
            "UPDATE runs.cursors SET next_offset = next_offset - 1 WHERE family = 'run' AND partition = 1",
            "no cursor that has come so far",
        ),
        (
            "DELETE FROM runs.cursors WHERE family = 'run' AND partition = 1",
            "no cursor that has come so far",
        ),
        (
            "UPDATE runs.cursors SET last_digest = sha256(last_digest) WHERE family = 'run' AND partition = 1",
            "the cursor has another last digest",
        ),
        (
            "UPDATE runs.cursors SET chain_head = sha256(chain_head) WHERE family = 'run' AND partition = 1",
            "the cursor has another chain head",
        ),
    ];
    let world = World::new().await;
    let token = live(&world, 0, 20).await;
    read(&world, &token, "r19").await;
    let upkeep = upkeep(&world);
    let admin = stopped(&world).await;
    execute(&admin, "CREATE TABLE cursors_aside AS SELECT * FROM runs.cursors; CREATE TABLE checkpoints_aside AS SELECT * FROM runs.checkpoints").await;
    for (deed, what) in deeds {
        execute(&admin, deed).await;
        let found = upkeep.verify().await.unwrap().discontinuity;
        let found = found.unwrap_or_else(|| panic!("nothing found after: {deed}"));
        assert!(found.what.contains(what), "{deed}: {found}");
        assert_eq!(
            (found.partition.family.as_str(), found.partition.number),
            ("run", 1),
            "{deed}"
        );
        execute(&admin, "DELETE FROM runs.cursors; INSERT INTO runs.cursors SELECT * FROM cursors_aside;
                         DELETE FROM runs.checkpoints; INSERT INTO runs.checkpoints SELECT * FROM checkpoints_aside").await;
    }
    assert_whole(&upkeep.verify().await.unwrap());
    admin.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_what_is_parked_and_compares_all_else() {
    let world = World::new().await;
    let admin = world.database.admin();
    let refuse = "ALTER TABLE runs.usage_totals ADD CONSTRAINT refuse CHECK (run_id <> 'r1')";
    execute(&admin, refuse).await;
    live(&world, 0, 5).await;
    // Parked ones are known too.
    runledger_testkit::eventually(std::time::Duration::from_secs(20), || async {
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM runs.records")
            .fetch_one(&admin)
            .await
            .unwrap();
        (there == 45).then_some(()).ok_or_else(|| there.to_string())
    })
    .await;
    let upkeep = upkeep(&world);
    let expect_parked = async |streams: u64| {
        let verdict = upkeep.verify().await.unwrap();
        let found = (&verdict.discontinuity, &verdict.difference);
        assert_eq!(found, (&None, &None));
        assert_eq!(verdict.parked.streams, streams, "{verdict:?}");
        verdict.parked
    };
    // Whether or not this version could apply it: neither is a difference.
    expect_parked(1).await;
    execute(
        &admin,
        "ALTER TABLE runs.usage_totals DROP CONSTRAINT refuse",
    )
    .await;
    let parked = expect_parked(1).await;
    // The usage and the end.
    assert_eq!(parked.records, 2, "{parked:?}");
    assert!(parked.first[0].stream.ends_with("run/r1"), "{parked:?}");
    assert!(parked.first[0].reason.contains("refuse"), "{parked:?}");

    let deed = "UPDATE runs.runs SET tool_calls = 9 WHERE run_id";
    execute(&admin, &format!("{deed} = 'r1'")).await;
    let found = upkeep.verify().await.unwrap().difference.unwrap();
    assert_eq!(found.table, "runs");
    execute(
        &admin,
        "UPDATE runs.runs SET tool_calls = 1 WHERE run_id = 'r1'",
    )
    .await;
    // A rebuild could apply it: what is served is to be mended first.
    let refused = upkeep.rebuild(false).await.unwrap_err().to_string();
    assert!(
        refused.contains("2 records of 1 streams are parked"),
        "{refused}"
    );
    redrive(&world).await;
    expect_parked(0).await;
    assert_eq!(upkeep.rebuild(false).await.unwrap().generation, 2);
    admin.close().await;
    world.stop().await;
}

async fn redrive(world: &World) {
    let writer = world.database.pool("runledger_runs_writer", "runs");
    let letters = DeadLetters::open(writer.clone()).await.unwrap();
    let streams = letters.streams(&Filter::default(), 10).await.unwrap();
    let (log, mut runs) = (&world.log, Runs::default());
    let redriven = letters.redrive(log, &mut runs, &SystemClock, &streams[0], false);
    assert_eq!(redriven.await.unwrap().stopped, None);
    writer.close().await;
}
