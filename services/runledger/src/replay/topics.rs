//! The records of some partitions as one stream, by when they were recorded; those of one partition in its order, even
//! where a clock went back.

use std::collections::VecDeque;

use runledger_domain::log::Partition;
use runledger_eventlog::{Log, Stored};

/// Records of one read.
const READ: usize = 10_000;

/// Part of one partition that is read.
struct Lane {
    partition: Partition,
    /// What was read and not yet taken.
    read: VecDeque<Stored>,
    /// Taken up to here.
    next: u64,
    to: u64,
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
            partition,
            read: VecDeque::new(),
            next,
            to,
        });
        Self {
            log,
            lanes: lanes.collect(),
        }
    }

    /// The next record, and which span it is of; `None`: all was read.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(usize, Stored)>> {
        for lane in &mut self.lanes {
            if lane.read.is_empty() && lane.next < lane.to {
                let records = self.log.read(lane.partition, lane.next, READ).await?;
                let to = lane.to;
                let records = records.into_iter();
                lane.read
                    .extend(records.take_while(|stored| stored.position.offset < to));
                if lane.read.is_empty() {
                    lane.next = to;
                }
            }
        }
        // By the heads alone: who goes on from any place comes to the same.
        let head = |lane: &Lane| lane.read.front()?.log_timestamp;
        let earliest = self.lanes.iter().enumerate();
        let earliest = earliest
            .filter(|(_, lane)| !lane.read.is_empty())
            .map(|(index, lane)| (head(lane), index))
            .min();
        let Some((_, index)) = earliest else {
            return Ok(None);
        };
        let lane = self.lanes.get_mut(index);
        let taken = lane.and_then(|lane| {
            let stored = lane.read.pop_front()?;
            lane.next = stored.position.offset + 1;
            Some((index, stored))
        });
        Ok(taken)
    }

    /// Of each span, the next offset to be taken.
    pub(super) fn taken_to(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.next).collect()
    }

    /// How many records there are left to be taken.
    pub(super) fn left(&self) -> u64 {
        self.lanes
            .iter()
            .map(|lane| lane.to.saturating_sub(lane.next))
            .sum()
    }
}
