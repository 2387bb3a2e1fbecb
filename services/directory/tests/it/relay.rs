//! What is in the outbox comes into the log: all of it, in order, each once by its identity.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::digest;
use runledger_domain::directory::{Changed, OPERATORS};
use runledger_domain::json::Json;
use runledger_domain::log::{Family, Kind, Partition, Record, Stream};
use runledger_domain::scope::Mode as ScopeMode;
use runledger_domain::time::{SystemClock, Timestamp};
use runledger_eventlog::Log;
use runledger_eventlog::kafka::{self, Kafka};
use runledger_eventlog::memory::{Fault, Memory};
use runledger_proto::common::v1::Mode;
use runledger_proto::decode::{self, Stored};
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::*;
use runledger_testkit::{Stack, eventually, topic_prefix};
use sqlx::Executor as _;
use tonic_health::pb::health_check_response::ServingStatus;
use uuid::Uuid;

use crate::served::{Road, Served, start};
use crate::world::{Home, World, ok};

const SOON: Duration = Duration::from_secs(30);
const DIRECTORY: Partition = Partition {
    family: Family::Directory,
    number: 0,
};

/// A row of the outbox, as far as a record tells of it.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    id: Uuid,
    tenant_id: Option<Uuid>,
    mode: String,
    at: Timestamp,
    actor_id: Uuid,
    r#type: String,
    subject_id: Option<Uuid>,
    detail: serde_json::Value,
}

impl World {
    async fn outbox(&self) -> Vec<Row> {
        sqlx::query_as("SELECT * FROM directory.outbox ORDER BY sequence")
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }

    async fn unrelayed(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM directory.outbox WHERE relayed_at IS NULL")
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }

    async fn all_is_relayed(&self) {
        eventually(SOON, || async {
            match self.unrelayed().await {
                0 => Ok(()),
                left => Err(format!("{left} changes are not relayed")),
            }
        })
        .await;
    }

    /// As a relay leaves the outbox that dies between appending and marking.
    async fn forget_that_it_was_relayed(&self) {
        self.admin
            .execute("UPDATE directory.outbox SET relayed_at = NULL")
            .await
            .unwrap();
    }

    async fn flip_the_switch(&self, home: &Home, on: bool) {
        let request = SetKillSwitchRequest {
            target: None,
            on,
            reason: "drill".into(),
        };
        let request = self.by(&home.admin, request).await;
        ok(self.directory.set_kill_switch(request).await);
    }

    /// Changes of every kind that has to do with keys, and the switch; answers with their secrets.
    async fn change_keys(&self, home: &Home) -> Vec<String> {
        let (test_id, test) = self.key(&home.admin, &home.admin_id, Mode::Sandbox).await;
        let rotate = RotateKeyRequest {
            key_id: test_id,
            overlap: None,
        };
        let rotate = self.in_sandbox(&home.admin, rotate).await;
        let rotated = ok(self.directory.rotate_key(rotate).await);
        let revoke = RevokeKeyRequest {
            key_id: rotated.key.unwrap().key_id,
        };
        let revoke = self.by(&home.admin, revoke).await;
        ok(self.directory.revoke_key(revoke).await);
        self.flip_the_switch(home, true).await;
        self.flip_the_switch(home, false).await;
        vec![home.admin.clone(), test, rotated.secret]
    }
}

/// A log in memory with the directory's topic.
async fn memory() -> Memory {
    let log = Memory::new(1);
    log.create(&[Family::Directory], &SystemClock)
        .await
        .unwrap();
    log
}

async fn role(world: &World, road: &Road, log: &Memory) -> Served {
    start(world, road, Arc::new(log.clone())).await
}

/// What lies in the log behind the Genesis, and all bytes of it.
async fn records(log: &dyn Log) -> (Vec<Record>, Vec<u8>) {
    let (mut records, mut bytes) = (Vec::new(), Vec::new());
    for stored in log.read(DIRECTORY, 0, 10_000).await.unwrap() {
        bytes.extend_from_slice(&stored.key);
        bytes.extend_from_slice(&stored.value);
        match decode::record(Family::Directory, &stored.value).unwrap() {
            Stored::Genesis(_) => {}
            Stored::Record(record) => {
                assert_eq!(stored.key, record.stream.key(record.scope));
                records.push(record);
            }
        }
    }
    (records, bytes)
}

/// What readers make of it: the first of each identity counts, and no copy says anything else.
fn by_identity(records: Vec<Record>) -> Vec<Record> {
    let mut first: BTreeMap<_, Record> = BTreeMap::new();
    let mut kept = Vec::new();
    for record in records {
        let identity = (record.scope, record.stream.clone(), record.id);
        match first.get(&identity) {
            Some(known) => assert_eq!(
                (known.request_digest, &known.payload, known.occurred_at),
                (record.request_digest, &record.payload, record.occurred_at),
                "a copy is a conflict"
            ),
            None => {
                first.insert(identity, record.clone());
                kept.push(record);
            }
        }
    }
    kept
}

/// The ids of a tenant's records and rows, each in order.
fn order_of(records: &[Record], rows: &[Row], tenant: Option<Uuid>) -> (Vec<Uuid>, Vec<Uuid>) {
    let scope = tenant.unwrap_or(OPERATORS.tenant.as_uuid());
    let of_scope = |record: &&Record| record.scope.tenant.as_uuid() == scope;
    let told = records.iter().filter(of_scope);
    let made = rows.iter().filter(|row| row.tenant_id == tenant);
    (
        told.map(|record| record.id.as_uuid()).collect(),
        made.map(|row| row.id).collect(),
    )
}

/// Every row is a record, in the order of its tenant, and there are no others.
#[track_caller]
fn assert_told_in_order(records: &[Record], rows: &[Row]) {
    assert_eq!(records.len(), rows.len());
    let tenants: BTreeSet<_> = rows.iter().map(|row| row.tenant_id).collect();
    for tenant in tenants {
        let (told, made) = order_of(records, rows, tenant);
        assert_eq!(told, made, "of {tenant:?}");
    }
}

/// The record says what the row says.
#[track_caller]
fn assert_says(record: &Record, row: &Row) {
    assert_eq!(record.id.as_uuid(), row.id);
    assert_eq!(
        (record.kind, &record.stream),
        (Kind::Fact, &Stream::directory())
    );
    match row.tenant_id {
        Some(tenant) => {
            assert_eq!(record.scope.tenant.as_uuid(), tenant);
            assert_eq!(record.scope.mode.as_str(), row.mode);
        }
        None => assert_eq!(record.scope, OPERATORS),
    }
    assert_eq!(record.occurred_at, row.at);
    assert_eq!(record.author.principal.as_uuid(), row.actor_id);
    assert!(record.author.role.is_some() && record.author.kind.is_some());
    let changed: Changed = decode::stored_directory_changed(&record.type_name, &record.payload)
        .unwrap()
        .unwrap();
    assert_eq!(changed.change.as_str(), row.r#type);
    assert_eq!(changed.subject, row.subject_id);
    let mut detail = row.detail.clone();
    let by_key = detail.as_object_mut().unwrap().remove("by_key").unwrap();
    let by_key = by_key.as_str().map(str::to_owned);
    assert_eq!(changed.key.map(|key| key.to_string()), by_key);
    assert_eq!(changed.detail, Json::parse(&detail.to_string()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_while_kafka_was_away_comes_into_it_once() {
    let world = World::new().await;
    let stack = Stack::get();
    let mut kafka = Road::to(stack.kafka.clone()).await;
    let to = |brokers: String, prefix: String| kafka::Config {
        brokers,
        prefix,
        ..kafka::Config::default()
    };
    let prefix = topic_prefix("relay");
    let direct = Kafka::connect(&to(stack.kafka.clone(), prefix.clone())).unwrap();
    direct
        .create(&[Family::Directory], &SystemClock)
        .await
        .unwrap();
    kafka.close().await;
    let log = Kafka::connect(&to(kafka.address(), prefix)).unwrap();
    let road = Road::open(&world).await;
    let role = start(&world, &road, log).await;

    // Nobody misses it.
    role.healthy(ServingStatus::Serving).await;
    let home = world.home("Acme").await;
    let mut secrets = world.change_keys(&home).await;
    secrets.push(world.operator.clone());
    let rows = world.outbox().await;
    assert_eq!(world.unrelayed().await, i64::try_from(rows.len()).unwrap());
    role.healthy(ServingStatus::Serving).await;

    kafka.reopen().await;
    world.all_is_relayed().await;
    let (told, bytes) = records(direct.as_ref()).await;
    assert_none_is_in(&bytes, &secrets);
    assert_told_in_order(&told, &rows);
    for row in &rows {
        let record = told.iter().find(|record| record.id.as_uuid() == row.id);
        assert_says(record.unwrap(), row);
    }
    let sandbox = |record: &&Record| record.scope.mode == ScopeMode::Sandbox;
    assert_eq!(
        told.iter().filter(sandbox).count(),
        1,
        "the rotated test key"
    );

    // A relay died after it had appended: the next tells everything again, and nothing changes.
    world.forget_that_it_was_relayed().await;
    world.all_is_relayed().await;
    let (again, _) = records(direct.as_ref()).await;
    assert_eq!(again.len(), 2 * rows.len());
    let ids = |records: &[Record]| records.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(&by_identity(again)), ids(&told));
    role.stop().await;
}

/// Neither a key's text, nor its digits, nor what is stored of it to know it by.
#[track_caller]
fn assert_none_is_in(bytes: &[u8], secrets: &[String]) {
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(holds(b"KeyRevoked"), "these are not the bytes of the log");
    for secret in secrets {
        let digits = secret.rsplit('_').next().unwrap();
        assert_eq!(digits.len(), 64);
        let hash = digest::of(secret.as_bytes());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        for part in [secret.as_bytes(), digits.as_bytes(), &hash, hex.as_bytes()] {
            assert!(!holds(part), "a secret is in the log");
        }
        // What is shown of it is the first four digits and the last four.
        assert!(!holds(&digits.as_bytes()[..8]) && !holds(&digits.as_bytes()[56..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_a_tenant_outlasts_whatever_is_lost() {
    let world = World::new().await;
    let (acme, beta) = (world.home("Acme").await, world.home("Beta").await);
    for _ in 0..3 {
        world.change_keys(&acme).await;
        world.change_keys(&beta).await;
    }
    let log = memory().await;
    for _ in 0..3 {
        for fault in [
            Fault::LoseRecord,
            Fault::Duplicate,
            Fault::LoseAcknowledgement,
            Fault::Unavailable,
            Fault::LoseRecord,
            Fault::NoOffset,
            Fault::Shed,
            Fault::LoseRecord,
        ] {
            log.inject(fault);
        }
    }
    let road = Road::open(&world).await;
    let role = role(&world, &road, &log).await;
    world.all_is_relayed().await;
    let (told, _) = records(&log).await;
    let rows = world.outbox().await;
    assert!(told.len() > rows.len(), "nothing was sent again");
    assert_told_in_order(&by_identity(told), &rows);
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_never_takes_keeps_back_its_own_tenant_alone() {
    let world = World::new().await;
    let (acme, beta) = (world.home("Acme").await, world.home("Beta").await);
    // As no version writes it.
    let spoilt = "UPDATE directory.outbox SET type = 'no name' WHERE type = 'TenantCreated' AND tenant_id = $1";
    let tenant: Uuid = acme.tenant_id.parse().unwrap();
    let spoil = sqlx::query(spoilt).bind(tenant);
    spoil.execute(&world.admin).await.unwrap();
    let log = memory().await;
    let road = Road::open(&world).await;
    let role = role(&world, &road, &log).await;
    world.flip_the_switch(&beta, true).await;
    eventually(SOON, || async {
        match world.unrelayed().await {
            3 => Ok(()),
            left => Err(format!("{left} changes are not relayed")),
        }
    })
    .await;
    let rows = world.outbox().await;
    let mended = "UPDATE directory.outbox SET type = 'TenantCreated' WHERE type = 'no name'";
    world.admin.execute(mended).await.unwrap();
    world.all_is_relayed().await;
    assert_told_in_order(&records(&log).await.0, &rows);
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_one_works_until_it_goes() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    // Each has a log of its own, which tells whose work it was.
    let (first_log, second_log) = (memory().await, memory().await);
    let road = Road::open(&world).await;
    let first = role(&world, &road, &first_log).await;
    world.all_is_relayed().await;
    let second = role(&world, &road, &second_log).await;
    second.healthy(ServingStatus::Serving).await;
    for on in [true, false].repeat(10) {
        world.flip_the_switch(&home, on).await;
        world.all_is_relayed().await;
    }
    let rows = world.outbox().await;
    assert_told_in_order(&records(&first_log).await.0, &rows);
    assert_eq!(records(&second_log).await.0, []);

    first.stop().await;
    world.flip_the_switch(&home, true).await;
    world.all_is_relayed().await;
    assert_eq!(records(&first_log).await.0.len(), rows.len());
    assert_eq!(records(&second_log).await.0.len(), 1);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_comes_back_with_its_database_and_its_log() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let log = memory().await;
    let mut road = Road::open(&world).await;
    let role = role(&world, &road, &log).await;
    world.all_is_relayed().await;

    road.close().await;
    log.set_away(true);
    world.flip_the_switch(&home, true).await;
    road.reopen().await;
    role.healthy(ServingStatus::Serving).await;
    assert_eq!(world.unrelayed().await, 1, "the log is away");
    log.set_away(false);
    world.all_is_relayed().await;
    assert_told_in_order(&records(&log).await.0, &world.outbox().await);
    role.stop().await;
}
