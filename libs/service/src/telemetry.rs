//! Logs and traces of the process. Logs go to standard error, one line an event.

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter, TracerProviderBuilder};
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// How long one export of spans, and the last one at the end, may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Logged and traced from `info` on, whatever the filter says, while spans are exported.
const EXPORT_STANDS_ON: [&str; 4] = ["h2=info", "hyper=info", "hyper_util=info", "tower=info"];

/// Section `[telemetry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is logged, for example `info,runledger_projection=debug`.
    pub filter: String,
    pub format: Format,
    /// Where traces go by OTLP over gRPC, for example `http://127.0.0.1:4317`. Empty: there are no
    /// traces, and what callers send of theirs is not carried on.
    pub otlp_endpoint: String,
    /// Share of the traces begun here that are kept, 0 to 1; traces begun elsewhere keep their choice.
    pub sampling_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Json,
            otlp_endpoint: String::new(),
            sampling_ratio: 0.1,
        }
    }
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

/// Exports what is left when dropped. To be dropped inside the runtime, which the export needs.
#[must_use = "dropping it ends the export of traces"]
pub struct Guard {
    /// None: nothing is exported.
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs and traces, once a process. `role` names the service in traces: `runledger-<role>`.
/// To be called inside the runtime when traces are exported.
///
/// # Errors
/// When the configuration is wrong, or it was called before.
pub fn init(config: &Config, role: &str) -> Result<Guard, Error> {
    if config.otlp_endpoint.is_empty() {
        return install(config, role, None);
    }
    let exporter = OtlpExporter::builder()
        .with_tonic()
        .with_endpoint(&config.otlp_endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(Error::Export)?;
    init_with(config, role, exporter)
}

/// As [`init`], with spans handed to `exporter` whatever the endpoint.
///
/// # Errors
/// As [`init`].
pub fn init_with(
    config: &Config,
    role: &str,
    exporter: impl SpanExporter + 'static,
) -> Result<Guard, Error> {
    let ratio = config.sampling_ratio;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Error::Ratio(ratio));
    }
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    let traces = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_batch_exporter(exporter);
    install(config, role, Some(traces))
}

fn install(
    config: &Config,
    role: &str,
    traces: Option<TracerProviderBuilder>,
) -> Result<Guard, Error> {
    let mut filter = EnvFilter::try_new(&config.filter).map_err(Error::Filter)?;
    if traces.is_some() {
        // The export itself is gRPC: tracing what it stands on would trace the export for ever. One
        // filter for all layers, since a layer's own is decided apart from the span it is about.
        for quiet in EXPORT_STANDS_ON {
            filter = filter.add_directive(quiet.parse().map_err(Error::Filter)?);
        }
    }
    let provider = traces.map(|traces| {
        let resource = Resource::builder()
            .with_service_name(format!("runledger-{role}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        traces.with_resource(resource).build()
    });
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("runledger"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match config.format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
        Format::Pretty => lines.compact().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(Error::Installed)?;
    log_panics();
    Ok(Guard { provider })
}

/// A panic is logged as one line, with its place, inside the span in which it happened.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic
            .payload_as_str()
            .unwrap_or("a payload that is no text");
        tracing::error!(place, message, "panicked");
    }));
}

impl Guard {
    /// Exports what has gathered; waits for it.
    pub fn flush(&self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.force_flush()
        {
            tracing::warn!(error = %error, "spans were not exported");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown_with_timeout(EXPORT_TIMEOUT)
        {
            tracing::warn!(error = %error, "spans were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;

    use super::*;
    use crate::trace;

    #[test]
    fn a_wrong_configuration_is_refused() {
        let wrong = Config {
            filter: "a=b=c".to_owned(),
            ..Config::default()
        };
        assert!(matches!(init(&wrong, "test"), Err(Error::Filter(_))));
        let wrong = Config {
            sampling_ratio: 2.0,
            ..Config::default()
        };
        assert!(matches!(
            init_with(&wrong, "test", InMemorySpanExporter::default()),
            Err(Error::Ratio(_))
        ));
    }

    // One test for all of it: logs are set up once a process.
    #[test]
    fn a_trace_goes_on_through_a_traceparent() {
        let exporter = InMemorySpanExporter::default();
        let config = Config {
            sampling_ratio: 0.0,
            filter: "info".to_owned(),
            ..Config::default()
        };
        let guard = init_with(&config, "test", exporter.clone()).unwrap();
        assert!(matches!(init(&config, "again"), Err(Error::Installed(_))));

        let came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let batch = tracing::info_span!("batch");
        let span = tracing::info_span!("record");
        trace::set_parent(&span, came);
        trace::add_link(&span, &trace::of(&batch).unwrap());
        let goes = span.in_scope(trace::current).unwrap();
        assert_eq!(goes[..36], came[..36]);
        assert_ne!(goes, came);
        drop((batch, span));
        guard.flush();

        let spans = exporter.get_finished_spans().unwrap();
        // The batch began here, where nothing is sampled; the record keeps the choice it came with.
        let [span] = spans.as_slice() else {
            panic!("{spans:?}")
        };
        assert_eq!((span.name.as_ref(), span.links.len()), ("record", 1));
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    }
}
