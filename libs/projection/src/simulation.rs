//! The loop over a log, a store and a clock that are simulated, on one thread and in an order drawn
//! from a seed: thousands of stories of lost acknowledgements, duplicates, rebalances in mid-batch,
//! processes that stand still or die at any await, and transactions that end as they like.
//!
//! At every commit the cursors must have moved from where they stood, over exactly the records that
//! the log has there; in the end everything acknowledged is there, once, and the loop has caught up.
//! `RUNLEDGER_SIMULATION_SEED` tells one story again.

#![expect(
    clippy::cast_possible_truncation,
    reason = "what is simulated is counted in hundreds"
)]

mod book;
mod chance;
mod database;
mod log;
mod member;
mod process;
mod promises;
mod store;
mod story;
mod switch;

use std::time::{Duration, Instant};

use chance::{Counts, Fault};

/// How long stories are told, by the machine's clock.
const FOR: Duration = Duration::from_secs(10);
const FOR_IN_PROOF: Duration = Duration::from_secs(60);
/// How many at least, however slow the machine.
const STORIES_MIN: u64 = 300;
const SEED: &str = "RUNLEDGER_SIMULATION_SEED";

#[expect(
    clippy::disallowed_methods,
    reason = "a failed story is told again by its seed; `make proof` tells more of them"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Tells the story of a seed, and what was seen in it.
fn holds(seed: u64) -> Counts {
    /// A panic of the loop names its seed too.
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("tell it again: {SEED}={}", self.0);
            }
        }
    }
    let _named = Named(seed);
    match story::tell(seed).answer {
        Some(Ok(counts)) => counts,
        Some(Err(promise)) => panic!("{promise}"),
        None => panic!("the story has no end"),
    }
}

#[test]
fn the_loop_keeps_its_promises_in_every_story() {
    let given = variable(SEED).map(|seed| seed.parse().expect("a seed is a number"));
    if let Some(seed) = given {
        let counts = holds(seed);
        eprintln!("{SEED}={seed}: {counts:?}");
        return;
    }
    let long = if variable("RUNLEDGER_PROOF").is_some() {
        FOR_IN_PROOF
    } else {
        FOR
    };
    let (first, begun) = (rand::random::<u64>() >> 16, Instant::now());
    eprintln!("stories from {SEED}={first} on");
    let (mut told, mut seen) = (0, Counts::new());
    while told < STORIES_MIN || begun.elapsed() < long {
        for (fault, times) in holds(first + told) {
            *seen.entry(fault).or_default() += times;
        }
        told += 1;
    }
    eprintln!("{told} stories in {:?}: {seen:?}", begun.elapsed());
    // Fair weather proves nothing.
    let unseen: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| !seen.contains_key(fault))
        .collect();
    assert!(
        unseen.is_empty(),
        "never seen in {told} stories: {unseen:?}"
    );
}

#[test]
fn a_seed_tells_the_same_story_bit_for_bit() {
    let first = rand::random::<u64>() >> 16;
    for seed in first..first + 20 {
        let (once, again) = (story::tell(seed), story::tell(seed));
        assert_eq!(
            (once.digest, once.turns),
            (again.digest, again.turns),
            "{SEED}={seed}"
        );
    }
}
