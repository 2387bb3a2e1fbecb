//! The role `ingest`: from a configuration to a served address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::log::{Family, Partition};
use runledger_domain::time::Clock;
use runledger_eventlog::{Error as LogError, Log};
use runledger_proto::log::v1::dead_letter_service_server::DeadLetterServiceServer;
use runledger_proto::message::v1::message_ingest_service_server::MessageIngestServiceServer;
use runledger_proto::run::v1::run_ingest_service_server::RunIngestServiceServer;
use runledger_proto::run::v1::tool_call_ingest_service_server::ToolCallIngestServiceServer;
use runledger_proto::schedule::v1::schedule_ingest_service_server::ScheduleIngestServiceServer;
use runledger_service::auth::Authenticator;
use runledger_service::health::Health;
use runledger_service::server::{self, Server};
use runledger_service::supervisor::{Stage, Supervisor};
use runledger_service::{metrics, status};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ingest::Ingest;
use crate::rpc::Service;

/// The topics that this role appends to.
pub const FAMILIES: &[Family] = &[Family::Run, Family::Schedule, Family::Message];

/// Where the role listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

/// Why the role cannot start. Kafka or a database that is away is no such reason: health says so
/// meanwhile, and calls hear it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration of the keys' database is wrong")]
    Keys(#[source] runledger_postgres::Error),
    #[error("starting the server")]
    Server(#[source] server::Error),
    #[error("starting the metrics listener")]
    Metrics(#[source] metrics::Error),
}

/// What tells who calls, by the keys' database.
///
/// # Errors
/// When its configuration is wrong.
pub fn authenticator(config: &Config) -> Result<Authenticator, Error> {
    let keys = runledger_postgres::connect(&config.keys, "runledger ingest", "directory")
        .map_err(Error::Keys)?;
    Ok(Authenticator::postgres(keys, &config.auth))
}

/// Binds the role's addresses and hands its tasks to `supervisor`.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve(
    config: &Config,
    log: Arc<dyn Log>,
    authenticator: Authenticator,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<Addresses, Error> {
    let health = Health::new("ingest");
    let ingest = Ingest::new(
        Arc::clone(&log),
        authenticator.clone(),
        &config.limits,
        clock,
        &config.ingest,
    );
    let service = Service::new(Arc::new(ingest));
    let server = Server::new(&config.server, health.clone(), authenticator)
        .add(RunIngestServiceServer::new(service.clone()))
        .add(ToolCallIngestServiceServer::new(service.clone()))
        .add(ScheduleIngestServiceServer::new(service.clone()))
        .add(MessageIngestServiceServer::new(service.clone()))
        .add(DeadLetterServiceServer::new(service))
        .bind()
        .await
        .map_err(Error::Server)?;
    let metrics = metrics::bind(&config.metrics, vec![health.clone()])
        .await
        .map_err(Error::Metrics)?;
    let addresses = Addresses {
        grpc: server.address(),
        metrics: metrics.address(),
    };
    let every = config.ingest.health_interval;
    supervisor.spawn(Stage::Serve, "ingest", |stop| server.serve(stop));
    supervisor.spawn(Stage::Watch, "ingest metrics", |stop| metrics.serve(stop));
    supervisor.spawn(Stage::Watch, "ingest health", |stop| async move {
        watch(&health, log.as_ref(), every, stop).await;
        Ok::<(), Error>(())
    });
    Ok(addresses)
}

/// Keeps `health` true while the log can be appended to.
async fn watch(health: &Health, log: &dyn Log, every: Duration, stop: CancellationToken) {
    let mut tick = interval(every.max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let probed = tokio::select! {
            () = stop.cancelled() => break,
            probed = timeout(every, probe(log, !health.is_ready())) => probed,
        };
        match probed {
            Ok(Ok(ready)) => health.set(ready),
            Ok(Err(error)) => {
                tracing::warn!(
                    cause = status::chain(&error),
                    "the log cannot be appended to"
                );
                health.set(false);
            }
            Err(_) => health.set(false),
        }
    }
    health.set(false);
}

/// Whether the log can be appended to. `warm`: asks the leader of every partition something first,
/// so that the connections of the producer stand before the first fact comes.
async fn probe(log: &dyn Log, warm: bool) -> Result<bool, LogError> {
    for family in FAMILIES {
        let genesis = log.genesis(*family).await?;
        if warm {
            for genesis in genesis.iter() {
                log.watermark(Partition {
                    family: *family,
                    number: genesis.partition,
                })
                .await?;
            }
        }
    }
    Ok(log.healthy())
}
