//! Kafka away, and Kafka misbehaving: on the client library's mock cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Genesis, HASH_VERSION, Partition, partition_of};
use runledger_domain::time::{Clock, SystemClock};
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::{Error, Event, Log, Outcome};
use runledger_testkit::eventually;
use tokio::time::Instant;

use crate::given::{
    PATIENCE, Reader, Shared, accepted, entry, group, numbered, options, scope, soon, unique,
};

const PARTITION: Partition = Partition {
    family: Family::Run,
    number: 0,
};

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// One mock broker with the topic of runs, one partition, and its Genesis.
fn cluster() -> (Cluster, Config) {
    cluster_of(1)
}

/// As many mock brokers, each the leader of one partition of the topic of runs, with its Genesis.
fn cluster_of(brokers: u32) -> (Cluster, Config) {
    let genesis = |partition| {
        let genesis = Genesis {
            incarnation: Incarnation::new(unique()),
            topic: "mock.run.v1".into(),
            partition,
            partition_count: brokers,
            hash_version: HASH_VERSION,
        };
        runledger_proto::encode::genesis(&genesis, SystemClock.now())
    };
    let values: Vec<_> = (0..brokers).map(genesis).collect();
    cluster_beginning_with(&values)
}

fn cluster_beginning_with(values: &[Vec<u8>]) -> (Cluster, Config) {
    let count = i32::try_from(values.len()).unwrap();
    let cluster = MockCluster::new(count).unwrap();
    let config = Config {
        brokers: cluster.bootstrap_servers(),
        prefix: "mock".into(),
        request_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let topic = "mock.run.v1";
    cluster.create_topic(topic, count, 1).unwrap();
    for partition in 0..count {
        cluster
            .partition_leader(topic, partition, Some(partition + 1))
            .unwrap();
    }
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .create()
        .unwrap();
    for (partition, value) in (0..count).zip(values) {
        let genesis = BaseRecord::<(), _>::to(topic)
            .partition(partition)
            .payload(value);
        producer.send(genesis).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    (cluster, config)
}

async fn appends(log: &Kafka) -> Result<(), String> {
    match log
        .append(
            vec![entry(scope(), "a", b"1")],
            Instant::now() + Duration::from_secs(1),
        )
        .await
    {
        Ok(outcomes) if matches!(outcomes[..], [Outcome::Accepted(_)]) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test]
async fn kafka_may_be_away_at_the_start_and_later() {
    let (cluster, config) = cluster();
    cluster.broker_down(1).unwrap();
    let log = Kafka::connect(&config).unwrap();
    let mut reader = Reader::new(&(Arc::clone(&log) as Shared), options(&group(), "a"));
    let began = Instant::now();
    let refused = log
        .append(
            vec![entry(scope(), "a", b"1")],
            began + Duration::from_millis(500),
        )
        .await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!log.healthy());

    cluster.broker_up(1).unwrap();
    eventually(PATIENCE, || appends(&log)).await;
    eventually(PATIENCE, || async {
        if log.healthy() {
            Ok(())
        } else {
            Err("not healthy")
        }
    })
    .await;
    let mut cursors = BTreeMap::from([(PARTITION, 0)]);
    while cursors[&PARTITION] < 2 {
        reader.step(&mut cursors, 100).await;
    }

    cluster.broker_down(1).unwrap();
    eventually(PATIENCE, || async {
        if log.healthy() {
            Err("still healthy")
        } else {
            Ok(())
        }
    })
    .await;
    assert!(appends(&log).await.is_err());
    cluster.broker_up(1).unwrap();
    eventually(PATIENCE, || appends(&log)).await;
    let watermark = log.watermark(PARTITION).await.unwrap();
    while cursors[&PARTITION] < watermark {
        reader.step(&mut cursors, 100).await;
    }
}

async fn is_healthy(log: &Kafka, expected: bool) {
    eventually(PATIENCE, || async {
        if log.healthy() == expected {
            Ok(())
        } else {
            Err(format!("not yet {expected}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_hangs_is_noticed_by_what_it_leaves_unknown() {
    let (cluster, config) = cluster_of(2);
    let log = Kafka::connect(&config).unwrap();
    let of_partition = |number: u32| {
        (0..)
            .map(|name| entry(scope(), &format!("r-{name}"), b"1"))
            .find(|entry| partition_of(&entry.record.stream.key(entry.record.scope), 2) == number)
            .into_iter()
            .collect::<Vec<_>>()
    };
    for number in 0..2 {
        eventually(PATIENCE, || log.append(of_partition(number), soon())).await;
    }
    is_healthy(&log, true).await;
    // Alive, but silent for longer than this test lasts.
    cluster.broker_round_trip_time(2, PATIENCE * 10).unwrap();
    let in_a_hurry = Instant::now() + Duration::from_millis(300);
    let outcomes = log.append(of_partition(1), in_a_hurry).await.unwrap();
    assert_eq!(outcomes, [Outcome::Unknown]);
    is_healthy(&log, false).await;
    accepted(log.append(of_partition(0), soon()).await.unwrap());
    cluster.broker_round_trip_time(2, Duration::ZERO).unwrap();
    is_healthy(&log, true).await;
}

#[tokio::test]
async fn a_lost_acknowledgement_is_retried_and_a_report_without_offset_gets_the_last() {
    let (cluster, config) = cluster();
    let log = Kafka::connect(&config).unwrap();
    eventually(PATIENCE, || appends(&log)).await;
    let produce = RDKafkaApiKey::Produce;
    cluster.request_errors(
        produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT],
    );
    accepted(log.append(numbered(scope(), 1, 3), soon()).await.unwrap());

    let last = log.watermark(PARTITION).await.unwrap() - 1;
    cluster.request_errors(
        produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER],
    );
    let positions = accepted(log.append(numbered(scope(), 1, 1), soon()).await.unwrap());
    assert_eq!(positions[0].offset, last);
}

#[tokio::test]
async fn a_producer_that_fails_for_good_is_replaced() {
    let (cluster, config) = cluster();
    let log = Kafka::connect(&config).unwrap();
    eventually(PATIENCE, || appends(&log)).await;
    let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 1];
    cluster.request_errors(RDKafkaApiKey::Produce, &lost);
    let outcomes = log.append(numbered(scope(), 1, 3), soon()).await.unwrap();
    assert_eq!(outcomes, [Outcome::Unknown; 3]);
    eventually(PATIENCE, || appends(&log)).await;
    eventually(PATIENCE, || async {
        if log.healthy() {
            Ok(())
        } else {
            Err("not healthy")
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_gave_up_waiting_for_still_counts() {
    let (cluster, config) = cluster();
    let log = Kafka::connect(&Config {
        queue_bytes: 2_097_176,
        ..config
    })
    .unwrap();
    eventually(PATIENCE, || appends(&log)).await;
    cluster
        .broker_round_trip_time(1, Duration::from_secs(2))
        .unwrap();
    let large = || vec![entry(scope(), "a", &vec![b'x'; 900 << 10])];
    for _ in 0..2 {
        let outcomes = log
            .append(large(), Instant::now() + Duration::from_millis(50))
            .await
            .unwrap();
        assert_eq!(outcomes, [Outcome::Unknown]);
    }
    assert!(matches!(
        log.append(large(), soon()).await,
        Err(Error::Shed { .. })
    ));
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    eventually(PATIENCE, || appends(&log)).await;
    eventually(PATIENCE, || async {
        match log.append(large(), soon()).await {
            Ok(outcomes) => Ok(accepted(outcomes)),
            Err(error) => Err(error),
        }
    })
    .await;
}

#[tokio::test]
async fn a_topic_that_begins_with_anything_else_is_refused() {
    let (_cluster, config) = cluster_beginning_with(&[b"hello".to_vec()]);
    let log = Kafka::connect(&config).unwrap();
    eventually(PATIENCE, || async {
        match log.append(vec![entry(scope(), "a", b"1")], soon()).await {
            Err(Error::NotGenesis {
                topic,
                partition: 0,
                ..
            }) if topic == "mock.run.v1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let mut subscription = log.subscribe(options(&group(), "a")).unwrap();
    let event = tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .unwrap();
    assert!(
        matches!(event, Event::Failed(Error::NotGenesis { .. })),
        "{event:?}"
    );
}
