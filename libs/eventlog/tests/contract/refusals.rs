//! Faults ordered from the log in memory, and limits of the real one.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use runledger_domain::log::Family;
use runledger_domain::time::SystemClock;
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::memory::{Fault, Memory};
use runledger_eventlog::{Error, Event, Log, Outcome};
use runledger_testkit::eventually;
use tokio::task::JoinSet;

use crate::given::{self, PATIENCE, entry, numbered, scope, soon};

#[tokio::test]
async fn ordered_faults_happen_once_and_in_order() {
    let memory = Memory::new(1);
    memory.create(&[Family::Run], &SystemClock).await.unwrap();
    let scope = scope();
    for fault in [Fault::Unavailable, Fault::Shed] {
        memory.inject(fault);
    }
    let one = || vec![entry(scope, "a", b"1")];
    assert!(matches!(
        memory.append(one(), soon()).await,
        Err(Error::Unavailable { .. })
    ));
    assert!(matches!(
        memory.append(one(), soon()).await,
        Err(Error::Shed { .. })
    ));
    for fault in [
        Fault::LoseAcknowledgement,
        Fault::LoseRecord,
        Fault::Duplicate,
        Fault::NoOffset,
        Fault::Refuse,
    ] {
        memory.inject(fault);
    }
    let outcomes = memory.append(numbered(scope, 1, 6), soon()).await.unwrap();
    let offset = |outcome: &Outcome| match outcome {
        Outcome::Accepted(position) => Some(position.offset),
        Outcome::TooLarge | Outcome::Unknown => None,
    };
    assert_eq!(
        outcomes.iter().map(offset).collect::<Vec<_>>(),
        [None, None, Some(3), Some(5), None, Some(5)]
    );
    assert_eq!(outcomes[4], Outcome::TooLarge);
    let partition = runledger_domain::log::Partition {
        family: Family::Run,
        number: 0,
    };
    let landed = memory.read(partition, 1, 100).await.unwrap();
    assert_eq!(
        landed.iter().map(given::number).collect::<Vec<_>>(),
        [0, 2, 2, 3, 5]
    );
    memory.set_away(true);
    assert!(matches!(
        memory.append(one(), soon()).await,
        Err(Error::Unavailable { .. })
    ));
    assert!(!memory.healthy());
    let before = memory.clone();
    memory.set_away(false);
    let genesis = before.genesis(Family::Run).await.unwrap();
    memory.recreate(&SystemClock);
    assert_ne!(memory.genesis(Family::Run).await.unwrap(), genesis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_sheds_whole_batches_and_recovers() {
    let config = Config {
        queue_bytes: 2_097_176,
        ..given::shared_config().await
    };
    let kafka = Kafka::connect(&config).unwrap();
    let scope = scope();
    let large = vec![b'x'; 900 << 10];
    let batch = |stream: &str| vec![entry(scope, stream, &large), entry(scope, stream, b"after")];
    kafka.append(batch("first"), soon()).await.unwrap();
    let mut appends = JoinSet::new();
    for number in 0..8 {
        let (kafka, batch) = (Arc::clone(&kafka), batch(&format!("r-{number}")));
        appends.spawn(async move { kafka.append(batch, soon()).await });
    }
    let (mut taken, mut shed) = (0, 0);
    while let Some(append) = appends.join_next().await {
        match append.unwrap() {
            Ok(outcomes) => {
                given::accepted(outcomes);
                taken += 1;
            }
            Err(Error::Shed { max, .. }) => {
                assert_eq!(max, config.queue_bytes);
                shed += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken >= 2 && shed >= 1, "{taken} taken, {shed} shed");
    given::accepted(kafka.append(batch("last"), soon()).await.unwrap());
    let three = [batch("a"), batch("b"), batch("c")].concat();
    assert!(matches!(
        kafka.append(three, soon()).await,
        Err(Error::BatchTooLarge { .. })
    ));
    eventually(PATIENCE, || async {
        if kafka.healthy() {
            Ok(())
        } else {
            Err("not healthy")
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_appends_to_a_topic_without_genesis() {
    let kafka = Kafka::connect(&given::config()).unwrap();
    let refused = kafka.append(vec![entry(scope(), "a", b"1")], soon()).await;
    assert!(matches!(refused, Err(Error::NoTopic { .. })), "{refused:?}");
    let memory = Memory::new(1);
    let refused = memory.append(vec![entry(scope(), "a", b"1")], soon()).await;
    assert!(matches!(refused, Err(Error::NoTopic { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_is_noticed_by_a_subscription() {
    let config = Config {
        partitions: 1,
        ..given::config()
    };
    let log = Kafka::connect(&config).unwrap();
    log.create(&[Family::Run], &SystemClock).await.unwrap();
    let before = log.genesis(Family::Run).await.unwrap();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .create()
        .unwrap();
    let topic = format!("{}.run.v1", config.prefix);
    admin
        .delete_topics(&[&topic], &AdminOptions::new())
        .await
        .unwrap();
    let other = Kafka::connect(&config).unwrap();
    eventually(PATIENCE, || other.create(&[Family::Run], &SystemClock)).await;
    let after = other.genesis(Family::Run).await.unwrap();
    assert_ne!(after, before);
    let mut subscription = log.subscribe(given::options(&given::group(), "a")).unwrap();
    let event = tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .unwrap();
    assert!(matches!(event, Event::Assigned(_)), "{event:?}");
    assert_eq!(log.genesis(Family::Run).await.unwrap(), after);
    let positions = eventually(PATIENCE, || async {
        let outcomes = log
            .append(numbered(scope(), 1, 1), soon())
            .await
            .map_err(|error| error.to_string())?;
        if outcomes.contains(&Outcome::Unknown) {
            Err(format!("{outcomes:?}"))
        } else {
            Ok(given::accepted(outcomes))
        }
    })
    .await;
    assert_eq!(positions[0].incarnation, after[0].incarnation);
    drop(subscription);
    admin
        .delete_topics(&[&topic], &AdminOptions::new())
        .await
        .unwrap();
}
