use std::collections::HashSet;
use std::sync::Arc;

use runledger_directory::Directory;
use runledger_domain::time::SystemClock;
use runledger_proto::common::v1::{Mode, Role};
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::*;
use secrecy::ExposeSecret as _;
use sqlx::Executor as _;
use tonic::Code;
use uuid::Uuid;

use crate::world::{Home, World, as_caller, ok, refused, rules};

#[derive(Debug, sqlx::FromRow)]
struct Row {
    id: Uuid,
    tenant_id: Option<Uuid>,
    mode: String,
    actor_id: Uuid,
    actor_role: String,
    r#type: String,
    subject_id: Option<Uuid>,
    detail: serde_json::Value,
    relayed_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl World {
    async fn rows(&self) -> Vec<Row> {
        sqlx::query_as("SELECT * FROM directory.outbox ORDER BY sequence")
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }
}

fn limits() -> SetLimitsRequest {
    let limits = Limits {
        records_per_second: 1,
        bytes_per_second: 1_024,
        commands_per_second: 1,
    };
    SetLimitsRequest {
        tenant_id: String::new(),
        limits: Some(limits),
    }
}

fn switch(on: bool) -> SetKillSwitchRequest {
    SetKillSwitchRequest {
        target: None,
        on,
        reason: "drill".into(),
    }
}

/// One change of each kind, in this order; answers with the id of the key rotated.
async fn change_everything(world: &World, home: &Home) -> String {
    let d = &world.directory;
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;
    let test = world
        .key(&home.admin, &home.admin_id, Mode::Sandbox)
        .await
        .1;
    let key_id = world.key(&test, &agent, Mode::Sandbox).await.0;
    let rotate = RotateKeyRequest {
        key_id: key_id.clone(),
        overlap: None,
    };
    let rotated = ok(d.rotate_key(world.by(&test, rotate).await).await);
    let revoke = RevokeKeyRequest {
        key_id: rotated.key.unwrap().key_id,
    };
    ok(d.revoke_key(world.by(&home.admin, revoke).await).await);
    let role = SetRoleRequest {
        principal_id: agent.clone(),
        role: Role::Viewer.into(),
    };
    ok(d.set_role(world.by(&home.admin, role).await).await);
    let disable = DisablePrincipalRequest {
        principal_id: agent,
    };
    ok(d.disable_principal(world.by(&home.admin, disable).await)
        .await);
    let limits = SetLimitsRequest {
        tenant_id: home.tenant_id.clone(),
        ..limits()
    };
    ok(d.set_limits(world.by(&world.operator, limits).await).await);
    for on in [true, false] {
        ok(d.set_kill_switch(world.by(&home.admin, switch(on)).await)
            .await);
    }
    key_id
}

#[tokio::test]
async fn every_change_leaves_its_row() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let rotated = change_everything(&world, &home).await;
    let rows = world.rows().await;
    let types: Vec<&str> = rows.iter().map(|row| row.r#type.as_str()).collect();
    // The first two of the bootstrap, the next three of the home.
    let expected = "PrincipalCreated KeyCreated TenantCreated PrincipalCreated KeyCreated PrincipalCreated \
                    KeyCreated KeyCreated KeyRotated KeyRevoked RoleSet PrincipalDisabled LimitsSet \
                    KillSwitchTurnedOn KillSwitchTurnedOff";
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(types, expected);

    let tenant = Some(home.tenant_id.parse::<Uuid>().unwrap());
    assert!(rows[..2].iter().all(|row| row.tenant_id.is_none()));
    assert!(rows[2..].iter().all(|row| row.tenant_id == tenant));
    assert!(
        rows.iter()
            .all(|row| row.relayed_at.is_none() && row.detail.is_object())
    );
    assert_eq!(
        rows.iter().map(|row| row.id).collect::<HashSet<_>>().len(),
        rows.len()
    );
    assert!(rows[..5].iter().all(|row| row.actor_role == "operator"));
    let rotation = &rows[8];
    assert_eq!(rotation.actor_id.to_string(), home.admin_id);
    assert_eq!(
        (rotation.mode.as_str(), rotation.actor_role.as_str()),
        ("sandbox", "admin")
    );
    assert_eq!(rotation.subject_id.map(|id| id.to_string()), Some(rotated));
    assert_eq!(rows[10].detail["before"], "agent");
    assert_eq!(rows[10].detail["after"], "viewer");
    assert!(rows[10].detail["by_key"].is_string());
    assert_eq!(rows[13].detail["reason"], "drill");
}

#[tokio::test]
async fn a_change_that_cannot_be_audited_is_not_made() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;
    let key_id = world.key(&home.admin, &agent, Mode::Live).await.0;
    let caller = world.enter(&home.admin, None).await.unwrap();
    let operator = world.enter(&world.operator, None).await.unwrap();
    let before = world.dump().await;
    world
        .admin
        .execute("REVOKE INSERT ON directory.outbox FROM runledger_directory")
        .await
        .unwrap();
    let d = &world.directory;
    macro_rules! fails {
        ($($rpc:ident($caller:ident, $message:expr)),+ $(,)?) => {$(
            let reply = d.$rpc(as_caller($caller.clone(), $message)).await;
            refused(reply, Code::Internal, "INTERNAL");
        )+};
    }
    let limits = SetLimitsRequest {
        tenant_id: home.tenant_id.clone(),
        ..limits()
    };
    let principal = CreatePrincipalRequest {
        name: "x".into(),
        kind: 1,
        role: 1,
        ..Default::default()
    };
    let role = SetRoleRequest {
        principal_id: agent.clone(),
        role: 1,
    };
    let key = CreateKeyRequest {
        principal_id: agent.clone(),
        mode: 1,
        ..Default::default()
    };
    let rotate = RotateKeyRequest {
        key_id: key_id.clone(),
        overlap: None,
    };
    fails![
        create_tenant(
            operator,
            CreateTenantRequest {
                name: "x".into(),
                limits: None
            }
        ),
        set_limits(operator, limits),
        create_principal(caller, principal),
        set_role(caller, role),
        create_key(caller, key),
        rotate_key(caller, rotate),
        revoke_key(caller, RevokeKeyRequest { key_id }),
        disable_principal(
            caller,
            DisablePrincipalRequest {
                principal_id: agent
            }
        ),
        set_kill_switch(caller, switch(true)),
    ];
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn no_secret_is_stored_anywhere() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let test = world.key(&home.admin, &home.admin_id, Mode::Sandbox).await;
    let request = RotateKeyRequest {
        key_id: test.0,
        overlap: None,
    };
    let rotated = ok(world
        .directory
        .rotate_key(world.by(&home.admin, request).await)
        .await);
    let dump = world.dump().await;
    for secret in [&world.operator, &home.admin, &test.1, &rotated.secret] {
        let digits = &secret["rl_live_".len()..];
        assert!(!dump.contains(digits), "the key itself");
        // Nor any part of it but its ends.
        for at in 1..=digits.len() - 12 {
            assert!(!dump.contains(&digits[at..at + 11]), "a part of it");
        }
        let digest = runledger_domain::digest::of(secret.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(dump.contains(&digest), "its SHA-256");
    }
}

#[tokio::test]
async fn while_the_database_is_away_the_caller_is_told_to_retry() {
    let world = World::new().await;
    let caller = world.enter(&world.operator, None).await.unwrap();
    let mut config = world.database.config("runledger_directory");
    config.port = 1;
    config.acquire_timeout = std::time::Duration::from_millis(200);
    let pool = runledger_postgres::connect(&config, "test", "directory").unwrap();
    let away = Directory::new(pool.clone(), Arc::new(SystemClock), &rules()).unwrap();
    let reply = away
        .list_tenants(as_caller(caller.clone(), ListTenantsRequest::default()))
        .await;
    let status = reply.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(runledger_service::status::retry_after(&status).is_some());
    let request = CreateTenantRequest {
        name: "x".into(),
        limits: None,
    };
    refused(
        away.create_tenant(as_caller(caller, request)).await,
        Code::Unavailable,
        "DIRECTORY_UNAVAILABLE",
    );
    let failed = runledger_directory::bootstrap(&pool, &SystemClock)
        .await
        .map(|key| key.expose_secret().len());
    assert!(
        matches!(failed, Err(runledger_directory::BootstrapError::Make(_))),
        "{failed:?}"
    );
}
