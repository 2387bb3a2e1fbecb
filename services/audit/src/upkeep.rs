//! Rebuilding and verifying the read model.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_projection::rebuild::{Site, Upkeep};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::Audit;
use crate::serve::{BY_KEY, Error, SCHEMA};
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

/// Section `[audit]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name that the projector has.
    pub name: String,
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
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
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
) -> Result<Upkeep<Audit>, Error> {
    Ok(Upkeep::new(
        site(log, config, clock, workers)?,
        || Audit,
        shutdown,
    ))
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
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
    Ok(Verifier::new(site(log, config, clock, 1)?, shutdown))
}

fn site(
    log: Arc<dyn Log>,
    config: &UpkeepConfig,
    clock: Arc<dyn Clock>,
    workers: usize,
) -> Result<Site, Error> {
    let application = "runledger audit upkeep";
    let writer = runledger_postgres::connect_with(&config.database, application, SCHEMA, BY_KEY)
        .map_err(Error::Database)?;
    let owner =
        runledger_postgres::connect(&config.owner, application, SCHEMA).map_err(Error::Database)?;
    Ok(Site {
        log,
        writer,
        owner,
        clock,
        schema: SCHEMA,
        name: config.audit.name.clone(),
        workers,
    })
}
