//! Records of partitions: of one, page by page; of some, as one stream by when they were recorded, those of one partition
//! in its order even where a clock went back.

use std::collections::VecDeque;

use anyhow::ensure;
use runledger_domain::log::Partition;
use runledger_eventlog::{Log, Stored};

/// Bytes of one page, about: as many records as made so many bytes in the one before.
const PAGE_BYTES: usize = 4 << 20;
/// Records of the first page, and of any.
const RECORDS_FIRST: usize = 64;
const RECORDS_MAX: usize = 10_000;

/// Part of one partition, read page by page.
pub(super) struct Pages {
    partition: Partition,
    next: u64,
    to: u64,
    records_max: usize,
}

impl Pages {
    /// From the one offset on and before the other.
    pub(super) fn new(partition: Partition, next: u64, to: u64) -> Self {
        Self {
            partition,
            next,
            to,
            records_max: RECORDS_FIRST,
        }
    }

    /// The next records, at least one; none: all were read.
    ///
    /// # Errors
    /// When the log cannot be read, or ends before its end.
    pub(super) async fn next(&mut self, log: &dyn Log) -> anyhow::Result<Vec<Stored>> {
        if self.next >= self.to {
            return Ok(Vec::new());
        }
        let mut records = log
            .read(self.partition, self.next, self.records_max)
            .await?;
        records.retain(|stored| stored.position.offset < self.to);
        let bytes: usize = records.iter().map(Stored::bytes).sum();
        if let Some(each) = bytes.checked_div(records.len()) {
            self.records_max = (PAGE_BYTES / each.max(1)).clamp(1, RECORDS_MAX);
        }
        let last = records.last().map(|stored| stored.position.offset);
        ensure!(
            last.is_some(),
            "{} was to have records up to {}, and has none from {} on",
            self.partition,
            self.to,
            self.next
        );
        self.next = last.map_or(self.to, |last| last + 1);
        Ok(records)
    }
}

/// A partition of several.
struct Lane {
    pages: Pages,
    /// What was read and not yet taken.
    read: VecDeque<Stored>,
    /// Taken up to here.
    taken: u64,
}

pub(super) struct Merged<'l> {
    log: &'l dyn Log,
    lanes: Vec<Lane>,
}

impl<'l> Merged<'l> {
    /// Reads each of these from the one offset on and before the other.
    pub(super) fn new(
        log: &'l dyn Log,
        spans: impl IntoIterator<Item = (Partition, u64, u64)>,
    ) -> Self {
        let lanes = spans.into_iter().map(|(partition, next, to)| Lane {
            pages: Pages::new(partition, next, to),
            read: VecDeque::new(),
            taken: next,
        });
        Self {
            log,
            lanes: lanes.collect(),
        }
    }

    /// The next record, and which span it is of; `None`: all was read.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(usize, Stored)>> {
        for lane in &mut self.lanes {
            if lane.read.is_empty() {
                lane.read = lane.pages.next(self.log).await?.into();
            }
        }
        // By the heads alone: who goes on from any place comes to the same.
        let heads = self.lanes.iter().enumerate();
        let heads =
            heads.filter_map(|(index, lane)| Some((lane.read.front()?.log_timestamp, index)));
        let Some((_, index)) = heads.min() else {
            return Ok(None);
        };
        let lane = self.lanes.get_mut(index);
        let taken = lane.and_then(|lane| {
            let stored = lane.read.pop_front()?;
            lane.taken = stored.position.offset + 1;
            Some((index, stored))
        });
        Ok(taken)
    }

    /// Of each span, the next offset to be taken.
    pub(super) fn taken_to(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.taken).collect()
    }

    /// How many records there are left to be taken.
    pub(super) fn left(&self) -> u64 {
        let left = |lane: &Lane| lane.pages.to.saturating_sub(lane.taken);
        self.lanes.iter().map(left).sum()
    }
}
