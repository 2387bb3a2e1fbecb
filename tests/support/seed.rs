use rand::SeedableRng;
use rand::rngs::StdRng;

/// Whether the long versions are asked for.
#[expect(clippy::disallowed_methods, reason = "chosen by `make proof`")]
pub fn is_proof() -> bool {
    std::env::var("RUNLEDGER_PROOF").is_ok()
}

/// The story's source of chance: `RUNLEDGER_SEED`, or a new one. Printed, so that a failure can be
/// told again.
pub fn seed(story: &str) -> StdRng {
    let seed = seed_from("RUNLEDGER_SEED");
    eprintln!("{story}: RUNLEDGER_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The seed in this variable, or a new one.
#[expect(
    clippy::disallowed_methods,
    reason = "a failed story is told again by its seed"
)]
pub fn seed_from(variable: &str) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random)
}
