//! A tail: stored, then live, without gap or repeat.

use std::time::Duration;

use runledger_domain::run::{Outcome, Phase};
use runledger_domain::scope::Role;
use runledger_proto::run::v1::{
    GetRunRequest, GetTimelineRequest, TailRunRequest, TailRunResponse,
};
use runledger_service::status::reason;
use tonic::{Code, Streaming};

use crate::facts::{end, message, progress, scope, start};
use crate::world::{World, at_least};

const SOON: Duration = Duration::from_secs(10);

fn request(resume_token: &str) -> TailRunRequest {
    TailRunRequest {
        run_id: "r1".into(),
        resume_token: resume_token.into(),
        ..Default::default()
    }
}

async fn next(
    tail: &mut Streaming<TailRunResponse>,
) -> Result<Option<TailRunResponse>, tonic::Status> {
    tokio::time::timeout(SOON, tail.message())
        .await
        .expect("an answer in time")
}

async fn item(tail: &mut Streaming<TailRunResponse>) -> (String, String) {
    let answer = next(tail).await.unwrap().expect("no end");
    (answer.item.expect("an item").record_id, answer.resume_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_misses_nothing_and_repeats_nothing_however_often_it_is_resumed() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    // Begun before the run is known.
    let mut tail = client.tail_run(request("")).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut resume_token = String::new();
    for round in 0..12_u128 {
        let facts = [
            progress("r1", Phase::Running, "a"),
            message(&format!("k{round}"), "m", Some("r1")),
            progress("r2", Phase::Running, "of another run"),
            progress("r1", Phase::Waiting, "b"),
        ];
        world.append(scope, 10 * round + 1, &facts).await;
        let expected = if round % 3 == 1 { 2 } else { 3 };
        for _ in 0..expected {
            let (id, token) = item(&mut tail).await;
            seen.push(id);
            resume_token = token;
        }
        if round % 3 == 1 {
            // Cut off in the middle.
            tail = client
                .tail_run(request(&resume_token))
                .await
                .unwrap()
                .into_inner();
            let (id, token) = item(&mut tail).await;
            seen.push(id);
            resume_token = token;
        }
    }
    let timeline = GetTimelineRequest {
        run_id: "r1".into(),
        page_size: 1_000,
        ..Default::default()
    };
    let mut whole: Vec<String> = client
        .get_timeline(timeline)
        .await
        .unwrap()
        .into_inner()
        .items
        .into_iter()
        .map(|item| item.record_id)
        .collect();
    whole.sort();
    seen.sort();
    assert_eq!(seen, whole);
    drop(tail);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_ends_with_its_run_when_asked_to() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let until_ended = TailRunRequest {
        until_ended: true,
        ..request("")
    };
    let mut tail = client
        .tail_run(until_ended.clone())
        .await
        .unwrap()
        .into_inner();
    // More than one round holds.
    let facts: Vec<_> = (0..450)
        .map(|_| progress("r1", Phase::Running, ""))
        .chain([end("r1", Outcome::Completed)])
        .collect();
    let token = world.append(scope, 1, &facts).await;
    let mut count = 0;
    while next(&mut tail).await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 451);
    // And the same when the run has ended long since.
    client
        .get_run(GetRunRequest {
            run_id: "r1".into(),
            read: at_least(&token),
        })
        .await
        .unwrap();
    let mut tail = client.tail_run(until_ended).await.unwrap().into_inner();
    let mut again = 0;
    while next(&mut tail).await.unwrap().is_some() {
        again += 1;
    }
    assert_eq!(again, 451);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_tail_gives_signs_of_life_from_which_it_can_be_resumed() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    world.append(scope, 1, &[start("r1")]).await;
    let heartbeat = Some(prost_types::Duration {
        seconds: 1,
        nanos: 0,
    });
    let mut tail = client
        .tail_run(TailRunRequest {
            heartbeat,
            ..request("")
        })
        .await
        .unwrap()
        .into_inner();
    let (first, _) = item(&mut tail).await;
    let sign = next(&mut tail).await.unwrap().unwrap();
    assert_eq!(sign.item, None);
    world
        .append(scope, 2, &[progress("r1", Phase::Running, "")])
        .await;
    let mut resumed = client
        .tail_run(request(&sign.resume_token))
        .await
        .unwrap()
        .into_inner();
    let (second, _) = item(&mut resumed).await;
    assert_ne!(first, second);
    drop((tail, resumed));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_ends_with_its_key_and_with_the_server() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    world.append(scope, 1, &[start("r1")]).await;
    let mut tail = client.tail_run(request("")).await.unwrap().into_inner();
    item(&mut tail).await;
    let admin = world.database.admin();
    sqlx::query("UPDATE directory.api_keys SET revoked_at = now()")
        .execute(&admin)
        .await
        .unwrap();
    let status = next(&mut tail).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Unauthenticated, Some("KEY_UNKNOWN"))
    );

    let mut client = world.client(scope, Role::Viewer).await;
    let mut tail = client.tail_run(request("")).await.unwrap().into_inner();
    item(&mut tail).await;
    world.stopper().cancel();
    let status = next(&mut tail).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Unavailable, Some("SHUTTING_DOWN"))
    );
    admin.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_a_long_history_is_cut_off_with_its_key() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    // Far more than a connection holds.
    let note = "x".repeat(4_000);
    let facts: Vec<_> = (0..4_000)
        .map(|_| progress("r1", Phase::Running, &note))
        .collect();
    let token = world.append(scope, 1, &facts).await;
    let get = GetRunRequest {
        run_id: "r1".into(),
        read: at_least(&token),
    };
    client.get_run(get).await.unwrap();
    let mut tail = client.tail_run(request("")).await.unwrap().into_inner();
    item(&mut tail).await;
    let admin = world.database.admin();
    sqlx::query("UPDATE directory.api_keys SET revoked_at = now()")
        .execute(&admin)
        .await
        .unwrap();
    runledger_testkit::eventually(SOON, || {
        let mut client = client.clone();
        async move {
            let get = GetRunRequest {
                run_id: "r1".into(),
                read: None,
            };
            client.get_run(get).await.err().ok_or("still open")
        }
    })
    .await;
    let mut seen = 1;
    let status = loop {
        match next(&mut tail).await {
            Ok(answer) => seen += usize::from(answer.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&status).as_deref(), Some("KEY_UNKNOWN"));
    assert!(seen < facts.len(), "{seen}");
    admin.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_are_bounded_for_each_tenant() {
    let world = World::with(|config| config.api.tails_of_tenant_max = 1).await;
    let mut client = world.client(scope(1), Role::Viewer).await;
    let open = client.tail_run(request("")).await.unwrap();
    let refused = client.tail_run(request("")).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_deref()),
        (Code::ResourceExhausted, Some("TOO_MANY_TAILS"))
    );
    let mut other = world.client(scope(2), Role::Viewer).await;
    drop(other.tail_run(request("")).await.unwrap());
    drop(open);
    runledger_testkit::eventually(SOON, || {
        let mut client = client.clone();
        async move { client.tail_run(request("")).await.map(drop) }
    })
    .await;
    world.stop().await;
}
