//! The fold against the count by hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runledger_analytics::Analytics;
use runledger_domain::log::Partition;
use runledger_domain::scope::Scope;
use runledger_projection::{Applied, Kept, Projection as _};
use runledger_testkit::Database;
use sqlx::PgPool;
use tokio::runtime::Runtime;

use crate::by_hand;
use crate::events::{Event, events, scope};
use crate::tables::{left_aside, rollups};

/// The records by partition, in the order of the log.
pub(crate) fn log(scope: Scope, events: &[Event]) -> Vec<Vec<Applied>> {
    let mut partitions: BTreeMap<Partition, Vec<Applied>> = BTreeMap::new();
    for event in events {
        let records = partitions.entry(event.partition(scope)).or_default();
        records.push(event.applied(scope, records.len() as u64 + 1));
    }
    partitions.into_values().collect()
}

/// Folds a batch in, as the loop does: some are begun and come to nothing.
pub(crate) async fn fold(pool: &PgPool, batch: &[&Applied], is_lost_first: bool) {
    for commits in [false, true] {
        if !commits && !is_lost_first {
            continue;
        }
        let mut tx = pool.begin().await.unwrap();
        let standings = Analytics.keep(&mut tx, batch).await.unwrap();
        let kept = batch.iter().zip(standings);
        let kept: Vec<Kept<'_>> = kept
            .map(|(applied, standing)| Kept { applied, standing })
            .collect();
        Analytics.apply(&mut tx, &kept).await.unwrap();
        if commits {
            tx.commit().await.unwrap();
        }
    }
}

/// Sizes of batches, and whether each is lost once.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((1..12_usize, proptest::bool::weighted(0.2)), 1..20)
}

pub(crate) fn tenant() -> Scope {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    scope(NEXT.fetch_add(1, Ordering::Relaxed).into())
}

pub(crate) struct Given {
    pub(crate) runtime: Runtime,
    _database: Database,
    pub(crate) pool: PgPool,
}

pub(crate) fn given() -> Given {
    let runtime = Runtime::new().unwrap();
    let (database, pool) = runtime.block_on(async {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_analytics_writer", "analytics");
        (database, pool)
    });
    Given {
        runtime,
        _database: database,
        pool,
    }
}

pub(crate) fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn rollups_are_what_a_count_by_hand_comes_to() {
    let given = given();
    // Which partition comes next is drawn, too: nobody waits for another family.
    let order = proptest::collection::vec(any::<prop::sample::Index>(), 1..40);
    let checked = runner(120).run(&(events(), cuts(), order), |(events, cuts, order)| {
        let scope = tenant();
        let mut partitions = log(scope, &events);
        let mut cuts = cuts.into_iter().cycle();
        let mut order = order.into_iter().cycle();
        let found = given.runtime.block_on(async {
            while !partitions.is_empty() {
                let next = order.next().unwrap().index(partitions.len());
                let (size, is_lost_first) = cuts.next().unwrap();
                let records = &mut partitions[next];
                let batch: Vec<Applied> = records.drain(..size.min(records.len())).collect();
                fold(
                    &given.pool,
                    &batch.iter().collect::<Vec<_>>(),
                    is_lost_first,
                )
                .await;
                partitions.retain(|records| !records.is_empty());
            }
            assert_eq!(left_aside(&given.pool, scope).await, 0);
            rollups(&given.pool, scope).await
        });
        prop_assert_eq!(found, by_hand::count(&events));
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn several_at_once_come_to_the_same() {
    let given = given();
    let checked = runner(60).run(&(events(), cuts()), |(events, cuts)| {
        let scope = tenant();
        let partitions = log(scope, &events);
        let found = given.runtime.block_on(async {
            let each = partitions.iter().map(|records| async {
                let mut cuts = cuts.iter().cycle();
                let mut rest = records.as_slice();
                while !rest.is_empty() {
                    let (size, is_lost_first) = cuts.next().unwrap();
                    let (batch, others) = rest.split_at((*size).min(rest.len()));
                    fold(
                        &given.pool,
                        &batch.iter().collect::<Vec<_>>(),
                        *is_lost_first,
                    )
                    .await;
                    rest = others;
                }
            });
            futures::future::join_all(each).await;
            assert_eq!(left_aside(&given.pool, scope).await, 0);
            rollups(&given.pool, scope).await
        });
        prop_assert_eq!(found, by_hand::count(&events));
        Ok(())
    });
    checked.unwrap();
}
