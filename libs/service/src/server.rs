//! The gRPC server of a role: health, reflection, TLS, and the gate that every call goes through.

mod body;
mod gate;
mod incoming;
mod request_id;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

use crate::auth::Authenticator;
use crate::health::Health;
use crate::{deadline, tls};

pub use request_id::{HEADER as REQUEST_ID_HEADER, RequestId};

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
    /// How the server bears up; every field has a default.
    #[serde(default)]
    pub bounds: Bounds,
}

impl Config {
    /// Plain text at `listen`, with the default bounds.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            bounds: Bounds::default(),
        }
    }
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

/// Section `[server.bounds]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Unary calls at once; more are refused, not queued.
    pub calls_max: usize,
    /// Streams at once; more are refused.
    pub streams_max: usize,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Calls and streams at once over one connection.
    pub streams_per_connection_max: u32,
    /// What a unary call may take whose caller says nothing.
    #[serde(with = "humantime_serde")]
    pub call_timeout: Duration,
    /// What a unary call may take whatever its caller says.
    #[serde(with = "humantime_serde")]
    pub call_timeout_max: Duration,
    /// How long calls and streams in flight may go on when the process stops.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Silence after which a connection is asked whether it lives.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// How long it has to say so.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// Age at which a connection is asked to come anew, so that load spreads over new processes.
    #[serde(with = "humantime_serde")]
    pub connection_age_max: Duration,
    /// How long its calls may go on then.
    #[serde(with = "humantime_serde")]
    pub connection_age_grace: Duration,
    /// Bytes in flight towards us: of one stream, and of one connection.
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            calls_max: 2_048,
            streams_max: 2_048,
            connections_max: 10_000,
            streams_per_connection_max: 1_024,
            call_timeout: deadline::DEFAULT,
            call_timeout_max: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(30 * 60),
            connection_age_grace: Duration::from_secs(60),
            stream_window_bytes: 2 * 1024 * 1024,
            connection_window_bytes: 8 * 1024 * 1024,
        }
    }
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
    #[error("reading {}", path.display())]
    TlsFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the TLS certificate and key are refused")]
    Tls(#[source] tonic::transport::Error),
    #[error("preparing reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("serving")]
    Serve(#[source] tonic::transport::Error),
}

/// Left in every request: cancelled when the process begins to stop, so that a stream can end by
/// itself before it is cut.
#[derive(Clone, Debug)]
pub struct Stopping(pub CancellationToken);

/// A server being put together.
pub struct Server {
    config: Config,
    health: Health,
    authenticator: Authenticator,
    routes: Routes,
    services: Vec<&'static str>,
}

/// Bound to its address, not serving yet.
pub struct Bound {
    bounds: Bounds,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTlsConfig>,
    authenticator: Authenticator,
    routes: Routes,
    reporting: Reporting,
}

/// Carries a role's health into the health service.
struct Reporting {
    health: Health,
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

impl Server {
    /// A server that answers for `health`'s role, with health and reflection in it.
    pub fn new(config: &Config, health: Health, authenticator: Authenticator) -> Self {
        Self {
            config: config.clone(),
            health,
            authenticator,
            routes: Routes::default(),
            services: Vec::new(),
        }
    }

    /// Adds a generated service. Messages over [`MESSAGE_BYTES_MAX`] do not reach it.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "adds a service, as tonic's own router does; no sum"
    )]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.services.push(S::NAME);
        self
    }

    /// Takes the address.
    ///
    /// # Errors
    /// When the address cannot be had or the TLS files are wrong.
    pub async fn bind(self) -> Result<Bound, Error> {
        let Self {
            config,
            health,
            authenticator,
            mut routes,
            services,
        } = self;
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let reflected = || {
            let names = services.iter().copied().chain(["grpc.health.v1.Health"]);
            names.fold(
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(runledger_proto::DESCRIPTORS)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET),
                tonic_reflection::server::Builder::with_service_name,
            )
        };
        routes = routes
            .add_service(health_service)
            .add_service(reflected().build_v1().map_err(Error::Reflection)?)
            .add_service(reflected().build_v1alpha().map_err(Error::Reflection)?);
        let tls = match &config.tls {
            None => None,
            Some(files) => Some(tls_config(files).await?),
        };
        let address = config.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Bind { address, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Bind { address, source })?;
        let mut names = services;
        names.extend(["", health.role()]);
        let reporting = Reporting {
            health,
            reporter,
            names,
        };
        reporting.report(false).await;
        Ok(Bound {
            bounds: config.bounds,
            listener,
            address,
            tls,
            authenticator,
            routes,
            reporting,
        })
    }
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then drains: no new connections, calls in flight are answered, streams
    /// are cut at half the drain timeout, and what is left then ends with the process.
    ///
    /// # Errors
    /// When the TLS files are refused or the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        let Self {
            bounds,
            listener,
            tls,
            authenticator,
            routes,
            reporting,
            ..
        } = self;
        let cut = CancellationToken::new();
        let gate = gate::Layer::new(authenticator, &bounds, Stopping(stop.clone()), cut.clone());
        let mut server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(bounds.keepalive_interval))
            .http2_keepalive_timeout(Some(bounds.keepalive_timeout))
            .initial_stream_window_size(bounds.stream_window_bytes)
            .initial_connection_window_size(bounds.connection_window_bytes)
            .max_concurrent_streams(bounds.streams_per_connection_max)
            .max_connection_age(bounds.connection_age_max)
            .max_connection_age_grace(bounds.connection_age_grace);
        if let Some(tls) = tls {
            server = server.tls_config(tls).map_err(Error::Tls)?;
        }
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(bounds.keepalive_interval));
        let serving = server
            .layer(gate)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                incoming::limited(incoming, bounds.connections_max),
                stop.clone().cancelled_owned(),
            );
        let half = bounds.drain_timeout / 2;
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(half).await;
            cut.cancel();
            tokio::time::sleep(half).await;
        };
        tokio::select! {
            served = serving => served.map_err(Error::Serve),
            () = overdue => {
                tracing::warn!("calls were still in flight when the drain timeout passed");
                Ok(())
            }
            () = reporting.follow(&stop) => Ok(()),
        }
    }
}

impl Reporting {
    /// Reports every change; not serving from the moment the process stops. Never ends.
    async fn follow(&self, stop: &CancellationToken) {
        let mut changes = self.health.watch();
        loop {
            let ready = *changes.borrow_and_update();
            self.report(ready && !stop.is_cancelled()).await;
            tokio::select! {
                // Cannot fail: `self.health` keeps the sender.
                changed = changes.changed() => changed.unwrap_or_default(),
                () = stop.cancelled() => {
                    self.report(false).await;
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    async fn report(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

async fn tls_config(files: &Tls) -> Result<ServerTlsConfig, Error> {
    tls::install_provider();
    let certificate = read(&files.certificate_file).await?;
    let key = read(&files.key_file).await?;
    Ok(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)))
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path)
        .await
        .map_err(|source| Error::TlsFile {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests;
