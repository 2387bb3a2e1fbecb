//! Rebuilding and verifying the tables that are decided from.

use std::sync::Arc;

use runledger_decider::{Books, View};
use runledger_domain::log::Family;
use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_projection::rebuild::{Site, Upkeep};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::prices::Prices;
use crate::read_model::ReadModel;
use crate::rules::Rules;
use crate::serve::{Error, SCHEMA};

/// The embedded defaults, commented.
pub const UPKEEP_DEFAULTS: &str = include_str!("../upkeep.default.toml");

/// The whole configuration of rebuilding and verifying. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepConfig {
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_billing_writer`.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: runledger_postgres::Config,
    pub ledger: Named,
}

/// Section `[ledger]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name that the decider has.
    pub name: String,
}

/// What rebuilds and verifies the tables.
///
/// # Errors
/// When the configuration is wrong.
pub fn upkeep(
    config: &UpkeepConfig,
    clock: Arc<dyn Clock>,
    workers: usize,
    shutdown: CancellationToken,
) -> Result<Upkeep<Books<Rules, ReadModel>>, Error> {
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
) -> Result<Upkeep<Books<Rules, ReadModel>>, Error> {
    let application = "runledger billing upkeep";
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
        name: config.ledger.name.clone(),
        workers,
    };
    Ok(Upkeep::new(site, books, shutdown))
}

/// The fold alone: nothing is decided while tables are built, so nothing need be known of prices.
fn books() -> Books<Rules, ReadModel> {
    let prices = View::new(Family::Price, Prices::default());
    Books::new(Arc::new(Rules::new(prices)), ReadModel)
}
