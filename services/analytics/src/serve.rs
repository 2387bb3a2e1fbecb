//! The roles `analytics projector` and `analytics api`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_projection::Reader;
use runledger_proto::analytics::v1::analytics_service_server::AnalyticsServiceServer;
use runledger_role::{ApiAddresses, Error, Worker, WorkerAddresses};
use runledger_service::server::Server;
use runledger_service::supervisor::Supervisor;

use crate::api::Api;
use crate::config::{ApiConfig, ProjectorConfig};
use crate::{Analytics, FAMILIES};

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

/// Starts the api, which asks Kafka where the log ends.
///
/// # Errors
/// As [`runledger_role::Api::open`], or when an address is taken.
pub async fn serve_api(
    config: &ApiConfig,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    serve_api_on(runledger_role::log(&config.kafka)?, config, supervisor).await
}

/// The same over a log that is there already.
///
/// # Errors
/// As [`serve_api`].
pub async fn serve_api_on(
    log: Arc<dyn Log>,
    config: &ApiConfig,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let role = runledger_role::Api {
        name: "analytics-api",
        schema: SCHEMA,
        server: &config.server,
        metrics: &config.metrics,
        database: &config.database,
        keys: &config.keys,
        auth: &config.auth,
        health_interval: config.api.health_interval,
    };
    let open = role.open().await?;
    let reader = Reader::new(open.pool.clone(), log, FAMILIES);
    let api = Api::new(reader.clone(), open.clearance(), &config.api);
    let add = |server: Server| server.add(AnalyticsServiceServer::new(api));
    open.serve(add, vec![reader], supervisor).await
}
