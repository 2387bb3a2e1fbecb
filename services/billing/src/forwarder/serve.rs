//! The role `billing forwarder`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_role::{Error, Worker, WorkerAddresses};
use runledger_service::supervisor::Supervisor;

use super::config::ForwarderConfig;
use super::{Forwarder, SCHEMA};

/// Starts the forwarder on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_forwarder(
    config: &ForwarderConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<WorkerAddresses, Error> {
    let log = runledger_role::log(&config.kafka)?;
    let name = "runledger billing forwarder";
    let pool = runledger_projection::writer_pool(&config.database, name, SCHEMA);
    let forwarder = Forwarder::new(Arc::clone(&log), Arc::clone(&clock));
    let worker = Worker {
        name: "billing-forwarder",
        log,
        pool: pool.map_err(Error::Database)?,
        metrics: &config.metrics,
        options: &config.forwarding,
        clock,
    };
    worker.project(forwarder, supervisor).await
}
