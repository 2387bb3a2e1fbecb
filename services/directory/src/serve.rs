//! The role `directory`: from a configuration to a served address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_proto::directory::v1::directory_service_server::DirectoryServiceServer;
use runledger_service::auth::Authenticator;
use runledger_service::health::Health;
use runledger_service::server::{self, Server};
use runledger_service::supervisor::{Stage, Supervisor};
use runledger_service::{metrics, status};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::RulesError;
use crate::config::Config;
use crate::relay::{self, Relay};
use crate::{Directory, sql};

/// Where the role listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

/// Why the role cannot start. A database that is away is no such reason: health says so meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration of a database is wrong")]
    Database(#[source] sqlx::Error),
    #[error("the configuration is wrong")]
    Rules(#[source] RulesError),
    #[error("starting the server")]
    Server(#[source] server::Error),
    #[error("starting the metrics listener")]
    Metrics(#[source] metrics::Error),
}

/// Binds the role's addresses and hands its tasks to `supervisor`. Changes are relayed into `log`,
/// which may be away for as long as it likes.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve(
    config: &Config,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<Addresses, Error> {
    let connect = |database| {
        runledger_postgres::connect(database, "runledger directory", "directory")
            .map_err(Error::Database)
    };
    let (pool, keys) = (connect(&config.database)?, connect(&config.keys)?);
    let directory = Directory::new(pool.clone(), Arc::clone(&clock), &config.directory)
        .map_err(Error::Rules)?;
    let health = Health::new("directory");
    let authenticator = Authenticator::postgres(keys.clone(), &config.auth);
    let server = Server::new(&config.server, health.clone(), authenticator)
        .add(DirectoryServiceServer::new(directory))
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
    let every = config.directory.health_interval;
    supervisor.spawn(Stage::Serve, "directory", |stop| server.serve(stop));
    let patience = config.kafka.message_timeout;
    let relay = Relay::new(
        pool.clone(),
        log,
        Arc::clone(&clock),
        config.relay,
        patience,
    );
    supervisor.spawn(Stage::Work, "directory relay", |stop| async move {
        relay.run(stop).await;
        Ok::<(), Error>(())
    });
    supervisor.spawn(Stage::Watch, "directory metrics", |stop| {
        metrics.serve(stop)
    });
    supervisor.spawn(Stage::Watch, "directory health", |stop| async move {
        watch(&health, (&pool, &keys), clock.as_ref(), every, stop).await;
        Ok::<(), Error>(())
    });
    Ok(addresses)
}

/// Keeps `health` true while both roles get their answers from the database.
async fn watch(
    health: &Health,
    (pool, keys): (&PgPool, &PgPool),
    clock: &dyn Clock,
    every: Duration,
    stop: CancellationToken,
) {
    let mut tick = interval(every.max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let probed = tokio::select! {
            () = stop.cancelled() => break,
            probed = timeout(every, probe(pool, keys, clock)) => probed,
        };
        let ready = match probed {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(
                    cause = status::chain(&error),
                    "the database refuses the probe"
                );
                false
            }
            Err(_) => false,
        };
        health.set(ready);
    }
    health.set(false);
}

async fn probe(pool: &PgPool, keys: &PgPool, clock: &dyn Clock) -> Result<(), sqlx::Error> {
    sqlx::query(sql::PROBE).execute(pool).await?;
    relay::measure(pool, clock.now()).await?;
    sqlx::query(sql::PROBE_KEYS).execute(keys).await?;
    Ok(())
}
