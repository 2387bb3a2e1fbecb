//! The roles `audit projector` and `audit api`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_projection::Reader;
use runledger_proto::audit::v1::audit_service_server::AuditServiceServer;
use runledger_role::{ApiAddresses, Error, Worker, WorkerAddresses};
use runledger_service::supervisor::Supervisor;

use crate::api::Api;
use crate::config::{ApiConfig, ProjectorConfig};
use crate::{Audit, FAMILIES};

/// The schema of the read model.
pub(crate) const SCHEMA: &str = "audit";

/// Starts the projector on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_projector(
    config: &ProjectorConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<WorkerAddresses, Error> {
    let name = "runledger audit projector";
    let pool = runledger_projection::writer_pool(&config.database, name, SCHEMA);
    let worker = Worker {
        name: "audit-projector",
        log: runledger_role::log(&config.kafka)?,
        pool: pool.map_err(Error::Database)?,
        metrics: &config.metrics,
        options: &config.audit,
        clock,
    };
    worker.project(Audit, supervisor).await
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
    let role = runledger_role::Api {
        name: "audit-api",
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
    let api = Api::new(reader.clone(), open.clearance());
    let add = |server: runledger_service::server::Server| server.add(AuditServiceServer::new(api));
    open.serve(add, vec![reader], supervisor).await
}
