//! What a reader wants of its poll thread. Bounded by the partitions, however often it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runledger_domain::log::Partition;

use crate::subscription::Control;

/// Orders not yet followed.
#[derive(Default)]
pub(super) struct Orders {
    /// Offset and epoch of assignment; an assignment is started once.
    pub(super) start: BTreeMap<Partition, (u64, u64)>,
    pub(super) give_up: BTreeSet<Partition>,
    pub(super) hint: BTreeMap<Partition, u64>,
    /// The reader is gone.
    pub(super) end: bool,
}

/// The desk between the reader and its thread.
#[derive(Default)]
pub(super) struct Desk {
    orders: Mutex<Orders>,
    ended: Condvar,
}

impl Desk {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all orders; that the reader is gone stays said.
    pub(super) fn take(&self) -> Orders {
        let mut orders = self.orders();
        let end = orders.end;
        std::mem::replace(
            &mut *orders,
            Orders {
                end,
                ..Orders::default()
            },
        )
    }

    /// Waits, but no longer than the reader is there. Says whether it still is.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let waited = self
            .ended
            .wait_timeout_while(self.orders(), pause, |orders| !orders.end);
        let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !orders.end
    }
}

/// The reader's side. Dropping it ends the thread, which leaves the group by itself.
pub(super) struct Handle(pub(super) Arc<Desk>);

impl Control for Handle {
    fn start(&self, at: Vec<(Partition, u64, u64)>) {
        let start = at
            .into_iter()
            .map(|(partition, offset, epoch)| (partition, (offset, epoch)));
        self.0.orders().start.extend(start);
    }

    /// The thread looks by itself while anything is paused.
    fn taken(&self) {}

    fn give_up(&self, partition: Partition) {
        self.0.orders().give_up.insert(partition);
    }

    fn hint(&self, at: Vec<(Partition, u64)>) {
        self.0.orders().hint.extend(at);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.orders().end = true;
        self.0.ended.notify_one();
    }
}
