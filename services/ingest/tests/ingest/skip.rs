//! Leaving a record out: who may, of whose records, and what lies in the log then.

use runledger_domain::ids::{KeyId, TenantId};
use runledger_domain::log::{Family, Record};
use runledger_domain::scope::{Mode, Role};
use runledger_domain::time::Timestamp;
use runledger_eventlog::memory::Fault;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::common::v1::{AppendResult, Position};
use runledger_proto::log::v1::dead_letter_service_client::DeadLetterServiceClient;
use runledger_proto::log::v1::{SkipRequest, SkipResponse};
use runledger_proto::{decode, types};
use runledger_service::auth::{Credential, KillSwitch};
use runledger_service::status;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::world::{World, append, credential, expect, id, started};

fn position(result: &AppendResult) -> Position {
    match &result.outcome {
        Some(Outcome::Accepted(accepted)) => accepted.position.clone().expect("a position"),
        other => unreachable!("not accepted: {other:?}"),
    }
}

fn request(number: u128, position: Option<Position>) -> SkipRequest {
    SkipRequest {
        id: id(number),
        projection: "runledger.runs".into(),
        position,
        reason: "it is broken".into(),
    }
}

/// A key of somebody else.
fn key(world: &World, number: u128, change: impl FnOnce(&mut Credential)) -> String {
    let mut credential = Credential {
        key: KeyId::new(Uuid::from_u128(number)),
        ..credential()
    };
    credential.principal.role = Role::Admin;
    change(&mut credential);
    world.key(&credential)
}

async fn skip(world: &World, key: &str, request: SkipRequest) -> Result<SkipResponse, Status> {
    let connection = world.connect(Some(key.to_owned())).await;
    let answer = DeadLetterServiceClient::new(connection).skip(request).await;
    answer.map(tonic::Response::into_inner)
}

/// A world with one record of tenant 1, and where it lies.
async fn begun() -> (World, Position) {
    let world = World::new().await;
    let mut runs = world.runs(world.agent()).await;
    let answer = append(&mut runs, vec![started(1, "r-1")]).await;
    let position = position(&answer.expect("an answer").results[0]);
    (world, position)
}

#[tokio::test]
async fn a_skip_is_a_fact_in_the_stream_of_the_record() {
    let (world, position) = begun().await;
    let admin = key(&world, 10, |_| {});
    let operator = key(&world, 11, |credential| {
        credential.principal.role = Role::Operator;
        credential.tenant = None;
    });
    let asked = request(2, Some(position.clone()));
    let answer = skip(&world, &admin, asked.clone()).await.expect("skipped");
    assert_eq!(answer.stream, "run/r-1");
    assert!(!answer.token.is_empty());
    // The incarnation need not be known; again, by the same id, it is the same fact.
    let vague = Position {
        incarnation: String::new(),
        ..position.clone()
    };
    skip(&world, &admin, request(2, Some(vague.clone())))
        .await
        .expect("skipped");
    skip(&world, &operator, request(3, Some(vague)))
        .await
        .expect("an operator may, whosever it is");
    let records = world.records(Family::Run).await;
    let [_, first, again, theirs] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(first.request_digest, again.request_digest);
    let timeless = Record::digest_request(
        &first.type_name,
        Timestamp::UNIX_EPOCH,
        None,
        &first.payload,
    );
    assert_eq!(first.request_digest, timeless, "a repeat comes later");
    for record in [first, again, theirs] {
        assert_eq!(&*record.type_name, types::RECORD_SKIPPED);
        assert_eq!(
            (record.scope, &record.stream),
            (records[0].scope, &records[0].stream)
        );
        let skipped = decode::skipped(record).unwrap().expect("it says what");
        assert_eq!(&*skipped.projection, "runledger.runs");
        assert_eq!(skipped.position.offset, position.offset);
        assert_eq!(
            skipped.position.incarnation.to_string(),
            position.incarnation
        );
    }
    assert_eq!(first.author.role, Some(Role::Admin));
    assert_eq!(theirs.author.role, Some(Role::Operator));
}

#[tokio::test]
async fn nobody_skips_what_is_not_his() {
    let (world, position) = begun().await;
    for (number, role) in (20..).zip([Role::Agent, Role::Viewer, Role::Reviewer]) {
        let key = key(&world, number, |credential| {
            credential.principal.role = role
        });
        let refused = skip(&world, &key, request(2, Some(position.clone()))).await;
        expect(refused, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
    }
    let stranger = key(&world, 30, |credential| {
        credential.tenant = Some((TenantId::new(Uuid::from_u128(2)), "globex".into()));
    });
    let sandbox = key(&world, 31, |credential| credential.mode = Mode::Sandbox);
    let admin = key(&world, 32, |_| {});
    let elsewhere = |change: fn(&mut Position)| {
        let mut position = position.clone();
        change(&mut position);
        position
    };
    let nowhere = [
        (&stranger, position.clone()),
        (&sandbox, position.clone()),
        (&admin, elsewhere(|at| at.offset = 0)),
        (&admin, elsewhere(|at| at.offset += 1)),
        (&admin, elsewhere(|at| at.offset = u64::MAX)),
        (&admin, elsewhere(|at| at.partition = 99)),
        (&admin, elsewhere(|at| at.incarnation = id(9))),
    ];
    // The same answer, so that nobody learns what lies where.
    let mut messages = Vec::new();
    for (key, position) in nowhere {
        let refused = skip(&world, key, request(2, Some(position))).await;
        messages.push(expect(refused, Code::NotFound, "RECORD_NOT_FOUND"));
    }
    messages.dedup_by_key(|status| status.message().to_owned());
    assert_eq!(messages.len(), 1);
    let stopped = key(&world, 33, |credential| {
        credential.kill_switch = Some(KillSwitch {
            reason: "enough".into(),
            global: false,
        });
    });
    let refused = skip(&world, &stopped, request(2, Some(position))).await;
    expect(refused, Code::FailedPrecondition, "KILL_SWITCH");
    assert_eq!(world.count().await, 1);
}

#[tokio::test]
async fn every_fault_of_a_request_is_listed_and_an_unknown_fate_is_said() {
    let (world, position) = begun().await;
    let admin = key(&world, 40, |_| {});
    let wrong = SkipRequest {
        id: "1".into(),
        projection: "two words".into(),
        position: Some(Position {
            family: "runs".into(),
            incarnation: "x".into(),
            ..Position::default()
        }),
        reason: " ".into(),
    };
    let refused = skip(&world, &admin, wrong).await;
    let refused = expect(refused, Code::InvalidArgument, "INVALID_FIELDS");
    for field in [
        "id",
        "projection",
        "position.family",
        "position.incarnation",
        "reason",
    ] {
        let details = tonic_types::StatusExt::get_error_details(&refused);
        let violations = &details.bad_request().expect("fields").field_violations;
        assert!(
            violations.iter().any(|one| one.field == field),
            "{field}: {violations:?}"
        );
    }
    let refused = skip(&world, &admin, SkipRequest::default()).await;
    expect(refused, Code::InvalidArgument, "INVALID_FIELDS");
    world.log.inject(Fault::LoseRecord);
    let unknown = skip(&world, &admin, request(2, Some(position))).await;
    let unknown = expect(unknown, Code::Unavailable, "APPEND_UNKNOWN");
    assert!(status::retry_after(&unknown).is_some());
}
