//! The role over Kafka itself: the test stack.

use std::time::Duration;

use runledger_domain::log::Family;
use runledger_eventlog::Log as _;
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::token::Token;
use runledger_ingest::FAMILIES;
use runledger_testkit::{Stack, topic_prefix};
use tokio::time::Instant;

use crate::health::becomes_healthy;
use crate::world::{Still, World, append, progressed, words};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_fact_after_health_is_as_quick_as_any_other() {
    let config = Config {
        brokers: Stack::get().kafka,
        prefix: topic_prefix("ingest"),
        partitions: 4,
        ..Config::default()
    };
    let log = Kafka::connect(&config).unwrap();
    log.create(FAMILIES, &Still).await.unwrap();
    let world = World::over(log).await;
    becomes_healthy(&world).await;
    let mut client = world.runs(world.agent()).await;
    let mut took = Vec::new();
    for number in 0..20 {
        let begun = Instant::now();
        let answer = append(&mut client, vec![progressed(number, "r-0", "x")])
            .await
            .unwrap();
        took.push(begun.elapsed());
        assert_eq!(words(&answer.results), ["accepted"]);
    }
    // A cold producer takes half a second longer for its first append.
    let slowest = took[1..].iter().max().unwrap();
    assert!(
        took[0] < *slowest * 3 + Duration::from_millis(250),
        "{took:?}"
    );
    let facts = (20..1_000)
        .map(|number| progressed(number, &format!("r-{number}"), "x"))
        .collect();
    let answer = append(&mut client, facts).await.unwrap();
    assert!(words(&answer.results).iter().all(|word| word == "accepted"));
    assert_eq!(Token::parse(&answer.token).unwrap().positions().count(), 4);
    assert_eq!(world.records(Family::Run).await.len(), 1_000);
}
