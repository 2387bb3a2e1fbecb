//! From what is queued to what is committed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::counter;
use runledger_domain::log::{Kind, Partition};
use runledger_eventlog::Stored;
use tokio::time::Instant;
use tracing::{Instrument, info_span, warn};

use super::attendant::Attendant;
use super::batch::Batch;
use super::letters::tell;
use super::store::Store;
use super::worker::Worker;
use super::{Error, PATIENCE, SIFTING_PATIENCE};
use crate::apply::ApplyError;
use crate::cursor::Cursor;
use crate::patience::while_it_goes_on;

impl<S: Store, A: Attendant<S::Database>> Worker<S, A> {
    /// Applies what is queued, one batch.
    pub(super) async fn apply_queued(&mut self) -> Result<(), Error> {
        let records = self.gather().await;
        let Some(batch) = Batch::read(
            &mut self.owned,
            self.goal.as_ref(),
            self.store.reads_commands(),
            records,
        )?
        else {
            return Ok(());
        };
        self.lag.in_hand(batch.oldest_recorded_at());
        let span = info_span!("batch", projection = %self.options.name, records = batch.records);
        batch.trace(&span);
        self.commit(batch).instrument(span).await
    }

    /// Takes what is queued, and lets it wait a little for more where that pays: transactions cost more than
    /// records.
    async fn gather(&mut self) -> Vec<Stored> {
        let mut records = Vec::new();
        self.take(&mut records);
        // Who comes after a pause need not wait for company that is not on its way.
        let rested = self.rested_since.map(|since| since.elapsed());
        let left = rested.map_or(Duration::ZERO, |rested| {
            self.options.gather.saturating_sub(rested)
        });
        if records.len() < self.options.batch_records / 4 && !left.is_zero() {
            tokio::time::sleep(left).await;
            self.take(&mut records);
        }
        // A round begins when the one before is committed. What was sent goes with what came before it, not
        // behind a transaction of its own.
        while let Some((decisions, until)) = self.attendant.expects() {
            let came = records.iter().filter(|record| is_decision(record)).count();
            if came >= decisions {
                break;
            }
            let changed = tokio::time::timeout_at(until, self.subscription.changed());
            if changed.await.is_err() || !self.take(&mut records) {
                break;
            }
        }
        records
    }

    /// Takes what there is room for; false: nothing.
    fn take(&self, records: &mut Vec<Stored>) -> bool {
        let bytes: usize = records.iter().map(Stored::bytes).sum();
        let (records_left, bytes_left) = (
            self.options.batch_records.saturating_sub(records.len()),
            self.options.batch_bytes.saturating_sub(bytes),
        );
        if records_left == 0 || bytes_left == 0 {
            return false;
        }
        let taken = self.subscription.take(records_left, bytes_left);
        let any = !taken.is_empty();
        records.extend(taken);
        any
    }

    /// Applies one batch and moves the cursors in one transaction; again after weather.
    async fn commit(&mut self, mut batch: Batch) -> Result<(), Error> {
        let mut attempts = self.weather.attempts();
        let mut sifting = false;
        while !batch.after.is_empty() {
            let patience = if sifting || batch.has_orders(&self.options.name) {
                SIFTING_PATIENCE
            } else {
                PATIENCE
            };
            let attempt = while_it_goes_on(patience, self.store.attempt(&batch, sifting));
            match attempt.await.unwrap_or_else(|_| Err(ApplyError::silent())) {
                Ok(attempted) if attempted.lost.is_empty() => {
                    tell(&self.options.name, &attempted.notices);
                    self.settle(batch, &attempted.parked);
                    return Ok(());
                }
                Ok(attempted) => {
                    if self.is_switched().await? {
                        return Ok(());
                    }
                    // Of the batch is kept what is ours.
                    self.leave(&attempted.lost);
                    batch.drop_partitions(&attempted.lost);
                }
                Err(refused) if refused.is_poison() && !sifting => {
                    warn!(
                        error = &refused as &dyn std::error::Error,
                        "the batch holds a record that cannot be applied; looking for it"
                    );
                    sifting = true;
                }
                Err(failed) if failed.is_weather() => {
                    warn!(
                        error = &failed as &dyn std::error::Error,
                        "the batch waits for the database"
                    );
                    self.report_lag();
                    if attempts.wait().await.is_none() {
                        return Ok(());
                    }
                    if let Some(parked) = self.was_committed(&batch).await? {
                        self.settle(batch, &parked);
                        return Ok(());
                    }
                }
                Err(failed) => {
                    return Err(Error::Apply {
                        range: batch.range(),
                        source: failed,
                    });
                }
            }
        }
        Ok(())
    }

    /// After weather at an unknown moment: whether the batch's transaction went through after all,
    /// and if so what is parked. The rolling hash tells: nobody else can have brought a cursor to the
    /// same one but by the same records.
    async fn was_committed(
        &self,
        batch: &Batch,
    ) -> Result<Option<BTreeMap<Partition, u64>>, Error> {
        let partitions: Vec<Partition> =
            batch.after.iter().map(|cursor| cursor.partition).collect();
        let Some(now) = self.load(&partitions).await? else {
            return Ok(None);
        };
        let committed = batch.after.iter().all(|after| {
            now.iter().any(|cursor| {
                cursor.partition == after.partition
                    && cursor.next_offset == after.next_offset
                    && cursor.rolling_hash == after.rolling_hash
            })
        });
        let parked = now.iter().map(|cursor| (cursor.partition, cursor.parked));
        Ok(committed.then(|| parked.collect()))
    }

    /// Whether cursors did not move because another generation is served now.
    async fn is_switched(&mut self) -> Result<bool, Error> {
        let look = || self.look_for_switch();
        let switched = self.weather.outlast("look for a switch", look).await?;
        self.switched = switched.unwrap_or_default();
        Ok(self.switched)
    }

    fn settle(&mut self, batch: Batch, parked: &BTreeMap<Partition, u64>) {
        self.weather.clear();
        self.rested_since = Some(Instant::now());
        self.lag.in_hand(None);
        let name = self.options.name.clone();
        counter!("runledger_projection_records_total", "projection" => name.clone())
            .increment(batch.records as u64);
        self.applied
            .fetch_add(batch.records as u64, Ordering::Relaxed);
        counter!("runledger_projection_batches_total", "projection" => name).increment(1);
        self.lag.applied(&batch.after, self.clock.now());
        self.attendant.committed(&batch.after, &batch.seen);
        for cursor in batch.after {
            if let Some(owned) = self.owned.get_mut(&cursor.partition) {
                let parked = parked.get(&cursor.partition).copied().unwrap_or_default();
                owned.cursor = Cursor { parked, ..cursor };
            }
        }
    }
}

fn is_decision(record: &Stored) -> bool {
    let headers = record.headers.as_ref();
    headers.is_ok_and(|headers| headers.kind == Kind::Decision)
}
