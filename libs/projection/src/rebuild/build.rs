//! Bringing a generation to where another one is.

use std::sync::Arc;
use std::time::Duration;

use runledger_domain::log::Partition;
use runledger_eventlog::SubscriptionOptions;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::running::Running;
use super::tables::Known;
use super::{Error, Step};
use crate::apply::Projection;
use crate::cursor::Cursor;
use crate::looping::{End, Goal, Health, Options, Parts, Tables, Weather, Worker};

/// Most records and bytes of one transaction of a build, and of one partition's queue.
pub(super) const BATCH_RECORDS: usize = 5_000;
pub(super) const BATCH_BYTES: usize = 16 << 20;
pub(super) const QUEUE_BYTES: usize = 16 << 20;
/// How many records may be missing from a generation when the one that is served is held still for
/// the switch.
pub(super) const SWITCH_GAP_MAX: u64 = 2_000;
/// Most rounds of catching up with a projector that is faster.
pub(super) const ROUNDS_MAX: u32 = 50;

impl<P: Projection, F: Fn() -> P + Sync> Running<'_, P, F> {
    /// Brings `target` close behind `served` and makes it whole.
    pub(super) async fn build(&self, target: &Known, served: &Known) -> Result<(), Error> {
        self.log_reaches(served).await?;
        self.thaw(target).await?;
        self.bring(target, served).await?;
        if !target.is_whole {
            self.tell(Step::Indexing, 0);
            self.owner().complete(target, served).await?;
        }
        self.bring(target, served).await
    }

    /// Catches up until little is missing.
    pub(super) async fn bring(&self, target: &Known, served: &Known) -> Result<(), Error> {
        for _ in 0..ROUNDS_MAX {
            let goal = goal(self.cursors(served).await?.values());
            if self.catch_up(target, goal).await? <= SWITCH_GAP_MAX {
                return Ok(());
            }
        }
        Err(Error::TooSlow)
    }

    /// Applies to `target` what it lacks of `goal`. Returns how much that was.
    pub(super) async fn catch_up(&self, target: &Known, goal: Goal) -> Result<u64, Error> {
        let at = self.cursors(target).await?;
        let missing = |(partition, next): (&Partition, &u64)| {
            let there = at.get(partition).map_or(0, |cursor| cursor.next_offset);
            (*partition, *next, next.saturating_sub(there))
        };
        let mut open: Vec<(Partition, u64, u64)> = goal
            .iter()
            .map(missing)
            .filter(|(.., missing)| *missing > 0)
            .collect();
        let sum = open.iter().map(|(.., missing)| missing).sum();
        self.tell(Step::Building, sum);
        open.sort_by_key(|(.., missing)| std::cmp::Reverse(*missing));
        let mut shares: Vec<Goal> = vec![Goal::new(); self.site.workers.max(1)];
        let count = shares.len();
        for (index, (partition, next, _)) in open.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(index % count) {
                share.insert(partition, next);
            }
        }
        let mut tasks = JoinSet::new();
        for share in shares.into_iter().filter(|share| !share.is_empty()) {
            let mut worker = self.worker(target, &share)?;
            let shutdown = self.shutdown.clone();
            tasks.spawn(async move { worker.work_until(share, &shutdown).await });
        }
        while let Some(ended) = tasks.join_next().await {
            match ended.map_err(Error::Task)?.map_err(Error::Build)? {
                End::Reached => {}
                End::Stopped | End::Switched => return Err(Error::Stopped),
            }
        }
        Ok(sum)
    }

    /// A goal behind the end of the log would be waited for, for ever.
    async fn log_reaches(&self, served: &Known) -> Result<(), Error> {
        for (partition, cursor) in self.cursors(served).await? {
            let end = self.site.log.watermark(partition).await;
            let end = end.map_err(Error::Log)?;
            if end < cursor.next_offset {
                return Err(Error::BeyondLog {
                    partition,
                    next: cursor.next_offset,
                    end,
                });
            }
        }
        Ok(())
    }

    pub(super) fn worker(&self, target: &Known, share: &Goal) -> Result<Worker<Tables<P>>, Error> {
        let (health, _) = watch::channel(Health::default());
        let name = format!("{}.rebuild", self.site.name);
        let options = Options {
            // Facts that say to leave a record out name the projection.
            name: self.site.name.clone(),
            instance: "alone".to_owned(),
            batch_records: BATCH_RECORDS,
            batch_bytes: BATCH_BYTES,
            gather: Duration::ZERO,
            queue_records: BATCH_RECORDS,
            queue_bytes: QUEUE_BYTES,
            // The projector that is served has counted them.
            parked_records_max: u64::MAX,
            parked_streams_max: u64::MAX,
        };
        let parts = Parts {
            attendant: (),
            log: Arc::clone(&self.site.log),
            store: Tables::new(
                self.writer_pool.clone(),
                &self.named(target),
                (self.make)(),
                Arc::clone(&self.site.log),
                Arc::clone(&self.site.clock),
                options.clone(),
            ),
            options,
            clock: Arc::clone(&self.site.clock),
            weather: Weather::new(health, self.shutdown.clone()),
            subscription: SubscriptionOptions::alone(name, share.keys().copied().collect()),
            applied: Arc::clone(&self.applied),
        };
        Worker::new(parts).map_err(Error::Build)
    }
}

/// Where these cursors are.
pub(super) fn goal<'c>(cursors: impl IntoIterator<Item = &'c Cursor>) -> Goal {
    let next = |cursor: &Cursor| (cursor.partition, cursor.next_offset);
    cursors.into_iter().map(next).collect()
}
