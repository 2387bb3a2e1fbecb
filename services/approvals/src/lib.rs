//! Policies, governed tool calls and the approval queue: one decider, which answers every command
//! once, and an api, which asks for agents and people and reads what was decided.
//!
//! For: `RequestToolCall` and what follows from it; the queue; the policies of a scope.
//! Must never: permit what no decision in force permits, tell a caller anything but what the log
//! says, judge by policies that may be older than half a second or than the caller's token, or let
//! an agent approve.

mod api;
mod config;
mod policies;
mod read_model;
mod rules;
mod serve;
mod statements;
mod upkeep;

pub use config::{API_DEFAULTS, ApiConfig, DECIDER_DEFAULTS, DeciderConfig};
pub use read_model::ReadModel;
pub use rules::{FAMILIES, Rules};
pub use serve::{serve_api, serve_decider};
pub use upkeep::{UPKEEP_DEFAULTS, UpkeepConfig, upkeep};
