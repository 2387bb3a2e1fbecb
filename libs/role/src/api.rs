//! Roles that read what was folded.

use std::time::Duration;

use runledger_projection::Reader;
use runledger_service::auth::{self, Authenticator};
use runledger_service::clearance::{Clearance, Watch};
use runledger_service::health::Health;
use runledger_service::metrics;
use runledger_service::server::{self, Server};
use runledger_service::supervisor::{Stage, Supervisor};
use sqlx::PgPool;

use crate::{ApiAddresses, Error};

/// What an api is told at its start.
pub struct Api<'a> {
    /// As health and telemetry name it, for example `billing-api`.
    pub name: &'static str,
    /// What it reads.
    pub schema: &'static str,
    pub server: &'a server::Config,
    pub metrics: &'a metrics::Config,
    /// Signed in as the reader of its schema, whom row-level security binds.
    pub database: &'a runledger_postgres::Config,
    /// Signed in as `runledger_keys`, which may look a key up and nothing else.
    pub keys: &'a runledger_postgres::Config,
    pub auth: &'a auth::Config,
    /// How often health looks, and how long it waits for an answer.
    pub health_interval: Duration,
}

/// An api whose reader is bound, or will be before it reads.
pub struct Open<'a> {
    api: Api<'a>,
    watch: Watch,
    /// For reads.
    pub pool: PgPool,
    pub authenticator: Authenticator,
}

impl<'a> Api<'a> {
    /// Opens what it reads.
    ///
    /// # Errors
    /// When a configuration is wrong, or when the reader could bypass row-level security; where the
    /// database is away, the latter ends the role as soon as it is back.
    pub async fn open(self) -> Result<Open<'a>, Error> {
        let pool = self.connect(self.database)?;
        let keys = self.connect(self.keys)?;
        let watch = Watch {
            clearance: Clearance::default(),
            schema: self.schema,
            probes: vec![self.single(self.database)?, self.single(self.keys)?],
            every: self.health_interval,
        };
        watch.begin().await.map_err(Error::Bypass)?;
        Ok(Open {
            watch,
            pool,
            authenticator: Authenticator::postgres(keys, self.auth),
            api: self,
        })
    }

    fn connect(&self, database: &runledger_postgres::Config) -> Result<PgPool, Error> {
        let name = format!("runledger {}", self.name.replace('-', " "));
        runledger_projection::reader_pool(database, &name, self.schema).map_err(Error::Database)
    }

    fn single(&self, database: &runledger_postgres::Config) -> Result<PgPool, Error> {
        let one = runledger_postgres::Config {
            connections_max: 1,
            ..database.clone()
        };
        self.connect(&one)
    }
}

impl Open<'_> {
    /// Given before anything is read.
    pub fn clearance(&self) -> Clearance {
        self.watch.clearance.clone()
    }

    /// A connection for one purpose alone, which must not wait behind those who read.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub fn single(&self) -> Result<PgPool, Error> {
        self.api.single(self.api.database)
    }

    /// Serves what `add` adds, and lets `readers` follow the log.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn serve(
        self,
        add: impl FnOnce(Server) -> Server,
        readers: Vec<Reader>,
        supervisor: &mut Supervisor,
    ) -> Result<ApiAddresses, Error> {
        let (name, health) = (self.api.name, Health::new(self.api.name));
        let server = Server::new(self.api.server, health.clone(), self.authenticator);
        let server = add(server).bind().await.map_err(Error::Server)?;
        let metrics = metrics::bind(self.api.metrics, vec![health.clone()])
            .await
            .map_err(Error::Metrics)?;
        let addresses = ApiAddresses {
            grpc: server.address(),
            metrics: metrics.address(),
        };
        supervisor.spawn(Stage::Serve, name, |stop| server.serve(stop));
        for reader in readers {
            supervisor.spawn(Stage::Work, format!("{name} reader"), |stop| async move {
                reader.follow(stop).await;
                Ok::<(), Error>(())
            });
        }
        supervisor.spawn(Stage::Watch, format!("{name} metrics"), |stop| {
            metrics.serve(stop)
        });
        let watch = self.watch;
        supervisor.spawn(Stage::Watch, format!("{name} health"), |stop| {
            watch.run(health, stop)
        });
        Ok(addresses)
    }
}
