//! The metrics of the process, and the small HTTP listener that shows them.

use std::net::SocketAddr;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Section `[metrics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where `GET /metrics` and `GET /health` answer; port 0: any.
    pub listen: SocketAddr,
}

/// Why metrics cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listening on {address} for metrics")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("serving metrics")]
    Serve(#[source] std::io::Error),
}

/// Bound, not serving yet.
pub struct Bound {}

/// Binds the listener and installs the process's recorder, unless that is done.
///
/// # Errors
/// When the address cannot be had.
pub async fn bind(config: &Config, healths: Vec<Health>) -> Result<Bound, Error> {
    todo!()
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        todo!()
    }
}
