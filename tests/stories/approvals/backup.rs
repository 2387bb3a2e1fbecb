//! An older state of the decider's tables, taken while it works and put back later.

use std::time::Duration;

use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind};
use sqlx::{AssertSqlSafe, PgPool};

/// How long a decider may take to read again what its tables have forgotten.
const CATCHING_UP: Duration = Duration::from_secs(120);

/// Tables that are as they were; which generation is served is not among them.
const TABLES: &[&str] = &[
    "cursors",
    "checkpoints",
    "parked",
    "skipped",
    "identities",
    "commands",
    "streams",
    "parts",
    "decided",
    "openings",
    "attempts",
    "approvals",
    "votes",
    "changes",
    "policy_versions",
];

/// One snapshot of all of them.
pub(super) async fn take(installation: &Installation) {
    let admin = installation.database.admin();
    let mut statements = String::from("CREATE SCHEMA older;");
    for table in TABLES {
        statements.push_str(&format!(
            "CREATE TABLE older.{table} AS TABLE approvals.{table};"
        ));
    }
    at_once(&admin, &statements).await;
}

/// Puts it back while nobody decides, and waits until the deciders are as far as they were.
pub(super) async fn restore(installation: &mut Installation) {
    let admin = installation.database.admin();
    for number in 0..2 {
        installation.take(Kind::Decider, number).stop().await;
    }
    let before = read(&admin).await;
    let mut statements = String::new();
    for table in TABLES {
        statements.push_str(&format!(
            "TRUNCATE approvals.{table}; INSERT INTO approvals.{table} SELECT * FROM older.{table};"
        ));
    }
    at_once(&admin, &statements).await;
    assert!(read(&admin).await < before, "the backup is no older");
    for number in 0..2 {
        installation.run(Kind::Decider, number);
    }
    eventually(CATCHING_UP, || async {
        let now = read(&admin).await;
        (now >= before)
            .then_some(())
            .ok_or_else(|| format!("{now} of {before} records"))
    })
    .await;
}

/// How many records have been read, over all partitions, into the first generation.
async fn read(admin: &PgPool) -> i64 {
    let read = "SELECT sum(next_offset)::bigint FROM approvals.cursors WHERE generation = 1";
    let read = sqlx::query_scalar(read).fetch_one(admin).await;
    read.expect("the cursors")
}

async fn at_once(admin: &PgPool, statements: &str) {
    let mut tx = admin.begin().await.expect("a transaction");
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .execute(&mut *tx)
        .await
        .expect("a snapshot");
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut *tx)
        .await
        .expect("a copy");
    tx.commit().await.expect("a commit");
}
