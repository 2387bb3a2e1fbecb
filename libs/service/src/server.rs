//! The gRPC server of a role.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::auth::Authenticator;
use crate::health::Health;

/// The largest request, or message of a stream, that is read.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Section `[server]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens; port 0: any.
    pub listen: SocketAddr,
    /// Absent: plain text.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// Section `[server.tls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM: the server's certificate and what it descends from.
    pub certificate_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listening on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// A server being put together.
pub struct Server {}

/// Bound to its address, not serving yet.
pub struct Bound {}

/// Left in every request: cancelled when the process begins to stop, so that a stream can end by
/// itself before it is cut.
#[derive(Clone, Debug)]
pub struct Stopping(pub CancellationToken);

impl Server {
    /// A server that answers for `health`'s role, with health and reflection in it.
    pub fn new(config: &Config, health: Health, authenticator: Authenticator) -> Self {
        todo!()
    }

    /// Adds a generated service.
    #[must_use]
    pub fn add<S>(self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        todo!()
    }

    /// Takes the address.
    ///
    /// # Errors
    /// When the address cannot be had or the TLS files are wrong.
    pub async fn bind(self) -> Result<Bound, Error> {
        todo!()
    }
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// Serves until `stop`, then drains: no new connections, calls in flight are answered, streams
    /// are cut at half the drain timeout.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        todo!()
    }
}
