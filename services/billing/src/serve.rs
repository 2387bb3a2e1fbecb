//! The roles `billing decider` and `billing api`: from a configuration to tasks under a supervisor.

use std::sync::Arc;

use runledger_decider::{Books, Callers, Decider, SettledReader, View};
use runledger_domain::log::Family;
use runledger_domain::time::Clock;
use runledger_projection::Reader;
use runledger_proto::billing::v1::billing_service_server::BillingServiceServer;
use runledger_proto::price::v1::price_service_server::PriceServiceServer;
use runledger_role::{ApiAddresses, Error, Worker, WorkerAddresses};
use runledger_service::limits::Buckets;
use runledger_service::server::Server;
use runledger_service::supervisor::{Stage, Supervisor};

use crate::api::{Api, Parts};
use crate::config::{ApiConfig, DeciderConfig};
use crate::forwarder::{self, Forwarded};
use crate::prices::Prices;
use crate::read_model::ReadModel;
use crate::rules::{FAMILIES, Rules};
use crate::statements;

/// The schema of the decider and its read model.
pub(crate) const SCHEMA: &str = "billing";

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
    let name = "runledger billing decider";
    let pool = runledger_projection::writer_pool(&config.database, name, SCHEMA);
    let prices = View::new(Family::Price, Prices::default());
    let rules = Arc::new(Rules::new(Arc::clone(&prices)));
    let books = Books::new(Arc::clone(&rules), ReadModel);
    let worker = Worker {
        name: "billing-decider",
        log: Arc::clone(&log),
        pool: pool.map_err(Error::Database)?,
        metrics: &config.metrics,
        options: &config.ledger,
        clock: Arc::clone(&clock),
    };
    let decider = Decider::new(rules, Arc::clone(&log), clock, config.decider.clone());
    let knows = prices.working();
    supervisor.spawn(Stage::Work, "billing-decider prices", |stop| async move {
        prices.follow(log, stop).await
    });
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
        name: "billing-api",
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
    let name = "runledger billing api";
    let usage = runledger_projection::reader_pool(&config.database, name, forwarder::SCHEMA);
    let usage = Reader::new(usage.map_err(Error::Database)?, log, forwarder::FAMILIES);
    let api = Api::new(Parts {
        settled: SettledReader::new(reader.clone(), statements::SELECT_OWED),
        forwarded: Forwarded::new(usage.clone()),
        callers: callers.clone(),
        clearance: open.clearance(),
        buckets: Buckets::new(&config.limits),
        clock,
    });
    supervisor.spawn(Stage::Work, "billing-api outcomes", |stop| async move {
        callers.follow(stop).await;
        Ok::<(), Error>(())
    });
    let add = |server: Server| {
        let server = server.add(BillingServiceServer::new(api.clone()));
        server.add(PriceServiceServer::new(api))
    };
    open.serve(add, vec![reader, usage], supervisor).await
}
