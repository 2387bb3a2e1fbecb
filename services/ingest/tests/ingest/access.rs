//! Who may write, where to, and how much.

use std::time::Duration;

use http::uri::PathAndQuery;
use runledger_domain::digest;
use runledger_domain::ids::{KeyId, TenantId};
use runledger_domain::log::Family;
use runledger_domain::scope::{Mode, Role, Scope};
use runledger_proto::run::v1::run_ingest_service_client::RunIngestServiceClient;
use runledger_proto::run::v1::{RunIngestServiceAppendRequest, RunIngestServiceAppendResponse};
use runledger_service::auth::{Credential, KillSwitch, Limits};
use runledger_service::status;
use runledger_testkit::eventually;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;
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
}

#[tokio::test]
async fn what_is_refused_is_paid_for_and_nothing_is_looked_at_beyond_the_limit() {
    let world = World::new().await;
    let limits = Limits {
        records_per_second: 1,
        bytes_per_second: 1_000_000,
        commands_per_second: 1,
    };
    let mut client = world
        .runs(world.key(&Credential {
            limits,
            ..credential()
        }))
        .await;
    let bad = |number| {
        let mut bad = progressed(number, "r", "x");
        bad.id.clear();
        bad
    };
    let answer = append(&mut client, vec![bad(1), bad(2)]).await.unwrap();
    assert_eq!(
        words(&answer.results),
        ["facts[0].id REQUIRED", "facts[1].id REQUIRED"]
    );
    expect(
        append(&mut client, vec![bad(3)]).await,
        Code::ResourceExhausted,
        "RATE_LIMITED",
    );
}

#[tokio::test]
async fn a_call_whose_body_comes_in_slowly_is_judged_by_the_key_as_it_is_then() {
    let world = World::new().await;
    let key = world.agent();
    let connection = world.connect(Some(key.clone())).await;
    let (send, body) = mpsc::channel::<RunIngestServiceAppendRequest>(1);
    let mut slow = tonic::client::Grpc::new(connection.clone());
    let mut call = JoinSet::new();
    call.spawn(async move {
        slow.ready().await.expect("it is connected");
        let path = PathAndQuery::from_static("/runledger.run.v1.RunIngestService/Append");
        let codec =
            ProstCodec::<RunIngestServiceAppendRequest, RunIngestServiceAppendResponse>::default();
        let request = Request::new(ReceiverStream::new(body));
        slow.client_streaming(request, path, codec).await
    });
    // Behind it on the same connection, so that its headers have come in when this is answered.
    let mut client = RunIngestServiceClient::new(connection);
    append(&mut client, vec![started(1, "r-1")]).await.unwrap();
    world.directory.remove(&digest::of(key.as_bytes()));
    eventually(Duration::from_secs(5), || async {
        match append(&mut client.clone(), vec![started(1, "r-1")]).await {
            Ok(_) => Err("it is let in"),
            Err(_) => Ok(()),
        }
    })
    .await;
    let before = world.count().await;
    send.send(batch(vec![started(2, "r-1")])).await.unwrap();
    drop(send);
    let answer = call.join_next().await.unwrap().unwrap();
    expect(answer, Code::Unauthenticated, "KEY_UNKNOWN");
    assert_eq!(world.count().await, before);
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
