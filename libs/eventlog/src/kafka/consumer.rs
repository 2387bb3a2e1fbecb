//! Following the log: one thread that polls, and nothing else touches its clients.
//!
//! One client belongs to the group and learns what this member is dealt, the other fetches. So the
//! group never waits for a reader that loads cursors: partitions are added to what is fetched
//! later, at real offsets, when the reader starts them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use runledger_domain::ids::Incarnation;
use runledger_domain::log::Partition;

use super::FOLLOWING;
use super::core::{Core, Seldom};
use super::fetcher::Fetcher;
use super::membership::{Membership, Named, Said};
use super::orders::{Desk, Handle};
use super::reader::{fault, is_out_of_range, stored};
use crate::error::Error;
use crate::subscription::{Level, Shared, Subscription, SubscriptionOptions, count};

/// How long one poll waits while nothing but messages and rebalances can come.
const POLL: Duration = Duration::from_millis(100);
/// How long one poll waits while the reader may start or make room for a partition.
const POLL_BUSY: Duration = Duration::from_millis(5);
/// How long the group is not looked at while there is something to fetch.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a partition that was given up is left alone, and between two tries after trouble.
const PAUSE: Duration = Duration::from_secs(1);

/// How often within how long a member that is fenced joins again.
const FENCED_MAX: usize = 3;
const FENCED_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn subscribe(
    core: &Arc<Core>,
    options: SubscriptionOptions,
) -> Result<Subscription, Error> {
    let refused = |source| Error::Refused {
        doing: FOLLOWING,
        source,
    };
    let membership = Membership::new(core, &options).map_err(|error| refused(error.into()))?;
    let fetcher = Fetcher::new(core, &options).map_err(|error| refused(error.into()))?;
    let shared = Shared::new(&options);
    let desk = Arc::new(Desk::default());
    let member = Member {
        core: Arc::clone(core),
        membership,
        fenced: Vec::new(),
        glanced: Instant::now(),
        held: false,
        fetcher,
        shared: Arc::clone(&shared),
        desk: Arc::clone(&desk),
        partitions: BTreeMap::new(),
        unannounced: Vec::new(),
        retry_at: Instant::now(),
        paused: gauge!("eventlog_paused_partitions", "group" => options.group.clone()),
        seldom: Seldom::default(),
        options,
    };
    std::thread::Builder::new()
        .name("log-poll".into())
        .spawn(move || member.run())
        .map_err(|error| refused(error.into()))?;
    Ok(Subscription::new(shared, Box::new(Handle(desk))))
}

/// What this member does with a partition that the group gave it.
enum Fetch {
    /// Told to the reader, who has not started it yet.
    Waiting(Incarnation),
    Running {
        incarnation: Incarnation,
        next: u64,
        paused: bool,
    },
    /// Given up; told to the reader again after this, if it is still ours.
    Resting(Instant),
}

struct Member {
    core: Arc<Core>,
    options: SubscriptionOptions,
    membership: Membership,
    /// When it was fenced of late; no more than [`FENCED_MAX`] and one.
    fenced: Vec<Instant>,
    /// When the group was last looked at.
    glanced: Instant,
    /// The group is between two deals.
    held: bool,
    fetcher: Fetcher,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    partitions: BTreeMap<Partition, Fetch>,
    /// Assigned, but not told to the reader, because their Genesis could not be read yet.
    unannounced: Vec<Partition>,
    retry_at: Instant,
    paused: Gauge,
    seldom: Seldom,
}

/// Why the thread ends.
enum End {
    /// The reader is gone.
    Dropped,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Member {
    fn run(mut self) {
        let mut done = self.join();
        while done.is_ok() {
            done = self.turn();
        }
        if let Err(End::Failed(error)) = done {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a subscription failed"
            );
            self.shared.failed(error);
        }
        self.paused.set(0.0);
    }

    /// Reads the Genesis of every family afresh, waiting for Kafka if need be, then joins.
    fn join(&mut self) -> Result<(), End> {
        for family in self.options.families.clone() {
            while let Err(error) = self.core.load_genesis(family) {
                self.weather(error)?;
                if !self.desk.rest(PAUSE) {
                    return Err(End::Dropped);
                }
            }
        }
        self.join_group()
    }

    fn join_group(&self) -> Result<(), End> {
        let families = self.options.families.iter();
        let topics: Vec<&str> = families
            .map(|family| self.core.topics.name(*family))
            .collect();
        self.membership
            .join(&topics)
            .map_err(|error| fault(FOLLOWING, "", error))?;
        Ok(())
    }

    /// Lets weather pass, logged seldom.
    fn weather(&self, error: Error) -> Result<(), End> {
        if !error.is_weather() {
            return Err(End::Failed(error));
        }
        if self.seldom.now() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a subscription waits for Kafka"
            );
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), End> {
        self.obey()?;
        self.announce()?;
        let busy = self.resume()?;
        let wait = if busy || self.held { POLL_BUSY } else { POLL };
        if self.partitions.is_empty() {
            return self.follow_group(wait);
        }
        if self.glanced.elapsed() >= GLANCE {
            self.follow_group(Duration::ZERO)?;
        }
        self.fetch_one(wait)
    }

    fn fetch_one(&mut self, wait: Duration) -> Result<(), End> {
        match self.fetcher.poll(wait) {
            Some(Ok(message)) => {
                let full = queue(&self.core, &self.shared, &mut self.partitions, &message);
                drop(message);
                full.map_or(Ok(()), |partition| self.pause(partition))
            }
            Some(Err(error)) => self.judge(error),
            None => Ok(()),
        }
    }

    fn obey(&mut self) -> Result<(), End> {
        let orders = self.desk.take();
        if orders.end {
            return Err(End::Dropped);
        }
        for (partition, (offset, epoch)) in orders.start {
            self.start(partition, offset, epoch)?;
        }
        for partition in orders.give_up {
            self.give_up(partition)?;
        }
        if let (Membership::Group(_), false) = (&self.membership, orders.hint.is_empty()) {
            self.fetcher.hint(orders.hint);
        }
        Ok(())
    }
}

/// Moves of partitions.
impl Member {
    fn follow_group(&mut self, wait: Duration) -> Result<(), End> {
        let polled = self.membership.poll(wait);
        self.glanced = Instant::now();
        match polled {
            Ok(Some(Said::Hold)) => {
                self.hold(true);
                Ok(())
            }
            Ok(Some(Said::Dealt(dealt))) => self.follow_deal(&dealt),
            Ok(None) => Ok(()),
            Err(error) if is_fenced(&error) => self.rejoin(&error),
            Err(error) => self.judge(error),
        }
    }

    /// Joins anew as the same member. While a broker comes back, a join whose answer was lost is sent
    /// again, and the second fences the first: the same member. Two processes of one name fence each
    /// other too, again and again; that is for a person to mend.
    fn rejoin(&mut self, error: &KafkaError) -> Result<(), End> {
        let now = Instant::now();
        self.fenced
            .retain(|at| now.duration_since(*at) < FENCED_WITHIN);
        self.fenced.push(now);
        if self.fenced.len() > FENCED_MAX {
            return Err(End::Failed(Error::NameTaken {
                group: self.options.group.clone(),
                instance: self.options.instance.clone(),
            }));
        }
        tracing::warn!(%error, "another has joined under this member's name; joining again");
        self.hold(true);
        self.membership = Membership::new(&self.core, &self.options)
            .map_err(|error| fault(FOLLOWING, "", error))?;
        self.join_group()
    }

    /// Lets go of what is no longer this member's, and takes up what is new. What stays is not
    /// disturbed.
    fn follow_deal(&mut self, dealt: &[Named]) -> Result<(), End> {
        let dealt = self.ours(dealt);
        let mut gone = Vec::new();
        for (partition, fetch) in &self.partitions {
            if !dealt.contains(partition) {
                if let Fetch::Running { .. } = fetch {
                    self.fetcher.remove(*partition)?;
                }
                gone.push(*partition);
            }
        }
        self.partitions
            .retain(|partition, _| dealt.contains(partition));
        self.unannounced
            .retain(|partition| dealt.contains(partition));
        for partition in dealt {
            if !self.partitions.contains_key(&partition) && !self.unannounced.contains(&partition) {
                self.unannounced.push(partition);
            }
        }
        self.shared.revoked(gone);
        self.hold(false);
        self.count_paused();
        Ok(())
    }

    fn hold(&mut self, held: bool) {
        self.held = held;
        self.shared.hold(held);
    }

    fn ours(&self, named: &[Named]) -> Vec<Partition> {
        let ours = |(topic, number): &Named| {
            Some(Partition {
                family: self.core.topics.family(topic)?,
                number: u32::try_from(*number).ok()?,
            })
        };
        named.iter().filter_map(ours).collect()
    }

    /// Tells the reader of new partitions, once their Genesis is known, and of those given up long
    /// enough ago.
    fn announce(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let mut ready = Vec::new();
        for (partition, fetch) in &self.partitions {
            if matches!(fetch, Fetch::Resting(until) if *until <= now) {
                ready.push(*partition);
            }
        }
        if now >= self.retry_at {
            ready.append(&mut self.unannounced);
        }
        let mut told = Vec::with_capacity(ready.len());
        for partition in ready {
            match self.incarnation(partition) {
                Ok(incarnation) => {
                    self.partitions
                        .insert(partition, Fetch::Waiting(incarnation));
                    told.push(partition);
                }
                Err(error) => {
                    self.weather(error)?;
                    self.partitions.remove(&partition);
                    self.unannounced.push(partition);
                    self.retry_at = Instant::now() + PAUSE;
                }
            }
        }
        self.shared.assigned(told);
        Ok(())
    }

    fn incarnation(&self, partition: Partition) -> Result<Incarnation, Error> {
        let genesis = match self.core.known_genesis(partition.family) {
            Some(genesis) => genesis,
            None => self.core.load_genesis(partition.family)?,
        };
        let genesis = genesis
            .get(partition.number as usize)
            .ok_or(Error::NoPartition(partition))?;
        Ok(genesis.incarnation)
    }

    fn start(&mut self, partition: Partition, offset: u64, epoch: u64) -> Result<(), End> {
        let Some(Fetch::Waiting(incarnation)) = self.partitions.get(&partition) else {
            return Ok(());
        };
        let incarnation = *incarnation;
        if self.shared.open(partition, epoch) {
            self.fetcher.add(partition, offset)?;
            let running = Fetch::Running {
                incarnation,
                next: offset,
                paused: false,
            };
            self.partitions.insert(partition, running);
        }
        Ok(())
    }

    /// Lets go of a partition whose cursor another owner moved. The group may still take it for
    /// ours: then the reader is offered it again, to load its cursor anew; if the group has long
    /// given it to another, it says so within a heartbeat.
    fn give_up(&mut self, partition: Partition) -> Result<(), End> {
        match self.partitions.get(&partition) {
            Some(Fetch::Running { .. }) => self.fetcher.remove(partition)?,
            Some(Fetch::Waiting(_)) => {}
            Some(Fetch::Resting(_)) | None => return Ok(()),
        }
        self.partitions
            .insert(partition, Fetch::Resting(Instant::now() + PAUSE));
        self.shared.revoked(vec![partition]);
        self.count_paused();
        Ok(())
    }
}

/// Flow.
impl Member {
    fn pause(&mut self, partition: Partition) -> Result<(), End> {
        if let Some(Fetch::Running { paused, .. }) = self.partitions.get_mut(&partition)
            && !std::mem::replace(paused, true)
        {
            self.fetcher.pause(partition)?;
            self.count_paused();
        }
        Ok(())
    }

    /// Resumes what has room again. Says whether the reader is expected to act soon.
    fn resume(&mut self) -> Result<bool, End> {
        let (mut busy, mut ready) = (false, Vec::new());
        for (partition, fetch) in &mut self.partitions {
            match fetch {
                Fetch::Running { paused, .. } if *paused => {
                    *paused = self.shared.level(*partition) != Some(Level::Low);
                    busy |= *paused;
                    if !*paused {
                        ready.push(*partition);
                    }
                }
                Fetch::Waiting(_) => busy = true,
                Fetch::Running { .. } | Fetch::Resting(_) => {}
            }
        }
        for partition in &ready {
            self.fetcher.resume(*partition)?;
        }
        if !ready.is_empty() {
            self.count_paused();
        }
        Ok(busy)
    }

    fn count_paused(&self) {
        let paused = |fetch: &&Fetch| matches!(fetch, Fetch::Running { paused: true, .. });
        self.paused
            .set(count(self.partitions.values().filter(paused).count()));
    }

    /// Decides whether trouble is weather. An offset that does not exist is not.
    fn judge(&mut self, error: KafkaError) -> Result<(), End> {
        if is_out_of_range(&error) {
            return self.find_out_of_range();
        }
        if let KafkaError::MessageConsumptionFatal(_) = error {
            return Err(End::Failed(Error::Refused {
                doing: FOLLOWING,
                source: error.into(),
            }));
        }
        match fault(FOLLOWING, "", error) {
            // Topics come and go in the metadata while brokers start.
            Error::NoTopic { .. } => Ok(()),
            error => self.weather(error),
        }
    }

    /// The error names no partition, so each is looked at. If all offsets exist after all (a
    /// broker that lagged behind), the partitions are added anew where they were.
    fn find_out_of_range(&self) -> Result<(), End> {
        for (partition, fetch) in &self.partitions {
            let Fetch::Running { next, .. } = fetch else {
                continue;
            };
            let (low, high) = match self.fetcher.watermarks(*partition) {
                Ok(found) => found,
                Err(error) => {
                    self.weather(error)?;
                    continue;
                }
            };
            if !(low..=high).contains(next) {
                return Err(End::Failed(Error::OffsetOutOfRange {
                    topic: self.core.topics.name(partition.family).to_owned(),
                    partition: partition.number,
                    offset: *next,
                }));
            }
        }
        for (partition, fetch) in &self.partitions {
            if let Fetch::Running {
                next,
                paused: false,
                ..
            } = fetch
            {
                self.fetcher.remove(*partition)?;
                self.fetcher.add(*partition, *next)?;
            }
        }
        Ok(())
    }
}

/// Another has joined the group under this member's name.
fn is_fenced(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::FencedInstanceId)
}

/// Queues a message; answers with its partition when that is full now.
fn queue(
    core: &Core,
    shared: &Shared,
    partitions: &mut BTreeMap<Partition, Fetch>,
    message: &BorrowedMessage<'_>,
) -> Option<Partition> {
    let family = core.topics.family(message.topic())?;
    let partition = Partition {
        family,
        number: u32::try_from(message.partition()).ok()?,
    };
    let Some(Fetch::Running {
        incarnation, next, ..
    }) = partitions.get_mut(&partition)
    else {
        return None;
    };
    let offset = u64::try_from(message.offset()).ok()?;
    // Fetched twice, around a pause: the reader has it.
    if offset < *next {
        return None;
    }
    *next = offset + 1;
    let level = shared.push(stored(message, partition, *incarnation))?;
    (level == Level::Full).then_some(partition)
}
