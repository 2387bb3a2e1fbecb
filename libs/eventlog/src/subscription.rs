//! Following the log, as a member of a group or alone.
//!
//! The driver (Kafka's poll thread, or the twin) pushes into [`Shared`]; the reader takes from it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};
use runledger_domain::log::{Family, Partition};
use runledger_domain::time::Timestamp;
use tokio::sync::Notify;

use crate::error::Error;
use crate::stored::Stored;

/// How many records in a row are taken from one partition before the next has its turn.
const TURN_RECORDS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Members of one group share the partitions.
    pub group: String,
    /// This member's name in the group, the same after a restart: its partitions wait for it.
    pub instance: String,
    pub families: Vec<Family>,
    /// Some: these partitions and no others, whoever else reads them; no group hears of it.
    pub alone: Option<Vec<Partition>>,
    /// A partition's queue is full with this many records, at least 1.
    pub queue_records: usize,
    /// A partition's queue is full with this many bytes of keys and values, at least 1.
    pub queue_bytes: usize,
}

impl SubscriptionOptions {
    /// Queues of 4,096 records or 4 MiB a partition.
    pub fn new(group: impl Into<String>, instance: impl Into<String>, families: &[Family]) -> Self {
        Self {
            group: group.into(),
            instance: instance.into(),
            families: families.to_vec(),
            alone: None,
            queue_records: 4_096,
            queue_bytes: 4 << 20,
        }
    }

    /// Follows these partitions by itself. `name` labels its metrics and logs.
    pub fn alone(name: impl Into<String>, partitions: Vec<Partition>) -> Self {
        let mut families: Vec<Family> = partitions.iter().map(|one| one.family).collect();
        families.dedup();
        Self {
            alone: Some(partitions),
            ..Self::new(name, "alone", &families)
        }
    }
}

/// What a member of a group is told.
#[derive(Debug)]
pub enum Event {
    /// These are this member's now. Load their cursors, then [`Subscription::start`] them.
    Assigned(Vec<Partition>),
    /// These are no longer this member's; what was queued of them is gone.
    Revoked(Vec<Partition>),
    /// Something can be taken. Told once for everything queued since the last time, and again
    /// after a `take` that left something.
    Records,
    /// This subscription cannot go on; drop it.
    Failed(Error),
}

/// How a [`Subscription`] speaks to its driver. Dropping it ends the membership.
pub trait Control: Send + Sync {
    /// Begin to fetch; the epoch tells which assignment is meant.
    fn start(&self, at: Vec<(Partition, u64, u64)>);
    /// Room was made.
    fn taken(&self);
    fn give_up(&self, partition: Partition);
    fn hint(&self, at: Vec<(Partition, u64)>);
}

/// A member of a group. Dropping it leaves the group without blocking for long.
pub struct Subscription {
    shared: Arc<Shared>,
    control: Box<dyn Control>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Subscription {
    /// A member whose driver is at the other end of `shared` and of `control`.
    pub fn new(shared: Arc<Shared>, control: Box<dyn Control>) -> Self {
        Self { shared, control }
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.shared.next_event() {
                return event;
            }
            self.shared.changed.notified().await;
        }
    }

    /// Resolves when anything has come since records were taken last, be it an event. Cancel safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Begins to fetch partitions of the last [`Event::Assigned`], each at the offset given.
    /// A partition that was revoked since, or was started before, is left out silently.
    pub fn start(&self, at: Vec<(Partition, u64)>) {
        let at = self.shared.admit(at);
        if !at.is_empty() {
            self.control.start(at);
        }
    }

    /// Takes what is queued, at most this many records and bytes (but always one record if there
    /// is one): round robin over the partitions, in order inside each.
    pub fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Stored> {
        let taken = self.shared.take(records_max, bytes_max);
        if !taken.is_empty() {
            self.control.taken();
        }
        taken
    }

    /// When the oldest record that is still queued was recorded, for each partition that has one.
    pub fn head_recorded(&self) -> Vec<(Partition, Option<Timestamp>)> {
        let state = self.shared.lock();
        let head = |(partition, queue): (&Partition, &Queue)| {
            Some((*partition, queue.records.front()?.log_timestamp))
        };
        state.queues.iter().filter_map(head).collect()
    }

    /// Stops fetching a partition whose ownership was lost. [`Event::Revoked`] follows at once, and
    /// after a second, if the group still says that it is this member's, [`Event::Assigned`].
    pub fn give_up(&self, partition: Partition) {
        self.control.give_up(partition);
    }

    /// Tells Kafka how far this member has come: next offsets. For lag tools; nothing reads it back.
    pub fn hint(&self, at: Vec<(Partition, u64)>) {
        self.control.hint(at);
    }
}

/// What driver and reader share: the driver tells of partitions, opens those that were started and
/// pushes their records in order.
pub struct Shared {
    state: Mutex<State>,
    changed: Notify,
    records_max: usize,
    bytes_max: usize,
    depth: Gauge,
    rebalances: Counter,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Records were queued and the reader has not been told.
    fresh: bool,
    queues: BTreeMap<Partition, Queue>,
    queued: usize,
    /// The partition whose turn was last.
    last: Option<Partition>,
    /// Counts assignments: a `start` must not be taken for a later assignment of the partition.
    epoch: u64,
    assigned: BTreeMap<Partition, Assignment>,
    /// The group is about to say anew whose the partitions are; nothing is taken until then.
    held: bool,
}

struct Assignment {
    epoch: u64,
    /// The reader has been told and has not yet started it.
    told: bool,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Stored>,
    bytes: usize,
}

/// How full a partition's queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Below half.
    Low,
    Half,
    Full,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Empty queues of the size that the options say.
    pub fn new(options: &SubscriptionOptions) -> Arc<Self> {
        let group = options.group.clone();
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            records_max: options.queue_records.max(1),
            bytes_max: options.queue_bytes.max(1),
            depth: gauge!("eventlog_queue_records", "group" => group.clone()),
            rebalances: counter!("eventlog_rebalances_total", "group" => group),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant spans a panic here: nothing inside a lock calls out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the reader of partitions that are its own from now on.
    pub fn assigned(&self, partitions: Vec<Partition>) {
        if partitions.is_empty() {
            return;
        }
        let mut state = self.lock();
        for partition in &partitions {
            state.epoch += 1;
            let assignment = Assignment {
                epoch: state.epoch,
                told: false,
            };
            state.assigned.insert(*partition, assignment);
        }
        state.events.push_back(Event::Assigned(partitions));
        drop(state);
        self.rebalances.increment(1);
        self.changed.notify_one();
    }

    /// Forgets partitions and what is queued of them. Those of which the reader has not yet heard
    /// are dropped from what it will hear, which also bounds the events.
    pub fn revoked(&self, mut partitions: Vec<Partition>) {
        let mut state = self.lock();
        partitions.retain(|partition| state.assigned.remove(partition).is_some());
        for partition in &partitions {
            let dropped = state
                .queues
                .remove(partition)
                .map_or(0, |queue| queue.records.len());
            state.queued -= dropped;
        }
        for event in &mut state.events {
            if let Event::Assigned(unheard) = event {
                unheard.retain(|one| {
                    let at = partitions.iter().position(|partition| partition == one);
                    at.map(|at| partitions.swap_remove(at)).is_none()
                });
            }
        }
        state
            .events
            .retain(|event| !matches!(event, Event::Assigned(none) if none.is_empty()));
        self.depth.set(count(state.queued));
        if !partitions.is_empty() {
            state.events.push_back(Event::Revoked(partitions));
        }
        drop(state);
        self.rebalances.increment(1);
        self.changed.notify_one();
    }

    /// Begins or ends a time in which queued records stay where they are, so that those whose
    /// partition moves are not applied by two.
    pub fn hold(&self, held: bool) {
        self.lock().held = held;
        self.changed.notify_one();
    }

    /// Tells the reader that it cannot go on.
    pub fn failed(&self, error: Error) {
        self.lock().events.push_back(Event::Failed(error));
        self.changed.notify_one();
    }

    /// Makes room for a partition that is to be fetched now; false if it was revoked meanwhile.
    pub fn open(&self, partition: Partition, epoch: u64) -> bool {
        let mut state = self.lock();
        let current = state
            .assigned
            .get(&partition)
            .is_some_and(|assignment| assignment.epoch == epoch);
        if current {
            state.queues.entry(partition).or_default();
        }
        current
    }

    /// Queues a record, also beyond full (a record that was fetched must not be lost); `None` if
    /// its partition is not open.
    pub fn push(&self, record: Stored) -> Option<Level> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let queue = state.queues.get_mut(&record.position.partition)?;
        queue.bytes += record.bytes();
        queue.records.push_back(record);
        let level = self.level_of(queue);
        state.queued += 1;
        let told = std::mem::replace(&mut state.fresh, true);
        self.depth.set(count(state.queued));
        drop(guard);
        if !told {
            self.changed.notify_one();
        }
        Some(level)
    }

    /// `None`: not open.
    pub fn level(&self, partition: Partition) -> Option<Level> {
        self.lock()
            .queues
            .get(&partition)
            .map(|queue| self.level_of(queue))
    }

    fn level_of(&self, queue: &Queue) -> Level {
        if queue.records.len() >= self.records_max || queue.bytes >= self.bytes_max {
            Level::Full
        } else if queue.records.len() * 2 >= self.records_max || queue.bytes * 2 >= self.bytes_max {
            Level::Half
        } else {
            Level::Low
        }
    }

    fn next_event(&self) -> Option<Event> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(event) = state.events.pop_front() {
            if let Event::Assigned(partitions) = &event {
                for partition in partitions {
                    if let Some(assignment) = state.assigned.get_mut(partition) {
                        assignment.told = true;
                    }
                }
            }
            return Some(event);
        }
        let tell = !state.held && std::mem::take(&mut state.fresh) && state.queued > 0;
        tell.then_some(Event::Records)
    }

    fn admit(&self, at: Vec<(Partition, u64)>) -> Vec<(Partition, u64, u64)> {
        let mut state = self.lock();
        let admit = |(partition, offset)| {
            let assignment = state.assigned.get_mut(&partition)?;
            std::mem::take(&mut assignment.told).then_some((partition, offset, assignment.epoch))
        };
        at.into_iter().filter_map(admit).collect()
    }

    fn take(&self, records_max: usize, bytes_max: usize) -> Vec<Stored> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut taken = Vec::with_capacity(records_max.min(state.queued));
        let mut bytes = 0;
        let mut full = false;
        while !state.held && !full && taken.len() < records_max && taken.len() < state.queued {
            let Some(partition) = next_in_turn(&state.queues, state.last) else {
                break;
            };
            state.last = Some(partition);
            let Some(queue) = state.queues.get_mut(&partition) else {
                break;
            };
            for _ in 0..TURN_RECORDS.min(records_max - taken.len()) {
                let Some(size) = queue.records.front().map(Stored::bytes) else {
                    break;
                };
                full = !taken.is_empty() && bytes + size > bytes_max;
                if full {
                    break;
                }
                bytes += size;
                queue.bytes -= size;
                taken.extend(queue.records.pop_front());
            }
        }
        state.queued -= taken.len();
        state.fresh = state.queued > 0;
        let wake = state.fresh;
        self.depth.set(count(state.queued));
        drop(guard);
        if wake {
            self.changed.notify_one();
        }
        taken
    }
}

/// The partition with records that comes after `last`, beginning again after the end.
fn next_in_turn(queues: &BTreeMap<Partition, Queue>, last: Option<Partition>) -> Option<Partition> {
    let filled = |(partition, queue): (&Partition, &Queue)| {
        (!queue.records.is_empty()).then_some(*partition)
    };
    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
    queues
        .range((after, Bound::Unbounded))
        .find_map(filled)
        .or_else(|| queues.iter().find_map(filled))
}

/// A count as a metric.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
pub(crate) fn count(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runledger_domain::ids::Incarnation;
    use runledger_domain::log::Position;

    use super::*;
    use crate::stored::HeaderFault;

    fn partition(number: u32) -> Partition {
        Partition {
            family: Family::Run,
            number,
        }
    }

    fn record(number: u32, offset: u64) -> Stored {
        let incarnation = Incarnation::new(uuid::Uuid::nil());
        Stored {
            position: Position {
                partition: partition(number),
                incarnation,
                offset,
            },
            key: Bytes::new(),
            value: Bytes::from_static(&[0; 10]),
            headers: Err(HeaderFault::Missing("kind")),
            log_timestamp: None,
        }
    }

    /// A member that owns partitions 0 to 2 and has started them.
    fn shared(records_max: usize) -> Arc<Shared> {
        let mut options = SubscriptionOptions::new("g", "i", &[Family::Run]);
        options.queue_records = records_max;
        let shared = Shared::new(&options);
        let partitions: Vec<_> = (0..3).map(partition).collect();
        shared.assigned(partitions.clone());
        assert!(matches!(shared.next_event(), Some(Event::Assigned(told)) if told == partitions));
        for (partition, _, epoch) in shared.admit(partitions.iter().map(|one| (*one, 0)).collect())
        {
            assert!(shared.open(partition, epoch));
        }
        shared
    }

    #[test]
    fn partitions_take_turns_and_keep_their_order() {
        let shared = shared(1_000);
        for offset in 0..200 {
            shared.push(record(0, offset));
        }
        shared.push(record(2, 0));
        let taken = shared.take(100, usize::MAX);
        let numbers: Vec<_> = taken
            .iter()
            .map(|one| one.position.partition.number)
            .collect();
        assert_eq!(numbers, [vec![0; 64], vec![2], vec![0; 35]].concat());
        let rest = shared.take(usize::MAX, usize::MAX);
        let offsets: Vec<_> = taken
            .iter()
            .chain(&rest)
            .filter(|one| one.position.partition == partition(0))
            .map(|one| one.position.offset)
            .collect();
        assert_eq!(offsets, (0..200).collect::<Vec<_>>());
        assert!(shared.take(1, 1).is_empty());
    }

    #[test]
    fn a_take_is_bounded_in_bytes_but_takes_one() {
        let shared = shared(1_000);
        for offset in 0..10 {
            shared.push(record(1, offset));
        }
        assert_eq!(shared.take(100, 35).len(), 3);
        assert_eq!(shared.take(100, 1).len(), 1);
        assert_eq!(shared.take(0, 100).len(), 0);
    }

    #[test]
    fn records_are_told_once_and_again_when_some_are_left() {
        let shared = shared(1_000);
        assert!(shared.next_event().is_none());
        shared.push(record(0, 0));
        shared.push(record(0, 1));
        assert!(matches!(shared.next_event(), Some(Event::Records)));
        assert!(shared.next_event().is_none());
        assert_eq!(shared.take(1, 100).len(), 1);
        assert!(matches!(shared.next_event(), Some(Event::Records)));
        assert_eq!(shared.take(1, 100).len(), 1);
        assert!(shared.next_event().is_none());
    }

    #[test]
    fn a_queue_is_full_low_again_and_never_drops() {
        let shared = shared(4);
        let levels: Vec<_> = (0..5)
            .map(|offset| shared.push(record(0, offset)).unwrap())
            .collect();
        assert_eq!(
            levels,
            [
                Level::Low,
                Level::Half,
                Level::Half,
                Level::Full,
                Level::Full
            ]
        );
        assert_eq!(shared.take(4, 100).len(), 4);
        assert_eq!(shared.level(partition(0)), Some(Level::Low));
        assert_eq!(shared.push(record(9, 0)), None);
    }

    #[test]
    fn a_start_for_an_earlier_assignment_is_nothing() {
        let shared = shared(4);
        let one = partition(0);
        shared.push(record(0, 0));
        shared.revoked(vec![one]);
        shared.assigned(vec![one]);
        assert!(matches!(shared.next_event(), Some(Event::Revoked(told)) if told == [one]));
        // Told of neither the new assignment nor its records.
        assert!(shared.admit(vec![(one, 7)]).is_empty());
        assert!(shared.take(10, 100).is_empty());
        assert!(matches!(shared.next_event(), Some(Event::Assigned(told)) if told == [one]));
        let [(_, 7, epoch)] = shared.admit(vec![(one, 7)])[..] else {
            panic!()
        };
        shared.revoked(vec![one]);
        assert!(!shared.open(one, epoch));
    }

    #[test]
    fn what_came_and_went_unheard_is_not_told() {
        let shared = shared(4);
        shared.assigned(vec![partition(5)]);
        shared.revoked(vec![partition(5)]);
        assert!(shared.next_event().is_none());
    }
}
