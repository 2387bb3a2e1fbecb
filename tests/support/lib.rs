//! What the stories share: an installation of real processes over the real stack, and its clients.
//!
//! For: the test binaries beside it.
//! Must never: end a process that it did not start.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "test support: a failure is a panic"
)]

mod clients;
mod facts;
mod installation;
mod process;
mod seed;

pub use clients::{Clients, Tenant};
pub use facts::{Ledger, RunPlan};
pub use installation::{Installation, Kind};
pub use process::Process;
pub use seed::{is_proof, seed};
