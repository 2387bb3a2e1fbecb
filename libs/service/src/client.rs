//! Connections to our own services: for the people's commands, for tests, for one process that
//! asks another.

use std::path::PathBuf;
use std::time::Duration;

use runledger_domain::scope::Mode;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::auth::MODE_HEADER;
use crate::{tls, trace};

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Where and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// For example `http://127.0.0.1:7101` or `https://ledger.example`.
    pub url: String,
    /// None: only public calls will be answered.
    pub key: Option<SecretString>,
    /// Asked for with every call; none: the key's own.
    pub mode: Option<Mode>,
    /// PEM certificates that an `https` server's must descend from.
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Duration,
}

impl Options {
    /// Plain or TLS by the scheme of `url`, with five seconds to connect.
    pub fn new(url: impl Into<String>, key: Option<SecretString>) -> Self {
        Self {
            url: url.into(),
            key,
            mode: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// A channel that adds the key, the mode and the trace to every call. Cheap to clone.
pub type Connection = InterceptedService<Channel, Credentials>;

/// What is added to every call.
#[derive(Clone)]
pub struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
    mode: Option<Mode>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url} is not the address of a service; write http://host:port or https://host:port")]
    Url {
        url: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the API key has characters that cannot be sent")]
    Key,
    #[error("reading {}", path.display())]
    CaFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("preparing TLS")]
    Tls(#[source] tonic::transport::Error),
    #[error("connecting to {url}")]
    Connect {
        url: String,
        #[source]
        source: tonic::transport::Error,
    },
}

/// Connects, and says so when that fails.
///
/// # Errors
/// When the options are wrong, or nobody answers there in time.
pub async fn connect(options: &Options) -> Result<Connection, Error> {
    let credentials = credentials(options)?;
    let channel = endpoint(options)?
        .connect()
        .await
        .map_err(|source| Error::Connect {
            url: options.url.clone(),
            source,
        })?;
    Ok(InterceptedService::new(channel, credentials))
}

/// As [`connect`], but only when the first call is made. To be called inside a runtime.
///
/// # Errors
/// When the options are wrong.
pub fn connect_lazy(options: &Options) -> Result<Connection, Error> {
    Ok(InterceptedService::new(
        endpoint(options)?.connect_lazy(),
        credentials(options)?,
    ))
}

fn endpoint(options: &Options) -> Result<Endpoint, Error> {
    let wrong = |source| Error::Url {
        url: options.url.clone(),
        source,
    };
    let mut endpoint = Endpoint::from_shared(options.url.clone())
        .map_err(wrong)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .tcp_nodelay(true);
    if endpoint.uri().scheme_str() == Some("https") {
        tls::install_provider();
        let mut config = ClientTlsConfig::new();
        if let Some(path) = &options.ca_file {
            let pem = std::fs::read(path).map_err(|source| Error::CaFile {
                path: path.clone(),
                source,
            })?;
            config = config.ca_certificate(Certificate::from_pem(pem));
        }
        endpoint = endpoint.tls_config(config).map_err(Error::Tls)?;
    }
    Ok(endpoint)
}

fn credentials(options: &Options) -> Result<Credentials, Error> {
    let authorization = match &options.key {
        None => None,
        Some(key) => {
            let mut value: MetadataValue<Ascii> = format!("Bearer {}", key.expose_secret())
                .parse()
                .map_err(|_| Error::Key)?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    Ok(Credentials {
        authorization,
        mode: options.mode,
    })
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        if let Some(mode) = self.mode {
            metadata.insert(MODE_HEADER, MetadataValue::from_static(mode.as_str()));
        }
        if let Some(traceparent) = trace::current().and_then(|text| text.parse().ok()) {
            metadata.insert(trace::HEADER, traceparent);
        }
        Ok(request)
    }
}
