//! The roles `audit projector` and `audit api`: from a configuration to tasks under a supervisor.

use std::net::SocketAddr;
use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_postgres::BypassError;
use runledger_projection::Reader;
use runledger_proto::audit::v1::audit_service_server::AuditServiceServer;
use runledger_service::auth::Authenticator;
use runledger_service::clearance::{Clearance, Watch};
use runledger_service::health::Health;
use runledger_service::metrics;
use runledger_service::server::{self, Server};
use runledger_service::supervisor::{Stage, Supervisor};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::api::Api;
use crate::config::{ApiConfig, ProjectorConfig};
use crate::{Audit, FAMILIES};

/// The schema of the read model.
pub(crate) const SCHEMA: &str = "audit";

/// Where the projector answers.
#[derive(Clone, Copy, Debug)]
pub struct ProjectorAddresses {
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

/// Starts the projector on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_projector(
    config: &ProjectorConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<ProjectorAddresses, Error> {
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
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
) -> Result<ProjectorAddresses, Error> {
    let pool = writer(&config.database)?;
    let health = Health::new("audit-projector");
    let metrics = metrics::bind(&config.metrics, vec![health.clone()])
        .await
        .map_err(Error::Metrics)?;
    let addresses = ProjectorAddresses {
        metrics: metrics.address(),
    };
    let (told, mut tells) = watch::channel(runledger_projection::Health::default());
    let options = config.audit.clone();
    supervisor.spawn(Stage::Work, "audit projector", |stop| {
        runledger_projection::run(log, pool, Audit, options, clock, told, stop)
    });
    supervisor.spawn(Stage::Watch, "audit projector metrics", |stop| {
        metrics.serve(stop)
    });
    supervisor.spawn(Stage::Watch, "audit projector health", |stop| async move {
        while !stop.is_cancelled() {
            let working = *tells.borrow_and_update() == runledger_projection::Health::Working;
            health.set(working);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = tells.changed() => if changed.is_err() { stop.cancelled().await },
            }
        }
        health.set(false);
        Ok::<(), Error>(())
    });
    Ok(addresses)
}

/// How the writer's statements are planned.
pub(crate) const BY_KEY: &[(&str, &str)] = &[
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// The writer's pool. Every statement of the projector goes by a key, and its plans are made while
/// tables are still small: without the first settings Postgres would choose to read whole tables
/// then, and go on doing so when they have grown. Without the last it would plan every batch anew,
/// which costs more than a small batch does.
fn writer(config: &runledger_postgres::Config) -> Result<PgPool, Error> {
    runledger_postgres::connect_with(config, "runledger audit projector", SCHEMA, BY_KEY)
        .map_err(Error::Database)
}

/// Starts the api, which asks Kafka where the log ends.
///
/// # Errors
/// When the configuration is wrong or an address is taken, or when the reader could bypass
/// row-level security; where the database is away at the start, the latter ends the role as soon as
/// it is back.
pub async fn serve_api(
    config: &ApiConfig,
    supervisor: &mut Supervisor,
) -> Result<ApiAddresses, Error> {
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
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
    let connect = |database| {
        runledger_postgres::connect(database, "runledger audit api", SCHEMA)
            .map_err(Error::Database)
    };
    let (pool, keys) = (connect(&config.database)?, connect(&config.keys)?);
    let watch = Watch {
        clearance: Clearance::default(),
        schema: SCHEMA,
        probes: vec![probe(&config.database)?, probe(&config.keys)?],
        every: config.api.health_interval,
    };
    watch.begin().await.map_err(Error::Bypass)?;
    let health = Health::new("audit-api");
    let authenticator = Authenticator::postgres(keys, &config.auth);
    let reader = Reader::new(pool, log, FAMILIES);
    let api = Api::new(reader.clone(), watch.clearance.clone());
    let server = Server::new(&config.server, health.clone(), authenticator)
        .add(AuditServiceServer::new(api))
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
    supervisor.spawn(Stage::Serve, "audit api", |stop| server.serve(stop));
    supervisor.spawn(Stage::Work, "audit api reader", |stop| async move {
        reader.follow(stop).await;
        Ok::<(), Error>(())
    });
    supervisor.spawn(Stage::Watch, "audit api metrics", |stop| {
        metrics.serve(stop)
    });
    supervisor.spawn(Stage::Watch, "audit api health", |stop| {
        watch.run(health, stop)
    });
    Ok(addresses)
}

/// A connection for health alone.
fn probe(database: &runledger_postgres::Config) -> Result<PgPool, Error> {
    let config = runledger_postgres::Config {
        connections_max: 1,
        ..database.clone()
    };
    runledger_postgres::connect(&config, "runledger audit api health", SCHEMA)
        .map_err(Error::Database)
}
