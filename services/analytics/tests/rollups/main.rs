//! Rollups against a count by hand: the same log, however it is cut, ordered between partitions, doubled
//! or folded by several at once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests say what broke by panicking"
)]

mod by_hand;
mod events;
mod property;
mod real;
mod retention;
mod tables;
