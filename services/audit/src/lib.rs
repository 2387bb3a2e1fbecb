//! Who did what: entries from decisions in force and from the directory's changes, and an api for them.
//!
//! For: `AuditService`.
//! Must never: change or remove an entry, show one to an agent or in another scope, or copy the
//! arguments of a call.

mod api;
mod config;
mod read_model;
mod serve;
mod statements;
mod upkeep;
mod verify;

use runledger_domain::log::Family;

pub use config::{API_DEFAULTS, ApiConfig, PROJECTOR_DEFAULTS, ProjectorConfig};
pub use read_model::Audit;
pub use serve::{serve_api, serve_projector};
pub use upkeep::{UPKEEP_DEFAULTS, UpkeepConfig, upkeep, verifier};
pub use verify::{Checked, Difference, Error as VerifyError, Findings, Verifier};

/// What it follows.
pub const FAMILIES: &[Family] = &[Family::Run, Family::Policy, Family::Directory];
