//! A log with a group that is dealt its partitions, whose appends and deals go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use runledger_domain::digest::Digest;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{
    Family, Genesis, HASH_VERSION, Kind, Partition, Position, Record, partition_of,
};
use runledger_domain::time::Clock;
use runledger_eventlog::driver::Shared;
use runledger_eventlog::{
    Entry, Error, Headers, Log, Outcome, Reports, Stored, Subscription, SubscriptionOptions,
};
use runledger_proto::{encode, types};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::book::{self, Book};
use super::chance::{Chance, Fault, Watch};
use super::member::{Desk, Driver};
use super::process::Process;

pub(super) const PARTITIONS: u32 = 3;
/// How long a member may be silent before its partitions are given to others.
pub(super) const SESSION: Duration = Duration::from_secs(6);

pub(super) fn partition(number: u32) -> Partition {
    Partition {
        family: Family::Run,
        number,
    }
}

pub(super) fn partitions() -> Vec<Partition> {
    (0..PARTITIONS).map(partition).collect()
}

/// The log and its group.
pub(super) struct Broker {
    pub(super) chance: Arc<Chance>,
    state: Mutex<State>,
}

struct State {
    genesis: Vec<Genesis>,
    records: Vec<Vec<Stored>>,
    books: Vec<Book>,
    identities: BTreeSet<(u32, book::Identity)>,
    seats: BTreeMap<u64, Seat>,
    seats_made: u64,
    /// Who sits first at the next deal.
    turn: u64,
    deals: u64,
    drivers: Vec<Arc<Notify>>,
    away: bool,
}

/// A member as the group knows it.
struct Seat {
    instance: String,
    dealt: BTreeSet<Partition>,
    deal: u64,
}

impl Broker {
    pub(super) fn new(chance: Arc<Chance>) -> Arc<Self> {
        let state = State {
            genesis: Vec::new(),
            records: vec![Vec::new(); PARTITIONS as usize],
            books: vec![Book::default(); PARTITIONS as usize],
            identities: BTreeSet::new(),
            seats: BTreeMap::new(),
            seats_made: 0,
            turn: 0,
            deals: 0,
            drivers: Vec::new(),
            away: false,
        };
        let broker = Arc::new(Self {
            chance,
            state: Mutex::new(state),
        });
        for number in 0..PARTITIONS {
            broker.begin(number);
        }
        broker
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a Genesis; all but the first of a partition are to be ignored.
    pub(super) fn begin(&self, number: u32) {
        let id = Uuid::from_u128(self.chance.draw(0..u64::MAX).into());
        let genesis = Genesis {
            incarnation: Incarnation::new(id),
            topic: "simulated.run.v1".to_owned(),
            partition: number,
            partition_count: PARTITIONS,
            hash_version: HASH_VERSION,
        };
        let value = encode::genesis(&genesis, Watch(Arc::clone(&self.chance)).now());
        let headers = Headers {
            kind: Kind::Genesis,
            type_name: types::GENESIS.into(),
            scope: None,
            prev: None,
            trace: None,
        };
        let mut state = self.lock();
        if state.books[number as usize].lines.is_empty() {
            state.genesis.push(genesis);
        }
        drop(state);
        self.land(number, &[], value, headers, id);
    }

    fn land(
        &self,
        number: u32,
        key: &[u8],
        value: Vec<u8>,
        headers: Headers,
        id: Uuid,
    ) -> Position {
        let mut state = self.lock();
        let at = number as usize;
        let entry = book::Entry {
            kind: headers.kind,
            key,
            value: &value,
            prev: headers.prev,
            id,
        };
        let void = state.books[at].write(&entry);
        let copied = !state.identities.insert((number, (key.to_vec(), id)));
        let position = Position {
            partition: partition(number),
            incarnation: state.genesis[at].incarnation,
            offset: state.records[at].len() as u64,
        };
        state.records[at].push(Stored {
            position,
            key: Bytes::copy_from_slice(key),
            value: value.into(),
            headers: Ok(headers),
            log_timestamp: Some(Watch(Arc::clone(&self.chance)).now()),
        });
        state.call_drivers();
        drop(state);
        if void {
            self.chance.saw(Fault::Void);
        }
        if copied {
            self.chance.saw(Fault::Copied);
        }
        self.chance.scheduler.note((number, position.offset, id));
        position
    }

    fn append(&self, entry: Entry) -> Position {
        let Entry { record, prev, .. } = entry;
        let key = record.stream.key(record.scope);
        let headers = Headers {
            kind: record.kind,
            type_name: record.type_name.clone(),
            scope: Some(record.scope),
            prev,
            trace: None,
        };
        let (id, number) = (record.id.as_uuid(), Self::number_of(&record));
        self.land(number, key.as_bytes(), encode::record(record), headers, id)
    }

    pub(super) fn number_of(record: &Record) -> u32 {
        partition_of(&record.stream.key(record.scope), PARTITIONS)
    }

    pub(super) fn chain_head(&self, number: u32) -> Option<Digest> {
        self.lock().books[number as usize].chain_head()
    }

    pub(super) fn with_book<T>(&self, partition: Partition, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.lock().books[partition.number as usize])
    }

    /// Records from `from` on, at most `max`; `None`: there is no such offset.
    pub(super) fn records(&self, of: Partition, from: u64, max: usize) -> Option<Vec<Stored>> {
        let state = self.lock();
        let records = state.records[of.number as usize].get(from as usize..)?;
        Some(records.iter().take(max).cloned().collect())
    }

    pub(super) fn set_away(&self, away: bool) {
        let mut state = self.lock();
        state.away = away;
        state.call_drivers();
    }

    pub(super) fn is_away(&self) -> bool {
        self.lock().away
    }
}

/// The group.
impl Broker {
    /// A seat in the group. One that has the same name is taken over with what it was dealt.
    pub(super) fn join(&self, instance: &str) -> u64 {
        let mut state = self.lock();
        state.seats_made += 1;
        let id = state.seats_made;
        let old = state
            .seats
            .iter()
            .find(|(_, seat)| seat.instance == instance);
        let old = old.map(|(id, _)| *id);
        let dealt = old.and_then(|old| Some(state.seats.remove(&old)?.dealt));
        let is_back = dealt.is_some();
        let deal = state.deals;
        let seat = Seat {
            instance: instance.to_owned(),
            dealt: dealt.unwrap_or_default(),
            deal,
        };
        state.seats.insert(id, seat);
        if is_back {
            state.call_drivers();
        } else {
            state.deal();
        }
        id
    }

    /// Takes a member for dead that has not been heard of.
    pub(super) fn expel(&self, seat: u64) -> bool {
        let mut state = self.lock();
        let gone = state.seats.remove(&seat).is_some();
        if gone {
            state.deal();
        }
        gone
    }

    /// Once the session is over, unless another has taken the seat.
    pub(super) fn leave(self: &Arc<Self>, seat: u64) {
        let broker = Arc::clone(self);
        self.chance.scheduler.spawn(async move {
            sleep(SESSION).await;
            broker.expel(seat);
        });
    }

    /// Deals everything anew and otherwise.
    pub(super) fn shuffle(&self) {
        let mut state = self.lock();
        state.turn += 1;
        state.deal();
    }

    /// What a seat was dealt last; `None`: it is no longer one.
    pub(super) fn dealt(&self, seat: u64) -> Option<(u64, BTreeSet<Partition>)> {
        let state = self.lock();
        let seat = state.seats.get(&seat)?;
        Some((seat.deal, seat.dealt.clone()))
    }
}

impl State {
    fn call_drivers(&self) {
        for driver in &self.drivers {
            driver.notify_one();
        }
    }

    fn deal(&mut self) {
        self.deals += 1;
        let deal = self.deals;
        let mut order: Vec<u64> = self.seats.keys().copied().collect();
        let count = order.len();
        if count > 0 {
            order.rotate_left(self.turn as usize % count);
        }
        for (place, id) in order.iter().enumerate() {
            let mine = (0..PARTITIONS).filter(|number| *number as usize % count == place);
            if let Some(seat) = self.seats.get_mut(id) {
                seat.dealt = mine.map(partition).collect();
                seat.deal = deal;
            }
        }
        self.call_drivers();
    }
}

/// The log as one process has it.
pub(super) struct Client {
    pub(super) broker: Arc<Broker>,
    pub(super) process: Arc<Process>,
}

#[async_trait]
impl Log for Client {
    async fn genesis(&self, _family: Family) -> Result<Arc<[Genesis]>, Error> {
        Ok(self.broker.lock().genesis.clone().into())
    }

    async fn hand_over(&self, entries: Vec<Entry>, _deadline: Instant) -> Result<Reports, Error> {
        let (broker, chance) = (&self.broker, &self.broker.chance);
        chance.pause(20).await;
        if broker.is_away() || chance.strikes(Fault::AppendRefused) {
            return Err(Error::Unavailable {
                doing: "appending",
                source: None,
            });
        }
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            // What others append comes in between.
            chance.pause(10).await;
            if chance.strikes(Fault::RecordLost) {
                outcomes.push(Outcome::Unknown);
            } else if chance.strikes(Fault::LandedLate) {
                let (broker, late) = (Arc::clone(broker), chance.draw(1..8_000));
                chance.scheduler.spawn(async move {
                    sleep(Duration::from_millis(late)).await;
                    broker.append(entry);
                });
                outcomes.push(Outcome::Unknown);
            } else if chance.strikes(Fault::AcknowledgementLost) {
                broker.append(entry);
                outcomes.push(Outcome::Unknown);
            } else {
                outcomes.push(Outcome::Accepted(broker.append(entry)));
            }
        }
        let late_ms = if chance.strikes(Fault::AcknowledgedLate) {
            chance.draw(0..3_000)
        } else {
            0
        };
        Ok(Box::pin(async move {
            sleep(Duration::from_millis(late_ms)).await;
            outcomes
        }))
    }

    async fn watermark(&self, partition: Partition) -> Result<u64, Error> {
        Ok(self.broker.with_book(partition, Book::len))
    }

    fn subscribe(&self, options: SubscriptionOptions) -> Result<Subscription, Error> {
        let shared = Shared::new(&options);
        let desk = Arc::new(Desk::default());
        self.broker.lock().drivers.push(Arc::clone(&desk.called));
        desk.called.notify_one();
        let driver = Driver::new(
            Arc::clone(&self.broker),
            Arc::clone(&self.process),
            Arc::clone(&shared),
            Arc::clone(&desk),
            options.alone,
        );
        self.process
            .drives(self.broker.chance.scheduler.spawn(driver.drive()));
        Ok(Subscription::new(
            shared,
            Box::new(super::member::Handle(desk)),
        ))
    }

    async fn read(&self, of: Partition, from: u64, max: usize) -> Result<Vec<Stored>, Error> {
        Ok(self.broker.records(of, from, max).unwrap_or_default())
    }

    async fn create(&self, _families: &[Family], _clock: &dyn Clock) -> Result<(), Error> {
        Ok(())
    }

    fn healthy(&self) -> bool {
        !self.broker.is_away()
    }
}
