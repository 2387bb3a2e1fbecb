//! A part of the audit is verified by itself, and whatever was done to it is named.

use std::sync::Arc;

use runledger_domain::log::{Family, Kind as RecordKind, Partition};
use runledger_domain::scope::Role;
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::{Entry, Log, Outcome, Stored};
use runledger_proto::audit::v1 as wire;
use runledger_proto::decode;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Tenant};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;

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

    /// Why it does not say that it differs at this place, if so.
    async fn misses(&mut self, arguments: &[&str], at: &Place, what: &str) -> Option<String> {
        let (status, answer) = self.verify(arguments).await;
        let found = &answer["difference"];
        let place = Place {
            family: found["family"].as_str().unwrap_or_default().to_owned(),
            partition: i32::try_from(found["partition"].as_i64().unwrap_or(-1)).unwrap_or(-1),
            offset: found["offset"].as_i64().unwrap_or(-1),
        };
        let said = found["what"].as_str().unwrap_or_default();
        let named = status == Some(2) && &place == at && said.contains(what);
        (!named).then(|| format!("{what} at {at:?}: {status:?}, {answer}"))
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

/// Appends the last record of a kind once more; where it lies. A decision: as one that does not continue
/// the chain.
async fn append_again(installation: &Installation, partition: Partition, kind: RecordKind) -> u64 {
    let (brokers, prefix) = installation.kafka();
    let log: Arc<dyn Log> = Kafka::connect(&Config {
        brokers: brokers.into(),
        prefix: prefix.into(),
        ..Config::default()
    })
    .expect("a log");
    let records = log.read(partition, 0, 1_000).await.expect("the log");
    let is_such = |one: &&Stored| {
        let headers = one.headers.as_ref();
        headers.is_ok_and(|headers| headers.kind == kind)
    };
    let taken = records.iter().rfind(is_such).expect("such a record");
    let decoded = decode::record(partition.family, &taken.value).expect("a record");
    let decode::Stored::Record(record) = decoded else {
        panic!("a Genesis")
    };
    let entry = Entry {
        record,
        prev: (kind == RecordKind::Decision).then_some([7; 32]),
        trace: None,
    };
    let appended = log.append(vec![entry], Instant::now() + SOON).await;
    match appended.expect("reports").as_slice() {
        [Outcome::Accepted(position)] => position.offset,
        other => panic!("{other:?}"),
    }
}

/// Waits until the audit has read this far.
async fn has_read(db: &PgPool, place: &Place) {
    eventually(SOON, || async {
        let next: Result<i64, _> = sqlx::query_scalar(
            "SELECT next_offset FROM audit.cursors WHERE family = $1 AND partition = $2",
        )
        .bind(&place.family)
        .bind(place.partition)
        .fetch_one(db)
        .await;
        match next {
            Ok(next) if next > place.offset => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// What was prepared.
struct Scene {
    db: PgPool,
    /// Of the run that the calls belong to.
    partition: i32,
    /// A checkpoint of it, the last vote, and where its cursor and its last checkpoint are.
    middle: i64,
    voted: i64,
    end: i64,
    /// A decision that is not in force, and a fact of the directory that came twice.
    void: Place,
    copy: Place,
}

/// Calls, a stop that leaves checkpoints, calls again, records that count for nothing, and a stop.
async fn prepare(installation: &mut Installation) -> Scene {
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
        let token = one_call(
            installation,
            &ours,
            &people[0],
            number,
            std::slice::from_ref(&policy),
        )
        .await;
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
    let of = |family: Family, number: i32| Partition {
        family,
        number: number.unsigned_abs(),
    };
    let mut again = Vec::new();
    for (partition, kind) in [
        (of(Family::Run, partition), RecordKind::Decision),
        (of(Family::Directory, 0), RecordKind::Fact),
    ] {
        let offset = append_again(installation, partition, kind).await;
        let place = Place {
            family: partition.family.as_str().to_owned(),
            partition: partition.number.cast_signed(),
            offset: offset.cast_signed(),
        };
        has_read(&db, &place).await;
        again.push(place);
    }
    installation.take(Kind::AuditProjector, 0).stop().await;
    let [void, copy] = <[Place; 2]>::try_from(again).expect("two");
    places(db, partition, void, copy).await
}

async fn places(db: PgPool, partition: i32, void: Place, copy: Place) -> Scene {
    let voted: i64 = sqlx::query_scalar(
        "SELECT max(log_offset) FROM audit.entries WHERE family = 'run' AND action = 'voted'",
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
    Scene {
        db,
        partition,
        middle,
        voted,
        end,
        void,
        copy,
    }
}

/// What can be done to the entries, where it is to be found, and as what.
fn on_entries(scene: &Scene) -> Vec<(String, Place, &'static str)> {
    let Scene {
        partition,
        voted,
        end,
        void,
        copy,
        ..
    } = scene;
    let at = |offset: i64| Place {
        offset,
        ..void.clone()
    };
    let this = format!("family = 'run' AND partition = {partition} AND log_offset = {voted}");
    let vote = format!("{this} AND action = 'voted'");
    let altered = |change: &str| format!("UPDATE audit.entries SET {change} WHERE {vote}");
    let removed = |which: &str| format!("DELETE FROM audit.entries WHERE {which}");
    let forged = |change: &str| {
        format!(
            "CREATE TEMP TABLE one AS SELECT * FROM audit.entries WHERE {vote};
             UPDATE one SET {change}; INSERT INTO audit.entries SELECT * FROM one; DROP TABLE one"
        )
    };
    let moved = |to: i64| forged(&format!("log_offset = {to}"));
    let second = removed(&format!("{this} AND ordinal = 1"));
    let copied = format!(
        "family = 'directory', partition = 0, log_offset = {}",
        copy.offset
    );
    vec![
        (
            altered("actor = 'user:nobody'"),
            at(*voted),
            "the actor \"user:nobody\"",
        ),
        (
            altered("record_id = gen_random_uuid()"),
            at(*voted),
            "the record_id",
        ),
        (altered("details = '{}'"), at(*voted), "the details"),
        (removed(&vote), at(*voted), "entry 0 is missing"),
        (second, at(*voted), "entry 1 is missing"),
        (
            forged("ordinal = 9"),
            at(*voted),
            "its record makes no such entry",
        ),
        (
            moved(void.offset),
            void.clone(),
            "its record is a void decision",
        ),
        (forged(&copied), copy.clone(), "its record is a copy"),
        (moved(end + 3), at(end + 3), "has not read a record there"),
    ]
}

/// The same of the cursor and the last checkpoint, which stand at one place.
fn on_books(scene: &Scene) -> Vec<(String, Place, &'static str)> {
    let Scene {
        partition,
        end,
        void,
        ..
    } = scene;
    let set = |table: &str, change: &str| {
        format!(
            "UPDATE audit.{table} SET {change}
              WHERE family = 'run' AND partition = {partition} AND next_offset = {end}"
        )
    };
    let at = |offset: i64| Place {
        offset,
        ..void.clone()
    };
    [
        (
            "checkpoints",
            "record_count = record_count + 1",
            0,
            "the checkpoint has another record count",
        ),
        (
            "checkpoints",
            "rolling_hash = sha256('')",
            0,
            "the checkpoint has another rolling hash",
        ),
        (
            "checkpoints",
            "chain_head = sha256('')",
            0,
            "the checkpoint has another chain head",
        ),
        (
            "cursors",
            "rolling_hash = sha256('')",
            0,
            "the cursor has another rolling hash",
        ),
        (
            "cursors",
            "next_offset = next_offset + 5",
            5,
            "the log ends before offset",
        ),
    ]
    .into_iter()
    .map(|(table, change, past, what)| (set(table, change), at(end + past), what))
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_a_part_of_the_audit_is_named() {
    let mut installation = Installation::start("audit_range").await;
    let scene = prepare(&mut installation).await;
    let Scene {
        db,
        partition,
        middle,
        voted,
        end,
        ..
    } = &scene;
    run(db, KEEP).await;
    let mut commands = Commands {
        installation: &installation,
        number: 10,
    };
    let all = commands.assert_whole(&[]).await;
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM audit.entries")
        .fetch_one(db)
        .await
        .expect("entries");
    assert_eq!(all["entries"].as_i64(), Some(entries), "{all:#}");
    assert_eq!(all["decisions_void"].as_i64(), Some(1), "{all:#}");

    let number = partition.to_string();
    let here = ["--family", "run", "--partition", &number];
    let (from, to) = ((middle + 1).to_string(), voted.to_string());
    let part = [&here[..], &["--from-offset", &from, "--to-offset", &to]].concat();
    let found = commands.assert_whole(&part).await;
    assert_eq!(
        found["ranges"][0]["recomputed_from"].as_i64(),
        Some(*middle)
    );
    assert_eq!(found["records"].as_i64(), Some(voted - middle - 1));
    // What cannot be told is not told.
    let past = (end + 1).to_string();
    let beyond = [&here[..], &["--to-offset", &past]].concat();
    assert_eq!(commands.verify(&beyond).await.0, Some(1));

    let mut missed = Vec::new();
    for (sql, place, what) in [on_entries(&scene), on_books(&scene)].concat() {
        run(db, &sql).await;
        let family = ["--family", &place.family];
        missed.extend(commands.misses(&family, &place, what).await);
        // What comes before it is as it was, but for a cursor that says that the log is another.
        if place.offset <= end + 3 {
            commands.assert_whole(&part).await;
        }
        run(db, RESTORE).await;
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    commands.assert_whole(&[]).await;
    installation.assert_unharmed();
}
