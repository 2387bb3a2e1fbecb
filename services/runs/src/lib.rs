//! The read model of runs: its projector, which writes it, and its api, which answers from it.
//!
//! For: runs, steps, tool calls, use, messages and occurrences as the log tells them; the timeline
//! of a run, now and as it grows.
//! Must never: answer with another scope's rows (every statement names the scope, row-level security
//! holds it besides), count a record twice, write what a partition of another process owns, or let
//! a slow reader hold a transaction open.

mod api;
mod config;
mod projector;
mod serve;
mod statements;
mod upkeep;

pub use api::Options as ApiOptions;
pub use config::{API_DEFAULTS, ApiConfig, PROJECTOR_DEFAULTS, ProjectorConfig};
pub use projector::{FAMILIES, Runs, TABLES};
/// How the read model is built anew and compared.
pub use runledger_projection::rebuild;
pub use serve::{serve_api, serve_api_on, serve_projector, serve_projector_on};
pub use upkeep::{UPKEEP_DEFAULTS, UpkeepConfig, upkeep, upkeep_on};
