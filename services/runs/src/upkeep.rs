//! Rebuilding and verifying the read model.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_projection::rebuild::{self, Progress, Report, Site, Verdict};
use runledger_service::telemetry;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Runs;
use crate::serve::{BY_KEY, Error, SCHEMA};

/// The embedded defaults, commented.
pub const UPKEEP_DEFAULTS: &str = include_str!("../upkeep.default.toml");

/// The whole configuration of rebuilding and verifying. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepConfig {
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_runs_writer`.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: runledger_postgres::Config,
    pub projection: Named,
}

/// Section `[projection]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name that the projector has.
    pub name: String,
}

/// Rebuilds and verifies one installation's read model of runs.
pub struct Upkeep {
    site: Site,
    /// How far it is.
    pub progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
}

impl Upkeep {
    /// `workers`: tasks that build at the same time.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub fn new(
        config: &UpkeepConfig,
        clock: Arc<dyn Clock>,
        workers: usize,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let log = Kafka::connect(&config.kafka).map_err(Error::Kafka)?;
        Self::on(log, config, clock, workers, shutdown)
    }

    /// The same over a log that is there already.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on(
        log: Arc<dyn Log>,
        config: &UpkeepConfig,
        clock: Arc<dyn Clock>,
        workers: usize,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let application = "runledger runs upkeep";
        let writer =
            runledger_postgres::connect_with(&config.database, application, SCHEMA, BY_KEY)
                .map_err(Error::Database)?;
        let owner = runledger_postgres::connect(&config.owner, application, SCHEMA)
            .map_err(Error::Database)?;
        let site = Site {
            log,
            writer,
            owner,
            clock,
            schema: SCHEMA,
            name: config.projection.name.clone(),
            workers,
        };
        let (progress, _) = watch::channel(Progress::default());
        Ok(Self {
            site,
            progress,
            shutdown,
        })
    }

    /// See [`rebuild::rebuild`].
    ///
    /// # Errors
    /// As there.
    pub async fn rebuild(&self, fresh: bool) -> Result<Report, rebuild::Error> {
        let (progress, shutdown) = (self.progress.clone(), self.shutdown.clone());
        rebuild::rebuild(&self.site, Runs::default, fresh, progress, shutdown).await
    }

    /// See [`rebuild::rollback`].
    ///
    /// # Errors
    /// As there.
    pub async fn rollback(&self) -> Result<Report, rebuild::Error> {
        let (progress, shutdown) = (self.progress.clone(), self.shutdown.clone());
        rebuild::rollback(&self.site, Runs::default, progress, shutdown).await
    }

    /// See [`rebuild::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&self) -> Result<usize, rebuild::Error> {
        rebuild::finish(&self.site, Runs::default, self.shutdown.clone()).await
    }

    /// See [`rebuild::verify`].
    ///
    /// # Errors
    /// As there.
    pub async fn verify(&self) -> Result<Verdict, rebuild::Error> {
        let (progress, shutdown) = (self.progress.clone(), self.shutdown.clone());
        rebuild::verify(&self.site, Runs::default, progress, shutdown).await
    }
}
