//! An installation of one's own, with its first operator, and callers as the gate would let them in.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use runledger_directory::{DEFAULTS, DefaultLimits, Directory, Rules, bootstrap};
use runledger_domain::time::{Clock, SystemClock, Timestamp};
use runledger_proto::common::v1::{Mode, PrincipalKind, Role};
use runledger_proto::directory::v1::directory_service_server::DirectoryService;
use runledger_proto::directory::v1::*;
use runledger_service::auth::{self, Authenticator, Caller};
use runledger_service::status;
use runledger_testkit::Database;
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, PgPool};
use tonic::{Code, Request, Response, Status};

/// The machine's clock, moved.
#[derive(Default)]
pub(crate) struct Moved(Mutex<TimeDelta>);

impl Moved {
    pub(crate) fn by(&self, delta: TimeDelta) {
        *self.0.lock().unwrap() = delta;
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock().unwrap()
    }
}

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) directory: Directory,
    pub(crate) clock: Arc<Moved>,
    /// Not bound by row-level security.
    pub(crate) admin: PgPool,
    pub(crate) keys: PgPool,
    /// The operator's key.
    pub(crate) operator: String,
}

/// A tenant with its first admin.
pub(crate) struct Home {
    pub(crate) tenant_id: String,
    pub(crate) admin_id: String,
    /// The admin's live key.
    pub(crate) admin: String,
}

pub(crate) const LIMITS: DefaultLimits = DefaultLimits {
    records_per_second: 100,
    bytes_per_second: 100_000,
    commands_per_second: 10,
};

pub(crate) fn rules() -> Rules {
    Rules {
        default_limits: LIMITS,
        rotation_overlap: std::time::Duration::from_secs(24 * 60 * 60),
        health_interval: std::time::Duration::from_millis(50),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        assert!(!DEFAULTS.is_empty());
        let database = Database::fresh().await;
        let pool = database.pool("runledger_directory", "directory");
        let clock = Arc::new(Moved::default());
        let operator = bootstrap(&pool, &SystemClock).await.unwrap();
        let directory = Directory::new(pool, clock.clone(), &rules()).unwrap();
        Self {
            directory,
            clock,
            admin: database.admin(),
            keys: database.pool("runledger_keys", "directory"),
            operator: operator.expose_secret().to_owned(),
            database,
        }
    }

    /// The caller behind `secret`, or why there is none.
    pub(crate) async fn enter(
        &self,
        secret: &str,
        mode: Option<&str>,
    ) -> Result<Arc<Caller>, Status> {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {secret}").parse().unwrap());
        if let Some(mode) = mode {
            headers.insert("x-runledger-mode", mode.parse().unwrap());
        }
        // A new one each time: what it has cached is not the matter here.
        let authenticator = Authenticator::postgres(self.keys.clone(), &auth::Config::default());
        authenticator
            .authenticate(&headers)
            .await
            .map_err(status::from_fault)
    }

    pub(crate) async fn opens(&self, secret: &str) -> bool {
        match self.enter(secret, None).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(
                    refusal(&status),
                    (Code::Unauthenticated, "KEY_UNKNOWN".into())
                );
                false
            }
        }
    }

    /// A request of whoever holds `secret`.
    pub(crate) async fn by<T>(&self, secret: &str, body: T) -> Request<T> {
        as_caller(self.enter(secret, None).await.unwrap(), body)
    }

    /// A request of whoever holds `secret`, in the sandbox.
    pub(crate) async fn in_sandbox<T>(&self, secret: &str, body: T) -> Request<T> {
        as_caller(self.enter(secret, Some("sandbox")).await.unwrap(), body)
    }

    pub(crate) async fn home(&self, name: &str) -> Home {
        let request = CreateTenantRequest {
            name: name.into(),
            limits: None,
        };
        let request = self.by(&self.operator, request).await;
        let tenant_id = ok(self.directory.create_tenant(request).await)
            .tenant
            .unwrap()
            .tenant_id;
        let operator = self.operator.clone();
        let admin_id = self
            .principal(&operator, &tenant_id, "first admin", Role::Admin)
            .await;
        let admin = self.key(&operator, &admin_id, Mode::Live).await.1;
        Home {
            tenant_id,
            admin_id,
            admin,
        }
    }

    /// Makes a principal and answers with its id.
    pub(crate) async fn principal(
        &self,
        by: &str,
        tenant_id: &str,
        name: &str,
        role: Role,
    ) -> String {
        let request = CreatePrincipalRequest {
            tenant_id: tenant_id.into(),
            name: name.into(),
            kind: PrincipalKind::User.into(),
            role: role.into(),
        };
        let request = self.by(by, request).await;
        ok(self.directory.create_principal(request).await)
            .principal
            .unwrap()
            .principal_id
    }

    /// Makes a key and answers with its id and itself.
    pub(crate) async fn key(&self, by: &str, principal_id: &str, mode: Mode) -> (String, String) {
        let request = CreateKeyRequest {
            principal_id: principal_id.into(),
            mode: mode.into(),
            label: "a key".into(),
            expires_at: None,
        };
        let request = self.by(by, request).await;
        let made = ok(self.directory.create_key(request).await);
        (made.key.unwrap().key_id, made.secret)
    }

    /// Everything that is stored, as text.
    pub(crate) async fn dump(&self) -> String {
        let mut dump = String::new();
        for table in [
            "tenants",
            "principals",
            "api_keys",
            "kill_switches",
            "outbox",
        ] {
            let sql = format!(
                "SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM directory.{table} AS t"
            );
            let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&self.admin)
                .await
                .unwrap();
            dump.push_str(&format!("{table}\n{rows}\n"));
        }
        dump
    }

    /// The types of the audit rows, in order.
    pub(crate) async fn changes(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT type FROM directory.outbox ORDER BY sequence")
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }
}

pub(crate) fn as_caller<T>(caller: Arc<Caller>, body: T) -> Request<T> {
    let mut request = Request::new(body);
    request.extensions_mut().insert(caller);
    request
}

pub(crate) fn ok<T>(reply: Result<Response<T>, Status>) -> T {
    match reply {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("{status:?}"),
    }
}

/// Code and reason of a refusal.
pub(crate) fn refusal(status: &Status) -> (Code, String) {
    (status.code(), status::reason(status).unwrap_or_default())
}

#[track_caller]
pub(crate) fn refused<T>(reply: Result<Response<T>, Status>, code: Code, reason: &str) {
    match reply {
        Ok(_) => panic!("was not refused, but should be: {reason}"),
        Err(status) => assert_eq!(refusal(&status), (code, reason.to_owned())),
    }
}

/// The fields that a refusal names.
#[track_caller]
pub(crate) fn wrong_fields<T>(reply: Result<Response<T>, Status>) -> Vec<String> {
    use tonic_types::StatusExt as _;
    let Err(status) = reply else {
        panic!("was not refused")
    };
    assert_eq!(
        refusal(&status),
        (Code::InvalidArgument, "INVALID_FIELDS".into())
    );
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|one| one.field.clone()).collect()
}
