//! Making topics and their Genesis records.

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use runledger_domain::log::{Family, Partition};
use runledger_domain::time::Timestamp;
use tokio::time::Instant;

use super::core::Core;
use super::reader::{Reader, fault};
use super::{AGAIN, Kafka};
use crate::error::Error;
use crate::wire::{self, Encoded, TOPIC_BYTES_MAX};

const DOING: &str = "making topics";

/// Makes the topics that are missing, and refuses those that Kafka might trim.
pub(super) async fn topics(core: &Core, families: &[Family]) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = AdminClient::from_config(&core.config.client())
        .map_err(|error| Error::Refused {
            doing: DOING,
            source: error.into(),
        })?;
    let options = AdminOptions::new()
        .request_timeout(Some(core.config.request_timeout))
        .operation_timeout(Some(core.config.request_timeout));
    let names: Vec<&str> = families
        .iter()
        .map(|family| core.topics.name(*family))
        .collect();
    let bytes_max = TOPIC_BYTES_MAX.to_string();
    let wanted: Vec<NewTopic<'_>> = families
        .iter()
        .map(|family| new_topic(core, *family, &bytes_max))
        .collect();
    for result in admin
        .create_topics(&wanted, &options)
        .await
        .map_err(|error| fault(DOING, "", error))?
    {
        match result {
            Ok(topic) => tracing::info!(topic, "made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code @ RDKafkaErrorCode::OperationTimedOut)) => {
                return Err(fault(DOING, &topic, KafkaError::AdminOp(code)));
            }
            Err((topic, code)) => {
                tracing::error!(topic, %code, "the topic could not be made");
                return Err(Error::Refused {
                    doing: DOING,
                    source: KafkaError::AdminOp(code).into(),
                });
            }
        }
    }
    let deadline = Instant::now() + core.config.request_timeout;
    // The broker that is asked may not have heard of a topic that was made a moment ago.
    while !check_configs(&admin, &options, &names).await? {
        if Instant::now() > deadline {
            return Err(Error::Unavailable {
                doing: DOING,
                source: Some(KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition).into()),
            });
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

fn new_topic<'a>(core: &'a Core, family: Family, bytes_max: &'a str) -> NewTopic<'a> {
    let name = core.topics.name(family);
    let partitions = i32::try_from(core.config.partitions_of(family)).unwrap_or(1);
    let replication = i32::from(core.config.replication);
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication))
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("cleanup.policy", "delete")
        .set("max.message.bytes", bytes_max);
    if replication >= 3 {
        topic.set("min.insync.replicas", "2")
    } else {
        topic
    }
}

/// A topic that someone else made may forget records after a week: better to refuse it now.
/// False: not every topic is known yet.
async fn check_configs(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    names: &[&str],
) -> Result<bool, Error> {
    let topics: Vec<ResourceSpecifier<'_>> = names
        .iter()
        .map(|name| ResourceSpecifier::Topic(name))
        .collect();
    let wanted = [
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("cleanup.policy", "delete"),
    ];
    let described = admin
        .describe_configs(&topics, options)
        .await
        .map_err(|error| fault(DOING, "", error))?;
    for described in described {
        let refused = |code| Error::Refused {
            doing: DOING,
            source: KafkaError::AdminOp(code).into(),
        };
        let config = match described {
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(false),
            described => described.map_err(refused)?,
        };
        for (key, value) in wanted {
            let Some(entry) = config.get(key) else {
                return Ok(false);
            };
            let found = entry.value.clone().unwrap_or_default();
            if found != value {
                return Err(Error::TopicConfig {
                    topic: topic_of(&config.specifier),
                    key,
                    found,
                    wanted: value,
                });
            }
        }
    }
    Ok(true)
}

fn topic_of(specifier: &OwnedResourceSpecifier) -> String {
    match specifier {
        OwnedResourceSpecifier::Topic(topic) | OwnedResourceSpecifier::Group(topic) => {
            topic.clone()
        }
        OwnedResourceSpecifier::Broker(id) => id.to_string(),
    }
}

/// Appends a Genesis to each empty partition and reads them all back.
///
/// Two that do this at once may both append; offset 0 counts, and whoever reads finds that one.
pub(super) async fn genesis(kafka: &Kafka, family: Family, now: Timestamp) -> Result<(), Error> {
    let deadline = Instant::now() + kafka.core.config.request_timeout;
    let count = partitions(kafka, family, deadline).await?;
    let missing = kafka
        .questions
        .ask(move |core| missing(core, family, count, now))
        .await?;
    if !missing.is_empty() {
        let batch = kafka
            .core
            .producer()
            .hand_over(&missing, &kafka.core.topics)?;
        // What became of each is seen by reading.
        batch.reports(deadline).await;
    }
    kafka
        .questions
        .ask(move |core| core.load_genesis(family))
        .await
        .map(drop)
}

/// How many partitions a topic has that may have been made a moment ago and is not known everywhere.
async fn partitions(kafka: &Kafka, family: Family, deadline: Instant) -> Result<u32, Error> {
    loop {
        let asked = kafka
            .questions
            .ask(move |core| Reader::new(&core.config)?.partitions(core.topics.name(family)))
            .await;
        match asked {
            Err(Error::NoTopic { .. } | Error::Unavailable { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

/// A new Genesis for each partition that has no record. Blocks.
fn missing(
    core: &Core,
    family: Family,
    count: u32,
    now: Timestamp,
) -> Result<Vec<(Partition, Encoded)>, Error> {
    let topic = core.topics.name(family);
    let configured = core.config.partitions_of(family);
    if count != configured {
        tracing::warn!(
            topic,
            count,
            configured,
            "the topic keeps the partitions it has"
        );
    }
    let reader = Reader::new(&core.config)?;
    let mut missing = Vec::new();
    for number in 0..count {
        if reader.watermarks(topic, number)? == (0, 0) {
            let genesis = wire::new_genesis(topic, number, count, now);
            missing.push((
                Partition { family, number },
                Encoded::genesis(family, &genesis, now),
            ));
        }
    }
    Ok(missing)
}
