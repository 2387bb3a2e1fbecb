//! What Runledger is measured against on the way in: a bare producer loop, with the same client library, the
//! same settings and the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use runledger_eventlog::Stored;
use runledger_eventlog::kafka::Config;

/// How long the last records may take.
const FLUSH: Duration = Duration::from_secs(30);
/// How long a full queue is left alone; sends are tried again afterwards.
const FULL: Duration = Duration::from_millis(1);

/// Counts what is in the log.
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0
            .fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

fn client(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "runledger-figures");
    client
}

fn admin(config: &Config) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    client(config).create().context("a Kafka client")
}

/// Makes the topic of the loop.
pub(super) async fn create_topic(config: &Config, topic: &str) -> anyhow::Result<()> {
    let partitions = i32::try_from(config.partitions)?;
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let made = admin(config)?
        .create_topics([&topic], &AdminOptions::new())
        .await?;
    match made.into_iter().find_map(Result::err) {
        Some((topic, code)) => bail!("making the topic {topic}: {code}"),
        None => Ok(()),
    }
}

/// Deletes topics; those that are not there are no fault.
pub(super) async fn delete_topics(config: &Config, topics: &[String]) -> anyhow::Result<()> {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let deleted = admin(config)?
        .delete_topics(&topics, &AdminOptions::new())
        .await?;
    for (topic, code) in deleted.into_iter().filter_map(Result::err) {
        if code != RDKafkaErrorCode::UnknownTopicOrPartition {
            bail!("deleting the topic {topic}: {code}");
        }
    }
    Ok(())
}

/// Produces `records` round and round for `duration`, and answers how many a second were acknowledged. Blocks.
pub(super) fn produce(
    config: &Config,
    topic: &str,
    records: &[Stored],
    duration: Duration,
) -> anyhow::Result<f64> {
    let delivered = Arc::new(AtomicU64::new(0));
    // As the event log sets its own producer up.
    let producer: ThreadedProducer<Deliveries> = client(config)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", config.linger_ms.to_string())
        .set(
            "queue.buffering.max.kbytes",
            (config.queue_bytes / 512).to_string(),
        )
        .set("queue.buffering.max.messages", "0")
        .create_with_context(Deliveries(Arc::clone(&delivered)))
        .context("a producer")?;
    // The connections stand before the clock runs.
    producer
        .client()
        .fetch_metadata(Some(topic), FLUSH)
        .context("asking for the topic")?;
    let partitions = i32::try_from(config.partitions)?;
    let begin = Instant::now();
    for (index, record) in (0..partitions).cycle().zip(records.iter().cycle()) {
        if begin.elapsed() > duration {
            break;
        }
        let mut next = BaseRecord::to(topic)
            .partition(index)
            .key(record.key.as_ref())
            .payload(record.value.as_ref());
        loop {
            match producer.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    producer.poll(FULL);
                    next = again;
                }
                Err((error, _)) => return Err(error).context("producing"),
            }
        }
    }
    producer.flush(FLUSH).context("flushing")?;
    Ok(super::rate(
        delivered.load(Ordering::Relaxed),
        begin.elapsed(),
    ))
}
