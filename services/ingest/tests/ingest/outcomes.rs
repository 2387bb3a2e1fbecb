//! What the log says, and what callers hear of it.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use runledger_domain::log::{Family, Kind, Record};
use runledger_domain::scope::Scope;
use runledger_eventlog::memory::Fault;
use runledger_eventlog::token::Token;
use runledger_proto::common::v1::append_result;
use runledger_proto::{decode, encode, types};
use runledger_service::status;
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::world::{
    Doors, Held, SetByHand, World, append, batch, credential, expect, id, memory, now, progressed,
    started, words,
};

#[tokio::test]
async fn a_fact_lies_in_the_log_as_it_was_reported_with_what_the_call_says() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let mut fact = started(1, "r-1");
    fact.cause_id = id(7);
    fact.cause_stream = "conversation/c-1".into();
    let answer = append(&mut client, vec![fact]).await.unwrap();
    let records = world.records(Family::Run).await;
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    let (tenant, _) = credential().tenant.unwrap();
    assert_eq!(record.id.to_string(), id(1));
    assert_eq!(
        record.scope,
        Scope {
            tenant,
            mode: credential().mode
        }
    );
    assert_eq!(record.author, credential().principal.into());
    assert_eq!(
        (record.stream.as_str(), record.kind),
        ("run/r-1", Kind::Fact)
    );
    assert_eq!((record.occurred_at, record.recorded_at), (now(), now()));
    let cause = record.cause.as_ref().unwrap();
    assert_eq!(cause.id.to_string(), id(7));
    assert_eq!(cause.stream.as_deref(), Some("conversation/c-1"));
    assert_eq!(record.type_name.as_ref(), types::RUN_STARTED);
    let digest = Record::digest_request(
        &record.type_name,
        record.occurred_at,
        Some(cause),
        &record.payload,
    );
    assert_eq!(record.request_digest, digest);
    assert!(
        decode::payload(&record.type_name, &record.payload)
            .unwrap()
            .is_some()
    );

    let Some(append_result::Outcome::Accepted(accepted)) = &answer.results[0].outcome else {
        panic!("{answer:?}")
    };
    let positions: Vec<_> = Token::parse(&answer.token).unwrap().positions().collect();
    let [position] = positions.as_slice() else {
        panic!("{positions:?}")
    };
    assert_eq!(
        accepted.position.as_ref(),
        Some(&encode::position(position))
    );
}

#[tokio::test]
async fn the_token_covers_every_accepted_fact() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let facts = (0..100)
        .map(|number| started(number, &format!("r-{number}")))
        .collect();
    let answer = append(&mut client, facts).await.unwrap();
    let token = Token::parse(&answer.token).unwrap();
    assert_eq!(token.positions().count(), 4);
    for result in &answer.results {
        let Some(append_result::Outcome::Accepted(accepted)) = &result.outcome else {
            panic!("{result:?}")
        };
        let position = accepted.position.as_ref().unwrap();
        assert!(token.positions().any(|covered| {
            covered.partition.number == position.partition && covered.offset >= position.offset
        }));
    }
}

#[tokio::test]
async fn a_fact_sent_again_is_accepted_again() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let first = append(&mut client, vec![started(1, "r-1")]).await.unwrap();
    let again = append(&mut client, vec![started(1, "r-1")]).await.unwrap();
    assert_eq!(words(&first.results), words(&again.results));
    let other = append(&mut client, vec![progressed(1, "r-1", "other")])
        .await
        .unwrap();
    assert_eq!(words(&other.results), ["accepted"]);
    let digests: Vec<_> = world
        .records(Family::Run)
        .await
        .iter()
        .map(|record| record.request_digest)
        .collect();
    assert_eq!(digests.len(), 3);
    assert!(digests[0] == digests[1] && digests[1] != digests[2]);
}

#[tokio::test]
async fn facts_of_one_stream_keep_their_order() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    let facts = (0..500)
        .map(|number| progressed(number, &format!("r-{}", number % 3), "x"))
        .collect();
    append(&mut client, facts).await.unwrap();
    let records = world.records(Family::Run).await;
    for stream in 0..3 {
        let name = format!("run/r-{stream}");
        let ids = records
            .iter()
            .filter(|record| record.stream.as_str() == name)
            .map(|record| record.id);
        assert!(ids.clone().is_sorted() && ids.count() > 100);
    }
}

#[tokio::test]
async fn an_unknown_fate_is_said_to_be_unknown() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    for fault in [Fault::LoseAcknowledgement, Fault::LoseRecord] {
        world.log.inject(fault);
        let answer = append(&mut client, vec![started(1, "r-1")]).await;
        let refused = expect(answer, Code::Unavailable, "APPEND_UNKNOWN");
        assert!(status::retry_after(&refused).is_some());
        assert!(
            refused.message().contains("same id"),
            "{}",
            refused.message()
        );
    }
    world.log.inject(Fault::LoseAcknowledgement);
    let mut bad = started(3, "r-1");
    bad.occurred_at = None;
    let facts = vec![started(1, "r-1"), started(2, "r-2"), bad];
    let answer = append(&mut client, facts).await.unwrap();
    assert_eq!(
        words(&answer.results),
        ["unknown", "accepted", "facts[2].occurred_at REQUIRED"]
    );
    assert!(!answer.token.is_empty());
}

#[tokio::test]
async fn what_the_log_refuses_is_refused() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    world.log.inject(Fault::Refuse);
    let answer = append(&mut client, vec![started(1, "r-1"), started(2, "r-2")])
        .await
        .unwrap();
    assert_eq!(
        words(&answer.results),
        ["facts[0] RECORD_TOO_LARGE", "accepted"]
    );
}

#[tokio::test]
async fn a_full_queue_and_an_absent_log_are_told_apart_and_pass() {
    let world = World::new().await;
    let mut client = world.runs(world.agent()).await;
    world.log.inject(Fault::Shed);
    let busy = expect(
        append(&mut client, vec![started(1, "r-1")]).await,
        Code::ResourceExhausted,
        "LOG_BUSY",
    );
    assert!(status::retry_after(&busy).is_some());
    world.log.set_away(true);
    let away = expect(
        append(&mut client, vec![started(1, "r-1")]).await,
        Code::Unavailable,
        "LOG_UNAVAILABLE",
    );
    assert!(status::retry_after(&away).is_some());
    world.log.set_away(false);
    assert_eq!(world.count().await, 0);
    append(&mut client, vec![started(1, "r-1")]).await.unwrap();
}

#[tokio::test]
async fn the_answer_comes_before_the_callers_deadline() {
    let doors = Arc::new(Doors::default());
    let world = World::over(Arc::new(Held::new(memory().await, &doors))).await;
    let mut client = world.runs(world.agent()).await;
    let mut request = Request::new(batch(vec![started(1, "r-1")]));
    let patience = Duration::from_secs(1);
    request.set_timeout(patience);
    let begun = Instant::now();
    expect(
        client.append(request).await,
        Code::Unavailable,
        "APPEND_UNKNOWN",
    );
    assert!(begun.elapsed() < patience);
    assert_eq!(doors.came(), 1);
}

#[tokio::test]
async fn a_clock_that_jumps_changes_neither_the_order_nor_what_a_retry_is() {
    let clock = Arc::new(SetByHand::default());
    let world = World::by_the_clock(Arc::new(memory().await), Arc::clone(&clock) as _).await;
    let mut client = world.runs(world.agent()).await;
    let first = started(1, "r-1");
    // Back as far as callers' clocks may be ahead of ours, then a year ahead.
    let jumps = [0, -5, 60 * 24 * 365];
    for (number, minutes) in (2..).zip(jumps) {
        clock.set(minutes);
        let facts = vec![first.clone(), progressed(number, "r-1", "on")];
        let answer = append(&mut client, facts).await.unwrap();
        assert_eq!(words(&answer.results), ["accepted", "accepted"]);
    }
    let records = world.records(Family::Run).await;
    let ids: Vec<String> = records.iter().map(|record| record.id.to_string()).collect();
    assert_eq!(ids, [1, 2, 1, 3, 1, 4].map(id), "as they were appended");
    for (record, minutes) in records.iter().zip(jumps.iter().flat_map(|one| [one; 2])) {
        assert_eq!(record.recorded_at, now() + TimeDelta::minutes(*minutes));
        assert_eq!(record.occurred_at, now());
    }
    let digests: Vec<_> = records
        .iter()
        .step_by(2)
        .map(|one| one.request_digest)
        .collect();
    assert_eq!(digests, [digests[0]; 3], "the same fact, whenever it comes");
    // Further back, what happens now lies too far ahead: refused, by name.
    clock.set(-6);
    let answer = append(&mut client, vec![first]).await.unwrap();
    assert!(
        words(&answer.results)[0].contains("occurred_at"),
        "{answer:?}"
    );
    assert_eq!(world.records(Family::Run).await.len(), 6);
}
