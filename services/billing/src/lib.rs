//! Prices and credits: a forwarder, which puts what runs have used into the streams of their accounts;
//! a decider, which prices and charges it and answers every command about credits once; and an api,
//! which asks for people and services, and explains every balance.
//!
//! For: the price lists of a scope; grants, holds, charges and balances of its accounts.
//! Must never: charge a usage twice or drop one, let a balance differ from the sum of its postings,
//! change a price that is in force, or sweep what time has ended: it is judged.

mod api;
mod config;
mod forwarder;
mod prices;
mod read_model;
mod rules;
mod serve;
#[cfg(test)]
mod simulation;
mod statements;
mod upkeep;

pub use config::{API_DEFAULTS, ApiConfig, DECIDER_DEFAULTS, DeciderConfig};
pub use forwarder::{
    FAMILIES as FORWARDER_FAMILIES, FORWARDER_DEFAULTS, FORWARDER_UPKEEP_DEFAULTS, Forwarder,
    ForwarderConfig, ForwarderUpkeepConfig, serve_forwarder, upkeep as forwarder_upkeep,
};
pub use read_model::ReadModel;
pub use rules::{FAMILIES, Rules};
pub use serve::{serve_api, serve_decider};
pub use upkeep::{UPKEEP_DEFAULTS, UpkeepConfig, upkeep};
