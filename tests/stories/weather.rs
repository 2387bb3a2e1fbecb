//! Kafka and Postgres go away and come back: callers hear what to do, nothing acknowledged is
//! lost, and nobody restarts anything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use runledger_domain::log::{Family, Partition};
use runledger_domain::scope::Role;
use runledger_eventlog::Log as _;
use runledger_eventlog::kafka::{self, Kafka};
use runledger_proto::common::v1::{Mode, ReadOptions};
use runledger_proto::decode::{self, Stored};
use runledger_proto::directory::v1::{CreateKeyRequest, WhoAmIRequest};
use runledger_proto::run::v1::{GetRunRequest, GetRunResponse};
use runledger_service::status::{reason, retry_after};
use runledger_testkit::eventually;
use runledger_tests::{
    Clients, Component, Installation, Ledger, OwnStack, RunPlan, Tenant, assert_kept, is_proof,
    keep_reporting, seed,
};
use tonic::{Code, Request, Status};
use uuid::Uuid;

const WRITERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(50);
/// What callers of the story grant, and what an answer may take beyond it on a busy machine.
const DEADLINE: Duration = Duration::from_secs(3);
const SLACK: Duration = Duration::from_secs(1);
/// How long things may take to be as before.
const RECOVERY: Duration = Duration::from_secs(60);

/// What the parts of the story share.
struct Scene {
    stack: OwnStack,
    clients: Clients,
    /// Clients of an admin, and the admin's id.
    admin: (Clients, String),
    rng: StdRng,
    promised: Ledger,
    /// A run that the read model holds, and the token of its end.
    known: (RunPlan, String),
}

#[tokio::test(flavor = "multi_thread")]
async fn weather_passes_and_nothing_acknowledged_is_lost() {
    let mut rng = seed("weather");
    let stack = OwnStack::start("weather").await;
    let mut installation = Installation::start_on(stack.addresses(), "weather", Vec::new()).await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let stop = Arc::new(AtomicBool::new(false));
    let writers = join_all((0..WRITERS).map(|_| {
        let rng = StdRng::from_rng(&mut rng);
        keep_reporting(clients.clone(), rng, PAUSE, Arc::clone(&stop))
    }));
    let mut promised = Ledger::default();
    let plan = RunPlan::random(&mut rng);
    let token = plan.report(&clients, &mut rng, &mut promised).await;
    let mut scene = Scene {
        stack,
        clients,
        admin: (
            installation.clients(tenant.key(Role::Admin)),
            tenant.principals[&Role::Admin].clone(),
        ),
        rng,
        promised,
        known: (plan, token),
    };
    let weather = async {
        let (known, token) = scene.known.clone();
        scene.assert_seen(&known, &token).await;
        for _ in 0..if is_proof() { 5 } else { 1 } {
            scene.kafka_hangs().await;
            scene.kafka_is_killed().await;
            scene.postgres_is_killed().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (ledgers, ()) = tokio::join!(writers, weather);
    for ledger in ledgers {
        scene.promised.merge(ledger);
    }
    assert_kept(&installation, &scene.promised).await;
    assert_relayed(&installation).await;
    installation.assert_unharmed();
    drop(installation);
}

/// Every change of the directory comes into the log, and nothing else does.
async fn assert_relayed(installation: &Installation) {
    let outbox = installation.database.admin();
    let changes: Vec<Uuid> = eventually(RECOVERY, async || {
        let rows: Vec<(Uuid, bool)> =
            sqlx::query_as("SELECT id, relayed_at IS NOT NULL FROM directory.outbox")
                .fetch_all(&outbox)
                .await
                .map_err(|error| error.to_string())?;
        match rows.iter().filter(|(_, relayed)| !relayed).count() {
            0 => Ok(rows.into_iter().map(|(id, _)| id).collect()),
            left => Err(format!("{left} changes are not relayed")),
        }
    })
    .await;
    let (brokers, prefix) = installation.kafka();
    let log = Kafka::connect(&kafka::Config {
        brokers: brokers.into(),
        prefix: prefix.into(),
        ..kafka::Config::default()
    });
    let family = Family::Directory;
    let partition = Partition { family, number: 0 };
    let read = log.expect("a client").read(partition, 0, 10_000).await;
    let told = read.expect("the log").into_iter().filter_map(|stored| {
        match decode::record(family, &stored.value).expect("a record") {
            Stored::Record(record) => Some(record.id.as_uuid()),
            Stored::Genesis(_) => None,
        }
    });
    assert_eq!(
        told.collect::<BTreeSet<_>>(),
        changes.into_iter().collect::<BTreeSet<_>>()
    );
}

impl Scene {
    /// Kafka does not answer, and then goes on as if nothing had been.
    async fn kafka_hangs(&mut self) {
        self.stack.signal(Component::Kafka, "STOP").await;
        let unheard = self.append_is_refused().await;
        self.others_go_on().await;
        self.stack.signal(Component::Kafka, "CONT").await;
        self.is_as_before(unheard).await;
    }

    /// Kafka hangs, is killed, and comes back as a new process.
    async fn kafka_is_killed(&mut self) {
        self.stack.signal(Component::Kafka, "STOP").await;
        let hung = self.append_is_refused().await;
        self.stack.signal(Component::Kafka, "KILL").await;
        let unheard = self.append_is_refused().await;
        self.others_go_on().await;
        self.stack.up().await;
        self.is_as_before(hung).await;
        self.is_as_before(unheard).await;
    }

    /// Postgres is killed: facts go on coming in from callers that are known.
    async fn postgres_is_killed(&mut self) {
        // Every process has seen the key now.
        self.others_go_on().await;
        self.stack.signal(Component::Postgres, "KILL").await;
        let plan = RunPlan::random(&mut self.rng);
        let token = self.report(&plan).await;
        // What is left of a killed server may still answer a moment longer.
        let read = async || self.read(&plan.run_id, "").await.map(drop);
        assert_told(refusal(read).await, &["READ_MODEL_UNAVAILABLE"]);
        let who = async || {
            self.clients
                .directory
                .clone()
                .who_am_i(WhoAmIRequest {})
                .await
                .map(drop)
        };
        let reasons = ["DIRECTORY_UNAVAILABLE", "DIRECTORY_UNREACHABLE"];
        assert_told(refusal(who).await, &reasons);
        let again = RunPlan::random(&mut self.rng);
        let later = self.report(&again).await;
        self.stack.up().await;
        self.assert_seen(&plan, &token).await;
        self.assert_seen(&again, &later).await;
        let (known, token) = self.known.clone();
        self.assert_seen(&known, &token).await;
    }

    /// An append is told in time that nobody knows or that nothing was done; returns its run.
    async fn append_is_refused(&mut self) -> RunPlan {
        let plan = RunPlan::random(&mut self.rng);
        let mut request = Request::new(plan.opening());
        request.set_timeout(DEADLINE);
        let began = Instant::now();
        let answer = self.clients.runs_in.clone().append(request).await;
        let took = began.elapsed();
        assert!(took < DEADLINE + SLACK, "an answer after {took:?}");
        let status = answer.map(drop).expect_err("a refusal");
        assert_told(status, &["APPEND_UNKNOWN", "LOG_UNAVAILABLE"]);
        plan
    }

    /// The directory and the read model do not need Kafka.
    async fn others_go_on(&self) {
        let (plan, token) = &self.known;
        let read = self.read(&plan.run_id, token).await.expect("a read");
        assert!(read.run.is_some());
        let who = self
            .clients
            .directory
            .clone()
            .who_am_i(WhoAmIRequest {})
            .await;
        who.expect("an answer of the directory");
        let (admin, principal_id) = &self.admin;
        let request = CreateKeyRequest {
            principal_id: principal_id.clone(),
            mode: Mode::Sandbox.into(),
            ..CreateKeyRequest::default()
        };
        let made = admin.directory.clone().create_key(request).await;
        made.expect("a key");
    }

    /// Appends and reads are what they were, by the same processes.
    async fn is_as_before(&mut self, plan: RunPlan) {
        let token = self.report(&plan).await;
        self.assert_seen(&plan, &token).await;
    }

    async fn report(&mut self, plan: &RunPlan) -> String {
        plan.report(&self.clients, &mut self.rng, &mut self.promised)
            .await
    }

    /// A read with the token shows all of the run, once the projector has come that far.
    async fn assert_seen(&self, plan: &RunPlan, token: &str) {
        let run = eventually(RECOVERY, async || {
            self.read(&plan.run_id, token)
                .await
                .map(|answer| answer.run)
        });
        let totals = run.await.expect("the run").totals.expect("totals");
        let found = (totals.tool_calls, totals.failed_tool_calls);
        assert_eq!(
            found,
            (plan.tool_calls, plan.failed_tool_calls),
            "{}",
            plan.run_id
        );
    }

    async fn read(&self, run_id: &str, token: &str) -> Result<GetRunResponse, Status> {
        let request = GetRunRequest {
            run_id: run_id.into(),
            read: Some(ReadOptions {
                at_least: vec![token.into()],
                max_wait: None,
            }),
        };
        let answer = self.clients.runs.clone().get_run(request).await;
        answer.map(tonic::Response::into_inner)
    }
}

/// What is refused soon, when it is not at once.
async fn refusal(call: impl AsyncFn() -> Result<(), Status>) -> Status {
    eventually(RECOVERY, async || {
        call().await.err().ok_or("it still answers")
    })
    .await
}

/// Told to come again: unavailable, why, and when.
fn assert_told(status: Status, reasons: &[&str]) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let why = reason(&status);
    assert!(
        why.as_deref().is_some_and(|why| reasons.contains(&why)),
        "{status:?}"
    );
    assert!(retry_after(&status).is_some(), "{status:?}");
}
