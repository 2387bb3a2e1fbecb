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
pub mod facts;
mod installation;
mod kept;
mod own_stack;
mod plan;
mod process;
mod proxy;
mod rpc;
mod seed;
mod signal;

pub use clients::{Clients, Tenant};
pub use installation::{Installation, Kind};
pub use kept::assert_kept;
pub use own_stack::{Component, OwnStack};
pub use plan::{Ledger, RunPlan, keep_reporting, patiently};
pub use process::Process;
pub use proxy::Proxy;
pub use rpc::{Asking, Rpc};
pub use seed::{is_proof, seed, seed_from};
