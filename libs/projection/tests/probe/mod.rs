//! A projection that writes down which records it was given, and a world to run it in.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its part"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runledger_domain::digest::{self, Digest};
use runledger_domain::ids::{PrincipalId, RecordId, RunId};
use runledger_domain::log::{Family, Kind, Partition, Record, Stream, partition_of};
use runledger_domain::run::{Fact, Phase, Progressed};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::{Clock, SystemClock, Timestamp};
use runledger_eventlog::memory::Memory;
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_projection::{
    Applied, ApplyError, Error, Health, Kept, Options, Projection, Standing, run,
};
use runledger_testkit::{Database, eventually};
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PARTITIONS: u32 = 4;

const WRITER: &str = "runledger_runs_writer";
const READER: &str = "runledger_runs_reader";

/// Writes down the id of every record, in the order in which it was given them.
#[derive(Clone, Copy, Debug)]
pub struct Probe;

#[async_trait]
impl Projection for Probe {
    fn families(&self) -> &'static [Family] {
        &[Family::Run]
    }

    fn tables(&self) -> &'static [&'static str] {
        &["kept", "seen"]
    }

    async fn keep(
        &mut self,
        tx: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        let ids = |applied: &&Applied| applied.record.id.as_uuid();
        let all: Vec<Uuid> = batch.iter().map(ids).collect();
        let inserted: Vec<Uuid> = sqlx::query_scalar(
            "INSERT INTO kept (record_id) SELECT * FROM unnest($1::uuid[]) ON CONFLICT DO NOTHING RETURNING record_id",
        )
        .bind(&all)
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("keep"))?;
        let mut fresh: BTreeSet<Uuid> = inserted.into_iter().collect();
        let standing = |id: Uuid| {
            if fresh.remove(&id) {
                Standing::First
            } else {
                Standing::Copy
            }
        };
        Ok(all.into_iter().map(standing).collect())
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError> {
        let first = batch.iter().filter(|one| one.standing == Standing::First);
        let (ids, streams): (Vec<Uuid>, Vec<&str>) = first
            .map(|one| {
                let record = &one.applied.record;
                (record.id.as_uuid(), record.stream.as_str())
            })
            .unzip();
        // Without a key: what is applied twice is there twice.
        sqlx::query(
            "INSERT INTO seen (record_id, stream) SELECT * FROM unnest($1::uuid[], $2::text[])",
        )
        .bind(&ids)
        .bind(&streams)
        .execute(tx)
        .await
        .map_err(ApplyError::database("insert"))?;
        Ok(())
    }
}

pub fn scope() -> Scope {
    Scope {
        tenant: "0192f0c4-0000-7000-8000-000000000001".parse().unwrap(),
        mode: Mode::Live,
    }
}

pub struct World {
    pub log: Memory,
    pub database: Database,
    pub writer: PgPool,
    pub reader: PgPool,
    admin: PgPool,
}

impl World {
    pub async fn new() -> Self {
        let log = Memory::new(PARTITIONS);
        log.create(&[Family::Run], &SystemClock)
            .await
            .expect("topics");
        Self::over(log).await
    }

    /// Another read model of a log that is there already.
    pub async fn over(log: Memory) -> Self {
        let database = Database::fresh().await;
        let admin = database.admin();
        let schema = "CREATE SCHEMA probe;
             CREATE TABLE probe.cursors (LIKE runs.cursors INCLUDING ALL);
             CREATE TABLE probe.checkpoints (LIKE runs.checkpoints INCLUDING ALL);
             CREATE TABLE probe.active_generation (LIKE runs.active_generation INCLUDING ALL);
             INSERT INTO probe.active_generation (generation, search_path) VALUES (1, 'probe');
             CREATE TABLE probe.generations (LIKE runs.generations INCLUDING ALL);
             INSERT INTO probe.generations VALUES (1, 'probe', true, now());
             CREATE TABLE probe.parked (LIKE runs.parked INCLUDING ALL);
             CREATE TABLE probe.skipped (LIKE runs.skipped INCLUDING ALL);
             ALTER TABLE probe.parked ENABLE ROW LEVEL SECURITY;
             CREATE POLICY writer ON probe.parked TO runledger_runs_writer USING (true);
             CREATE POLICY reader ON probe.parked FOR SELECT TO runledger_runs_reader
              USING (tenant_id = current_setting('runledger.tenant')::uuid AND mode = current_setting('runledger.mode'));
             CREATE TABLE probe.kept (record_id uuid PRIMARY KEY);
             CREATE TABLE probe.seen (place bigint GENERATED ALWAYS AS IDENTITY, record_id uuid NOT NULL, stream text NOT NULL);
             GRANT USAGE ON SCHEMA probe TO runledger_runs_writer, runledger_runs_reader;
             GRANT SELECT ON ALL TABLES IN SCHEMA probe TO runledger_runs_writer, runledger_runs_reader;
             GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA probe TO runledger_runs_writer";
        admin.execute(schema).await.expect("the probe's schema");
        let (writer, reader) = (
            database.pool(WRITER, "probe"),
            database.pool(READER, "probe"),
        );
        Self {
            log,
            database,
            writer,
            reader,
            admin,
        }
    }

    pub fn spawn(&self, instance: &str) -> Worker {
        self.spawn_in("probe", instance)
    }

    pub fn spawn_in(&self, group: &str, instance: &str) -> Worker {
        self.spawn_with(group, instance, |_| {})
    }

    pub fn spawn_with(
        &self,
        group: &str,
        instance: &str,
        change: impl FnOnce(&mut Options),
    ) -> Worker {
        let mut options = Options {
            name: group.into(),
            instance: instance.into(),
            batch_records: 37,
            batch_bytes: 1 << 20,
            gather: Duration::from_millis(1),
            queue_records: 100,
            queue_bytes: 1 << 20,
            parked_records_max: 10_000,
            parked_streams_max: 100,
        };
        change(&mut options);
        let (sender, health) = watch::channel(Health::default());
        let shutdown = CancellationToken::new();
        let log: Arc<dyn Log> = Arc::new(self.log.clone());
        let (pool, token) = (self.writer.clone(), shutdown.clone());
        #[expect(clippy::disallowed_methods, reason = "the test is the supervisor")]
        let task = tokio::spawn(run(
            log,
            pool,
            Probe,
            options,
            Arc::new(SystemClock),
            sender,
            token,
        ));
        Worker {
            task,
            health,
            shutdown,
        }
    }

    /// Appends facts of many runs; returns their ids.
    pub async fn append_facts(&self, count: usize) -> BTreeSet<Uuid> {
        let entries: Vec<Entry> = (0..count).map(|index| fact(index % 40)).collect();
        let ids = entries
            .iter()
            .map(|entry| entry.record.id.as_uuid())
            .collect();
        self.append(entries).await;
        ids
    }

    pub async fn append(&self, entries: Vec<Entry>) -> Vec<Outcome> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let outcomes = self.log.append(entries, deadline).await.expect("an append");
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Accepted(_)))
        );
        outcomes
    }

    /// Two deciders that both decide on what they have read. Returns the ids of the decisions in
    /// force and of the void ones.
    pub async fn append_rival_decisions(
        &self,
        run: usize,
        count: usize,
    ) -> (BTreeSet<Uuid>, BTreeSet<Uuid>) {
        let key = stream(run).key(scope());
        let partition = Partition {
            family: Family::Run,
            number: partition_of(&key, PARTITIONS),
        };
        let genesis = self
            .log
            .read(partition, 0, 1)
            .await
            .expect("the genesis")
            .remove(0);
        let mut head = digest::of(&genesis.value);
        let (mut in_force, mut void) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..count {
            let (first, second) = (decision(run, head), decision(run, head));
            in_force.insert(first.record.id.as_uuid());
            void.insert(second.record.id.as_uuid());
            self.append(vec![first, second]).await;
            let end = self.log.watermark(partition).await.expect("the end");
            let stored = self
                .log
                .read(partition, end - 2, 1)
                .await
                .expect("the decision")
                .remove(0);
            head = hash_by_the_book(&head, &stored.key, &stored.value);
        }
        (in_force, void)
    }

    pub async fn seen(&self) -> BTreeSet<Uuid> {
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT record_id FROM probe.seen")
            .fetch_all(&self.admin)
            .await
            .unwrap();
        let count = ids.len();
        let seen: BTreeSet<Uuid> = ids.into_iter().collect();
        assert_eq!(seen.len(), count, "a record was applied twice");
        seen
    }

    /// The ids of one run's records in the order in which they were applied.
    pub async fn seen_of(&self, run: usize) -> Vec<Uuid> {
        sqlx::query_scalar("SELECT record_id FROM probe.seen WHERE stream = $1 ORDER BY place")
            .bind(stream(run).as_str())
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }

    /// Offsets of the parked records in the order of the log, each with whether it says why.
    pub async fn parked(&self) -> Vec<(i64, bool)> {
        sqlx::query_as(
            "SELECT log_offset, reason IS NOT NULL FROM probe.parked ORDER BY partition, log_offset",
        )
        .fetch_all(&self.admin)
        .await
        .unwrap()
    }

    /// What the cursors say of it.
    pub async fn parked_by_the_cursors(&self) -> i64 {
        sqlx::query_scalar("SELECT coalesce(sum(parked_records), 0)::bigint FROM probe.cursors")
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }

    /// From now on the tables refuse this record, until [`Self::accept`].
    pub async fn refuse(&self, id: Uuid) {
        self.execute(format!(
            "ALTER TABLE probe.seen ADD CONSTRAINT \"refuse {id}\" CHECK (record_id <> '{id}') NOT VALID"
        ))
        .await;
    }

    pub async fn accept(&self, id: Uuid) {
        self.execute(format!(
            "ALTER TABLE probe.seen DROP CONSTRAINT \"refuse {id}\""
        ))
        .await;
    }

    pub async fn seen_at_least(&self, count: usize, within: Duration) {
        eventually(within, || async {
            let seen = self.seen().await.len();
            if seen >= count {
                Ok(())
            } else {
                Err(format!("{seen} of {count} records"))
            }
        })
        .await;
    }

    pub async fn caught_up(&self, within: Duration) {
        eventually(within, || async {
            for number in 0..PARTITIONS {
                let end = self
                    .log
                    .watermark(Partition {
                        family: Family::Run,
                        number,
                    })
                    .await
                    .unwrap();
                let at: Option<i64> = sqlx::query_scalar(
                    "SELECT next_offset FROM probe.cursors WHERE partition = $1",
                )
                .bind(i32::try_from(number).unwrap())
                .fetch_optional(&self.admin)
                .await
                .unwrap();
                if at != i64::try_from(end).ok() {
                    return Err(format!("partition {number} is at {at:?} of {end}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Count and rolling hash of every cursor equal those of its log, read afresh.
    pub async fn continuity_holds(&self) {
        let cursors: Vec<(i32, i64, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT partition, next_offset, record_count, rolling_hash FROM probe.cursors",
        )
        .fetch_all(&self.admin)
        .await
        .unwrap();
        assert_eq!(cursors.len(), PARTITIONS as usize);
        for (number, next_offset, count, hash) in cursors {
            let partition = Partition {
                family: Family::Run,
                number: number.try_into().unwrap(),
            };
            let records = self
                .log
                .read(partition, 0, usize::try_from(next_offset).unwrap())
                .await
                .unwrap();
            let rolled = records.iter().fold([0; 32], |hash: Digest, record| {
                digest::of_parts(&[&hash, &record.digest()])
            });
            assert_eq!((count, hash), (next_offset, rolled.to_vec()), "{partition}");
        }
    }

    pub async fn checkpoints(&self) -> usize {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM probe.checkpoints p JOIN probe.cursors c USING (generation, family, partition, next_offset)
              WHERE p.rolling_hash = c.rolling_hash AND p.chain_head = c.chain_head AND p.record_count = c.record_count",
        )
        .fetch_one(&self.admin)
        .await
        .unwrap();
        usize::try_from(count).unwrap()
    }

    pub fn recreate_log(&self) {
        self.log.recreate(&SystemClock);
    }

    /// Refuses the projection's connections and ends those there are.
    pub async fn close_the_database(&self) {
        self.execute(format!(
            "ALTER DATABASE {} CONNECTION LIMIT 0",
            self.database.name()
        ))
        .await;
        self.execute(format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND usename = '{WRITER}'",
            self.database.name()
        ))
        .await;
    }

    pub async fn open_the_database(&self) {
        self.execute(format!(
            "ALTER DATABASE {} CONNECTION LIMIT -1",
            self.database.name()
        ))
        .await;
    }

    pub async fn execute(&self, statement: String) {
        self.admin
            .execute(AssertSqlSafe(statement))
            .await
            .expect("a statement of the superuser");
    }
}

pub struct Worker {
    pub task: JoinHandle<Result<(), Error>>,
    health: watch::Receiver<Health>,
    shutdown: CancellationToken,
}

impl Worker {
    pub async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.task.await.expect("no panic")
    }

    pub async fn ended(self, within: Duration) -> Result<(), Error> {
        tokio::time::timeout(within, self.task)
            .await
            .expect("an end in time")
            .expect("no panic")
    }

    pub async fn health(&self, wanted: Health, within: Duration) {
        let mut health = self.health.clone();
        let reached = health.wait_for(|health| *health == wanted);
        tokio::time::timeout(within, reached)
            .await
            .expect("that health in time")
            .expect("a living worker");
    }
}

pub fn stream(run: usize) -> Stream {
    Stream::run(&RunId::parse(format!("run-{run}")).unwrap())
}

pub fn fact(run: usize) -> Entry {
    entry(run, Kind::Fact, None)
}

fn decision(run: usize, prev: Digest) -> Entry {
    entry(run, Kind::Decision, Some(prev))
}

fn entry(run: usize, kind: Kind, prev: Option<Digest>) -> Entry {
    let progressed = Progressed {
        run_id: RunId::parse(format!("run-{run}")).unwrap(),
        phase: Phase::Running,
        note: format!("{:x}", rand_id()),
    };
    let (type_name, payload) = runledger_proto::encode::payload(&runledger_domain::Fact::Run(
        Fact::Progressed(progressed),
    ));
    let at: Timestamp = SystemClock.now();
    let record = Record {
        id: RecordId::new(Uuid::from_u128(rand_id())),
        scope: scope(),
        stream: stream(run),
        kind,
        type_name: type_name.into(),
        occurred_at: at,
        recorded_at: at,
        author: Actor {
            principal: PrincipalId::new(Uuid::nil()),
            kind: PrincipalKind::Service,
            role: Role::Agent,
        }
        .into(),
        cause: None,
        request_digest: Record::digest_request(type_name, at, None, &payload),
        key: None,
        payload,
        terms: None,
    };
    Entry {
        record,
        prev,
        trace: None,
    }
}

fn rand_id() -> u128 {
    rand::random()
}

/// Design, section 5, spelled out once more and apart from the code under test.
fn hash_by_the_book(prev: &Digest, key: &[u8], value: &[u8]) -> Digest {
    let mut bytes = prev.to_vec();
    bytes.extend((key.len() as u64).to_be_bytes());
    bytes.extend(key);
    bytes.extend(value);
    digest::of(&bytes)
}
