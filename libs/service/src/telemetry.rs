//! Logs and traces of the process.

use serde::Deserialize;

/// Section `[telemetry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is logged, for example `info,runledger_projection=debug`.
    pub filter: String,
    pub format: Format,
    /// Where traces go by OTLP over gRPC, for example `http://127.0.0.1:4317`; empty: nowhere.
    pub otlp_endpoint: String,
    /// Share of the traces begun here that are kept, 0 to 1; traces begun elsewhere keep their choice.
    pub sampling_ratio: f64,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Pretty,
}

/// Why telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("telemetry.filter is not a filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("telemetry.sampling_ratio must be 0 to 1, not {0}")]
    Ratio(f64),
    #[error("preparing the export of traces")]
    Export(#[source] opentelemetry_otlp::ExporterBuildError),
    #[error("logs are set up in this process already")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// Exports what is left when dropped.
#[must_use = "dropping it ends the export of traces"]
pub struct Guard {}

/// Sets up logs and traces, once a process. `role` names the service in traces: `runledger-<role>`.
///
/// # Errors
/// When the configuration is wrong, or it was called before.
pub fn init(config: &Config, role: &str) -> Result<Guard, Error> {
    todo!()
}
