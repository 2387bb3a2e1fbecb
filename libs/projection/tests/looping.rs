//! The loop over the twin of the log and a real Postgres.

mod probe;

use std::collections::BTreeSet;
use std::time::Duration;

use probe::{PARTITIONS, World};
use runledger_projection::{Error, Health};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_applied_once_while_workers_come_and_go() {
    let world = World::new().await;
    let mut expected = BTreeSet::new();
    for round in 0..8 {
        let stopped = world.spawn(&format!("worker-{}", round % 2));
        let killed = world.spawn("killed");
        expected.extend(world.append_facts(200).await);
        if round % 2 == 0 {
            // Wherever it happens to be: in mid-batch, between batches, not yet assigned.
            killed.task.abort();
        }
        world.seen_at_least(100 * (round + 1), SOON).await;
        stopped.stop().await.expect("a clean stop");
        if round % 2 != 0 {
            killed.stop().await.expect("a clean stop");
        }
    }
    let last = world.spawn("last");
    world.seen_at_least(expected.len(), SOON).await;
    last.stop().await.expect("a clean stop");
    assert_eq!(world.seen().await, expected);
    world.continuity_holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_decisions_in_force_are_applied() {
    let world = World::new().await;
    let (in_force, void) = world.append_rival_decisions(0, 20).await;
    assert!(!in_force.is_empty() && !void.is_empty());
    let worker = world.spawn("worker");
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.seen().await, in_force);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_log_stops_the_projection() {
    let world = World::new().await;
    let worker = world.spawn("worker");
    world.append_facts(50).await;
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    world.recreate_log();
    world.append_facts(200).await;
    let stopped = world.spawn("worker").ended(SOON).await;
    assert!(matches!(stopped, Err(Error::Diverged(_))), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_of_one_partition_do_not_both_commit() {
    let world = World::new().await;
    // Two groups know nothing of each other: both are assigned everything.
    let (first, second) = (
        world.spawn_in("one", "worker"),
        world.spawn_in("another", "worker"),
    );
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        expected.extend(world.append_facts(50).await);
    }
    world.seen_at_least(expected.len(), SOON).await;
    first.stop().await.expect("a clean stop");
    second.stop().await.expect("a clean stop");
    assert_eq!(world.seen().await, expected);
    world.continuity_holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_going_away_is_waited_out() {
    let world = World::new().await;
    let worker = world.spawn("worker");
    let before = world.append_facts(100).await;
    world.seen_at_least(before.len(), SOON).await;
    world.close_the_database().await;
    let during = world.append_facts(100).await;
    worker.health(Health::Impeded, SOON).await;
    world.open_the_database().await;
    worker.health(Health::Working, SOON).await;
    world.seen_at_least(before.len() + during.len(), SOON).await;
    worker.stop().await.expect("a clean stop");
    world.continuity_holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_put_back_is_brought_on_though_nothing_is_appended() {
    let world = World::new().await;
    let worker = world.spawn("worker");
    let mut expected = world.append_facts(50).await;
    world.caught_up(SOON).await;
    for table in ["cursors", "kept", "seen"] {
        let backup = format!("CREATE TABLE public.{table} AS TABLE probe.{table}");
        world.execute(backup).await;
    }
    expected.extend(world.append_facts(100).await);
    world.caught_up(SOON).await;
    let put_back = "DELETE FROM probe.cursors;
         INSERT INTO probe.cursors TABLE public.cursors;
         DELETE FROM probe.kept WHERE record_id NOT IN (SELECT record_id FROM public.kept);
         DELETE FROM probe.seen WHERE record_id NOT IN (SELECT record_id FROM public.seen)";
    world.execute(put_back.to_owned()).await;
    world.caught_up(SOON).await;
    assert_eq!(world.seen().await, expected);
    world.continuity_holds().await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_a_checkpoint_of_every_partition() {
    let world = World::new().await;
    let worker = world.spawn("worker");
    world.append_facts(100).await;
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.checkpoints().await, PARTITIONS as usize);
    world.continuity_holds().await;
}
