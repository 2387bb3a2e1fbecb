//! Roles that fold the log.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_projection::{Attendant, Health as Looping, Options, Projection, Running};
use runledger_service::health::Health;
use runledger_service::metrics;
use runledger_service::supervisor::{Stage, Supervisor};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Error, WorkerAddresses};

/// A role that folds the log, and whoever goes along with it.
pub struct Worker<'a> {
    /// As health and telemetry name it, for example `billing-forwarder`.
    pub name: &'static str,
    pub log: Arc<dyn Log>,
    /// Signed in as the writer of its schema.
    pub pool: PgPool,
    pub metrics: &'a metrics::Config,
    pub options: &'a Options,
    pub clock: Arc<dyn Clock>,
}

impl Worker<'_> {
    /// Starts a projection that nobody goes along with.
    ///
    /// # Errors
    /// When the address of the metrics is taken.
    pub async fn project<P: Projection>(
        self,
        projection: P,
        supervisor: &mut Supervisor,
    ) -> Result<WorkerAddresses, Error> {
        let always = watch::Sender::new(true).subscribe();
        self.start(projection, (), always, supervisor).await
    }

    /// Starts a projection and its attendant. Healthy only while `knows` is true, too.
    ///
    /// # Errors
    /// As [`Self::project`].
    pub async fn start<P: Projection, A: Attendant<PgPool> + Sync>(
        self,
        projection: P,
        attendant: A,
        knows: watch::Receiver<bool>,
        supervisor: &mut Supervisor,
    ) -> Result<WorkerAddresses, Error> {
        let Self {
            name,
            log,
            pool,
            metrics,
            options,
            clock,
        } = self;
        let health = Health::new(name);
        let metrics = metrics::bind(metrics, vec![health.clone()])
            .await
            .map_err(Error::Metrics)?;
        let addresses = WorkerAddresses {
            metrics: metrics.address(),
        };
        let running = Running {
            log,
            pool,
            options: options.clone(),
            clock,
        };
        let (told, tells) = watch::channel(Looping::default());
        supervisor.spawn(Stage::Work, name, |stop| {
            runledger_projection::run_with(running, projection, attendant, told, stop)
        });
        supervisor.spawn(Stage::Watch, format!("{name} metrics"), |stop| {
            metrics.serve(stop)
        });
        supervisor.spawn(Stage::Watch, format!("{name} health"), |stop| async move {
            tell(&health, tells, knows, stop).await;
            Ok::<(), Error>(())
        });
        Ok(addresses)
    }
}

/// Keeps `health` true while the loop works and all that it goes by is known.
async fn tell(
    health: &Health,
    mut works: watch::Receiver<Looping>,
    mut knows: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    loop {
        let is_working = *works.borrow_and_update() == Looping::Working;
        let is_known = *knows.borrow_and_update();
        health.set(is_working && is_known);
        // A sender that is gone says nothing more.
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = works.changed() => {}
            Ok(()) = knows.changed() => {}
            else => {
                stop.cancelled().await;
                break;
            }
        }
    }
    health.set(false);
}
