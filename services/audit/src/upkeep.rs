//! Rebuilding and verifying the read model.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_projection::rebuild::{Site, Upkeep};
use runledger_role::{Error, Named};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::Audit;
use crate::serve::SCHEMA;
use crate::verify::Verifier;

/// The embedded defaults, commented.
pub const UPKEEP_DEFAULTS: &str = include_str!("../upkeep.default.toml");

/// The whole configuration of rebuilding and verifying. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepConfig {
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_audit_writer`.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: runledger_postgres::Config,
    pub audit: Named,
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
) -> Result<Upkeep<Audit>, Error> {
    let site = site(config, clock, workers)?;
    Ok(Upkeep::new(site, || Audit, shutdown))
}

/// What verifies a part of the log.
///
/// # Errors
/// As [`upkeep`].
pub fn verifier(
    config: &UpkeepConfig,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<Verifier, Error> {
    Ok(Verifier::new(site(config, clock, 1)?, shutdown))
}

fn site(config: &UpkeepConfig, clock: Arc<dyn Clock>, workers: usize) -> Result<Site, Error> {
    let log = runledger_role::log(&config.kafka)?;
    let kept = runledger_role::Upkeep {
        schema: SCHEMA,
        fold: &config.audit,
        database: &config.database,
        owner: &config.owner,
        workers,
    };
    kept.site(log, clock)
}
