//! Against the directory's real function, in Postgres.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use runledger_domain::fault::Kind;
use runledger_testkit::{Database, eventually};

use super::super::{Authenticator, Config, Key};
use super::*;

struct Rows {
    admin: PgPool,
    tenant: Uuid,
}

impl Rows {
    async fn new(database: &Database) -> Self {
        let (admin, tenant) = (database.admin(), Uuid::from_u128(1));
        sqlx::query("INSERT INTO directory.tenants VALUES ($1, 'acme', 10, 2048, 3, now())")
            .bind(tenant)
            .execute(&admin)
            .await
            .unwrap();
        Self { admin, tenant }
    }

    /// An authenticator, and the headers of an agent's test key and of an operator's.
    async fn asked(database: &Database) -> (Self, Authenticator, HeaderMap, HeaderMap) {
        let rows = Self::new(database).await;
        let pool = database.pool("runledger_keys", "directory");
        let agent = rows
            .key(1, Some(rows.tenant), Role::Agent, Mode::Sandbox)
            .await;
        let operator = rows.key(2, None, Role::Operator, Mode::Live).await;
        (
            rows,
            Authenticator::postgres(pool, &Config::default()),
            agent,
            operator,
        )
    }

    /// A principal and its key; the headers that present it.
    async fn key(&self, number: u8, tenant: Option<Uuid>, role: Role, mode: Mode) -> HeaderMap {
        let (principal, key) = (
            Uuid::from_u128(u128::from(number) << 8),
            Uuid::from_u128(u128::from(number)),
        );
        sqlx::query(
            "INSERT INTO directory.principals (principal_id, tenant_id, name, kind, role, created_at)
             VALUES ($1, $2, 'p' || $3::text, 'service', $4, now())",
        )
        .bind(principal)
        .bind(tenant)
        .bind(i32::from(number))
        .bind(role.as_str())
        .execute(&self.admin)
        .await
        .unwrap();
        let text = Key::text(mode, &[number; 32]);
        let digest = Key::parse(&text).unwrap().digest;
        sqlx::query(
            "INSERT INTO directory.api_keys
                 (key_id, realm, principal_id, digest, head, tail, label, mode, created_at)
             SELECT $1, realm, principal_id, $3, $4, $4, 'test', $5, now()
               FROM directory.principals WHERE principal_id = $2",
        )
        .bind(key)
        .bind(principal)
        .bind(digest.as_slice())
        .bind(&text[8..12])
        .bind(mode.as_str())
        .execute(&self.admin)
        .await
        .unwrap();
        let value = HeaderValue::from_str(&format!("Bearer {text}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.admin).await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_is_who_the_directory_says() {
    let database = Database::fresh().await;
    let (rows, authenticator, agent, operator) = Rows::asked(&database).await;
    let caller = authenticator.authenticate(&agent).await.unwrap();
    assert_eq!(
        (caller.principal.role, caller.principal.kind),
        (Role::Agent, PrincipalKind::Service)
    );
    let scope = caller.scope.unwrap();
    assert_eq!(
        (scope.tenant.as_uuid(), scope.mode),
        (rows.tenant, Mode::Sandbox)
    );
    assert_eq!(
        (&*caller.name, caller.tenant_name.as_deref()),
        ("p1", Some("acme"))
    );
    let limits = caller.limits;
    assert_eq!(
        (
            limits.records_per_second,
            limits.bytes_per_second,
            limits.commands_per_second
        ),
        (10, 2048, 3)
    );
    assert_eq!(caller.key.as_uuid(), Uuid::from_u128(1));
    assert_eq!(caller.kill_switch, None);
    assert_eq!(
        authenticator.authenticate(&operator).await.unwrap().scope,
        None
    );
}

#[tokio::test]
async fn what_changes_is_seen_within_a_second() {
    let database = Database::fresh().await;
    let (rows, authenticator, agent, _) = Rows::asked(&database).await;
    assert!(authenticator.authenticate(&agent).await.is_ok());
    let second = Duration::from_secs(1);
    rows.execute("UPDATE directory.tenants SET records_per_second = 99")
        .await;
    eventually(second, || async {
        let limit = authenticator
            .authenticate(&agent)
            .await
            .unwrap()
            .limits
            .records_per_second;
        (limit == 99).then_some(()).ok_or(limit)
    })
    .await;
    rows.execute(
        "INSERT INTO directory.kill_switches SELECT tenant_id, now(), 'own', principal_id, false
           FROM directory.principals WHERE tenant_id IS NOT NULL",
    )
    .await;
    rows.execute(
        "INSERT INTO directory.kill_switches SELECT NULL, now(), 'everyone', principal_id, true
           FROM directory.principals WHERE tenant_id IS NULL",
    )
    .await;
    let switch = eventually(second, || async {
        authenticator
            .authenticate(&agent)
            .await
            .unwrap()
            .kill_switch
            .clone()
            .ok_or("off")
    })
    .await;
    assert_eq!((&*switch.reason, switch.global), ("everyone", true));
    rows.execute(
        "UPDATE directory.kill_switches SET since = NULL, reason = NULL WHERE tenant_id IS NULL",
    )
    .await;
    let own = eventually(second, || async {
        let switch = authenticator
            .authenticate(&agent)
            .await
            .unwrap()
            .kill_switch
            .clone();
        switch
            .filter(|switch| !switch.global)
            .ok_or("still the other")
    })
    .await;
    assert_eq!(&*own.reason, "own");
    rows.execute("UPDATE directory.api_keys SET revoked_at = now() WHERE mode = 'sandbox'")
        .await;
    let fault = eventually(second, || async {
        authenticator
            .authenticate(&agent)
            .await
            .err()
            .ok_or("still open")
    })
    .await;
    assert_eq!(
        (fault.kind, fault.reason),
        (Kind::Unauthenticated, "KEY_UNKNOWN".into())
    );
}

#[tokio::test]
async fn a_database_that_is_away_is_no_unknown_key() {
    let database = Database::fresh().await;
    let rows = Rows::new(&database).await;
    let agent = rows
        .key(1, Some(rows.tenant), Role::Agent, Mode::Live)
        .await;
    let pool = database.pool("runledger_keys", "directory");
    let authenticator = Authenticator::postgres(pool.clone(), &Config::default());
    pool.close().await;
    let fault = authenticator.authenticate(&agent).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.reason),
        (Kind::Unavailable, "DIRECTORY_UNREACHABLE".into())
    );
}
