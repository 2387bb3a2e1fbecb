use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use runledger_domain::digest;
use runledger_domain::ids::{KeyId, PrincipalId, TenantId};
use runledger_domain::log::{Family, Genesis, Partition, Record};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role};
use runledger_domain::time::{Clock, Timestamp};
use runledger_eventlog::memory::{Fault, Memory};
use runledger_eventlog::{
    Entry, Error, Log, Outcome, Reports, Stored, Subscription, SubscriptionOptions,
};
use runledger_ingest::{Addresses, Config, DEFAULTS, FAMILIES, serve};
use runledger_proto::common::v1::{AppendResult, append_result};
use runledger_proto::run::v1::run_ingest_service_client::RunIngestServiceClient;
use runledger_proto::run::v1::{
    RunFact, RunIngestServiceAppendRequest, RunIngestServiceAppendResponse, RunPhase,
    RunProgressed, RunStarted, Trigger, run_fact,
};
use runledger_proto::{decode, encode};
use runledger_service::auth::{Authenticator, Credential, Known, Limits};
use runledger_service::client::{self, Connection, Options};
use runledger_service::config::{Source, load_with};
use runledger_service::status;
use runledger_service::supervisor::{self, Supervisor};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use uuid::Uuid;

/// What the server's clock says: 2026-01-01T00:00:00Z.
pub(crate) const NOW_MICROS: i64 = 1_767_225_600_000_000;

pub(crate) fn now() -> Timestamp {
    DateTime::from_timestamp_micros(NOW_MICROS).expect("a moment")
}

pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        now()
    }
}

/// A clock that is set by hand: how many minutes it is ahead of [`now`].
#[derive(Default)]
pub(crate) struct SetByHand(AtomicI64);

impl SetByHand {
    pub(crate) fn set(&self, minutes: i64) {
        self.0.store(minutes, Ordering::SeqCst);
    }
}

impl Clock for SetByHand {
    fn now(&self) -> Timestamp {
        now() + TimeDelta::minutes(self.0.load(Ordering::SeqCst))
    }
}

/// A served role over some log.
pub(crate) struct World<L = Memory> {
    pub(crate) log: Arc<L>,
    pub(crate) directory: Arc<Known>,
    pub(crate) addresses: Addresses,
    pub(crate) stopper: CancellationToken,
    pub(crate) process: JoinSet<Result<(), supervisor::Error>>,
}

/// A log in memory, with its topics.
pub(crate) async fn memory() -> Memory {
    let log = Memory::new(4);
    log.create(FAMILIES, &Still).await.expect("topics");
    log
}

impl World {
    pub(crate) async fn new() -> Self {
        World::over(Arc::new(memory().await)).await
    }
}

impl<L: Log> World<L> {
    pub(crate) async fn over(log: Arc<L>) -> Self {
        Self::by_the_clock(log, Arc::new(Still)).await
    }

    pub(crate) async fn by_the_clock(log: Arc<L>, clock: Arc<dyn Clock>) -> Self {
        let directory = Arc::new(Known::default());
        let address = || "127.0.0.1:0".to_owned();
        let environment = [
            ("RUNLEDGER_SERVER__LISTEN".to_owned(), address()),
            ("RUNLEDGER_METRICS__LISTEN".to_owned(), address()),
            (
                "RUNLEDGER_INGEST__HEALTH_INTERVAL".to_owned(),
                "500ms".to_owned(),
            ),
        ];
        let source = Source {
            defaults: DEFAULTS,
            file: None,
        };
        let config: Config = load_with(source, environment).expect("a configuration");
        let authenticator = Authenticator::new(Arc::clone(&directory), &config.auth);
        let mut supervisor = Supervisor::new(Duration::from_secs(5));
        let served = serve(
            &config,
            Arc::clone(&log) as _,
            authenticator,
            clock,
            &mut supervisor,
        );
        let addresses = served.await.expect("it starts");
        let stopper = supervisor.stopper();
        let mut process = JoinSet::new();
        process.spawn(supervisor.run());
        Self {
            log,
            directory,
            addresses,
            stopper,
            process,
        }
    }

    /// A key of an agent of tenant 1, with generous limits.
    pub(crate) fn agent(&self) -> String {
        self.key(&credential())
    }

    /// A key for what `credential` says.
    pub(crate) fn key(&self, credential: &Credential) -> String {
        let world = match credential.mode {
            Mode::Live => "live",
            Mode::Sandbox => "test",
        };
        let key = format!("rl_{world}_{:064x}", credential.key.as_uuid().as_u128());
        self.directory
            .insert(digest::of(key.as_bytes()), credential.clone());
        key
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addresses.grpc)
    }

    pub(crate) async fn connect(&self, key: Option<String>) -> Connection {
        let options = Options::new(self.url(), key.map(Into::into));
        client::connect(&options).await.expect("it listens")
    }

    pub(crate) async fn runs(&self, key: String) -> RunIngestServiceClient<Connection> {
        RunIngestServiceClient::new(self.connect(Some(key)).await)
    }

    /// Every record of a family, by partition.
    pub(crate) async fn records(&self, family: Family) -> Vec<Record> {
        let mut records = Vec::new();
        for number in 0..4 {
            let stored = self
                .log
                .read(Partition { family, number }, 1, 10_000)
                .await
                .expect("it is there");
            records.extend(stored.iter().map(|stored| {
                match decode::record(family, &stored.value).expect("a record") {
                    decode::Stored::Record(record) => record,
                    decode::Stored::Genesis(genesis) => unreachable!("{genesis:?} is the first"),
                }
            }));
        }
        records
    }

    pub(crate) async fn count(&self) -> usize {
        let mut count = 0;
        for family in FAMILIES {
            count += self.records(*family).await.len();
        }
        count
    }
}

pub(crate) fn credential() -> Credential {
    Credential {
        key: KeyId::new(Uuid::from_u128(0xa11ce)),
        principal: Actor {
            principal: PrincipalId::new(Uuid::from_u128(0xa6e7)),
            kind: PrincipalKind::Service,
            role: Role::Agent,
        },
        name: "importer".into(),
        tenant: Some((TenantId::new(Uuid::from_u128(1)), "acme".into())),
        mode: Mode::Live,
        limits: Limits {
            records_per_second: 1_000_000,
            bytes_per_second: 1_000_000_000,
            commands_per_second: 1,
        },
        kill_switch: None,
    }
}

pub(crate) fn id(number: u128) -> String {
    Uuid::from_u128(0x0198_f0c2_5f1e_7b9a_8c55_0000_0000_0000 | number).to_string()
}

pub(crate) fn started(number: u128, run: &str) -> RunFact {
    fact(
        number,
        run_fact::Fact::RunStarted(RunStarted {
            run_id: run.into(),
            agent_id: "agent-1".into(),
            trigger: Trigger::Api.into(),
            ..RunStarted::default()
        }),
    )
}

pub(crate) fn progressed(number: u128, run: &str, note: &str) -> RunFact {
    fact(
        number,
        run_fact::Fact::RunProgressed(RunProgressed {
            run_id: run.into(),
            phase: RunPhase::Running.into(),
            note: note.into(),
        }),
    )
}

pub(crate) fn fact(number: u128, fact: run_fact::Fact) -> RunFact {
    RunFact {
        id: id(number),
        occurred_at: Some(encode::timestamp(now())),
        cause_id: String::new(),
        cause_stream: String::new(),
        fact: Some(fact),
    }
}

pub(crate) fn batch(facts: Vec<RunFact>) -> RunIngestServiceAppendRequest {
    RunIngestServiceAppendRequest { facts }
}

pub(crate) async fn append(
    client: &mut RunIngestServiceClient<Connection>,
    facts: Vec<RunFact>,
) -> Result<RunIngestServiceAppendResponse, Status> {
    client
        .append(batch(facts))
        .await
        .map(tonic::Response::into_inner)
}

/// `accepted`, `unknown`, or the fields and reasons of a refusal.
pub(crate) fn word(result: &AppendResult) -> String {
    match result.outcome.as_ref().expect("an outcome") {
        append_result::Outcome::Accepted(accepted) => {
            assert!(accepted.position.is_some());
            "accepted".into()
        }
        append_result::Outcome::Unknown(unknown) => {
            assert_eq!(unknown.reason, "APPEND_UNKNOWN");
            "unknown".into()
        }
        append_result::Outcome::Refused(refused) => {
            let faults: Vec<_> = refused
                .violations
                .iter()
                .map(|fault| format!("{} {}", fault.field, fault.reason))
                .collect();
            faults.join(", ")
        }
    }
}

pub(crate) fn words(results: &[AppendResult]) -> Vec<String> {
    results.iter().map(word).collect()
}

#[track_caller]
pub(crate) fn expect<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Status {
    let status = answer.expect_err("it is refused");
    assert_eq!(
        (status.code(), status::reason(&status).as_deref()),
        (code, Some(reason)),
        "{status:?}"
    );
    assert!(!status.message().is_empty());
    status
}

/// A log whose appends wait until they are let through.
pub(crate) struct Held {
    log: Memory,
    /// As when the Genesis records are not known yet.
    before_landing: bool,
    pub(crate) doors: Arc<Doors>,
}

/// The appends that wait, by the order in which they came.
#[derive(Default)]
pub(crate) struct Doors {
    waiting: std::sync::Mutex<BTreeMap<usize, tokio::sync::oneshot::Sender<()>>>,
    came: AtomicUsize,
}

impl Doors {
    /// How many appends have come so far.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    /// Lets the append through that came as the `number`th, from 0.
    pub(crate) fn open(&self, number: usize) {
        let door = self
            .waiting
            .lock()
            .expect("no panic")
            .remove(&number)
            .expect("it waits");
        door.send(()).expect("it waits");
    }

    fn wait(&self) -> tokio::sync::oneshot::Receiver<()> {
        let (door, opened) = tokio::sync::oneshot::channel();
        let mut waiting = self.waiting.lock().expect("no panic");
        waiting.insert(self.came.fetch_add(1, Ordering::SeqCst), door);
        opened
    }
}

impl Held {
    pub(crate) fn new(log: Memory, doors: &Arc<Doors>) -> Self {
        Self {
            log,
            before_landing: false,
            doors: Arc::clone(doors),
        }
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.log.inject(fault);
    }

    pub(crate) fn before_landing(log: Memory, doors: &Arc<Doors>) -> Self {
        Self {
            before_landing: true,
            ..Self::new(log, doors)
        }
    }
}

#[async_trait]
impl Log for Held {
    async fn genesis(&self, family: Family) -> Result<Arc<[Genesis]>, Error> {
        self.log.genesis(family).await
    }

    /// Lands at once, and is reported when its door opens or the deadline comes; where landing is
    /// held up, it lands when its door opens.
    async fn hand_over(&self, entries: Vec<Entry>, deadline: Instant) -> Result<Reports, Error> {
        let opened = tokio::time::timeout_at(deadline, self.doors.wait());
        let count = entries.len();
        if self.before_landing {
            opened.await.ok();
            return self.log.hand_over(entries, deadline).await;
        }
        let reports = self.log.hand_over(entries, deadline).await?;
        Ok(Box::pin(async move {
            match opened.await {
                Ok(_) => reports.await,
                Err(_) => vec![Outcome::Unknown; count],
            }
        }))
    }

    async fn watermark(&self, partition: Partition) -> Result<u64, Error> {
        self.log.watermark(partition).await
    }

    fn subscribe(&self, options: SubscriptionOptions) -> Result<Subscription, Error> {
        self.log.subscribe(options)
    }

    async fn read(
        &self,
        partition: Partition,
        from: u64,
        max: usize,
    ) -> Result<Vec<Stored>, Error> {
        self.log.read(partition, from, max).await
    }

    async fn create(&self, families: &[Family], clock: &dyn Clock) -> Result<(), Error> {
        self.log.create(families, clock).await
    }

    fn healthy(&self) -> bool {
        self.log.healthy()
    }
}
