//! Dead letters, as the loop speaks of them: the cap, the alarm, the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics::{Gauge, counter, gauge};
use runledger_domain::log::Partition;
use runledger_domain::time::Timestamp;
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::attendant::Attendant;
use super::store::Store;
use super::{Error, LOOK_AT_MOST, Options, Worker};
use crate::apply::ApplyError;
use crate::cursor::Cursor;
use crate::parking::Notice;
use crate::store::parked::Totals;

/// Between looks at what is parked, while anything is.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// More parked than allowed means that it is not single records that are wrong.
pub(super) fn check(
    totals: &BTreeMap<Partition, Totals>,
    options: &Options,
) -> Result<(), ApplyError> {
    let records: u64 = totals.values().map(|one| one.records).sum();
    let streams: u64 = totals.values().map(|one| one.streams).sum();
    let (records_max, streams_max) = (options.parked_records_max, options.parked_streams_max);
    if records > records_max || streams > streams_max {
        return Err(ApplyError::TooManyParked {
            records,
            streams,
            records_max,
            streams_max,
        });
    }
    Ok(())
}

/// Says what became of parked streams, once it is committed.
pub(super) fn tell(projection: &str, notices: &[Notice]) {
    for notice in notices {
        match notice {
            Notice::Parked {
                stream,
                position,
                reason,
            } => {
                counter!("runledger_projection_streams_parked_total", "projection" => projection.to_owned())
                    .increment(1);
                error!(
                    stream,
                    partition = %position.partition,
                    offset = position.offset,
                    reason,
                    "a record cannot be applied; its stream is parked from it on, see `runledger dead-letters list`"
                );
            }
            Notice::Skipped { position, said_at } => {
                info!(partition = %position.partition, offset = position.offset, said_at, "a parked record is left out, as a fact in its stream says");
            }
            Notice::Unmatched { position, said_at } => {
                counter!("runledger_projection_skips_unmatched_total", "projection" => projection.to_owned())
                    .increment(1);
                warn!(partition = %position.partition, offset = position.offset, said_at, "a fact says to leave out a record that is not parked in its stream; it changes nothing");
            }
        }
    }
}

/// What is parked in the partitions of this process.
pub(super) struct Gauges {
    records: Gauge,
    streams: Gauge,
    oldest: Gauge,
    looked_at: Option<Instant>,
}

impl Gauges {
    pub(super) fn new(projection: &str) -> Self {
        let gauge = |name: &'static str| gauge!(name, "projection" => projection.to_owned());
        Self {
            records: gauge("runledger_projection_parked_records"),
            streams: gauge("runledger_projection_parked_streams"),
            oldest: gauge("runledger_projection_parked_oldest_age_seconds"),
            looked_at: None,
        }
    }

    fn set(&self, totals: &[Totals], now: Option<Timestamp>) {
        let sum = |pick: fn(&Totals) -> u64| {
            let sum: u64 = totals.iter().map(pick).sum();
            f64::from(u32::try_from(sum).unwrap_or(u32::MAX))
        };
        self.records.set(sum(|one| one.records));
        self.streams.set(sum(|one| one.streams));
        let oldest = totals.iter().map(|one| one.oldest).min().zip(now);
        let age = oldest.map(|(oldest, now)| (now - oldest).to_std().unwrap_or_default());
        self.oldest.set(age.unwrap_or_default().as_secs_f64());
    }
}

impl<S: Store, A: Attendant<S::Database>> Worker<S, A> {
    /// Shows what is parked. Asks the database only while anything was, and not too often: redriving
    /// changes it from outside.
    pub(super) async fn gauge_parked(&mut self) {
        let any = self.owned.values().any(|owned| owned.cursor.parked > 0);
        if !any {
            if self.gauges.looked_at.take().is_some() {
                self.gauges.set(&[], None);
            }
            return;
        }
        let is_early = |at: Instant| at.elapsed() < LOOK_EVERY;
        if self.gauges.looked_at.is_some_and(is_early) {
            return;
        }
        self.gauges.looked_at = Some(Instant::now());
        let asked = timeout(LOOK_AT_MOST, self.store.parked());
        let totals = match asked.await {
            Ok(Ok(totals)) => totals,
            Ok(Err(error)) => {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot look at what is parked"
                );
                return;
            }
            Err(_) => return,
        };
        let mut ours = Vec::new();
        for (partition, owned) in &mut self.owned {
            let totals = totals.get(partition);
            owned.cursor.parked = totals.map_or(0, |totals| totals.records);
            ours.extend(totals.copied());
        }
        self.gauges.set(&ours, Some(self.clock.now()));
    }

    /// Offsets that facts say to leave out of what these cursors have yet to read. `None`: the
    /// shutdown came first.
    pub(super) async fn load_left_out(
        &self,
        cursors: &[Cursor],
    ) -> Result<Option<BTreeMap<Partition, BTreeSet<u64>>>, Error> {
        let load = || self.store.skipped(cursors);
        let loaded = self.weather.outlast("load what is skipped", load).await?;
        Ok(loaded.map(|skipped| {
            let mut left_out: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
            for (partition, offset) in skipped {
                left_out.entry(partition).or_default().insert(offset);
            }
            left_out
        }))
    }
}
