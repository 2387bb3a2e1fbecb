//! What the store holds: generations, cursors and their locks, transactions, a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runledger_domain::log::Partition;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::book;
use super::chance::Chance;
use super::log::{Broker, partitions};
use crate::cursor::Cursor;

pub(super) struct Database {
    pub(super) chance: Arc<Chance>,
    pub(super) broker: Arc<Broker>,
    /// Records that a fact has said to leave out before they were read.
    pub(super) skips: BTreeSet<(Partition, u64)>,
    state: Mutex<State>,
    /// A lock was let go.
    pub(super) released: Notify,
}

pub(super) struct State {
    pub(super) served: i32,
    pub(super) generations: BTreeMap<i32, Generation>,
    open: BTreeMap<u64, Open>,
    begun: u64,
    clients: u64,
    away: bool,
    backup: Option<BTreeMap<i32, Generation>>,
    restored: u64,
}

#[derive(Clone, Default)]
pub(super) struct Generation {
    pub(super) frozen: bool,
    pub(super) cursors: BTreeMap<Partition, Cursor>,
    locks: BTreeMap<Partition, u64>,
    pub(super) kept: BTreeSet<(Partition, book::Identity)>,
    /// Offsets of what was applied, in the order in which it was.
    pub(super) rows: BTreeMap<Partition, Vec<u64>>,
    /// Which client moved a cursor last, and when.
    pub(super) moved: BTreeMap<Partition, (u64, Instant)>,
}

/// A transaction that has not ended.
struct Open {
    idle_until: Instant,
    /// For which generation, and by which client.
    staged: Option<(i32, u64, Staged)>,
    /// Names this generation as the one that is served.
    switches_to: Option<i32>,
}

/// What a transaction will have done.
pub(super) struct Staged {
    pub(super) before: Vec<Cursor>,
    pub(super) after: Vec<Cursor>,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) partition: Partition,
    pub(super) offset: u64,
    pub(super) identity: Option<book::Identity>,
    pub(super) left_out: bool,
}

impl Database {
    pub(super) fn new(broker: Arc<Broker>) -> Arc<Self> {
        let chance = Arc::clone(&broker.chance);
        let skip = |partition| (partition, chance.draw(1..40));
        let state = State {
            served: 1,
            generations: BTreeMap::from([(1, Generation::default())]),
            open: BTreeMap::new(),
            begun: 0,
            clients: 0,
            away: false,
            backup: None,
            restored: 0,
        };
        Arc::new(Self {
            skips: partitions().into_iter().map(skip).collect(),
            chance,
            broker,
            state: Mutex::new(state),
            released: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn served(&self) -> i32 {
        self.lock().served
    }

    pub(super) fn is_away(&self) -> bool {
        self.lock().away
    }

    pub(super) fn is_frozen(&self, generation: i32) -> bool {
        let state = self.lock();
        state
            .generations
            .get(&generation)
            .is_some_and(|one| one.frozen)
    }

    pub(super) fn load(&self, generation: i32, of: &[Partition]) -> Vec<Cursor> {
        let mut state = self.lock();
        let cursors = &mut state.generations.entry(generation).or_default().cursors;
        of.iter()
            .map(|one| {
                cursors
                    .entry(*one)
                    .or_insert_with(|| Cursor::new(*one))
                    .clone()
            })
            .collect()
    }

    /// Makes the next generation; `None`: another is under way.
    pub(super) fn make(&self) -> Option<i32> {
        let mut state = self.lock();
        let next = state.served + 1;
        if state.generations.contains_key(&next) {
            return None;
        }
        state.generations.insert(next, Generation::default());
        Some(next)
    }

    pub(super) fn unmake(&self, generation: i32) {
        self.lock().generations.remove(&generation);
    }

    /// The cursors as they are.
    pub(super) fn cursors(&self, generation: i32) -> BTreeMap<Partition, Cursor> {
        let state = self.lock();
        let of_it = state.generations.get(&generation);
        of_it.map(|one| one.cursors.clone()).unwrap_or_default()
    }
}

/// Transactions.
impl Database {
    /// A name for a client.
    pub(super) fn client(&self) -> u64 {
        let mut state = self.lock();
        state.clients += 1;
        state.clients
    }

    pub(super) fn begin(&self, idle_until: Instant) -> u64 {
        let mut state = self.lock();
        state.begun += 1;
        let id = state.begun;
        let open = Open {
            idle_until,
            staged: None,
            switches_to: None,
        };
        state.open.insert(id, open);
        id
    }

    pub(super) fn is_open(&self, id: u64) -> bool {
        self.lock().open.contains_key(&id)
    }

    /// A statement of it. `None`: the server has ended it meanwhile.
    pub(super) fn touch(&self, id: u64, idle_until: Instant) -> Option<()> {
        self.end_if_idle(id);
        self.lock().open.get_mut(&id)?.idle_until = idle_until;
        Some(())
    }

    pub(super) fn idle_until(&self, id: u64) -> Option<Instant> {
        Some(self.lock().open.get(&id)?.idle_until)
    }

    pub(super) fn end_if_idle(&self, id: u64) {
        if self
            .idle_until(id)
            .is_some_and(|until| until <= Instant::now())
        {
            self.end(id);
        }
    }

    /// Rolls it back, if it has not ended.
    pub(super) fn end(&self, id: u64) {
        let mut state = self.lock();
        state.open.remove(&id);
        state.release(id);
        drop(state);
        self.released.notify_waiters();
    }

    /// `None`: no row is as expected. The error is who holds the row.
    pub(super) fn try_lock(
        &self,
        id: u64,
        generation: i32,
        partition: Partition,
        expected: &(dyn Fn(&Cursor) -> bool + Sync),
    ) -> Option<Result<(), u64>> {
        let mut state = self.lock();
        let generation = state.generations.get_mut(&generation)?;
        let may_move =
            !generation.frozen && generation.cursors.get(&partition).is_some_and(expected);
        if !may_move {
            return None;
        }
        match generation.locks.get(&partition) {
            Some(holder) if *holder != id => Some(Err(*holder)),
            Some(_) | None => {
                generation.locks.insert(partition, id);
                Some(Ok(()))
            }
        }
    }

    pub(super) fn stage(&self, id: u64, generation: i32, client: u64, staged: Staged) {
        if let Some(open) = self.lock().open.get_mut(&id) {
            open.staged = Some((generation, client, staged));
        }
    }

    pub(super) fn stage_switch(&self, id: u64, to: i32) {
        if let Some(open) = self.lock().open.get_mut(&id) {
            open.switches_to = Some(to);
        }
    }

    /// Makes what a transaction has done true. False: the server has ended it before.
    pub(super) fn publish(&self, id: u64) -> bool {
        self.end_if_idle(id);
        let mut state = self.lock();
        let Some(open) = state.open.remove(&id) else {
            return false;
        };
        if let Some((generation, client, staged)) = open.staged {
            self.check(&state, generation, &staged);
            self.chance.scheduler.note((generation, id));
            for after in &staged.after {
                self.chance
                    .scheduler
                    .note((after.next_offset, after.rolling_hash));
            }
            if let Some(generation) = state.generations.get_mut(&generation) {
                generation.take_in(client, staged);
            }
        }
        if let Some(to) = open.switches_to {
            let from = state.served;
            state.generations.entry(from).or_default().frozen = true;
            state.served = to;
            // What a backup of before would bring back is another story.
            state.backup = None;
        }
        state.release(id);
        drop(state);
        self.released.notify_waiters();
        true
    }
}

impl State {
    fn release(&mut self, id: u64) {
        for generation in self.generations.values_mut() {
            generation.locks.retain(|_, holder| *holder != id);
        }
    }
}

impl Generation {
    fn take_in(&mut self, client: u64, staged: Staged) {
        for row in staged.rows {
            let Some(identity) = row.identity else {
                continue;
            };
            let first = self.kept.insert((row.partition, identity));
            if first && !row.left_out {
                self.rows.entry(row.partition).or_default().push(row.offset);
            }
        }
        for cursor in staged.after {
            self.moved
                .insert(cursor.partition, (client, Instant::now()));
            self.cursors.insert(cursor.partition, cursor);
        }
    }
}

/// What happens to the whole of it.
impl Database {
    pub(super) fn set_away(&self, away: bool) {
        let mut state = self.lock();
        state.away = away;
        if away {
            let open: Vec<u64> = std::mem::take(&mut state.open).into_keys().collect();
            for id in open {
                state.release(id);
            }
        }
        drop(state);
        self.released.notify_waiters();
    }

    pub(super) fn back_up(&self) {
        let mut state = self.lock();
        let mut backup = state.generations.clone();
        for generation in backup.values_mut() {
            generation.locks.clear();
        }
        state.backup = Some(backup);
    }

    /// How often a backup was put back.
    pub(super) fn restored(&self) -> u64 {
        self.lock().restored
    }

    /// Puts the backup in the place of what is there. False: there is none.
    pub(super) fn restore(&self) -> bool {
        let mut state = self.lock();
        let backup = state.backup.take();
        let restored = backup.is_some();
        if let Some(backup) = backup {
            state.restored += 1;
            state.open.clear();
            // What was begun since is built again.
            let begun: Vec<i32> = state.generations.keys().copied().collect();
            state.generations = backup;
            for generation in begun {
                state.generations.entry(generation).or_default();
            }
        }
        drop(state);
        self.released.notify_waiters();
        restored
    }
}
