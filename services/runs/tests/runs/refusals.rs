//! What must not be answered: bad requests, other scopes, readers with too many rights, no database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::scope::{Mode, Role, Scope};
use runledger_eventlog::memory::Memory;
use runledger_proto::run::v1::{
    GetRunRequest, GetTimelineRequest, ListMessagesRequest, ListOccurrencesRequest,
    ListRunsRequest, ListToolCallsRequest, TailRunRequest,
};
use runledger_service::status::reason;
use runledger_service::supervisor::Supervisor;
use runledger_testkit::{Database, eventually};
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::facts::{one_run, scope, start};
use crate::world::{Client, World, api_config, at_least};

fn refused(result: Result<impl Sized, Status>) -> (Code, String) {
    let status = result.err().expect("a refusal");
    (status.code(), reason(&status).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_every_fault() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let token = world.append(scope, 1, &[start("r1"), start("r2")]).await;
    let read = at_least(&token);
    let bad = ListRunsRequest {
        statuses: vec![99],
        agent_id: "a b".into(),
        task_contains: "x".repeat(257),
        labels: BTreeMap::from([(String::new(), "x\0".to_owned())]),
        ..Default::default()
    };
    let status = client.list_runs(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 5);
    let (missing, invalid) = (
        (Code::NotFound, "RUN_NOT_FOUND".to_owned()),
        (Code::InvalidArgument, "INVALID_FIELDS".to_owned()),
    );
    let nobody = "nobody".to_owned();
    assert_eq!(
        refused(
            client
                .get_run(GetRunRequest {
                    run_id: nobody.clone(),
                    read: None
                })
                .await
        ),
        missing
    );
    assert_eq!(
        refused(client.get_run(GetRunRequest::default()).await),
        invalid
    );
    let timeline = GetTimelineRequest {
        run_id: nobody.clone(),
        ..Default::default()
    };
    assert_eq!(refused(client.get_timeline(timeline).await), missing);
    let calls = ListToolCallsRequest {
        run_id: nobody,
        ..Default::default()
    };
    assert_eq!(refused(client.list_tool_calls(calls).await), missing);
    let page = ListRunsRequest {
        page_size: 1,
        read,
        ..Default::default()
    };
    let token = client
        .list_runs(page)
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    let foreign = ListRunsRequest {
        page_token: token,
        agent_id: "another".into(),
        ..Default::default()
    };
    assert_eq!(
        refused(client.list_runs(foreign).await),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into())
    );
    let tail = TailRunRequest {
        run_id: "r1".into(),
        resume_token: "AAAA".into(),
        ..Default::default()
    };
    assert_eq!(
        refused(client.tail_run(tail).await),
        (Code::InvalidArgument, "RESUME_TOKEN_INVALID".into())
    );
    let heartbeat = Some(prost_types::Duration {
        seconds: 61,
        nanos: 0,
    });
    let tail = TailRunRequest {
        run_id: "r1".into(),
        heartbeat,
        ..Default::default()
    };
    assert_eq!(refused(client.tail_run(tail).await), invalid);
    world.stop().await;
}

/// What a client sees of a tenant through every rpc.
async fn everything(client: &mut Client) -> Vec<String> {
    let run_id = || "r1".to_owned();
    let mut seen = Vec::new();
    let tail = TailRunRequest {
        run_id: run_id(),
        until_ended: true,
        ..Default::default()
    };
    let mut tail = client.tail_run(tail).await.unwrap().into_inner();
    let first = tokio::time::timeout(Duration::from_millis(300), tail.message()).await;
    seen.push(format!(
        "{:?}",
        first
            .map(|item| item.unwrap().and_then(|item| item.item))
            .unwrap_or_default()
    ));
    let run = client
        .get_run(GetRunRequest {
            run_id: run_id(),
            read: None,
        })
        .await;
    seen.push(run.map_or_else(
        |status| status.message().to_owned(),
        |run| format!("{:?}", run.into_inner().run),
    ));
    let runs = client
        .list_runs(ListRunsRequest::default())
        .await
        .unwrap()
        .into_inner();
    seen.push(format!("{:?} {:?}", runs.runs, runs.next_page_token));
    let calls = client
        .list_tool_calls(ListToolCallsRequest {
            run_id: run_id(),
            ..Default::default()
        })
        .await;
    seen.push(calls.map_or_else(
        |status| status.message().to_owned(),
        |calls| format!("{:?}", calls.into_inner().tool_calls),
    ));
    let messages = ListMessagesRequest {
        conversation_id: "k1".into(),
        ..Default::default()
    };
    seen.push(format!(
        "{:?}",
        client
            .list_messages(messages)
            .await
            .unwrap()
            .into_inner()
            .messages
    ));
    let occurrences = ListOccurrencesRequest {
        schedule_id: "daily".into(),
        ..Default::default()
    };
    seen.push(format!(
        "{:?}",
        client
            .list_occurrences(occurrences)
            .await
            .unwrap()
            .into_inner()
            .occurrences
    ));
    let timeline = client
        .get_timeline(GetTimelineRequest {
            run_id: run_id(),
            ..Default::default()
        })
        .await;
    seen.push(timeline.map_or_else(
        |status| status.message().to_owned(),
        |items| format!("{:?}", items.into_inner().items),
    ));
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn no_scope_sees_anything_of_another() {
    let world = World::new().await;
    let (ours, sandbox, theirs) = (
        scope(1),
        Scope {
            mode: Mode::Sandbox,
            ..scope(1)
        },
        scope(2),
    );
    let token = world.append(ours, 1, &one_run()).await;
    let mut owner = world.client(ours, Role::Viewer).await;
    owner
        .get_run(GetRunRequest {
            run_id: "r1".into(),
            read: at_least(&token),
        })
        .await
        .unwrap();
    let seen = everything(&mut owner).await;
    assert_eq!(seen.len(), 7);
    let nothing = {
        let mut empty = world.client(scope(3), Role::Viewer).await;
        everything(&mut empty).await
    };
    for (number, (something, nothing)) in seen.iter().zip(&nothing).enumerate() {
        assert_ne!(something, nothing, "{number}");
        assert!(!nothing.contains("r1\""), "{nothing}");
    }
    for other in [sandbox, theirs] {
        let mut other = world.client(other, Role::Admin).await;
        assert_eq!(everything(&mut other).await, nothing);
    }
    let mut operator = world.client(ours, Role::Operator).await;
    assert_eq!(
        refused(operator.list_runs(ListRunsRequest::default()).await).0,
        Code::PermissionDenied
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_holds_without_the_statements() {
    let world = World::new().await;
    let token = world.append(scope(1), 1, &one_run()).await;
    let mut owner = world.client(scope(1), Role::Viewer).await;
    owner
        .get_run(GetRunRequest {
            run_id: "r1".into(),
            read: at_least(&token),
        })
        .await
        .unwrap();
    let reader = world.database.pool("runledger_runs_reader", "runs");
    for table in runledger_runs::TABLES {
        let count = format!("SELECT count(*) FROM {table}");
        let without_scope: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
            .fetch_one(&reader)
            .await
            .unwrap();
        let mut seen = Vec::new();
        for other in [
            scope(1),
            scope(2),
            Scope {
                mode: Mode::Sandbox,
                ..scope(1)
            },
        ] {
            let mut tx = runledger_postgres::begin_scoped(&reader, other)
                .await
                .unwrap();
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            seen.push(rows > 0);
        }
        assert_eq!(
            (without_scope, seen),
            (0, vec![true, false, false]),
            "{table}"
        );
        let write = format!("DELETE FROM {table}");
        assert!(
            sqlx::query(AssertSqlSafe(write))
                .execute(&reader)
                .await
                .is_err(),
            "{table}"
        );
    }
    reader.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_could_bypass_row_level_security_is_not_started() {
    let database = Database::fresh().await;
    let config = api_config(&database, |config| {
        config.database = database.config("runledger_migrator");
    });
    let log = Arc::new(Memory::new(1));
    let mut supervisor = Supervisor::new(Duration::from_secs(1));
    let refused = runledger_runs::serve_api_on(log, &config, &mut supervisor)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, runledger_role::Error::Bypass(_)),
        "{refused}"
    );
}

/// The first line of what `GET /health` answers.
/// What a listener answers, headers included.
pub(crate) async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn health(address: SocketAddr) -> String {
    let answer = fetch(address, "/health").await;
    answer.lines().next().unwrap_or_default().to_owned()
}

async fn health_becomes(address: SocketAddr, expected: &str) {
    eventually(Duration::from_secs(10), || async {
        let line = health(address).await;
        if line.contains(expected) {
            Ok(())
        } else {
            Err(line)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_whose_reads_are_all_taken_is_well() {
    let world = World::with(|config| {
        config.database.connections_max = 1;
        config.api.health_interval = Duration::from_millis(200);
    })
    .await;
    health_becomes(world.api.metrics, "200").await;
    let admin = world.database.admin();
    let mut lock = admin.begin().await.unwrap();
    sqlx::query("LOCK TABLE runs.runs")
        .execute(&mut *lock)
        .await
        .unwrap();
    let mut client = world.client(scope(1), Role::Viewer).await;
    let probed = async {
        for condition in [
            "wait_event_type = 'Lock' AND application_name = 'runledger runs api'",
            "query_start > (SELECT max(query_start) FROM pg_stat_activity WHERE wait_event_type = 'Lock')
                 AND query = 'SELECT 1' AND usename = 'runledger_runs_reader'",
        ] {
            let count = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
            );
            eventually(Duration::from_secs(10), || async {
                let met: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
                    .fetch_one(&admin)
                    .await
                    .unwrap();
                (met > 0).then_some(()).ok_or(condition)
            })
            .await;
        }
        assert!(health(world.api.metrics).await.contains("200"));
    };
    let list = client.list_runs(ListRunsRequest::default());
    tokio::select! {
        _ = list => panic!("the read must wait for the lock"),
        () = probed => {}
    }
    drop(lock);
    admin.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_say_whether_they_can_work() {
    let world = World::new().await;
    health_becomes(world.api.metrics, "200").await;
    health_becomes(world.projector.metrics, "200").await;
    world.stop().await;
    // Nobody listens on port 1: the database is away from the start.
    let world = World::with(|config| config.database.port = 1).await;
    let mut client = world.client(scope(1), Role::Viewer).await;
    let unavailable = (Code::Unavailable, "READ_MODEL_UNAVAILABLE".to_owned());
    assert_eq!(
        refused(client.list_runs(ListRunsRequest::default()).await),
        unavailable
    );
    health_becomes(world.api.metrics, "503").await;
    world.stop().await;
}
