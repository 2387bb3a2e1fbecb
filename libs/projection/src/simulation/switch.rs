//! A generation is built beside the one that is served, and takes its place: as a rebuild does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::log::Partition;
use runledger_eventlog::SubscriptionOptions;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::chance::{Fault, Watch};
use super::log::{Client, partitions};
use super::process::{House, Process};
use super::store::{Connection, Transaction};
use crate::cursor::Cursor;
use crate::looping::{End, Goal, Health, Parts, Weather, Worker};

const LISTENS_FOR: Duration = Duration::from_secs(60);

/// Builds the next generation, holds the served one still, lets the next reach it and names it.
pub(super) async fn switch(house: &House, builder: &Arc<Process>) {
    let (chance, database) = (&house.chance, &house.database);
    let (from, restored) = (database.served(), database.restored());
    let Some(to) = database.make() else {
        return; // another is being built
    };
    catch_up(house, builder, to, &database.cursors(from)).await;
    chance.pause(2_000).await;
    let mut tx = Transaction::begin(database, from);
    tx.takes_its_time();
    for partition in partitions() {
        match tx.lock(partition, &|_| true).await {
            Ok(true) => {}
            // Never read yet, or the server was away: nothing is switched.
            Ok(false) | Err(_) => return database.unmake(to),
        }
        tx.takes_its_time();
    }
    let still = database.cursors(from);
    catch_up(house, builder, to, &still).await;
    if database.restored() != restored {
        // It may be ahead of what was put back; a rebuild says so and ends.
        return database.unmake(to);
    }
    let (asked, built) = (goal(&still), goal(&database.cursors(to)));
    if tx.is_open() && asked != built {
        chance.broke(|| format!("built up to {built:?}, and asked for {asked:?}"));
    }
    tx.switch_to(to);
    let committed = timeout(LISTENS_FOR, tx.commit()).await;
    // Without an answer it may yet be switched to, when the commit comes late.
    if matches!(committed, Ok(Ok(()))) || database.served() == to {
        chance.saw(Fault::Switched);
    }
}

/// Where cursors are that have read anything.
fn goal(cursors: &BTreeMap<Partition, Cursor>) -> Goal {
    let begun = cursors.values().filter(|cursor| cursor.next_offset > 0);
    let next = |cursor: &Cursor| (cursor.partition, cursor.next_offset);
    begun.map(next).collect()
}

async fn catch_up(
    house: &House,
    builder: &Arc<Process>,
    generation: i32,
    served: &BTreeMap<Partition, Cursor>,
) {
    let goal = goal(served);
    if goal.is_empty() {
        return;
    }
    let (health, _) = watch::channel(Health::default());
    let shutdown = CancellationToken::new();
    let parts = Parts {
        attendant: (),
        log: Arc::new(Client {
            broker: Arc::clone(&house.broker),
            process: Arc::clone(builder),
        }),
        store: Connection::new(&house.database, generation),
        options: house.options.clone(),
        clock: Arc::new(Watch(Arc::clone(&house.chance))),
        weather: Weather::new(health, shutdown.clone()),
        subscription: SubscriptionOptions::alone("builder", goal.keys().copied().collect()),
        applied: Arc::default(),
    };
    let ended = match Worker::new(parts) {
        Ok(mut worker) => worker.work_until(goal, &shutdown).await,
        Err(error) => Err(error),
    };
    if !matches!(ended, Ok(End::Reached)) {
        house.chance.broke(|| format!("a build ended: {ended:?}"));
    }
}
