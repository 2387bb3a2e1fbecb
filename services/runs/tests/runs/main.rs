//! The read model of runs against a real Postgres, its log in memory.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test support: a failure is a panic, and a test tells one story"
)]

mod api;
mod facts;
mod parked;
mod read_model;
mod rebuild;
mod refusals;
mod tail;
mod versions;
mod world;
