//! Rebuilding and verifying the read model.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_projection::rebuild::Upkeep;
use runledger_role::{Error, Named};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::Analytics;
use crate::serve::SCHEMA;

/// The embedded defaults, commented.
pub const UPKEEP_DEFAULTS: &str = include_str!("../upkeep.default.toml");

/// The whole configuration of rebuilding and verifying. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepConfig {
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_analytics_writer`.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: runledger_postgres::Config,
    pub analytics: Named,
}

/// What rebuilds and verifies the read model.
///
/// # Errors
/// When the configuration is wrong.
pub fn upkeep(
    config: &UpkeepConfig,
    clock: Arc<dyn Clock>,
    workers: usize,
    shutdown: CancellationToken,
) -> Result<Upkeep<Analytics>, Error> {
    let log = runledger_role::log(&config.kafka)?;
    upkeep_on(log, config, clock, workers, shutdown)
}

/// The same over a log that is there already.
///
/// # Errors
/// As [`upkeep`].
pub fn upkeep_on(
    log: Arc<dyn Log>,
    config: &UpkeepConfig,
    clock: Arc<dyn Clock>,
    workers: usize,
    shutdown: CancellationToken,
) -> Result<Upkeep<Analytics>, Error> {
    let kept = runledger_role::Upkeep {
        schema: SCHEMA,
        fold: &config.analytics,
        database: &config.database,
        owner: &config.owner,
        workers,
    };
    let site = kept.site(log, clock)?;
    Ok(Upkeep::new(site, || Analytics, shutdown))
}
