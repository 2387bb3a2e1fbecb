//! Connections to our own services: for the people's commands, for tests, for one process that
//! asks another.

use std::path::PathBuf;
use std::time::Duration;

use runledger_domain::scope::Mode;
use secrecy::SecretString;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

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

/// A channel that adds the key, the mode and the trace to every call.
pub type Connection = InterceptedService<Channel, Credentials>;

/// What is added to every call.
#[derive(Clone)]
pub struct Credentials {
    key: Option<MetadataValue<Ascii>>,
    mode: Option<MetadataValue<Ascii>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url} is not an address of a service; write http://host:port or https://host:port")]
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
    todo!()
}

/// As [`connect`], but only when the first call is made.
///
/// # Errors
/// When the options are wrong.
pub fn connect_lazy(options: &Options) -> Result<Connection, Error> {
    todo!()
}

impl tonic::service::Interceptor for Credentials {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        todo!()
    }
}
