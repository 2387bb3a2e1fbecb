//! The role `analytics projector`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_role::{Error, Worker, WorkerAddresses};
use runledger_service::supervisor::Supervisor;

use crate::Analytics;
use crate::config::ProjectorConfig;

/// The schema of the read model.
pub(crate) const SCHEMA: &str = "analytics";

/// Starts the projector on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_projector(
    config: &ProjectorConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<WorkerAddresses, Error> {
    let log = runledger_role::log(&config.kafka)?;
    serve_projector_on(log, config, clock, supervisor).await
}

/// The same over a log that is there already.
///
/// # Errors
/// As [`serve_projector`].
pub async fn serve_projector_on(
    log: Arc<dyn Log>,
    config: &ProjectorConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<WorkerAddresses, Error> {
    let name = "runledger analytics projector";
    let pool = runledger_projection::writer_pool(&config.database, name, SCHEMA);
    let worker = Worker {
        name: "analytics-projector",
        log,
        pool: pool.map_err(Error::Database)?,
        metrics: &config.metrics,
        options: &config.analytics,
        clock,
    };
    worker.project(Analytics, supervisor).await
}
