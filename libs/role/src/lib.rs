//! What the roles of all services have in common: from a configuration to tasks under a supervisor.
//!
//! For: a [`Worker`], which folds the log and serves nothing but its metrics; an [`Api`], which reads
//! what was folded, bound by row-level security, with what its reads have in common ([`reading`]); an
//! [`Upkeep`], which builds it anew.
//! Must never: serve before it is certain that the reader is bound, share connections between callers
//! and health, or end because Kafka or the database is away.

mod api;
pub mod reading;
mod upkeep;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;

use runledger_eventlog::Log;
use runledger_eventlog::kafka::{self, Kafka};
use runledger_postgres::BypassError;
use runledger_service::{metrics, server};

pub use api::{Api, Open};
pub use upkeep::{Named, Upkeep};
pub use worker::Worker;

/// Where a worker answers.
#[derive(Clone, Copy, Debug)]
pub struct WorkerAddresses {
    pub metrics: SocketAddr,
}

/// Where an api answers.
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

/// The log in Kafka, which may be away.
///
/// # Errors
/// When the configuration is wrong.
pub fn log(config: &kafka::Config) -> Result<Arc<dyn Log>, Error> {
    let log = Kafka::connect(config).map_err(Error::Kafka)?;
    Ok(log)
}
