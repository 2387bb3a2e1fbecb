//! What befalls the house, and when: drawn from a seed. Pure.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Something that befalls a process, a server or the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    IngestKilled,
    ProjectorKilled,
    ApiKilled,
    DirectoryKilled,
    ProjectorFrozen,
    KafkaKilled,
    KafkaRestarted,
    KafkaTorn,
    KafkaSlow,
    KafkaMute,
    PostgresRestarted,
    PostgresCrashed,
    PostgresTorn,
    PostgresSlow,
    PostgresMute,
    PostgresPutBack,
}

impl Fault {
    /// How often each befalls the house in the long version, and in the short one.
    const TIMES: [(Self, usize, usize); 16] = [
        (Self::IngestKilled, 6, 1),
        (Self::ProjectorKilled, 9, 2),
        (Self::ApiKilled, 6, 1),
        (Self::DirectoryKilled, 3, 1),
        (Self::ProjectorFrozen, 4, 1),
        (Self::KafkaKilled, 4, 1),
        (Self::KafkaRestarted, 3, 0),
        (Self::KafkaTorn, 6, 1),
        (Self::KafkaSlow, 3, 1),
        (Self::KafkaMute, 3, 0),
        (Self::PostgresRestarted, 4, 0),
        (Self::PostgresCrashed, 4, 1),
        (Self::PostgresTorn, 6, 1),
        (Self::PostgresSlow, 3, 1),
        (Self::PostgresMute, 3, 0),
        (Self::PostgresPutBack, 2, 1),
    ];

    /// Whether more than one process can be meant.
    fn has_target(self) -> bool {
        matches!(
            self,
            Self::ProjectorKilled | Self::ApiKilled | Self::ProjectorFrozen
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IngestKilled => "ingest killed",
            Self::ProjectorKilled => "a projector killed",
            Self::ApiKilled => "an api killed",
            Self::DirectoryKilled => "the directory killed",
            Self::ProjectorFrozen => "a projector frozen beyond its session",
            Self::KafkaKilled => "Kafka killed",
            Self::KafkaRestarted => "Kafka restarted",
            Self::KafkaTorn => "connections to Kafka reset",
            Self::KafkaSlow => "Kafka slow",
            Self::KafkaMute => "Kafka's answers lost",
            Self::PostgresRestarted => "Postgres restarted",
            Self::PostgresCrashed => "Postgres crashed",
            Self::PostgresTorn => "connections to Postgres reset",
            Self::PostgresSlow => "Postgres slow",
            Self::PostgresMute => "Postgres's answers lost",
            Self::PostgresPutBack => "an older Postgres put back",
        })
    }
}

/// One step of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// How long the house is left alone before.
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
    /// Which process, where there are two.
    pub(crate) target: u32,
    /// How long what is taken away stays away.
    pub(crate) lasts: Duration,
    /// Whether the house is given time to recover before the next step.
    pub(crate) recovers: bool,
}

/// The script of a seed.
pub(crate) fn script(seed: u64, long: bool) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults: Vec<Fault> = Fault::TIMES
        .iter()
        .flat_map(|(fault, often, seldom)| {
            let times = if long { *often } else { *seldom };
            std::iter::repeat_n(*fault, times)
        })
        .collect();
    faults.shuffle(&mut rng);
    // While there is little to copy.
    let third = faults.len() / 3;
    for index in third..faults.len() {
        if faults[index] == Fault::PostgresPutBack {
            let earlier = (0..third).filter(|at| faults[*at] != Fault::PostgresPutBack);
            let earlier: Vec<usize> = earlier.collect();
            faults.swap(index, earlier[rng.random_range(0..earlier.len())]);
        }
    }
    let last = faults.len().saturating_sub(1);
    let longest_pause = if long { 2_000 } else { 500 };
    let step = |(index, fault): (usize, Fault)| Step {
        pause: Duration::from_millis(rng.random_range(0..longest_pause)),
        fault,
        target: if fault.has_target() {
            rng.random_range(0..2)
        } else {
            0
        },
        lasts: Duration::from_millis(rng.random_range(0..2_000)),
        recovers: index == last || rng.random_bool(0.8),
    };
    faults.into_iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_same_script_again_and_another_another() {
        assert_eq!(script(7, true), script(7, true));
        assert_ne!(script(7, true), script(8, true));
    }

    #[test]
    fn every_fault_comes_as_often_as_it_is_meant_to() {
        for seed in 0..100 {
            for long in [true, false] {
                let steps = script(seed, long);
                for (fault, often, seldom) in Fault::TIMES {
                    let times = steps.iter().filter(|step| step.fault == fault).count();
                    assert_eq!(times, if long { often } else { seldom }, "{fault}");
                }
                let late = steps.iter().skip(steps.len() / 3);
                assert!(
                    late.map(|step| step.fault)
                        .all(|fault| fault != Fault::PostgresPutBack)
                );
                assert!(steps.last().is_some_and(|step| step.recovers));
            }
            assert!(script(seed, true).len() >= 60);
        }
    }
}
