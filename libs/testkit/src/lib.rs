//! What tests share: where the test stack is, a database of one's own, a topic prefix of one's own,
//! waiting for something to become true, how the server would run a statement, and a scheduler for what is simulated.
//!
//! For: dev-dependencies only.
//! Must never: be a dependency of anything that ships, skip a test because the stack is away (that
//! is a failure), or sleep for a fixed time in place of waiting for a condition.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "test support: a failure is a panic"
)]

mod database;
mod eventually;
pub mod plans;
#[cfg(feature = "scheduler")]
mod scheduler;
mod stack;

pub use database::Database;
pub use eventually::eventually;
#[cfg(feature = "scheduler")]
pub use scheduler::{Scheduler, Task, Told};
pub use stack::{Stack, topic_prefix};
