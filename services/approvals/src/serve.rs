//! The roles `approvals decider` and `approvals api`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_decider::{Books, Callers, Decider, SettledReader, View};
use runledger_domain::log::Family;
use runledger_domain::time::Clock;
use runledger_projection::Reader;
use runledger_proto::approval::v1::approval_service_server::ApprovalServiceServer;
use runledger_proto::approval::v1::simulation_service_server::SimulationServiceServer;
use runledger_proto::policy::v1::policy_service_server::PolicyServiceServer;
use runledger_role::{ApiAddresses, Error, Worker, WorkerAddresses};
use runledger_service::limits::Buckets;
use runledger_service::server::Server;
use runledger_service::supervisor::{Stage, Supervisor};

use crate::api::{Api, Parts};
use crate::config::{ApiConfig, DeciderConfig};
use crate::policies::Policies;
use crate::read_model::ReadModel;
use crate::rules::{FAMILIES, Rules};
use crate::statements;

/// The schema of the decider and its read model.
pub(crate) const SCHEMA: &str = "approvals";

/// Starts the decider on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_decider(
    config: &DeciderConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<WorkerAddresses, Error> {
    let log = runledger_role::log(&config.kafka)?;
    let name = "runledger approvals decider";
    let pool = runledger_projection::writer_pool(&config.database, name, SCHEMA);
    let policies = View::new(Family::Policy, Policies::default());
    let rules = Arc::new(Rules::new(Arc::clone(&policies)));
    let books = Books::new(Arc::clone(&rules), ReadModel);
    let worker = Worker {
        name: "approvals-decider",
        log: Arc::clone(&log),
        pool: pool.map_err(Error::Database)?,
        metrics: &config.metrics,
        options: &config.books,
        clock: Arc::clone(&clock),
    };
    let decider = Decider::new(rules, Arc::clone(&log), clock, config.decider.clone());
    let knows = policies.working();
    supervisor.spawn(
        Stage::Work,
        "approvals-decider policies",
        |stop| async move { policies.follow(log, stop).await },
    );
    worker.start(books, decider, knows, supervisor).await
}

/// Starts the api on Kafka.
///
/// # Errors
/// As [`runledger_role::Api::open`], or when an address is taken.
pub async fn serve_api(
    config: &ApiConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let log = runledger_role::log(&config.kafka)?;
    let role = runledger_role::Api {
        name: "approvals-api",
        schema: SCHEMA,
        server: &config.server,
        metrics: &config.metrics,
        database: &config.database,
        keys: &config.keys,
        auth: &config.auth,
        health_interval: config.api.health_interval,
    };
    let open = role.open().await?;
    let reader = Reader::new(open.pool.clone(), Arc::clone(&log), FAMILIES);
    let callers = Callers::new(
        Arc::clone(&log),
        // Those who wait for outcomes must not wait behind those who read.
        open.single()?,
        Arc::clone(&clock),
        config.callers.clone(),
    );
    let parts = Parts {
        reader: reader.clone(),
        settled: SettledReader::new(reader.clone(), statements::SELECT_OWED),
        callers: callers.clone(),
        log,
        authenticator: open.authenticator.clone(),
        clearance: open.clearance(),
        buckets: Buckets::new(&config.limits),
        clock,
    };
    let api = Api::new(parts, &config.api);
    supervisor.spawn(Stage::Work, "approvals-api outcomes", |stop| async move {
        callers.follow(stop).await;
        Ok::<(), Error>(())
    });
    let add = |server: Server| {
        let server = server.add(ApprovalServiceServer::new(api.clone()));
        let server = server.add(PolicyServiceServer::new(api.clone()));
        server.add(SimulationServiceServer::new(api))
    };
    open.serve(add, vec![reader], supervisor).await
}
