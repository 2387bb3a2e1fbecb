//! Naming another generation as the one that is served.

use std::collections::BTreeMap;
use std::time::Duration;

use runledger_domain::digest::Digest;
use runledger_domain::log::Partition;
use tokio::time::{Instant, sleep};

use super::build::{ROUNDS_MAX, SWITCH_GAP_MAX, goal};
use super::running::Running;
use super::tables::Known;
use super::{Error, Step};
use crate::apply::Projection;
use crate::cursor::Cursor;
use crate::store;

/// How long transactions that may still read a generation are waited for before it is dropped.
const READERS_END_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl<P: Projection, F: Fn() -> P + Sync> Running<'_, P, F> {
    pub(super) async fn thaw(&self, known: &Known) -> Result<(), Error> {
        sqlx::query("UPDATE cursors SET frozen = false WHERE generation = $1 AND frozen")
            .bind(known.generation)
            .execute(&self.owner_pool)
            .await
            .map_err(Error::database("let the cursors of a kept generation move"))?;
        Ok(())
    }

    /// Holds the projector still, lets `to` reach it, and names `to` as served: in one transaction.
    pub(super) async fn switch(&self, from: &Known, to: &Known) -> Result<(), Error> {
        let switching = || Error::database("switch");
        for _ in 0..ROUNDS_MAX {
            self.bring(to, from).await?;
            self.tell(Step::Switching, 0);
            let mut tx = self.owner_pool.begin().await.map_err(switching())?;
            sqlx::query("UPDATE cursors SET frozen = true WHERE generation = $1")
                .bind(from.generation)
                .execute(&mut *tx)
                .await
                .map_err(switching())?;
            let ours = store::all(&mut *tx, from.generation)
                .await
                .map_err(switching())?;
            let theirs = self.cursors(to).await?;
            if gap(&ours, &theirs) > SWITCH_GAP_MAX {
                tx.rollback().await.map_err(switching())?;
                continue;
            }
            self.catch_up(to, goal(ours.values())).await?;
            same_log(&ours, &self.cursors(to).await?)?;
            // Another may have dropped `to` otherwise.
            self.hold().await?;
            sqlx::query(
                "UPDATE active_generation SET generation = $1, search_path = $2, switched_at = $3",
            )
            .bind(to.generation)
            .bind(self.named(to).search_path)
            .bind(self.site.clock.now())
            .execute(&mut *tx)
            .await
            .map_err(switching())?;
            return tx.commit().await.map_err(switching());
        }
        Err(Error::TooSlow)
    }

    /// Waits until every transaction that is open now has ended: any of them may have begun before
    /// the switch and be about to read what is to be dropped.
    pub(super) async fn readers_have_ended(&self) -> Result<(), Error> {
        let looking = || Error::database("wait for readers to end");
        let open: Vec<String> = sqlx::query_scalar(
            "SELECT virtualxid FROM pg_locks WHERE locktype = 'virtualxid' AND pid <> pg_backend_pid()",
        )
        .fetch_all(&self.owner_pool)
        .await
        .map_err(looking())?;
        let deadline = Instant::now() + READERS_END_WITHIN;
        loop {
            let left: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'virtualxid' AND virtualxid = ANY ($1)",
            )
            .bind(&open)
            .fetch_one(&self.owner_pool)
            .await
            .map_err(looking())?;
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::StillRead);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn gap(ours: &BTreeMap<Partition, Cursor>, theirs: &BTreeMap<Partition, Cursor>) -> u64 {
    let missing = |cursor: &Cursor| {
        let there = theirs.get(&cursor.partition);
        let there = there.map_or(0, |cursor| cursor.next_offset);
        cursor.next_offset.saturating_sub(there)
    };
    ours.values().map(missing).sum()
}

/// Two generations at the same cursors have read the same records: the rolling hash says so.
pub(super) fn same_log(
    ours: &BTreeMap<Partition, Cursor>,
    theirs: &BTreeMap<Partition, Cursor>,
) -> Result<(), Error> {
    let read = |cursor: &Cursor| -> (u64, Digest) { (cursor.record_count, cursor.rolling_hash) };
    for (partition, cursor) in ours {
        if theirs.get(partition).map(read) != Some(read(cursor)) {
            return Err(Error::Diverged {
                partition: *partition,
            });
        }
    }
    Ok(())
}
