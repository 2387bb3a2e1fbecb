//! What Runledger is measured against: a bare producer loop, with the same client library, the same settings and the
//! same bytes; and an append and a commit, which is the least that a decision takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Producer as _, ProducerContext,
    ThreadedProducer,
};
use runledger_eventlog::Stored;
use runledger_eventlog::kafka::Config;
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::driver::micros;
use super::histogram;

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

fn admin(config: &Config) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    config.client().create().context("a Kafka client")
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

/// Produces `records` round and round for `duration`, and answers how many were acknowledged in how long. Blocks.
pub(super) fn produce(
    config: &Config,
    topic: &str,
    records: &[Stored],
    duration: Duration,
) -> anyhow::Result<(u64, Duration)> {
    let delivered = Arc::new(AtomicU64::new(0));
    // As the event log sets its own producer up.
    let producer: ThreadedProducer<Deliveries> = config
        .client()
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
    Ok((delivered.load(Ordering::Relaxed), begin.elapsed()))
}

/// Bytes of what is appended and committed, as a command has.
const COMMAND_BYTES: usize = 1_000;

/// So many callers, each of which appends a record, waits for it, and commits a row; how long each took, in
/// microseconds. `owner` makes the table and drops it again.
pub(super) async fn append_and_commit(
    config: &Config,
    topic: &str,
    owner: &PgPool,
    callers: u16,
    duration: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let producer: FutureProducer = config
        .client()
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", config.linger_ms.to_string())
        .create()
        .context("a producer")?;
    sqlx::query("CREATE TABLE public.decided (number bigint PRIMARY KEY, command bytea NOT NULL)")
        .execute(owner)
        .await?;
    let (begin, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (producer, owner, topic) = (producer.clone(), owner.clone(), topic.to_owned());
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            let (command, mut took) = (vec![7; COMMAND_BYTES], histogram()?);
            while begin.elapsed() < duration {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (key, begun) = (number.to_be_bytes(), Instant::now());
                let record = FutureRecord::to(&topic).key(&key).payload(&command);
                let sent = producer.send(record, FLUSH).await;
                sent.map_err(|(error, _)| error).context("producing")?;
                sqlx::query("INSERT INTO public.decided VALUES ($1, $2)")
                    .bind(i64::try_from(number)?)
                    .bind(&command)
                    .execute(&owner)
                    .await?;
                took.saturating_record(micros(begun.elapsed()));
            }
            Ok::<_, anyhow::Error>(took)
        });
    }
    let mut all = histogram()?;
    while let Some(took) = tasks.join_next().await {
        all.add(took??)?;
    }
    sqlx::query("DROP TABLE public.decided")
        .execute(owner)
        .await?;
    Ok(all)
}
