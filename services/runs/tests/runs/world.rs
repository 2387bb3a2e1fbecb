//! Both roles on a log in memory and a database of their own.

use std::sync::Arc;
use std::time::Duration;

use runledger_domain::Fact;
use runledger_domain::digest;
use runledger_domain::log::{Position, Record};
use runledger_domain::scope::{Mode, Role, Scope};
use runledger_domain::time::SystemClock;
use runledger_eventlog::memory::Memory;
use runledger_eventlog::token::Token;
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_role::{ApiAddresses, WorkerAddresses};
use runledger_runs::{
    API_DEFAULTS, ApiConfig, FAMILIES, PROJECTOR_DEFAULTS, ProjectorConfig, serve_api_on,
    serve_projector_on,
};
use runledger_service::client::{self, Connection};
use runledger_service::config::{Source, load_with};
use runledger_service::supervisor::Supervisor;
use runledger_testkit::Database;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::facts::record;

pub(crate) type Client = RunsServiceClient<Connection>;

/// Two roles, running.
pub(crate) struct World {
    pub(crate) log: Memory,
    pub(crate) database: Database,
    pub(crate) api: ApiAddresses,
    pub(crate) projector: WorkerAddresses,
    stop: CancellationToken,
    running: JoinHandle<Result<(), runledger_service::supervisor::Error>>,
}

pub(crate) fn defaults<T: DeserializeOwned>(defaults: &'static str) -> T {
    load_with(
        Source {
            defaults,
            file: None,
        },
        [],
    )
    .unwrap()
}

pub(crate) fn api_config(database: &Database, change: impl FnOnce(&mut ApiConfig)) -> ApiConfig {
    let mut api: ApiConfig = defaults(API_DEFAULTS);
    api.server.listen = "127.0.0.1:0".parse().unwrap();
    api.metrics.listen = "127.0.0.1:0".parse().unwrap();
    api.database = database.config("runledger_runs_reader");
    api.keys = database.config("runledger_keys");
    change(&mut api);
    api
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ApiConfig)) -> Self {
        let database = Database::fresh().await;
        let log = Memory::new(3);
        log.create(FAMILIES, &SystemClock).await.unwrap();
        let mut supervisor = Supervisor::new(Duration::from_secs(10));
        let stop = supervisor.stopper();
        let api = api_config(&database, change);
        let mut projector: ProjectorConfig = defaults(PROJECTOR_DEFAULTS);
        projector.metrics.listen = "127.0.0.1:0".parse().unwrap();
        projector.database = database.config("runledger_runs_writer");
        let clock = Arc::new(SystemClock);
        let projector =
            serve_projector_on(Arc::new(log.clone()), &projector, clock, &mut supervisor)
                .await
                .unwrap();
        let api = serve_api_on(Arc::new(log.clone()), &api, &mut supervisor)
            .await
            .unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "the test is the process around the supervisor"
        )]
        let running = tokio::spawn(supervisor.run());
        Self {
            log,
            database,
            api,
            projector,
            stop,
            running,
        }
    }

    /// Appends facts under ids from `first_id` on, a second apart, and returns the token to read by.
    pub(crate) async fn append(&self, scope: Scope, first_id: u128, facts: &[Fact]) -> String {
        let numbered = facts.iter().zip(0..);
        let records =
            numbered.map(|(fact, n)| record(scope, first_id + n, fact, i64::try_from(n).unwrap()));
        self.append_records(records.collect()).await
    }

    pub(crate) async fn append_records(&self, records: Vec<Record>) -> String {
        let entries = records
            .into_iter()
            .map(|record| Entry {
                record,
                prev: None,
                trace: None,
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(5);
        let outcomes = self.log.append(entries, deadline).await.unwrap();
        let positions: Vec<Position> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Accepted(position) => position,
                other => panic!("not accepted: {other:?}"),
            })
            .collect();
        Token::from_positions(positions).to_string()
    }

    /// A client with a key of its own.
    pub(crate) async fn client(&self, scope: Scope, role: Role) -> Client {
        let key = self.key(scope, role).await;
        let options = client::Options::new(format!("http://{}", self.api.grpc), Some(key.into()));
        RunsServiceClient::new(client::connect(&options).await.unwrap())
            .max_decoding_message_size(8 << 20)
    }

    /// Makes a key as the directory would.
    pub(crate) async fn key(&self, scope: Scope, role: Role) -> String {
        let principal = Uuid::from_u128(rand_id());
        let (prefix, tenant) = match scope.mode {
            Mode::Live => ("rl_live_", scope.tenant.as_uuid()),
            Mode::Sandbox => ("rl_test_", scope.tenant.as_uuid()),
        };
        let text = format!("{prefix}{}{}", principal.simple(), principal.simple());
        let admin = self.database.admin();
        sqlx::query("INSERT INTO directory.tenants VALUES ($1, $1::text, 1000, 100000, 1000, now()) ON CONFLICT DO NOTHING")
            .bind(tenant)
            .execute(&admin)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO directory.principals (principal_id, tenant_id, name, kind, role, created_at)
             VALUES ($1, $2, $1::text, 'service', $3, now())",
        )
        .bind(principal)
        .bind((role != Role::Operator).then_some(tenant))
        .bind(role.as_str())
        .execute(&admin)
        .await
        .unwrap();
        let realm = if role == Role::Operator {
            Uuid::nil()
        } else {
            tenant
        };
        sqlx::query(
            "INSERT INTO directory.api_keys (key_id, realm, principal_id, digest, head, tail, label, mode, created_at)
             VALUES ($1, $2, $1, $3, 'aaaa', 'aaaa', '', $4, now())",
        )
        .bind(principal)
        .bind(realm)
        .bind(digest::of(text.as_bytes()).as_slice())
        .bind(scope.mode.as_str())
        .execute(&admin)
        .await
        .unwrap();
        admin.close().await;
        text
    }

    /// Stops both roles and waits until they have.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    pub(crate) fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// A number that this process has not had.
fn rand_id() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0x1000);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A read no older than `token`.
pub(crate) fn at_least(token: &str) -> Option<ReadOptions> {
    Some(ReadOptions {
        at_least: vec![token.to_owned()],
        max_wait: Some(prost_types::Duration {
            seconds: 10,
            nanos: 0,
        }),
    })
}
