//! What was told, and what arrived: counts and hashes that agree only when every fact lies in the log once, as it was
//! told, in the order of its stream.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use runledger_domain::digest::{self, Digest};
use runledger_domain::log::Partition;
use runledger_domain::scope::Scope;
use runledger_eventlog::Log;
use runledger_proto::log::v1::Record;

use super::FAMILIES;
use super::retell::{self, Told};
use super::topics::Pages;

/// A sum over facts, stream by stream, in the order of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    facts: u64,
    streams: HashMap<String, Digest>,
}

impl Sum {
    fn add(&mut self, stream: String, fact: &Digest) {
        let so_far = self.streams.entry(stream).or_default();
        *so_far = digest::of_parts(&[&*so_far, fact]);
        self.facts += 1;
    }

    pub(super) fn facts(&self) -> u64 {
        self.facts
    }

    /// One hash over all streams, whatever their order.
    pub(super) fn hash(&self) -> Digest {
        let mut all = Digest::default();
        for (stream, digest) in &self.streams {
            let one = digest::of_parts(&[stream.as_bytes(), digest]);
            for (byte, other) in all.iter_mut().zip(one) {
                *byte ^= other;
            }
        }
        all
    }
}

/// What is told: each fact once, however often it was recorded.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) sum: Sum,
    identities: HashSet<[u8; 16]>,
    /// Facts that stood in the recording more than once.
    pub(super) copies: u64,
}

impl Expected {
    /// Whether this is the first of its id in its stream: the one that counts.
    pub(super) fn add(&mut self, told: &Told) -> bool {
        let is_first = self.identities.insert(told.identity);
        if is_first {
            self.sum.add(told.stream.clone(), &told.digest);
        } else {
            self.copies += 1;
        }
        is_first
    }

    /// With what was told of other streams.
    pub(super) fn join(&mut self, other: Self) {
        self.sum.facts += other.sum.facts;
        self.sum.streams.extend(other.sum.streams);
        self.identities.extend(other.identities);
        self.copies += other.copies;
    }
}

/// Where the partitions of the destination end, before anything is told.
pub(super) async fn ends(log: &dyn Log) -> anyhow::Result<Vec<(Partition, u64)>> {
    let mut ends = Vec::new();
    for family in FAMILIES {
        for genesis in log.genesis(*family).await?.iter() {
            let partition = Partition {
                family: *family,
                number: genesis.partition,
            };
            ends.push((partition, log.watermark(partition).await?));
        }
    }
    Ok(ends)
}

/// Reads back what arrived behind those ends: the first of each expected fact, as it lies in the log.
pub(super) async fn arrived(
    log: &dyn Log,
    scope: Scope,
    ends: &[(Partition, u64)],
    expected: &Expected,
) -> anyhow::Result<Sum> {
    let mut missing = expected.identities.clone();
    let mut sum = Sum::default();
    for (partition, end) in ends {
        let mut pages = Pages::new(*partition, *end, log.watermark(*partition).await?);
        loop {
            let records = pages.next(log).await?;
            if records.is_empty() {
                break;
            }
            for stored in &records {
                if stored
                    .headers
                    .as_ref()
                    .ok()
                    .and_then(|headers| headers.scope)
                    != Some(scope)
                {
                    continue;
                }
                let record = Record::decode(stored.value.clone())?;
                let Ok(told) = retell::as_recorded(&record) else {
                    continue;
                };
                if missing.remove(&told.identity) {
                    sum.add(told.stream, &told.digest);
                }
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(facts: &[(&str, u8)]) -> Sum {
        let mut sum = Sum::default();
        for (stream, fact) in facts {
            sum.add((*stream).to_owned(), &[*fact; 32]);
        }
        sum
    }

    #[test]
    fn the_order_of_a_stream_counts_and_that_of_streams_does_not() {
        let one = sum(&[("a", 1), ("a", 2), ("b", 3)]);
        assert_eq!(one.hash(), sum(&[("b", 3), ("a", 1), ("a", 2)]).hash());
        for other in [
            &[("a", 2), ("a", 1), ("b", 3)][..],
            &[("a", 1), ("a", 2), ("c", 3)],
            &[("a", 1), ("a", 2)],
            &[("a", 1), ("a", 2), ("b", 3), ("b", 3)],
            &[("a", 1), ("b", 2), ("b", 3)],
        ] {
            assert_ne!(one.hash(), sum(other).hash(), "{other:?}");
        }
    }
}
