//! Facts in: runs and their steps, tool calls, schedules, messages.
//!
//! For: parsing what internal services report, all faults at once; appending what is sound;
//! answering fact by fact, with a token, once the log has it.
//! Must never: say that a fact is in the log before its delivery report, or that it is not when
//! nobody knows; take a scope or an actor from a body; keep state that correctness depends on.
//! Repeats are no concern of this role: a copy goes into the log and changes nothing there.

mod batch;
mod config;
mod facts;
mod ingest;
mod rpc;
mod serve;
mod skip;

pub use config::{Config, DEFAULTS, Rules};
pub use serve::{Addresses, Error, FAMILIES, authenticator, serve};
