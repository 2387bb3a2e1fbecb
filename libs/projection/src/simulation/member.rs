//! What Kafka's poll thread does for one member: hears of deals, follows the reader's orders,
//! fetches, and rests. Each turn comes when the lots say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runledger_domain::log::Partition;
use runledger_eventlog::Error;
use runledger_eventlog::driver::{Control, Level, Shared};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::chance::Fault;
use super::log::Broker;
use super::process::Process;

/// How long a partition that was given up is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Between the reader and its driver.
#[derive(Default)]
pub(super) struct Desk {
    orders: Mutex<Orders>,
    pub(super) called: Arc<Notify>,
}

#[derive(Default)]
struct Orders {
    start: BTreeMap<Partition, (u64, u64)>,
    give_up: BTreeSet<Partition>,
    end: bool,
}

impl Desk {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders());
        self.called.notify_one();
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Orders {
        std::mem::take(&mut *self.orders())
    }
}

/// The reader's side.
pub(super) struct Handle(pub(super) Arc<Desk>);

impl Control for Handle {
    fn start(&self, at: Vec<(Partition, u64, u64)>) {
        let start = at
            .into_iter()
            .map(|(one, offset, epoch)| (one, (offset, epoch)));
        self.0.order(|orders| orders.start.extend(start));
    }

    fn taken(&self) {
        self.0.called.notify_one();
    }

    fn give_up(&self, partition: Partition) {
        self.0.order(|orders| {
            orders.give_up.insert(partition);
        });
    }

    fn hint(&self, _at: Vec<(Partition, u64)>) {}
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.order(|orders| orders.end = true);
    }
}

enum Fetch {
    /// Told to the reader, who has not started it yet.
    Waiting,
    Running {
        next: u64,
        paused: bool,
    },
    Resting(Instant),
}

pub(super) struct Driver {
    broker: Arc<Broker>,
    process: Arc<Process>,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// `None`: alone.
    seat: Option<u64>,
    /// The deal that was followed last.
    deal: u64,
    partitions: BTreeMap<Partition, Fetch>,
}

impl Driver {
    pub(super) fn new(
        broker: Arc<Broker>,
        process: Arc<Process>,
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        alone: Option<Vec<Partition>>,
    ) -> Self {
        let seat = alone.is_none().then(|| broker.join(&process.instance));
        process.sits(seat);
        let own: Vec<Partition> = alone.into_iter().flatten().collect();
        shared.assigned(own.clone());
        Self {
            broker,
            process,
            shared,
            desk,
            seat,
            deal: 0,
            partitions: own.into_iter().map(|one| (one, Fetch::Waiting)).collect(),
        }
    }

    pub(super) async fn drive(mut self) {
        let mut more = false;
        loop {
            if !more {
                self.wait().await;
            }
            self.broker.chance.pause(40).await;
            // Orders may be read late: what happened since must count.
            let late = self.broker.chance.draw(0..4) == 0;
            if !late && !self.obey() {
                if let Some(seat) = self.seat {
                    self.broker.leave(seat);
                }
                return;
            }
            self.follow_group().await;
            self.announce();
            let fetched = !self.broker.is_away() && self.fetch();
            more = late || fetched;
        }
    }

    async fn wait(&self) {
        let until = |fetch: &Fetch| match fetch {
            Fetch::Resting(until) => Some(*until),
            Fetch::Waiting | Fetch::Running { .. } => None,
        };
        let rested = self.partitions.values().filter_map(until).min();
        match rested {
            Some(rested) => tokio::select! {
                biased;
                () = self.desk.called.notified() => {}
                () = sleep_until(rested) => {}
            },
            None => self.desk.called.notified().await,
        }
    }

    /// Whether the reader is still there.
    fn obey(&mut self) -> bool {
        let orders = self.desk.take();
        for (partition, (offset, epoch)) in orders.start {
            let waits = matches!(self.partitions.get(&partition), Some(Fetch::Waiting));
            if waits && self.shared.open(partition, epoch) {
                let running = Fetch::Running {
                    next: offset,
                    paused: false,
                };
                self.partitions.insert(partition, running);
            }
        }
        for partition in orders.give_up {
            let is_resting = matches!(self.partitions.get(&partition), Some(Fetch::Resting(_)));
            if self.partitions.contains_key(&partition) && !is_resting {
                let rest = Fetch::Resting(Instant::now() + PAUSE);
                self.partitions.insert(partition, rest);
                self.shared.revoked(vec![partition]);
            }
        }
        !orders.end
    }

    async fn follow_group(&mut self) {
        let Some(seat) = self.seat else { return };
        let chance = Arc::clone(&self.broker.chance);
        match self.broker.dealt(seat) {
            Some((deal, _)) if deal == self.deal => return,
            Some(_) => {}
            None => {
                // Taken for dead: it hears of it now, and joins again.
                self.shared.hold(true);
                chance.pause(200).await;
                let seat = self.broker.join(&self.process.instance);
                self.process.sits(Some(seat));
                self.seat = Some(seat);
            }
        }
        if chance.strikes(Fault::DealHeardLate) {
            chance.rest(0, 8_000).await;
        }
        self.shared.hold(true);
        chance.pause(500).await;
        let dealt = self.seat.and_then(|seat| self.broker.dealt(seat));
        if let Some((deal, dealt)) = dealt {
            self.deal = deal;
            self.take_in(&dealt);
            self.shared.hold(false);
        }
        self.desk.called.notify_one();
    }

    fn take_in(&mut self, dealt: &BTreeSet<Partition>) {
        let gone = |one: &&Partition| !dealt.contains(one);
        let gone: Vec<Partition> = self.partitions.keys().filter(gone).copied().collect();
        self.partitions.retain(|one, _| dealt.contains(one));
        let is_new = |one: &&Partition| !self.partitions.contains_key(one);
        let new: Vec<Partition> = dealt.iter().filter(is_new).copied().collect();
        self.partitions
            .extend(new.iter().map(|one| (*one, Fetch::Waiting)));
        self.shared.revoked(gone);
        self.shared.assigned(new);
    }

    fn announce(&mut self) {
        let mut rested = Vec::new();
        for (partition, fetch) in &mut self.partitions {
            if matches!(fetch, Fetch::Resting(until) if *until <= Instant::now()) {
                *fetch = Fetch::Waiting;
                rested.push(*partition);
            }
        }
        self.shared.assigned(rested);
    }

    /// Whether there is more to be fetched at once.
    fn fetch(&mut self) -> bool {
        let mut more = false;
        for (partition, fetch) in &mut self.partitions {
            let Fetch::Running { next, paused } = fetch else {
                continue;
            };
            let level = self.shared.level(*partition);
            if *paused && level != Some(Level::Low) {
                continue;
            }
            *paused = level == Some(Level::Full);
            if *paused {
                continue;
            }
            // A fetch ends where it likes.
            let some = self.broker.chance.draw(1..9) as usize;
            let Some(records) = self.broker.records(*partition, *next, some) else {
                self.shared.failed(Error::OffsetOutOfRange {
                    topic: "simulated.run.v1".to_owned(),
                    partition: partition.number,
                    offset: *next,
                });
                continue;
            };
            more |= records.len() == some;
            for record in records {
                *next = record.position.offset + 1;
                *paused |= self.shared.push(record) == Some(Level::Full);
            }
        }
        more
    }
}
