//! Durations as a sketch: how many of about which length.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::TimeDelta;
use sketches_ddsketch::Config;

/// How far a quantile may lie beside that of the durations themselves, as a share of it.
const ACCURACY: f64 = 0.01;
/// The shortest that is told from nothing, in micros.
const SHORTEST: f64 = 1.0;

/// Bins as DDSketch has them (Masson, Rim, Lee: VLDB 2019): each is as wide as its durations are long.
static BINS: LazyLock<Config> = LazyLock::new(|| Config::new(ACCURACY, 4_096, SHORTEST));

/// How many durations of about which length, and how long all of them are together. Counts may be below
/// zero while something is taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    micros: i128,
    bins: BTreeMap<i32, i64>,
}

impl Durations {
    pub(super) const EMPTY: Self = Self {
        micros: 0,
        bins: BTreeMap::new(),
    };

    /// One; `None` where it ends before it begins, as clocks that differ make it.
    pub fn one(length: TimeDelta) -> Option<Self> {
        let micros = u64::try_from(length.num_microseconds()?).ok()?;
        Some(Self {
            micros: i128::from(micros),
            bins: BTreeMap::from([(bin(micros), 1)]),
        })
    }

    /// As they were stored.
    pub fn stored(micros: i128, bins: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut stored = Self {
            micros,
            bins: BTreeMap::new(),
        };
        for (bin, count) in bins {
            stored.put(bin, count);
        }
        stored
    }

    pub fn micros(&self) -> i128 {
        self.micros
    }

    /// Bins that are not empty, in order.
    pub fn bins(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        self.bins.iter().map(|(bin, count)| (*bin, *count))
    }

    pub fn count(&self) -> i64 {
        self.bins
            .values()
            .fold(0, |sum, one| sum.saturating_add(*one))
    }

    pub fn is_empty(&self) -> bool {
        self.micros == 0 && self.bins.is_empty()
    }

    pub fn add(&mut self, other: &Self) {
        self.micros = self.micros.saturating_add(other.micros);
        for (bin, count) in other.bins() {
            self.put(bin, count);
        }
    }

    pub(super) fn negated(&self) -> Self {
        let bins = self.bins();
        Self {
            micros: self.micros.saturating_neg(),
            bins: bins
                .map(|(bin, count)| (bin, count.saturating_neg()))
                .collect(),
        }
    }

    /// How long the one is that so many thousandths of them do not pass; within 1 % of it. `None`: there
    /// are none.
    pub fn quantile(&self, thousandths: u32) -> Option<Duration> {
        let last = self.count().checked_sub(1).filter(|last| *last >= 0)?;
        let rank = i128::from(last) * i128::from(thousandths.min(1_000)) / 1_000;
        let mut seen = 0_i128;
        let (bin, _) = self.bins().find(|(_, count)| {
            seen += i128::from(*count);
            seen > rank
        })?;
        Some(Duration::from_micros(length(bin)))
    }

    fn put(&mut self, bin: i32, count: i64) {
        let sum = self.bins.entry(bin).or_default();
        *sum = sum.saturating_add(count);
        if *sum == 0 {
            self.bins.remove(&bin);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what a float loses of so long a time is less than a bin is wide"
)]
fn bin(micros: u64) -> i32 {
    BINS.key((micros as f64).max(SHORTEST))
}

/// The middle of a bin, in micros.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float stops at what its target holds"
)]
fn length(bin: i32) -> u64 {
    BINS.value(bin).round() as u64
}
