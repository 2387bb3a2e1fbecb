//! The metrics of the process, and the small HTTP listener that shows them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Every metric whose name ends so is a histogram with these bounds, in seconds.
const SECONDS: &str = "_seconds";
const BOUNDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
/// How often what histograms gathered is folded together, whether or not anybody looks.
const UPKEEP: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

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
    #[error("preparing the recorder of metrics")]
    Recorder(#[source] BuildError),
    #[error("listening on {address} for metrics")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("serving metrics")]
    Serve(#[source] std::io::Error),
}

/// Bound to its address, not serving yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    handle: PrometheusHandle,
    healths: Vec<Health>,
}

/// Binds the listener and installs the process's recorder, unless that is done. All listeners of a
/// process show the same metrics; `healths` are those that `GET /health` answers for.
///
/// # Errors
/// When the address cannot be had.
pub async fn bind(config: &Config, healths: Vec<Health>) -> Result<Bound, Error> {
    let handle = install()?;
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Bind { address, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| Error::Bind { address, source })?;
    Ok(Bound {
        listener,
        address,
        handle,
        healths,
    })
}

/// Installs the recorder of the process, once.
fn install() -> Result<PrometheusHandle, Error> {
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix(SECONDS.to_owned()), BOUNDS)
        .map_err(Error::Recorder)?
        .build_recorder();
    let handle = HANDLE.get_or_init(|| recorder.handle());
    // Refused when another was faster; then that one's handle is in `HANDLE`, as it should be.
    if metrics::set_global_recorder(recorder).is_ok() {
        metrics::gauge!("runledger_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    }
    Ok(handle.clone())
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        let (handle, healths) = (self.handle.clone(), self.healths);
        let router = Router::new()
            .route("/metrics", get(move || std::future::ready(handle.render())))
            .route("/health", get(move || std::future::ready(health(&healths))));
        let serving =
            axum::serve(self.listener, router).with_graceful_shutdown(stop.cancelled_owned());
        tokio::select! {
            served = serving => served.map_err(Error::Serve),
            () = keep_up(&self.handle) => Ok(()),
        }
    }
}

async fn keep_up(handle: &PrometheusHandle) {
    let mut ticks = interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// A line a role; 200 when all are ready.
fn health(healths: &[Health]) -> (StatusCode, String) {
    let mut text = String::new();
    for health in healths {
        let word = if health.is_ready() {
            "ready"
        } else {
            "not ready"
        };
        // Writing into a String cannot fail.
        writeln!(text, "{} {word}", health.role()).ok();
    }
    let all = healths.iter().all(Health::is_ready);
    (
        if all {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        text,
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_shown() {
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
        };
        let (ready, other) = (Health::new("ingest"), Health::new("directory"));
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let one = bind(&config, vec![ready.clone()]).await.unwrap();
        let both = bind(&config, vec![ready.clone(), other]).await.unwrap();
        let (one_at, both_at) = (one.address(), both.address());
        running.spawn(one.serve(stop.clone()));
        running.spawn(both.serve(stop.clone()));

        assert!(get(one_at, "/health").await.starts_with("HTTP/1.1 503"));
        ready.set(true);
        assert!(get(one_at, "/health").await.starts_with("HTTP/1.1 200"));
        let answer = get(both_at, "/health").await;
        assert!(
            answer.starts_with("HTTP/1.1 503")
                && answer.contains("ingest ready\ndirectory not ready"),
            "{answer}"
        );

        metrics::histogram!("runledger_test_seconds").record(0.02);
        for address in [one_at, both_at] {
            let answer = get(address, "/metrics").await;
            assert!(answer.contains("runledger_build_info{version="), "{answer}");
            assert!(
                answer.contains("runledger_test_seconds_bucket{le=\"0.025\"} 1"),
                "{answer}"
            );
        }
        stop.cancel();
        while let Some(ended) = running.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}
