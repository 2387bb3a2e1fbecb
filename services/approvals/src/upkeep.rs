//! Rebuilding and verifying the tables that are decided from.

use std::sync::Arc;

use runledger_decider::{Books, View};
use runledger_domain::log::Family;
use runledger_domain::time::Clock;
use runledger_projection::rebuild::Upkeep;
use runledger_role::{Error, Named};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::policies::Policies;
use crate::read_model::ReadModel;
use crate::rules::Rules;
use crate::serve::SCHEMA;

/// The embedded defaults, commented.
pub const UPKEEP_DEFAULTS: &str = include_str!("../upkeep.default.toml");

/// The whole configuration of rebuilding and verifying. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepConfig {
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_approvals_writer`.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: runledger_postgres::Config,
    pub books: Named,
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
    let log = runledger_role::log(&config.kafka)?;
    let kept = runledger_role::Upkeep {
        schema: SCHEMA,
        fold: &config.books,
        database: &config.database,
        owner: &config.owner,
        workers,
    };
    let site = kept.site(log, clock)?;
    Ok(Upkeep::new(site, books, shutdown))
}

/// The fold alone: nothing is decided while tables are built, so nothing need be known of policies.
fn books() -> Books<Rules, ReadModel> {
    let policies = View::new(Family::Policy, Policies::default());
    Books::new(Arc::new(Rules::new(policies)), ReadModel)
}
