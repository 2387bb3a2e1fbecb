//! Rebuilding and verifying what the forwarder has to know. Nothing is appended on the way.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_projection::rebuild::Upkeep;
use runledger_role::{Error, Named};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Forwarder, SCHEMA};

/// The embedded defaults, commented.
pub const FORWARDER_UPKEEP_DEFAULTS: &str = include_str!("../../forwarder-upkeep.default.toml");

/// The whole configuration of rebuilding and verifying. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwarderUpkeepConfig {
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_billing_writer`.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: runledger_postgres::Config,
    pub forwarding: Named,
}

/// What rebuilds and verifies the tables.
///
/// # Errors
/// When the configuration is wrong.
pub fn upkeep(
    config: &ForwarderUpkeepConfig,
    clock: Arc<dyn Clock>,
    workers: usize,
    shutdown: CancellationToken,
) -> Result<Upkeep<Forwarder>, Error> {
    let log = runledger_role::log(&config.kafka)?;
    let kept = runledger_role::Upkeep {
        schema: SCHEMA,
        fold: &config.forwarding,
        database: &config.database,
        owner: &config.owner,
        workers,
    };
    let site = kept.site(log, clock)?;
    Ok(Upkeep::new(site, Forwarder::mute, shutdown))
}
