//! What must be known to reach Kafka, and what is made of it for the client library.

use std::time::Duration;

use rdkafka::ClientConfig;
use runledger_domain::log::Family;
use serde::Deserialize;

use super::security::Security;
use crate::error::Error;
use crate::subscription::SubscriptionOptions;
use crate::wire::TOPIC_BYTES_MAX;

/// Most partitions of a topic: so many that a token over several topics stays a token.
const PARTITIONS_MAX: u32 = 32;
const QUEUE_BYTES_MIN: usize = 2 * TOPIC_BYTES_MAX;
const QUEUE_BYTES_MAX: usize = 1 << 30;
const FETCH_BYTES_MAX: u32 = 8 << 20;

/// How to reach Kafka. Every field has a default; unknown ones are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bootstrap addresses, `host:port`, separated by commas.
    pub brokers: String,
    /// Topics are called `<prefix>.<family>.v1`.
    pub prefix: String,
    /// Partitions of topics yet to be made, 1 to 32; fixed for a topic's life.
    pub partitions: u32,
    /// Replicas of topics yet to be made; from 3 on, two must hold a record before it is accepted.
    pub replication: u16,
    /// Most bytes handed over and not yet reported; appends beyond it are shed.
    pub queue_bytes: usize,
    /// How long a record waits for company, in milliseconds: 0 to 1,000.
    pub linger_ms: u32,
    /// How long Kafka is tried before a record is given up as unknown.
    #[serde(with = "humantime_serde")]
    pub message_timeout: Duration,
    pub compression: Compression,
    /// How long one question about metadata, a watermark or records may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long a member of a group may be silent before its partitions go to others.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// What a fetch has to find to be answered before `fetch_wait` is over: with 1, whatever was
    /// appended is fetched at once; with more, the broker answers fewer fetches. 1 to 8,388,608.
    pub fetch_bytes: u32,
    /// How long the broker may hold a fetch that finds less. Latency, against the broker's time.
    #[serde(with = "humantime_serde")]
    pub fetch_wait: Duration,
    pub security: Security,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Lz4,
    Zstd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:19092".into(),
            prefix: "runledger".into(),
            partitions: 12,
            replication: 1,
            queue_bytes: 64 << 20,
            linger_ms: 1,
            message_timeout: Duration::from_secs(30),
            compression: Compression::None,
            request_timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(6),
            fetch_bytes: 256 << 10,
            fetch_wait: Duration::from_millis(10),
            security: Security::default(),
        }
    }
}

impl Config {
    /// How many partitions the topic of a family is made with.
    pub(crate) fn partitions_of(&self, family: Family) -> u32 {
        if family.is_single() {
            1
        } else {
            self.partitions
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |field, what: &str| {
            Err(Error::Config {
                field,
                what: what.to_owned(),
            })
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.brokers.trim().is_empty() {
            return refuse("brokers", "must name at least one host:port");
        }
        if self.prefix.is_empty() || self.prefix.len() > 200 || !self.prefix.bytes().all(named) {
            return refuse(
                "prefix",
                "must be 1 to 200 letters, digits, dots, dashes or underscores",
            );
        }
        if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            return refuse("partitions", "must be 1 to 32");
        }
        if !(1..=100).contains(&self.replication) {
            return refuse("replication", "must be 1 to 100");
        }
        if !(QUEUE_BYTES_MIN..=QUEUE_BYTES_MAX).contains(&self.queue_bytes) {
            return refuse(
                "queue_bytes",
                "must be 2,097,176 (two of the largest records) to 1,073,741,824",
            );
        }
        if self.linger_ms > 1_000 {
            return refuse("linger_ms", "must be 0 to 1,000");
        }
        if !within(self.message_timeout, 1_000, 900_000) {
            return refuse("message_timeout", "must be 1 s to 15 min");
        }
        if !within(self.request_timeout, 100, 60_000) {
            return refuse("request_timeout", "must be 100 ms to 1 min");
        }
        if !within(self.session_timeout, 1_000, 300_000) {
            return refuse("session_timeout", "must be 1 s to 5 min");
        }
        if !(1..=FETCH_BYTES_MAX).contains(&self.fetch_bytes) {
            return refuse("fetch_bytes", "must be 1 to 8,388,608");
        }
        if !within(self.fetch_wait, 1, 5_000) {
            return refuse("fetch_wait", "must be 1 ms to 5 s");
        }
        self.security.check()
    }

    /// What every client of this log begins with.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.security.apply(&mut config);
        config
            .set("bootstrap.servers", self.brokers.trim())
            .set("client.id", "runledger")
            .set("reconnect.backoff.max.ms", "2000")
            // A broker that shuts down says that there is none, and the client believes it: without
            // this it would look at the bootstrap addresses again after five minutes.
            .set("metadata.recovery.rebootstrap.trigger.ms", "5000")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false");
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        // Our own count of bytes sheds first; these limits only stand behind it. A record costs the
        // client at most its size twice over, so twice the bytes can never be reached.
        let kbytes = self.queue_bytes.div_ceil(1024) * 2;
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", self.linger_ms.to_string())
            .set(
                "message.timeout.ms",
                self.message_timeout.as_millis().to_string(),
            )
            .set("message.max.bytes", TOPIC_BYTES_MAX.to_string())
            .set("queue.buffering.max.kbytes", kbytes.to_string())
            .set("queue.buffering.max.messages", "0")
            .set(
                "compression.type",
                match self.compression {
                    Compression::None => "none",
                    Compression::Lz4 => "lz4",
                    Compression::Zstd => "zstd",
                },
            );
        config
    }

    /// A consumer that belongs to no group and is told where each partition ends.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.consumer();
        config
            .set("group.id", format!("{}.reader", self.prefix))
            .set("enable.partition.eof", "true")
            // The end of a partition is told after one fetch that finds nothing.
            .set("fetch.wait.max.ms", "5")
            .set("queued.max.messages.kbytes", "4096");
        config
    }

    /// A client that belongs to a group and does nothing else. The group's own name is left to the
    /// offsets that the fetching client commits: Kafka takes those of a stranger only for a group
    /// without members.
    ///
    /// Its name in the group says what it follows: a member that came back under its old name
    /// with other topics would be dealt the old ones.
    pub(super) fn member(&self, options: &SubscriptionOptions) -> ClientConfig {
        let session_ms = self.session_timeout.as_millis();
        let mut families: Vec<&str> = options.families.iter().map(|one| one.as_str()).collect();
        families.sort_unstable();
        let name = format!("{}.{}", options.instance, families.join("-"));
        let mut config = self.consumer();
        config
            .set("group.id", format!("{}.members", options.group))
            .set("group.instance.id", name)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", session_ms.to_string())
            // Everyone joins a round within this; it is what a round costs.
            .set(
                "heartbeat.interval.ms",
                (session_ms / 12).max(1).to_string(),
            );
        config
    }

    /// A client that fetches what it is told to, and commits how far lag tools may take it to be.
    pub(super) fn fetcher(&self, options: &SubscriptionOptions) -> ClientConfig {
        let queue_kbytes = (options.queue_bytes.div_ceil(1024)).clamp(1_024, 65_536);
        let mut config = self.consumer();
        config
            .set("group.id", &options.group)
            .set("fetch.min.bytes", self.fetch_bytes.to_string())
            .set("fetch.wait.max.ms", self.fetch_wait.as_millis().to_string())
            // The client's default of a second would be felt after every pause of a busy reader.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", queue_kbytes.to_string())
            .set("fetch.max.bytes", FETCH_BYTES_MAX.to_string());
        config
    }

    fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Where to begin is the reader's to say; Kafka must never choose.
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.message.max.bytes", TOPIC_BYTES_MAX.to_string());
        config
    }
}

fn within(duration: Duration, min_ms: u64, max_ms: u64) -> bool {
    (Duration::from_millis(min_ms)..=Duration::from_millis(max_ms)).contains(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted_and_nonsense_is_not() {
        assert!(Config::default().check().is_ok());
        let wrong = [
            Config {
                brokers: " ".into(),
                ..Config::default()
            },
            Config {
                prefix: "a b".into(),
                ..Config::default()
            },
            Config {
                partitions: 0,
                ..Config::default()
            },
            Config {
                partitions: 33,
                ..Config::default()
            },
            Config {
                queue_bytes: 1,
                ..Config::default()
            },
            Config {
                linger_ms: 1_001,
                ..Config::default()
            },
            Config {
                request_timeout: Duration::ZERO,
                ..Config::default()
            },
        ];
        for config in wrong {
            assert!(
                matches!(config.check(), Err(Error::Config { .. })),
                "{config:?}"
            );
        }
    }
}
