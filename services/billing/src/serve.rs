//! The roles `billing decider` and `billing api`: from a configuration to tasks under a supervisor.

use std::net::SocketAddr;
use std::sync::Arc;

use runledger_decider::{Books, Callers, Decider, View};
use runledger_domain::log::Family;
use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_postgres::BypassError;
use runledger_projection::{Reader, Running};

use runledger_proto::billing::v1::billing_service_server::BillingServiceServer;
use runledger_proto::price::v1::price_service_server::PriceServiceServer;
use runledger_service::auth::Authenticator;
use runledger_service::clearance::{Clearance, Watch};
use runledger_service::health::Health;
use runledger_service::limits::Buckets;
use runledger_service::metrics;
use runledger_service::server::{self, Server};
use runledger_service::supervisor::{Stage, Supervisor};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::api::{Api, Parts};
use crate::config::{ApiConfig, DeciderConfig};
use crate::forwarder::{self, Forwarded};
use crate::prices::Prices;
use crate::read_model::ReadModel;
use crate::rules::{FAMILIES, Rules};

/// The schema of the decider and its read model.
pub(crate) const SCHEMA: &str = "billing";

const APPLICATION: &str = "runledger billing api";

/// Where the decider answers.
#[derive(Clone, Copy, Debug)]
pub struct DeciderAddresses {
    pub metrics: SocketAddr,
}

/// Where the api answers.
#[derive(Clone, Copy, Debug)]
pub struct ApiAddresses {
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

/// Why a role cannot start or go on. Kafka or the database being away is no such reason: health
/// says so meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration of a database is wrong")]
    Database(#[source] sqlx::Error),
    #[error("the configuration of Kafka is wrong")]
    Kafka(#[source] runledger_eventlog::Error),
    #[error("starting the server")]
    Server(#[source] server::Error),
    #[error("starting the metrics listener")]
    Metrics(#[source] metrics::Error),
    #[error("the reader must not be let near the data")]
    Bypass(#[source] BypassError),
}

/// Starts the decider on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_decider(
    config: &DeciderConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<DeciderAddresses, Error> {
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
    serve_decider_on(log, config, clock, supervisor).await
}

/// Starts the decider on a log that is there already.
///
/// # Errors
/// As [`serve_decider`].
pub async fn serve_decider_on(
    log: Arc<dyn Log>,
    config: &DeciderConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<DeciderAddresses, Error> {
    let application = "runledger billing decider";
    let pool = runledger_projection::writer_pool(&config.database, application, SCHEMA)
        .map_err(Error::Database)?;
    let health = Health::new("billing-decider");
    let metrics = metrics::bind(&config.metrics, vec![health.clone()])
        .await
        .map_err(Error::Metrics)?;
    let addresses = DeciderAddresses {
        metrics: metrics.address(),
    };
    let prices = View::new(Family::Price, Prices::default());
    let rules = Arc::new(Rules::new(Arc::clone(&prices)));
    let books = Books::new(Arc::clone(&rules), ReadModel);
    let decider = Decider::new(
        rules,
        Arc::clone(&log),
        Arc::clone(&clock),
        config.decider.clone(),
    );
    let (told, tells) = watch::channel(runledger_projection::Health::default());
    let running = Running {
        log: Arc::clone(&log),
        pool,
        options: config.ledger.clone(),
        clock,
    };
    let knows = prices.working();
    supervisor.spawn(Stage::Work, "billing decider", |stop| {
        runledger_projection::run_with(running, books, decider, told, stop)
    });
    supervisor.spawn(Stage::Work, "billing prices", |stop| async move {
        prices.follow(log, stop).await
    });
    supervisor.spawn(Stage::Watch, "billing decider metrics", |stop| {
        metrics.serve(stop)
    });
    supervisor.spawn(Stage::Watch, "billing decider health", |stop| async move {
        tell_health(health, tells, knows, stop).await;
        Ok::<(), Error>(())
    });
    Ok(addresses)
}

/// Keeps `health` true while the loop works and the prices are known.
async fn tell_health(
    health: Health,
    mut loops: watch::Receiver<runledger_projection::Health>,
    mut knows: watch::Receiver<bool>,
    stop: tokio_util::sync::CancellationToken,
) {
    while !stop.is_cancelled() {
        let works = *loops.borrow_and_update() == runledger_projection::Health::Working;
        health.set(works && *knows.borrow_and_update());
        let changed = async {
            tokio::select! {
                changed = loops.changed() => changed,
                changed = knows.changed() => changed,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changed => if changed.is_err() { stop.cancelled().await },
        }
    }
    health.set(false);
}

/// Starts the api on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken, or when the reader could bypass
/// row-level security; where the database is away at the start, the latter ends the role as soon as
/// it is back.
pub async fn serve_api(
    config: &ApiConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
    serve_api_on(log, config, clock, supervisor).await
}

/// Starts the api on a log that is there already.
///
/// # Errors
/// As [`serve_api`].
pub async fn serve_api_on(
    log: Arc<dyn Log>,
    config: &ApiConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let pool = connect(&config.database, APPLICATION)?;
    let keys = connect(&config.keys, APPLICATION)?;
    let watch = Watch {
        clearance: Clearance::default(),
        schema: SCHEMA,
        probes: vec![probe(&config.database)?, probe(&config.keys)?],
        every: config.api.health_interval,
    };
    watch.begin().await.map_err(Error::Bypass)?;
    let health = Health::new("billing-api");
    let authenticator = Authenticator::postgres(keys, &config.auth);
    let reader = Reader::new(pool.clone(), Arc::clone(&log), FAMILIES);
    let callers = Callers::new(
        Arc::clone(&log),
        // A connection of its own: those who wait for outcomes must not wait behind those who read.
        probe(&config.database)?,
        Arc::clone(&clock),
        config.callers.clone(),
    );
    let usage = runledger_postgres::connect(&config.database, APPLICATION, forwarder::SCHEMA)
        .map_err(Error::Database)?;
    let forwarded = Forwarded::new(usage, log);
    let api = Api::new(Parts {
        reader: reader.clone(),
        forwarded: forwarded.clone(),
        callers: callers.clone(),
        clearance: watch.clearance.clone(),
        buckets: Buckets::new(&config.limits),
        clock,
    });
    let server = Server::new(&config.server, health.clone(), authenticator)
        .add(BillingServiceServer::new(api.clone()))
        .add(PriceServiceServer::new(api))
        .bind()
        .await
        .map_err(Error::Server)?;
    let metrics = metrics::bind(&config.metrics, vec![health.clone()])
        .await
        .map_err(Error::Metrics)?;
    let addresses = ApiAddresses {
        grpc: server.address(),
        metrics: metrics.address(),
    };
    supervisor.spawn(Stage::Serve, "billing api", |stop| server.serve(stop));
    supervisor.spawn(Stage::Work, "billing api reader", |stop| async move {
        reader.follow(stop).await;
        Ok::<(), Error>(())
    });
    supervisor.spawn(Stage::Work, "billing api forwarded", |stop| async move {
        forwarded.follow(stop).await;
        Ok::<(), Error>(())
    });
    supervisor.spawn(Stage::Work, "billing api outcomes", |stop| async move {
        callers.follow(stop).await;
        Ok::<(), Error>(())
    });
    supervisor.spawn(Stage::Watch, "billing api metrics", |stop| {
        metrics.serve(stop)
    });
    supervisor.spawn(Stage::Watch, "billing api health", |stop| {
        watch.run(health, stop)
    });
    Ok(addresses)
}

fn connect(database: &runledger_postgres::Config, application: &str) -> Result<PgPool, Error> {
    runledger_postgres::connect(database, application, SCHEMA).map_err(Error::Database)
}

/// A connection for one purpose alone.
fn probe(database: &runledger_postgres::Config) -> Result<PgPool, Error> {
    let config = runledger_postgres::Config {
        connections_max: 1,
        ..database.clone()
    };
    connect(&config, "runledger billing api health")
}
