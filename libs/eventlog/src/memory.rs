//! The log in memory: the same contract as Kafka's, for tests, with faults to order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use runledger_domain::log::{Family, Genesis, Partition, Position};
use runledger_domain::time::Clock;
use tokio::time::Instant;

use crate::error::Error;
use crate::log::{Entry, Log, Outcome, Reports};
use crate::stored::{Headers, Stored};
use crate::subscription::{Control, Level, Shared, Subscription, SubscriptionOptions};
use crate::wire::{self, Encoded};

/// Something that goes wrong, once, in the order in which it was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next append is refused whole: Kafka is away.
    Unavailable,
    /// The next append is refused whole: the queue is full.
    Shed,
    /// The next entry lands, and its writer is told `Unknown`.
    LoseAcknowledgement,
    /// The next entry does not land, and its writer is told `Unknown`.
    LoseRecord,
    /// The next entry lands twice, and its writer is told the second position.
    Duplicate,
    /// The next entry lands, and its position is taken from the watermark after the whole append.
    NoOffset,
    /// The next entry is too large.
    Refuse,
    /// The next entry lands under its key and headers with bytes that are no record.
    Garble,
}

/// A log in memory. Clones share it.
#[derive(Clone)]
pub struct Memory {
    world: Arc<Mutex<World>>,
}

struct World {
    partitions: u32,
    topics: BTreeMap<Family, Topic>,
    members: BTreeMap<String, Vec<Member>>,
    members_made: u64,
    faults: VecDeque<Fault>,
    away: bool,
}

struct Topic {
    genesis: Arc<[Genesis]>,
    partitions: Vec<Vec<Stored>>,
}

/// One member of one group.
struct Member {
    id: u64,
    families: BTreeSet<Family>,
    shared: Arc<Shared>,
    owned: BTreeSet<Partition>,
    /// Next offset of each started partition.
    next: BTreeMap<Partition, usize>,
    /// It has its partitions from itself.
    alone: bool,
}

impl Memory {
    /// A log whose topics, once made, have this many partitions, at least 1.
    pub fn new(partitions: u32) -> Self {
        let world = World {
            partitions: partitions.max(1),
            topics: BTreeMap::new(),
            members: BTreeMap::new(),
            members_made: 0,
            faults: VecDeque::new(),
            away: false,
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Orders a fault.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// While away, nothing can be appended or read, and subscriptions stand still.
    pub fn set_away(&self, away: bool) {
        let mut world = self.lock();
        world.away = away;
        world.pump_all();
    }

    /// Forgets topics and begins them anew, as a restored or recreated Kafka would.
    pub fn recreate(&self, clock: &dyn Clock) {
        let mut world = self.lock();
        let families: Vec<Family> = std::mem::take(&mut world.topics).into_keys().collect();
        for family in families {
            world.create(family, clock);
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Log for Memory {
    async fn genesis(&self, family: Family) -> Result<Arc<[Genesis]>, Error> {
        let world = self.lock();
        world.reachable("reading the Genesis records")?;
        Ok(Arc::clone(&world.topic(family)?.genesis))
    }

    async fn hand_over(&self, entries: Vec<Entry>, deadline: Instant) -> Result<Reports, Error> {
        let mut world = self.lock();
        let mut outcomes = world.append(entries)?;
        world.pump_all();
        if Instant::now() >= deadline {
            outcomes = outcomes.into_iter().map(forget_acceptance).collect();
        }
        Ok(Box::pin(ready(outcomes)))
    }

    async fn watermark(&self, partition: Partition) -> Result<u64, Error> {
        let world = self.lock();
        world.reachable("reading the watermark")?;
        Ok(world.records(partition)?.len() as u64)
    }

    fn subscribe(&self, options: SubscriptionOptions) -> Result<Subscription, Error> {
        let mut world = self.lock();
        for family in &options.families {
            world.topic(*family)?;
        }
        let shared = Shared::new(&options);
        world.members_made += 1;
        let id = world.members_made;
        let member = Member {
            id,
            families: options.families.into_iter().collect(),
            shared: Arc::clone(&shared),
            owned: options.alone.iter().flatten().copied().collect(),
            next: BTreeMap::new(),
            alone: options.alone.is_some(),
        };
        member.shared.assigned(options.alone.unwrap_or_default());
        world
            .members
            .entry(options.group.clone())
            .or_default()
            .push(member);
        world.rebalance(&options.group);
        let membership = Membership {
            world: Arc::clone(&self.world),
            group: options.group,
            id,
        };
        Ok(Subscription::new(shared, Box::new(membership)))
    }

    async fn read(
        &self,
        partition: Partition,
        from: u64,
        max: usize,
    ) -> Result<Vec<Stored>, Error> {
        let world = self.lock();
        world.reachable("reading records")?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(world
            .records(partition)?
            .iter()
            .skip(from)
            .take(max)
            .cloned()
            .collect())
    }

    async fn create(&self, families: &[Family], clock: &dyn Clock) -> Result<(), Error> {
        let mut world = self.lock();
        world.reachable("making topics")?;
        for family in families {
            if !world.topics.contains_key(family) {
                world.create(*family, clock);
            }
        }
        Ok(())
    }

    fn healthy(&self) -> bool {
        !self.lock().away
    }
}

/// A caller that came too late does not hear what landed.
fn forget_acceptance(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Accepted(_) | Outcome::Unknown => Outcome::Unknown,
        Outcome::TooLarge => Outcome::TooLarge,
    }
}

impl World {
    fn reachable(&self, doing: &'static str) -> Result<(), Error> {
        if self.away {
            Err(Error::Unavailable {
                doing,
                source: None,
            })
        } else {
            Ok(())
        }
    }

    fn topic(&self, family: Family) -> Result<&Topic, Error> {
        self.topics.get(&family).ok_or_else(|| Error::NoTopic {
            topic: topic_name(family),
        })
    }

    fn records(&self, partition: Partition) -> Result<&Vec<Stored>, Error> {
        let records = self
            .topic(partition.family)?
            .partitions
            .get(partition.number as usize);
        records.ok_or(Error::NoPartition(partition))
    }

    fn partitions_of(&self, family: Family) -> u32 {
        if family.is_single() {
            1
        } else {
            self.partitions
        }
    }

    fn create(&mut self, family: Family, clock: &dyn Clock) {
        let topic = topic_name(family);
        let now = clock.now();
        let count = self.partitions_of(family);
        let genesis: Vec<_> = (0..count)
            .map(|number| wire::new_genesis(&topic, number, count, now))
            .collect();
        let first = |genesis: &Genesis| {
            let partition = Partition {
                family,
                number: genesis.partition,
            };
            let position = Position {
                partition,
                incarnation: genesis.incarnation,
                offset: 0,
            };
            vec![store(&Encoded::genesis(family, genesis, now), position)]
        };
        let partitions = genesis.iter().map(first).collect();
        self.topics.insert(
            family,
            Topic {
                genesis: genesis.into(),
                partitions,
            },
        );
    }

    fn append(&mut self, entries: Vec<Entry>) -> Result<Vec<Outcome>, Error> {
        self.reachable("appending")?;
        for entry in &entries {
            self.topic(entry.record.stream.family())?;
        }
        match self.faults.front() {
            Some(Fault::Unavailable) => {
                self.faults.pop_front();
                return Err(Error::Unavailable {
                    doing: "appending",
                    source: None,
                });
            }
            Some(Fault::Shed) => {
                self.faults.pop_front();
                return Err(Error::Shed {
                    in_flight: 0,
                    max: 0,
                });
            }
            _ => {}
        }
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut vague = Vec::new();
        for entry in entries {
            let mut encoded = Encoded::entry(entry);
            let whole = matches!(self.faults.front(), Some(Fault::Unavailable | Fault::Shed));
            let fault = if whole { None } else { self.faults.pop_front() };
            if encoded.is_too_large() || fault == Some(Fault::Refuse) {
                outcomes.push(Outcome::TooLarge);
                continue;
            }
            if fault == Some(Fault::LoseRecord) {
                outcomes.push(Outcome::Unknown);
                continue;
            }
            if fault == Some(Fault::Garble) {
                encoded.value = b"\xff no record".to_vec();
            }
            if fault == Some(Fault::Duplicate) {
                self.land(&encoded)?;
            }
            let position = self.land(&encoded)?;
            if fault == Some(Fault::NoOffset) {
                vague.push(outcomes.len());
            }
            let unheard = fault == Some(Fault::LoseAcknowledgement);
            outcomes.push(if unheard {
                Outcome::Unknown
            } else {
                Outcome::Accepted(position)
            });
        }
        for index in vague {
            if let Some(Outcome::Accepted(position)) = outcomes.get_mut(index) {
                position.offset = self.records(position.partition)?.len() as u64 - 1;
            }
        }
        Ok(outcomes)
    }

    fn land(&mut self, encoded: &Encoded) -> Result<Position, Error> {
        let partition = encoded.partition(self.partitions_of(encoded.family));
        let topic = self
            .topics
            .get_mut(&partition.family)
            .ok_or(Error::NoPartition(partition))?;
        let number = partition.number as usize;
        let (Some(genesis), Some(records)) =
            (topic.genesis.get(number), topic.partitions.get_mut(number))
        else {
            return Err(Error::NoPartition(partition));
        };
        let position = Position {
            partition,
            incarnation: genesis.incarnation,
            offset: records.len() as u64,
        };
        records.push(store(encoded, position));
        Ok(position)
    }

    /// Deals the partitions out to the members of a group, one after the other.
    fn rebalance(&mut self, group: &str) {
        let members = self.members.entry(group.to_owned()).or_default();
        let mut target: BTreeMap<u64, BTreeSet<Partition>> = BTreeMap::new();
        for (family, topic) in &self.topics {
            let takers: Vec<u64> = members
                .iter()
                .filter(|member| !member.alone && member.families.contains(family))
                .map(|member| member.id)
                .collect();
            for (number, taker) in (0..)
                .zip(takers.iter().cycle())
                .take(topic.partitions.len())
            {
                target.entry(*taker).or_default().insert(Partition {
                    family: *family,
                    number,
                });
            }
        }
        for member in members.iter_mut().filter(|member| !member.alone) {
            let mine = target.get(&member.id).cloned().unwrap_or_default();
            let gone: Vec<_> = member.owned.difference(&mine).copied().collect();
            for partition in &gone {
                member.next.remove(partition);
            }
            member.shared.revoked(gone);
        }
        for member in members.iter_mut().filter(|member| !member.alone) {
            let mine = target.remove(&member.id).unwrap_or_default();
            member
                .shared
                .assigned(mine.difference(&member.owned).copied().collect());
            member.owned = mine;
        }
    }

    /// Moves records to whoever has room for them.
    fn pump_all(&mut self) {
        let groups: Vec<String> = self.members.keys().cloned().collect();
        for group in groups {
            for member in self.members.get_mut(&group).into_iter().flatten() {
                if !self.away {
                    member.pump(&self.topics);
                }
            }
        }
    }
}

impl Member {
    fn pump(&mut self, topics: &BTreeMap<Family, Topic>) {
        for (partition, next) in &mut self.next {
            let records = topics
                .get(&partition.family)
                .and_then(|topic| topic.partitions.get(partition.number as usize));
            let Some(records) = records else { continue };
            if *next > records.len() {
                let offset = *next as u64;
                let (topic, partition) = (topic_name(partition.family), partition.number);
                self.shared.failed(Error::OffsetOutOfRange {
                    topic,
                    partition,
                    offset,
                });
                continue;
            }
            for record in records.iter().skip(*next) {
                if self
                    .shared
                    .level(*partition)
                    .is_none_or(|level| level == Level::Full)
                {
                    break;
                }
                self.shared.push(record.clone());
                *next += 1;
            }
        }
    }
}

fn topic_name(family: Family) -> String {
    format!("memory.{family}.v1")
}

fn store(encoded: &Encoded, position: Position) -> Stored {
    Stored {
        position,
        key: Bytes::copy_from_slice(encoded.key.as_bytes()),
        value: Bytes::copy_from_slice(&encoded.value),
        headers: Headers::parse(encoded.headers().map(|(name, value)| (name, Some(value)))),
        log_timestamp: wire::timestamp(encoded.recorded_at.timestamp_millis()),
    }
}

/// A member's place in its group; dropping it leaves.
struct Membership {
    world: Arc<Mutex<World>>,
    group: String,
    id: u64,
}

impl Membership {
    fn with(&self, act: impl FnOnce(&mut Member, &BTreeMap<Family, Topic>)) {
        let mut world = lock(&self.world);
        let World {
            members,
            topics,
            away,
            ..
        } = &mut *world;
        let member = members
            .get_mut(&self.group)
            .and_then(|members| members.iter_mut().find(|one| one.id == self.id));
        if let Some(member) = member {
            act(member, topics);
            if !*away {
                member.pump(topics);
            }
        }
    }
}

impl Control for Membership {
    fn start(&self, at: Vec<(Partition, u64, u64)>) {
        self.with(|member, _| {
            for (partition, offset, epoch) in at {
                if member.shared.open(partition, epoch) {
                    member
                        .next
                        .insert(partition, usize::try_from(offset).unwrap_or(usize::MAX));
                }
            }
        });
    }

    fn taken(&self) {
        self.with(|_, _| ());
    }

    fn give_up(&self, partition: Partition) {
        self.with(|member, _| {
            if member.owned.contains(&partition) {
                member.next.remove(&partition);
                member.shared.revoked(vec![partition]);
                member.shared.assigned(vec![partition]);
            }
        });
    }

    fn hint(&self, _at: Vec<(Partition, u64)>) {}
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        if let Some(members) = world.members.get_mut(&self.group) {
            members.retain(|member| member.id != self.id);
        }
        world.rebalance(&self.group);
    }
}
