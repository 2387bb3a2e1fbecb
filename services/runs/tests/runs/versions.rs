//! Two versions of the projector at work, as during an upgrade: an older one that does not know some
//! types beside one that does.
//!
//! What versions differ in is what decoding makes of a type: `None` where it is not known. So the
//! older version is this one with that answer for some types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusBuilder;
use runledger_domain::log::{Family, Partition, Record};
use runledger_domain::run::{Outcome, Phase, WorkStatus};
use runledger_domain::time::SystemClock;
use runledger_eventlog::memory::Memory;
use runledger_eventlog::{Entry, Log, Outcome as Appended};
use runledger_projection::{
    Applied, ApplyError, Error, Health, Kept, Options, Projection, Standing, run,
};
use runledger_proto::types;
use runledger_runs::{FAMILIES, Runs};
use runledger_testkit::{Database, eventually};
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::facts::{end, progress, record, scope, start, step_end, step_start, usage};

const PARTITIONS: u32 = 3;
const SOON: Duration = Duration::from_secs(30);
/// What the older version has never heard of.
const NEW_TYPES: &[&str] = &[
    types::USAGE_RECORDED,
    types::STEP_STARTED,
    types::STEP_ENDED,
];
/// What neither version has.
const NEWER_STILL: &str = "runledger.run.v9.RunDreamt";
/// Field 99, a number: no message has it.
const NEW_FIELD: [u8; 3] = [0x98, 0x06, 0x01];
const WRITER: &str = "runledger_runs_writer";

/// The version before [`NEW_TYPES`].
#[derive(Default)]
struct Older(Runs);

#[async_trait]
impl Projection for Older {
    fn families(&self) -> &'static [Family] {
        self.0.families()
    }

    fn tables(&self) -> &'static [&'static str] {
        self.0.tables()
    }

    async fn keep(
        &mut self,
        tx: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        self.0.keep(tx, batch).await
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError> {
        let known = |applied: &Applied| !NEW_TYPES.contains(&&*applied.record.type_name);
        let understood: Vec<Applied> = batch
            .iter()
            .map(|kept| Applied {
                fact: kept.applied.fact.clone().filter(|_| known(kept.applied)),
                ..kept.applied.clone()
            })
            .collect();
        let batch: Vec<Kept<'_>> = understood
            .iter()
            .zip(batch)
            .map(|(applied, kept)| Kept { applied, ..*kept })
            .collect();
        self.0.apply(tx, &batch).await
    }
}

/// A projector, running.
struct Worker {
    task: JoinHandle<Result<(), Error>>,
    stop: CancellationToken,
}

impl Worker {
    /// Members of one group share the partitions; groups know nothing of each other.
    fn spawn(log: &Memory, pool: &PgPool, projection: impl Projection, group: &str) -> Self {
        static MEMBERS: AtomicU32 = AtomicU32::new(0);
        let options = Options {
            name: group.into(),
            instance: MEMBERS.fetch_add(1, Ordering::Relaxed).to_string(),
            batch_records: 7,
            batch_bytes: 1 << 20,
            gather: Duration::from_millis(1),
            queue_records: 100,
            queue_bytes: 1 << 20,
            parked_records_max: 0,
            parked_streams_max: 0,
        };
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test is the supervisor")]
        let task = tokio::spawn(run(
            Arc::new(log.clone()),
            pool.clone(),
            projection,
            options,
            Arc::new(SystemClock),
            watch::channel(Health::default()).0,
            stop.clone(),
        ));
        Self { task, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().expect("a clean stop");
    }
}

async fn new_log() -> Memory {
    let log = Memory::new(PARTITIONS);
    log.create(FAMILIES, &SystemClock).await.unwrap();
    log
}

/// What happens in one run, under ids from `first_id` on: ten records, of them five of types that
/// are new to the older version and one that is new to both, and one with a field that is.
fn told(run: &str, first_id: u128) -> Vec<Record> {
    let facts = [
        start(run),
        step_start(run, "s1"),
        usage(run, "tokens", 40),
        progress(run, Phase::Waiting, "a dream"),
        progress(run, Phase::Running, "on it"),
        usage(run, "tokens", 2),
        step_end(run, "s1", WorkStatus::Succeeded),
        end(run, Outcome::Succeeded),
        usage(run, "tokens", 1),
        progress(run, Phase::Stopping, "late"),
    ];
    let mut records: Vec<Record> = facts
        .iter()
        .zip(0..)
        .map(|(fact, n)| record(scope(1), first_id + n, fact, i64::try_from(n).unwrap()))
        .collect();
    records[3].type_name = NEWER_STILL.into();
    records[3].payload = vec![0xff; 9];
    records[4].payload.extend(NEW_FIELD);
    records
}

async fn append(log: &Memory, records: Vec<Record>) {
    let entry = |record| Entry {
        record,
        prev: None,
        trace: None,
    };
    let entries = records.into_iter().map(entry).collect();
    let outcomes = log.append(entries, Instant::now() + SOON).await.unwrap();
    let is_there = |outcome: &Appended| matches!(outcome, Appended::Accepted(_));
    assert!(outcomes.iter().all(is_there));
}

/// Waits until the cursors stand at the end of the log, and holds them to it: each has counted every
/// record of its partition.
async fn caught_up(log: &Memory, pool: &PgPool) {
    let mut ends = BTreeMap::new();
    for (family, number) in FAMILIES
        .iter()
        .flat_map(|family| (0..PARTITIONS).map(|number| (*family, number)))
    {
        let end = log.watermark(Partition { family, number }).await.unwrap();
        let at = (family.to_string(), i32::try_from(number).unwrap());
        ends.insert(at, i64::try_from(end).unwrap());
    }
    let count = eventually(SOON, || async {
        let rows: Vec<(String, i32, i64, i64)> =
            sqlx::query_as("SELECT family, partition, next_offset, record_count FROM cursors")
                .fetch_all(pool)
                .await
                .map_err(|error| error.to_string())?;
        let next = |(family, number, next, _): &(String, i32, i64, i64)| {
            ((family.clone(), *number), *next)
        };
        let at: BTreeMap<_, _> = rows.iter().map(next).collect();
        if at == ends {
            Ok(rows.iter().map(|(.., count)| *count).sum::<i64>())
        } else {
            Err(format!("{at:?} of {ends:?}"))
        }
    })
    .await;
    assert_eq!(count, ends.values().sum::<i64>());
}

/// What a query gives, a row a line.
async fn rows(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

const CURSORS: &str = "SELECT to_jsonb(c)::text FROM cursors AS c ORDER BY 1";
const RECORDS: &str = "SELECT to_jsonb(r)::text FROM records AS r ORDER BY 1";
const RUNS: &str = "SELECT (to_jsonb(r) - 'steps')::text FROM runs AS r ORDER BY 1";
const STEPS: &str = "SELECT run_id || ' ' || steps FROM runs ORDER BY 1";
const STATUSES: &str = "SELECT DISTINCT status || ', late ' || late_facts FROM runs";
const USAGE: &str = "SELECT run_id || ' ' || quantity FROM usage_totals ORDER BY 1";

/// The counter of records that a version did not know, as metrics show it.
fn unknown_records(metrics: &str) -> u64 {
    let line = metrics
        .lines()
        .find_map(|line| {
            line.strip_prefix(r#"runledger_runs_unknown_records_total{type="unknown"} "#)
        })
        .expect("the counter");
    line.parse().unwrap()
}

#[tokio::test]
async fn an_older_version_keeps_and_counts_what_a_newer_one_beside_it_folds() {
    // All of this test runs on this thread, so what is counted here is of it alone.
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let log = new_log().await;
    let databases = (Database::fresh().await, Database::fresh().await);
    let (before, now) = (
        databases.0.pool(WRITER, "runs"),
        databases.1.pool(WRITER, "runs"),
    );
    let older = Worker::spawn(&log, &before, Older::default(), "older");
    let newer = Worker::spawn(&log, &now, Runs::default(), "newer");
    for number in 0..6_u8 {
        append(&log, told(&format!("r{number}"), u128::from(number) * 10)).await;
    }
    caught_up(&log, &before).await;
    caught_up(&log, &now).await;
    assert_eq!(
        unknown_records(&recorder.handle().render()),
        6 * (5 + 1) + 6
    );

    // To the last byte and hash they have read and kept the same.
    assert_eq!(rows(&before, CURSORS).await, rows(&now, CURSORS).await);
    let kept = rows(&before, RECORDS).await;
    assert_eq!((kept.len(), &kept), (60, &rows(&now, RECORDS).await));
    let told: BTreeSet<Vec<u8>> = told("r0", 0).into_iter().map(|one| one.payload).collect();
    let payloads = "SELECT payload FROM records WHERE run_id = 'r0'";
    let payloads: Vec<Vec<u8>> = sqlx::query_scalar(payloads).fetch_all(&now).await.unwrap();
    assert_eq!(payloads.into_iter().collect::<BTreeSet<_>>(), told);

    // What both know they fold alike, the field that neither knows notwithstanding.
    assert_eq!(rows(&before, RUNS).await, rows(&now, RUNS).await);
    assert_eq!(rows(&now, STATUSES).await, ["succeeded, late 2"]);
    // What is new only the newer one folds.
    let each = |what: &str| {
        (0..6)
            .map(|run| format!("r{run} {what}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&now, STEPS).await, each("1"));
    assert_eq!(rows(&now, USAGE).await, each("43"));
    assert_eq!(rows(&before, STEPS).await, each("0"));
    assert_eq!(rows(&before, USAGE).await, Vec::<String>::new());

    // The newer version takes the older one's tables over, and folds what comes from there on.
    older.stop().await;
    let taken_over = Worker::spawn(&log, &before, Runs::default(), "older");
    append(
        &log,
        vec![record(scope(1), 99, &usage("r0", "tokens", 7), 9)],
    )
    .await;
    caught_up(&log, &before).await;
    caught_up(&log, &now).await;
    assert_eq!(rows(&before, CURSORS).await, rows(&now, CURSORS).await);
    assert_eq!(rows(&before, RECORDS).await, rows(&now, RECORDS).await);
    assert_eq!(rows(&before, USAGE).await, ["r0 7"]);
    taken_over.stop().await;
    newer.stop().await;
    futures::join!(before.close(), now.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_share_the_partitions_skip_nothing_while_they_come_and_go() {
    let log = new_log().await;
    let database = Database::fresh().await;
    let pool = database.pool(WRITER, "runs");
    let runs = AtomicU32::new(0);
    let append_runs = async || {
        for _ in 0..6 {
            let number = runs.fetch_add(1, Ordering::Relaxed);
            append(&log, told(&format!("r{number}"), u128::from(number) * 10)).await;
        }
    };
    let folded = async || rows(&pool, USAGE).await.len();
    for round in 0..3 {
        let older = Worker::spawn(&log, &pool, Older::default(), "runs");
        let newer = Worker::spawn(&log, &pool, Runs::default(), "runs");
        eventually(SOON, async || {
            let before = folded().await;
            append_runs().await;
            caught_up(&log, &pool).await;
            match folded().await - before {
                by_newer @ 1..6 => Ok(by_newer),
                all_or_none => Err(format!("they do not share yet: {all_or_none} of 6")),
            }
        })
        .await;
        let (first, second) = if round % 2 == 0 {
            (older, newer)
        } else {
            (newer, older)
        };
        append_runs().await;
        first.stop().await;
        append_runs().await;
        second.stop().await;
    }
    let last = Worker::spawn(&log, &pool, Runs::default(), "runs");
    caught_up(&log, &pool).await;
    last.stop().await;
    let told = usize::try_from(runs.into_inner()).unwrap();
    assert_eq!(rows(&pool, RECORDS).await.len(), told * 10);
    assert_eq!(rows(&pool, STATUSES).await, ["succeeded, late 2"]);
    // Each use was folded once, by a version that knows it, or kept.
    let wrong = "SELECT run_id FROM usage_totals WHERE quantity NOT IN (1, 2, 3, 40, 41, 42, 43)";
    assert_eq!(rows(&pool, wrong).await, Vec::<String>::new());
    pool.close().await;
}
