//! What is retired while it is counted: nothing before the horizon is left or comes back, and all behind it is there.

use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use runledger_analytics::{Keep, RetireError, Retirement};
use tokio::sync::Barrier;

use crate::by_hand;
use crate::events::{events, moment};
use crate::property::{cuts, fold, given, log, runner, tenant};
use crate::tables::rollups;

const NAME: &str = "test.analytics";
const KEPT: TimeDelta = TimeDelta::days(2);

fn minutes() -> Keep {
    Keep {
        minutes: Some(KEPT),
        ..Keep::default()
    }
}

#[test]
fn nothing_older_than_the_horizon_is_left_whoever_writes_meanwhile() {
    let given = given();
    let retirement = Retirement::on(given.pool.clone(), NAME);
    let horizon = (0..30_i64, 0..6_usize);
    let checked = runner(60).run(
        &(events(), cuts(), horizon),
        |(events, cuts, (minute, after))| {
            let (scope, other) = (tenant(), tenant());
            let (partitions, others) = (log(scope, &events), log(other, &events));
            let now = moment(minute * 60) + KEPT;
            let kept_from = (now - KEPT).timestamp().div_euclid(60) * 60;
            let (found, untouched) = given.runtime.block_on(async {
                for records in &others {
                    fold(&given.pool, &records.iter().collect::<Vec<_>>(), false).await;
                }
                let begin = Barrier::new(partitions.len() + 1);
                let each = partitions.iter().map(|records| async {
                    begin.wait().await;
                    let mut cuts = cuts.iter().cycle();
                    let mut rest = records.as_slice();
                    while !rest.is_empty() {
                        let (size, is_lost_first) = cuts.next().unwrap();
                        let (batch, others) = rest.split_at((*size).min(rest.len()));
                        let batch: Vec<_> = batch.iter().collect();
                        fold(&given.pool, &batch, *is_lost_first).await;
                        rest = others;
                    }
                });
                let retiring = async {
                    begin.wait().await;
                    for _ in 0..after {
                        tokio::task::yield_now().await;
                    }
                    retirement
                        .retire(Some(scope), minutes(), now)
                        .await
                        .unwrap();
                };
                tokio::join!(futures::future::join_all(each), retiring);
                (
                    rollups(&given.pool, scope).await,
                    rollups(&given.pool, other).await,
                )
            });
            let all = by_hand::count(&events);
            let mut kept = all.clone();
            kept.retain(|row, _| !row.is_before("minute", kept_from));
            prop_assert_eq!(found, kept);
            prop_assert_eq!(untouched, all);
            Ok(())
        },
    );
    checked.unwrap();
}

/// A writer that has added by the old horizon and not committed is waited for.
#[test]
fn a_horizon_does_not_move_past_who_is_still_writing() {
    let given = given();
    given.runtime.block_on(async {
        let mut writing = given.pool.begin().await.unwrap();
        sqlx::query("SELECT FROM analytics.horizons")
            .execute(&mut *writing)
            .await
            .unwrap();
        let retirement = Retirement::on(given.pool.clone(), NAME);
        let now = moment(0) + KEPT;
        let retiring = retirement.retire(Some(tenant()), minutes(), now);
        let early = tokio::time::timeout(Duration::from_millis(200), retiring).await;
        assert!(early.is_err(), "{early:?}");
    });
}

#[test]
fn horizons_only_move_forward_and_one_retires_at_a_time() {
    let given = given();
    given.runtime.block_on(async {
        let retirement = Retirement::on(given.pool.clone(), NAME);
        let scope = tenant();
        for now in [moment(600), moment(0)] {
            retirement.retire(Some(scope), minutes(), now + KEPT).await.unwrap();
        }
        let kept_from: i64 = sqlx::query_scalar(
            "SELECT extract(epoch FROM kept_from)::bigint FROM analytics.horizons WHERE tenant_id = $1",
        )
        .bind(scope.tenant.as_uuid())
        .fetch_one(&given.pool)
        .await
        .unwrap();
        assert_eq!(kept_from, moment(600).timestamp().div_euclid(60) * 60);
        let mut other = given.pool.acquire().await.unwrap();
        assert!(runledger_projection::rebuild::try_lock(&mut other, NAME).await.unwrap());
        let busy = retirement.retire(None, minutes(), moment(0)).await;
        assert!(matches!(busy, Err(RetireError::Busy)), "{busy:?}");
    });
}
