//! The roles `runs projector` and `runs api`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_projection::Reader;
use runledger_proto::run::v1::runs_service_server::RunsServiceServer;
use runledger_role::{ApiAddresses, Error, Worker, WorkerAddresses};
use runledger_service::supervisor::Supervisor;

use crate::api::Api;
use crate::config::{ApiConfig, ProjectorConfig};
use crate::{FAMILIES, Runs};

/// The schema of the read model.
pub(crate) const SCHEMA: &str = "runs";

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

/// Starts the projector on a log that is there already.
///
/// # Errors
/// As [`serve_projector`].
pub async fn serve_projector_on(
    log: Arc<dyn Log>,
    config: &ProjectorConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<WorkerAddresses, Error> {
    let name = "runledger runs projector";
    let pool = runledger_projection::writer_pool(&config.database, name, SCHEMA);
    let worker = Worker {
        name: "runs-projector",
        log,
        pool: pool.map_err(Error::Database)?,
        metrics: &config.metrics,
        options: &config.projection,
        clock,
    };
    worker.project(Runs::default(), supervisor).await
}

/// Starts the api, which asks Kafka where the log ends.
///
/// # Errors
/// As [`runledger_role::Api::open`], or when an address is taken.
pub async fn serve_api(
    config: &ApiConfig,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let log = runledger_role::log(&config.kafka)?;
    serve_api_on(log, config, supervisor).await
}

/// Starts the api with a log that is there already.
///
/// # Errors
/// As [`serve_api`].
pub async fn serve_api_on(
    log: Arc<dyn Log>,
    config: &ApiConfig,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let role = runledger_role::Api {
        name: "runs-api",
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
    let authenticator = open.authenticator.clone();
    let api = Api::new(reader.clone(), authenticator, open.clearance(), &config.api);
    let add = |server: runledger_service::server::Server| server.add(RunsServiceServer::new(api));
    open.serve(add, vec![reader], supervisor).await
}
