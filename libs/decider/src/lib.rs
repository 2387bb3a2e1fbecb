//! Deciders: what turns commands into decisions, one chain a partition.
//!
//! For: [`Rounds`], which says when a decider may decide and what became of what it sent.
//! Must never: believe a decision that it has not read back in force, decide while a round is out, or
//! keep a state of its own beside what facts and decisions in force make.

mod rounds;
#[cfg(test)]
mod simulation;

pub use rounds::{Read, Rounds};
