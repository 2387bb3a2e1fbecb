//! The directory on a real Postgres, a fresh database a test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure of test support is a panic"
)]

mod audit;
mod keys;
mod kill_switches;
mod principals;
mod relay;
mod rights;
mod served;
mod tenants;
mod wall;
mod world;
