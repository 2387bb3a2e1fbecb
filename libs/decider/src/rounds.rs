//! When to decide, and what became of it. Pure: no clock, no log, no table.

use std::collections::VecDeque;

use runledger_domain::digest::Digest;

/// One partition: what was sent and not yet read back, and whether to decide now.
///
/// Safety does not hang on it: the chain holds whatever deciders do. It keeps a decider from deciding
/// what cannot come into force, and tells it which of its decisions have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rounds {
    head: Digest,
    next_offset: u64,
    watermark: u64,
    out: VecDeque<Digest>,
}

/// What a record that was read means for the round that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Nothing,
    /// One of ours is in force.
    Confirmed,
    /// The round is given up: another's decision came first, or one of ours is void. What is left of
    /// it may still come to lie in the log, void: name a watermark to [`Rounds::dropped`].
    Dropped,
}

impl Rounds {
    /// On assignment: nothing is decided before everything below `watermark` is read. `head`: the last
    /// decision in force below `next_offset`, or the Genesis.
    pub fn new(head: Digest, next_offset: u64, watermark: u64) -> Self {
        Self {
            head,
            next_offset,
            watermark,
            out: VecDeque::new(),
        }
    }

    /// A record was read and committed. `decision`: `None`: it is none; otherwise its hash, over the
    /// `prev` that it names itself, and whether it is in force.
    pub fn read(&mut self, offset: u64, decision: Option<(Digest, bool)>) -> Read {
        self.next_offset = self.next_offset.max(offset.saturating_add(1));
        let Some((hash, in_force)) = decision else {
            return Read::Nothing;
        };
        if in_force {
            self.head = hash;
        }
        let next_of_ours = self.out.front() == Some(&hash);
        if in_force && next_of_ours {
            self.out.pop_front();
            return Read::Confirmed;
        }
        // A void one of somebody else says nothing about ours.
        let lost = in_force || self.out.contains(&hash);
        if lost && !self.out.is_empty() {
            self.out.clear();
            return Read::Dropped;
        }
        Read::Nothing
    }

    /// May a round be begun now? Nothing is out, and all below the watermark is read.
    pub fn is_ready(&self) -> bool {
        self.out.is_empty() && self.next_offset >= self.watermark
    }

    /// The hash that the next decision has to name.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// These decisions were handed over, in order, the first of them continuing [`Self::head`].
    pub fn sent(&mut self, hashes: Vec<Digest>) {
        self.out.extend(hashes);
    }

    /// After an error or a timeout, or when the round was given up: what was out may lie in the log, or
    /// come to, or never. Nothing is decided before everything below `watermark` is read.
    pub fn dropped(&mut self, watermark: u64) {
        self.out.clear();
        self.watermark = self.watermark.max(watermark);
    }

    /// How many decisions are out.
    pub fn outstanding(&self) -> usize {
        self.out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: Digest = [0; 32];

    fn out(hashes: &[u8]) -> Rounds {
        let mut rounds = Rounds::new(GENESIS, 1, 1);
        rounds.sent(hashes.iter().map(|hash| [*hash; 32]).collect());
        rounds
    }

    #[test]
    fn nothing_is_decided_below_the_watermark_or_while_a_round_is_out() {
        let mut rounds = Rounds::new(GENESIS, 1, 3);
        assert!(!rounds.is_ready());
        assert_eq!(rounds.read(1, None), Read::Nothing);
        assert!(!rounds.is_ready());
        assert_eq!(rounds.read(2, None), Read::Nothing);
        assert!(rounds.is_ready());
        rounds.sent(vec![[1; 32], [2; 32]]);
        assert!(!rounds.is_ready());
        assert_eq!(rounds.read(3, Some(([1; 32], true))), Read::Confirmed);
        assert!(!rounds.is_ready());
        assert_eq!((rounds.head(), rounds.outstanding()), ([1; 32], 1));
        assert_eq!(rounds.read(4, Some(([2; 32], true))), Read::Confirmed);
        assert!(rounds.is_ready());
        assert_eq!((rounds.head(), rounds.outstanding()), ([2; 32], 0));
    }

    #[test]
    fn anothers_decision_takes_the_round() {
        let mut rounds = out(&[1, 2]);
        assert_eq!(rounds.read(1, Some(([9; 32], true))), Read::Dropped);
        assert_eq!((rounds.head(), rounds.outstanding()), ([9; 32], 0));
        // The rest of the round comes to lie there, void.
        assert_eq!(rounds.read(2, Some(([1; 32], false))), Read::Nothing);
        assert_eq!(rounds.head(), [9; 32]);
    }

    #[test]
    fn one_of_ours_that_is_void_takes_the_round_and_anothers_does_not() {
        let mut rounds = out(&[1, 2]);
        assert_eq!(rounds.read(1, Some(([9; 32], false))), Read::Nothing);
        assert_eq!(rounds.outstanding(), 2);
        // The producer has reordered: the second came first.
        assert_eq!(rounds.read(2, Some(([2; 32], false))), Read::Dropped);
        // The first still is in force, and is nobody's round any more.
        assert_eq!(rounds.read(3, Some(([1; 32], true))), Read::Nothing);
        assert_eq!(rounds.head(), [1; 32]);
    }

    #[test]
    fn what_was_dropped_is_read_past() {
        let mut rounds = out(&[1]);
        rounds.dropped(4);
        // A lower watermark takes nothing back.
        rounds.dropped(2);
        assert_eq!(rounds.outstanding(), 0);
        for offset in 1..4 {
            assert!(!rounds.is_ready());
            assert_eq!(rounds.read(offset, None), Read::Nothing);
        }
        assert!(rounds.is_ready());
    }
}
