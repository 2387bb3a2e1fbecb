//! Who may write, where to, and how much.

use runledger_domain::ids::{KeyId, TenantId};
use runledger_domain::log::Family;
use runledger_domain::scope::{Mode, Role, Scope};
use runledger_proto::run::v1::run_ingest_service_client::RunIngestServiceClient;
use runledger_service::auth::{Credential, KillSwitch, Limits};
use runledger_service::status;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::world::{World, append, batch, credential, expect, progressed, started, words};

#[tokio::test]
async fn only_keys_that_may_write_are_let_in() {
    let world = World::new().await;
    let with = |key: Option<String>| async {
        let mut client = RunIngestServiceClient::new(world.connect(key).await);
        append(&mut client, vec![started(1, "r-1")]).await
    };
    expect(with(None).await, Code::Unauthenticated, "KEY_MISSING");
    expect(
        with(Some("rl_live_1".into())).await,
        Code::Unauthenticated,
        "KEY_MALFORMED",
    );
    let unknown = format!("rl_live_{}", "0".repeat(64));
    expect(
        with(Some(unknown)).await,
        Code::Unauthenticated,
        "KEY_UNKNOWN",
    );
    for role in [Role::Viewer, Role::Reviewer, Role::Operator] {
        let mut credential = credential();
        credential.key = KeyId::new(Uuid::from_u128(role as u128 + 1));
        credential.principal.role = role;
        let key = world.key(&credential);
        expect(
            with(Some(key)).await,
            Code::PermissionDenied,
            "ROLE_NOT_ALLOWED",
        );
    }
    assert_eq!(world.count().await, 0);
}

#[tokio::test]
async fn the_scope_comes_from_the_key_and_the_mode_asked_for() {
    let world = World::new().await;
    let in_mode = |key: String, mode: &'static str| {
        let connection = world.connect(Some(key));
        async move {
            let mut client = RunIngestServiceClient::new(connection.await);
            let mut request = Request::new(batch(vec![started(1, "r-1")]));
            request
                .metadata_mut()
                .insert("x-runledger-mode", mode.parse().unwrap());
            client.append(request).await
        }
    };
    let test = Credential {
        key: KeyId::new(Uuid::from_u128(7)),
        tenant: Some((TenantId::new(Uuid::from_u128(2)), "globex".into())),
        mode: Mode::Sandbox,
        ..credential()
    };
    let test = world.key(&test);
    expect(
        in_mode(test.clone(), "live").await,
        Code::PermissionDenied,
        "MODE_NOT_ALLOWED",
    );
    expect(
        in_mode(test.clone(), "production").await,
        Code::InvalidArgument,
        "MODE_UNKNOWN",
    );
    assert_eq!(world.count().await, 0);

    in_mode(test, "sandbox").await.unwrap();
    in_mode(world.agent(), "sandbox").await.unwrap();
    in_mode(world.agent(), "live").await.unwrap();
    let mut scopes: Vec<_> = world
        .records(Family::Run)
        .await
        .iter()
        .map(|record| record.scope)
        .collect();
    scopes.sort();
    let scope = |tenant, mode| Scope {
        tenant: TenantId::new(Uuid::from_u128(tenant)),
        mode,
    };
    assert_eq!(
        scopes,
        [
            scope(1, Mode::Live),
            scope(1, Mode::Sandbox),
            scope(2, Mode::Sandbox)
        ]
    );
}

#[tokio::test]
async fn the_kill_switch_stops_writes_and_says_why() {
    let world = World::new().await;
    let switch = KillSwitch {
        reason: "runaway agent".into(),
        global: false,
    };
    let key = world.key(&Credential {
        kill_switch: Some(switch),
        ..credential()
    });
    let mut client = world.runs(key).await;
    let refused = expect(
        append(&mut client, vec![started(1, "r-1")]).await,
        Code::FailedPrecondition,
        "KILL_SWITCH",
    );
    assert!(
        refused.message().contains("runaway agent"),
        "{}",
        refused.message()
    );
    assert_eq!(world.count().await, 0);
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_told_when_to_come_again() {
    let world = World::new().await;
    let limits = Limits {
        records_per_second: 10,
        bytes_per_second: 1_000_000,
        commands_per_second: 1,
    };
    let mut client = world
        .runs(world.key(&Credential {
            limits,
            ..credential()
        }))
        .await;
    let facts = |from: u128, count: u128| {
        (from..from + count)
            .map(|number| progressed(number, "r", "x"))
            .collect()
    };
    append(&mut client, facts(0, 19)).await.unwrap();
    let refused = expect(
        append(&mut client, facts(19, 15)).await,
        Code::ResourceExhausted,
        "RATE_LIMITED",
    );
    assert!(status::retry_after(&refused).is_some_and(|wait| !wait.is_zero()));
    expect(
        append(&mut client, facts(19, 21)).await,
        Code::FailedPrecondition,
        "LIMIT_TOO_LOW",
    );
    assert_eq!(world.count().await, 19);
    // What is refused for itself costs nothing.
    let mut bad = facts(19, 1);
    bad[0].id.clear();
    let answer = append(&mut client, bad).await.unwrap();
    assert_eq!(words(&answer.results), ["facts[0].id REQUIRED"]);
}

#[tokio::test]
async fn bytes_are_limited_as_records_are() {
    let world = World::new().await;
    let limits = Limits {
        records_per_second: 1_000,
        bytes_per_second: 1_000,
        commands_per_second: 1,
    };
    let mut client = world
        .runs(world.key(&Credential {
            limits,
            ..credential()
        }))
        .await;
    append(&mut client, vec![progressed(1, "r", &"x".repeat(1_500))])
        .await
        .unwrap();
    let more = append(&mut client, vec![progressed(2, "r", &"x".repeat(1_500))]).await;
    expect(more, Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(world.count().await, 1);
}
