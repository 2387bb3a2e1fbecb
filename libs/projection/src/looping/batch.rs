use std::collections::BTreeMap;

use runledger_domain::log::Partition;
use runledger_domain::time::Timestamp;
use runledger_eventlog::Stored;
use runledger_proto::decode;
use tracing::Span;

use super::{Error, Goal, Owned};
use crate::apply::Applied;
use crate::cursor::{Cursor, Verdict};
use crate::trace;

/// Records read in one go, and what they make of the cursors.
pub(super) struct Batch {
    /// Cursors of the partitions touched, as they stand in the database; sorted.
    pub(super) before: Vec<Cursor>,
    /// The same, as they will stand.
    pub(super) after: Vec<Cursor>,
    pub(super) applied: Vec<Applied>,
    /// How many records were read, those left out included.
    pub(super) records: usize,
    /// W3C `traceparent`s of sampled records, with their index in `applied`.
    traces: Vec<(usize, Box<str>)>,
}

impl Batch {
    /// Judges and decodes `records`. `None` when there is nothing to commit. The owned cursors stay
    /// as they are: they move when the batch is committed. What lies behind `goal` is let fall.
    pub(super) fn read(
        owned: &mut BTreeMap<Partition, Owned>,
        goal: Option<&Goal>,
        records: Vec<Stored>,
    ) -> Result<Option<Self>, Error> {
        let mut after: BTreeMap<Partition, Cursor> = BTreeMap::new();
        let mut batch = Self {
            before: Vec::new(),
            after: Vec::new(),
            applied: Vec::new(),
            records: 0,
            traces: Vec::new(),
        };
        for stored in records {
            let Some(owned) = owned.get_mut(&stored.position.partition) else {
                continue; // revoked while it was queued
            };
            if !owned.recognised {
                owned.cursor.recognise(&stored)?;
                owned.recognised = true;
                continue;
            }
            let end = goal.and_then(|goal| goal.get(&stored.position.partition));
            if end.is_some_and(|end| stored.position.offset >= *end) {
                continue;
            }
            let cursor = after
                .entry(stored.position.partition)
                .or_insert_with(|| owned.cursor.clone());
            batch.records += 1;
            if cursor.advance(&stored)? == Verdict::Applies {
                batch.push(stored)?;
            }
        }
        batch.after = after.into_values().collect();
        batch.before = batch
            .after
            .iter()
            .filter_map(|cursor| Some(owned.get(&cursor.partition)?.cursor.clone()))
            .collect();
        Ok((!batch.after.is_empty()).then_some(batch))
    }

    fn push(&mut self, stored: Stored) -> Result<(), Error> {
        let (partition, offset) = (stored.position.partition, stored.position.offset);
        let undecodable = |source| Error::Decode {
            partition,
            offset,
            source,
        };
        let decode::Stored::Record(record) =
            decode::record(partition.family, &stored.value).map_err(undecodable)?
        else {
            return Ok(());
        };
        let fact = decode::fact(&record).map_err(undecodable)?;
        let trace = stored.headers.ok().and_then(|headers| headers.trace);
        if let Some(trace) = trace.filter(|trace| trace::is_sampled(trace)) {
            self.traces.push((self.applied.len(), trace));
        }
        self.applied.push(Applied {
            position: stored.position,
            record,
            fact,
        });
        Ok(())
    }

    /// Continues the trace of each record that has one, as a span of its own with a link to the batch.
    pub(super) fn trace(&self, span: &Span) {
        for (index, trace) in &self.traces {
            if let Some(applied) = self.applied.get(*index) {
                trace::continue_in(trace, span, applied);
            }
        }
    }

    /// When the oldest record of it was appended.
    pub(super) fn oldest_recorded_at(&self) -> Option<Timestamp> {
        self.applied
            .iter()
            .map(|applied| applied.record.recorded_at)
            .min()
    }

    pub(super) fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.before
            .retain(|cursor| !partitions.contains(&cursor.partition));
        self.after
            .retain(|cursor| !partitions.contains(&cursor.partition));
        self.applied
            .retain(|applied| !partitions.contains(&applied.position.partition));
    }

    /// For an error: which records were tried.
    pub(super) fn range(&self) -> String {
        let ranges: Vec<String> = self
            .before
            .iter()
            .zip(&self.after)
            .map(|(before, after)| {
                format!(
                    "{} {}..{}",
                    after.partition, before.next_offset, after.next_offset
                )
            })
            .collect();
        ranges.join(", ")
    }
}
