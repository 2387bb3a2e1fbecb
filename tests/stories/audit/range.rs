//! A part of the audit is verified by itself, and whatever was done to it is named.

use std::sync::Arc;
use std::time::Duration;

use runledger_domain::ids::RecordId;
use runledger_domain::log::{Family, Kind as RecordKind, Partition};
use runledger_domain::scope::Role;
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_proto::audit::v1 as wire;
use runledger_proto::decode;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Tenant};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use super::{SOON, audit, list, one_call, read};
use crate::approvals::desk::{Desk, on_tool};

/// The commands of one story, each with a log of its own.
struct Commands<'a> {
    installation: &'a Installation,
    number: u32,
}

impl Commands<'_> {
    /// Exit status and answer of `runledger audit verify --json`.
    async fn verify(&mut self, arguments: &[&str]) -> (Option<i32>, Value) {
        self.number += 1;
        let arguments = [&["audit", "verify", "--json"], arguments].concat();
        let ran = self.installation.audit_status(self.number, &arguments);
        let (status, said) = ran.await;
        let answer = said.lines().find(|line| line.starts_with('{'));
        let answer = answer.and_then(|line| serde_json::from_str(line).ok());
        (status, answer.unwrap_or(Value::String(said)))
    }

    async fn assert_whole(&mut self, arguments: &[&str]) -> Value {
        let (status, answer) = self.verify(arguments).await;
        assert_eq!(status, Some(0), "{answer:#}");
        answer
    }

    /// It differs, at this place.
    async fn assert_differs(&mut self, arguments: &[&str], at: &Place, what: &str) {
        let (status, answer) = self.verify(arguments).await;
        assert_eq!(status, Some(2), "{what}: {answer:#}");
        let found = &answer["difference"];
        let place = Place {
            family: found["family"].as_str().unwrap_or_default().to_owned(),
            partition: i32::try_from(found["partition"].as_i64().unwrap_or(-1)).unwrap_or(-1),
            offset: found["offset"].as_i64().unwrap_or(-1),
        };
        assert_eq!(&place, at, "{what}: {answer:#}");
        let said = found["what"].as_str().unwrap_or_default();
        assert!(said.contains(what), "{what}: {answer:#}");
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    family: String,
    partition: i32,
    offset: i64,
}

async fn run(db: &PgPool, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(db)
        .await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

const KEEP: &str = "CREATE SCHEMA kept;
    CREATE TABLE kept.entries AS SELECT * FROM audit.entries;
    CREATE TABLE kept.checkpoints AS SELECT * FROM audit.checkpoints;
    CREATE TABLE kept.cursors AS SELECT * FROM audit.cursors";
const RESTORE: &str =
    "BEGIN; DELETE FROM audit.entries; INSERT INTO audit.entries SELECT * FROM kept.entries;
    DELETE FROM audit.checkpoints; INSERT INTO audit.checkpoints SELECT * FROM kept.checkpoints;
    DELETE FROM audit.cursors; INSERT INTO audit.cursors SELECT * FROM kept.cursors; COMMIT";

/// Appends a decision that does not continue the chain, made of one that does; where it lies.
async fn append_void(installation: &Installation, partition: u32) -> u64 {
    let (brokers, prefix) = installation.kafka();
    let log: Arc<dyn Log> = Kafka::connect(&Config {
        brokers: brokers.into(),
        prefix: prefix.into(),
        ..Config::default()
    })
    .expect("a log");
    let partition = Partition {
        family: Family::Run,
        number: partition,
    };
    let records = log.read(partition, 0, 1_000).await.expect("the log");
    let is_decision = |one: &&runledger_eventlog::Stored| {
        let headers = one.headers.as_ref();
        headers.is_ok_and(|headers| headers.kind == RecordKind::Decision)
    };
    let taken = records.iter().rfind(is_decision).expect("a decision");
    let decoded = decode::record(Family::Run, &taken.value).expect("a record");
    let decode::Stored::Record(mut record) = decoded else {
        panic!("a Genesis")
    };
    record.id = RecordId::new(Uuid::from_u128(7));
    let entry = Entry {
        record,
        prev: Some([7; 32]),
        trace: None,
    };
    let appended = log.append(vec![entry], Instant::now() + SOON).await;
    match appended.expect("reports").as_slice() {
        [Outcome::Accepted(position)] => position.offset,
        other => panic!("{other:?}"),
    }
}

/// Calls, a stop that leaves checkpoints, calls again, a void decision, and a stop.
async fn prepare(installation: &mut Installation) -> (PgPool, u64) {
    installation.govern(1, 1).await;
    installation.audit().await;
    let ours = Tenant::create(installation, "ours").await;
    let mut admin = Desk::role(installation, &ours, Role::Admin);
    let pay = on_tool("pay", runledger_proto::policy::v1::Action::RequireApproval);
    let policy = admin.create("pay", pay).await;
    let people = ours.reviewers(installation, 1).await;
    let viewer = audit(installation, ours.key(Role::Viewer));
    let db = installation.database.admin();
    for number in 1..=2 {
        let token = one_call(installation, &ours, &people[0], number, &[policy.clone()]).await;
        let request = wire::ListEntriesRequest {
            read: read(&token),
            ..Default::default()
        };
        list(&viewer, request).await;
        if number == 1 {
            installation.take(Kind::AuditProjector, 0).stop().await;
            installation.run(Kind::AuditProjector, 0);
        }
    }
    let partition: i32 =
        sqlx::query_scalar("SELECT partition FROM audit.entries WHERE family = 'run' LIMIT 1")
            .fetch_one(&db)
            .await
            .expect("an entry");
    let void = append_void(installation, partition.unsigned_abs()).await;
    eventually(SOON, || async {
        let next: i64 = sqlx::query_scalar(
            "SELECT next_offset FROM audit.cursors WHERE family = 'run' AND partition = $1",
        )
        .bind(partition)
        .fetch_one(&db)
        .await
        .map_err(|error| error.to_string())?;
        (next.unsigned_abs() > void)
            .then_some(())
            .ok_or_else(|| next.to_string())
    })
    .await;
    installation.take(Kind::AuditProjector, 0).stop().await;
    (db, void)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_a_part_of_the_audit_is_named() {
    let mut installation = Installation::start("audit_range").await;
    let (db, void) = prepare(&mut installation).await;
    let (partition, voted): (i32, i64) = sqlx::query_as(
        "SELECT partition, max(log_offset) FROM audit.entries WHERE family = 'run' AND action = 'voted' GROUP BY 1",
    )
    .fetch_one(&db)
    .await
    .expect("a vote");
    let checkpoints: Vec<i64> = sqlx::query_scalar(
        "SELECT next_offset FROM audit.checkpoints WHERE family = 'run' AND partition = $1 ORDER BY 1",
    )
    .bind(partition)
    .fetch_all(&db)
    .await
    .expect("checkpoints");
    let [middle, end] = checkpoints[..] else {
        panic!("{checkpoints:?}")
    };
    assert!(middle < voted && voted < end, "{middle} {voted} {end}");
    run(&db, KEEP).await;
    let mut commands = Commands {
        installation: &installation,
        number: 10,
    };

    let all = commands.assert_whole(&[]).await;
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM audit.entries")
        .fetch_one(&db)
        .await
        .expect("entries");
    assert_eq!(all["entries"].as_i64(), Some(entries), "{all:#}");
    assert_eq!(all["decisions_void"].as_i64(), Some(1), "{all:#}");
    let number = partition.to_string();
    let here = ["--family", "run", "--partition", &number];
    let (from, before, past) = (
        (middle + 1).to_string(),
        voted.to_string(),
        (end + 1).to_string(),
    );
    let part = [&here[..], &["--from-offset", &from, "--to-offset", &before]].concat();
    let found = commands.assert_whole(&part).await;
    assert_eq!(found["ranges"][0]["recomputed_from"].as_i64(), Some(middle));
    assert_eq!(found["records"].as_i64(), Some(voted - middle - 1));
    // What cannot be told is not told.
    let beyond = [&here[..], &["--to-offset", &past]].concat();
    assert_eq!(commands.verify(&beyond).await.0, Some(1));

    let at = |offset| Place {
        family: "run".into(),
        partition,
        offset,
    };
    let this = format!("family = 'run' AND partition = {partition} AND log_offset = {voted}");
    let is_vote = format!("{this} AND action = 'voted'");
    let copy = |change: &str| {
        format!(
            "CREATE TEMP TABLE one AS SELECT * FROM audit.entries WHERE {is_vote};
             UPDATE one SET {change}; INSERT INTO audit.entries SELECT * FROM one; DROP TABLE one"
        )
    };
    let check = format!(
        "UPDATE audit.checkpoints SET %% WHERE family = 'run' AND partition = {partition} AND next_offset = {end}"
    );
    let cursor =
        format!("UPDATE audit.cursors SET %% WHERE family = 'run' AND partition = {partition}");
    let void = i64::try_from(void).expect("an offset");
    let done = [
        (
            format!("UPDATE audit.entries SET actor = 'user:nobody' WHERE {is_vote}"),
            voted,
            "the actor \"user:nobody\"",
        ),
        (
            format!("UPDATE audit.entries SET record_id = gen_random_uuid() WHERE {is_vote}"),
            voted,
            "the record_id",
        ),
        (
            format!("UPDATE audit.entries SET details = '{{}}' WHERE {is_vote}"),
            voted,
            "the details",
        ),
        (
            format!("DELETE FROM audit.entries WHERE {is_vote}"),
            voted,
            "entry 0 is missing",
        ),
        (
            format!("DELETE FROM audit.entries WHERE {this} AND ordinal = 1"),
            voted,
            "entry 1 is missing",
        ),
        (copy("ordinal = 9"), voted, "its record makes no such entry"),
        (
            copy(&format!("log_offset = {void}")),
            void,
            "its record is a void decision",
        ),
        (
            copy(&format!("log_offset = {}", end + 3)),
            end + 3,
            "has not read a record there",
        ),
        (
            check.replace("%%", "record_count = record_count + 1"),
            end,
            "the checkpoint has another record count",
        ),
        (
            check.replace("%%", "rolling_hash = sha256('')"),
            end,
            "the checkpoint has another rolling hash",
        ),
        (
            check.replace("%%", "chain_head = sha256('')"),
            end,
            "the checkpoint has another chain head",
        ),
        (
            cursor.replace("%%", "rolling_hash = sha256('')"),
            end,
            "the cursor has another rolling hash",
        ),
        (
            cursor.replace("%%", "next_offset = next_offset + 5"),
            end + 5,
            "the log ends before offset",
        ),
    ];
    for (sql, offset, what) in done {
        run(&db, &sql).await;
        commands.assert_differs(&[], &at(offset), what).await;
        commands.assert_differs(&here, &at(offset), what).await;
        // What comes before it is as it was, but for a cursor that says that the log is another.
        if offset <= end + 3 {
            commands.assert_whole(&part).await;
        }
        run(&db, RESTORE).await;
    }
    commands.assert_whole(&[]).await;
    installation.assert_unharmed();
}
