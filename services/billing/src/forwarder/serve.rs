//! The role `billing forwarder`: from a configuration to tasks under a supervisor.

use std::net::SocketAddr;
use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_service::health::Health;
use runledger_service::metrics;
use runledger_service::supervisor::{Stage, Supervisor};
use tokio::sync::watch;

use super::config::ForwarderConfig;
use super::{Forwarder, SCHEMA};
use crate::serve::Error;

/// Where the forwarder answers.
#[derive(Clone, Copy, Debug)]
pub struct ForwarderAddresses {
    pub metrics: SocketAddr,
}

/// Starts the forwarder on Kafka.
///
/// # Errors
/// When the configuration is wrong or an address is taken.
pub async fn serve_forwarder(
    config: &ForwarderConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<ForwarderAddresses, Error> {
    let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
    serve_forwarder_on(log, config, clock, supervisor).await
}

/// Starts the forwarder on a log that is there already.
///
/// # Errors
/// As [`serve_forwarder`].
pub async fn serve_forwarder_on(
    log: Arc<dyn Log>,
    config: &ForwarderConfig,
    clock: Arc<dyn Clock>,
    supervisor: &mut Supervisor,
) -> Result<ForwarderAddresses, Error> {
    let application = "runledger billing forwarder";
    let pool = runledger_projection::writer_pool(&config.database, application, SCHEMA)
        .map_err(Error::Database)?;
    let health = Health::new("billing-forwarder");
    let metrics = metrics::bind(&config.metrics, vec![health.clone()])
        .await
        .map_err(Error::Metrics)?;
    let addresses = ForwarderAddresses {
        metrics: metrics.address(),
    };
    let (told, mut tells) = watch::channel(runledger_projection::Health::default());
    let options = config.forwarding.clone();
    let forwarder = Forwarder::new(Arc::clone(&log), Arc::clone(&clock));
    supervisor.spawn(Stage::Work, "billing forwarder", |stop| {
        runledger_projection::run(log, pool, forwarder, options, clock, told, stop)
    });
    supervisor.spawn(Stage::Watch, "billing forwarder metrics", |stop| {
        metrics.serve(stop)
    });
    supervisor.spawn(
        Stage::Watch,
        "billing forwarder health",
        |stop| async move {
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
        },
    );
    Ok(addresses)
}
