//! Logs, records and readers for the cases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::ids::{PrincipalId, RecordId, RunId, TenantId};
use runledger_domain::log::{Family, Kind, Partition, Position, Record, Stream};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::{Clock, SystemClock};
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::memory::Memory;
use runledger_eventlog::{Entry, Event, Log, Outcome, Stored, Subscription, SubscriptionOptions};
use runledger_testkit::{Stack, topic_prefix};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

pub(crate) const PARTITIONS: u32 = 4;
/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Shared = Arc<dyn Log>;

pub(crate) async fn memory() -> Shared {
    let memory = Memory::new(PARTITIONS);
    memory.create(Family::ALL, &SystemClock).await.unwrap();
    Arc::new(memory)
}

/// A connection of one's own to the topics that all cases share, so that few are made.
pub(crate) async fn kafka() -> Shared {
    Kafka::connect(&shared_config().await).unwrap()
}

pub(crate) async fn shared_config() -> Config {
    static CONFIG: OnceCell<Config> = OnceCell::const_new();
    let made = || async {
        let config = config();
        let kafka = Kafka::connect(&config).unwrap();
        kafka.create(Family::ALL, &SystemClock).await.unwrap();
        config
    };
    CONFIG.get_or_init(made).await.clone()
}

/// A log with a prefix of its own, whose topics do not exist.
pub(crate) fn config() -> Config {
    Config {
        brokers: Stack::get().kafka,
        prefix: topic_prefix("eventlog"),
        partitions: PARTITIONS,
        fetch_wait: Duration::from_millis(50),
        ..Config::default()
    }
}

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A tenant of one's own, since the cases share partitions.
pub(crate) fn scope() -> Scope {
    Scope {
        tenant: TenantId::new(unique()),
        mode: Mode::Sandbox,
    }
}

pub(crate) fn unique() -> Uuid {
    Uuid::new_v8(rand::random())
}

pub(crate) fn stream(name: &str) -> Stream {
    Stream::run(&RunId::parse(name).unwrap())
}

pub(crate) fn entry(scope: Scope, name: &str, payload: &[u8]) -> Entry {
    let now = SystemClock.now();
    let type_name = "runledger.run.v1.RunProgressed";
    let record = Record {
        id: RecordId::new(unique()),
        scope,
        stream: stream(name),
        kind: Kind::Fact,
        type_name: type_name.into(),
        occurred_at: now,
        recorded_at: now,
        author: Actor {
            principal: PrincipalId::new(unique()),
            kind: PrincipalKind::Agent,
            role: Role::Agent,
        }
        .into(),
        cause: None,
        request_digest: Record::digest_request(type_name, now, None, payload),
        key: None,
        payload: payload.to_vec(),
        terms: None,
    };
    Entry {
        record,
        prev: None,
        trace: None,
    }
}

/// `count` records of `streams` streams in turn; the payload tells which, from 0.
pub(crate) fn numbered(scope: Scope, streams: usize, count: u32) -> Vec<Entry> {
    (0..count)
        .map(|number| {
            entry(
                scope,
                &format!("r-{}", number as usize % streams),
                &number.to_be_bytes(),
            )
        })
        .collect()
}

pub(crate) fn accepted(outcomes: Vec<Outcome>) -> Vec<Position> {
    let position = |outcome| match outcome {
        Outcome::Accepted(position) => position,
        other => panic!("not accepted: {other:?}"),
    };
    outcomes.into_iter().map(position).collect()
}

pub(crate) fn decoded(stored: &Stored) -> Record {
    match runledger_proto::decode::record(stored.position.partition.family, &stored.value).unwrap()
    {
        runledger_proto::decode::Stored::Record(record) => record,
        runledger_proto::decode::Stored::Genesis(genesis) => panic!("{genesis:?}"),
    }
}

pub(crate) fn number(stored: &Stored) -> u32 {
    u32::from_be_bytes(decoded(stored).payload.try_into().unwrap())
}

pub(crate) fn is_of(stored: &Stored, scope: Scope) -> bool {
    stored.headers.as_ref().unwrap().scope == Some(scope)
}

pub(crate) async fn watermarks(log: &Shared) -> BTreeMap<Partition, u64> {
    let mut marks = BTreeMap::new();
    for number in 0..PARTITIONS {
        let partition = Partition {
            family: Family::Run,
            number,
        };
        marks.insert(partition, log.watermark(partition).await.unwrap());
    }
    marks
}

/// A group of its own.
pub(crate) fn options(group: &str, instance: &str) -> SubscriptionOptions {
    SubscriptionOptions::new(group, instance, &[Family::Run])
}

pub(crate) fn group() -> String {
    topic_prefix("group")
}

/// A reader that keeps its cursors as a projection does.
pub(crate) struct Reader {
    pub(crate) subscription: Subscription,
    pub(crate) owned: Vec<Partition>,
}

impl Reader {
    pub(crate) fn new(log: &Shared, options: SubscriptionOptions) -> Self {
        Self {
            subscription: log.subscribe(options).unwrap(),
            owned: Vec::new(),
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.subscription.next())
            .await
            .expect("an event in time")
    }

    /// Follows one event: starts what is assigned at its cursor, takes what is there, moves the
    /// cursors on. A record that is not the next one is a failure.
    pub(crate) async fn step(
        &mut self,
        cursors: &mut BTreeMap<Partition, u64>,
        max: usize,
    ) -> Vec<Stored> {
        let event = self.event().await;
        self.follow(event, cursors, max)
    }

    pub(crate) fn follow(
        &mut self,
        event: Event,
        cursors: &mut BTreeMap<Partition, u64>,
        max: usize,
    ) -> Vec<Stored> {
        match event {
            Event::Assigned(partitions) => {
                self.subscription
                    .start(partitions.iter().map(|one| (*one, cursors[one])).collect());
                self.owned.extend(partitions);
                Vec::new()
            }
            Event::Revoked(partitions) => {
                self.owned.retain(|one| !partitions.contains(one));
                Vec::new()
            }
            Event::Records => {
                let taken = self.subscription.take(max, usize::MAX);
                for record in &taken {
                    let cursor = cursors.get_mut(&record.position.partition).unwrap();
                    assert_eq!(record.position.offset, *cursor, "{:?}", record.position);
                    *cursor += 1;
                }
                taken
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
}
