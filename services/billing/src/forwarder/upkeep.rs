//! Rebuilding and verifying what the forwarder has to know. Nothing is appended on the way.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_projection::rebuild::{Site, Upkeep};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Forwarder, SCHEMA};
use crate::serve::Error;
use crate::upkeep::Named;

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
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
    upkeep_on(log, config, clock, workers, shutdown)
}

/// The same over a log that is there already.
///
/// # Errors
/// As [`upkeep`].
pub fn upkeep_on(
    log: Arc<dyn Log>,
    config: &ForwarderUpkeepConfig,
    clock: Arc<dyn Clock>,
    workers: usize,
    shutdown: CancellationToken,
) -> Result<Upkeep<Forwarder>, Error> {
    let application = "runledger billing forwarder upkeep";
    let writer = runledger_projection::upkeep_pool(&config.database, application, SCHEMA)
        .map_err(Error::Database)?;
    let owner =
        runledger_postgres::connect(&config.owner, application, SCHEMA).map_err(Error::Database)?;
    let site = Site {
        log,
        writer,
        owner,
        clock,
        schema: SCHEMA,
        name: config.forwarding.name.clone(),
        workers,
    };
    Ok(Upkeep::new(site, Forwarder::mute, shutdown))
}
