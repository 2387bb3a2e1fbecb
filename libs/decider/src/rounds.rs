//! One partition's rounds: what was sent and not read back yet, and whether to decide now. Pure.

use std::collections::VecDeque;

use runledger_domain::digest::Digest;

/// What a record that was read is to the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Nothing,
    /// A decision of the round is in force.
    Confirmed,
    /// Another's decision came first, or one of the round is void: the round is dropped.
    Dropped,
}

/// Decisions are written in rounds: nothing more is decided until all of one are read back.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// Hash of the last decision in force.
    head: Digest,
    next_offset: u64,
    /// Everything below is read before anything is decided.
    watermark: u64,
    /// Hashes of the round, in order, not read back yet.
    sent: VecDeque<Digest>,
}

impl Rounds {
    /// On assignment: nothing is decided before everything below `watermark` is read.
    pub fn new(head: Digest, next_offset: u64, watermark: u64) -> Self {
        Self {
            head,
            next_offset,
            watermark,
            sent: VecDeque::new(),
        }
    }

    /// A record was read and committed. `decision`: its hash, and whether it is in force.
    pub fn read(&mut self, offset: u64, decision: Option<(Digest, bool)>) -> Read {
        self.next_offset = offset + 1;
        let Some((hash, in_force)) = decision else {
            return Read::Nothing;
        };
        if in_force {
            self.head = hash;
        }
        if in_force && self.sent.front() == Some(&hash) {
            self.sent.pop_front();
            return Read::Confirmed;
        }
        if !self.sent.is_empty() && (in_force || self.sent.contains(&hash)) {
            self.sent.clear();
            return Read::Dropped;
        }
        Read::Nothing
    }

    /// Whether a round may be begun now.
    pub fn is_ready(&self) -> bool {
        self.sent.is_empty() && self.next_offset >= self.watermark
    }

    pub fn head(&self) -> Digest {
        self.head
    }

    /// These were handed over, in order.
    pub fn sent(&mut self, hashes: impl IntoIterator<Item = Digest>) {
        self.sent.extend(hashes);
    }

    /// An error or a timeout: what was sent may land later or never, so read on first.
    pub fn dropped(&mut self, watermark: u64) {
        self.sent.clear();
        self.watermark = self.watermark.max(watermark);
    }

    pub fn outstanding(&self) -> usize {
        self.sent.len()
    }
}
