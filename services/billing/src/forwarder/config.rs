//! What the role is told at its start.

use runledger_service::{metrics, telemetry};
use serde::Deserialize;

/// The embedded defaults of the forwarder, commented.
pub const FORWARDER_DEFAULTS: &str = include_str!("../../forwarder.default.toml");

/// The whole configuration of the role `billing forwarder`. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwarderConfig {
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_billing_writer`.
    pub database: runledger_postgres::Config,
    pub forwarding: runledger_projection::Options,
}

#[cfg(test)]
mod tests {
    use runledger_service::config::{Source, load_with};

    use super::*;

    #[test]
    fn the_defaults_are_a_configuration() {
        let source = Source {
            defaults: FORWARDER_DEFAULTS,
            file: None,
        };
        let config: ForwarderConfig = load_with(source, []).unwrap();
        assert_eq!(config.database.user, "runledger_billing_writer");
        assert!(!format!("{config:?}").contains("runledger-dev"));
    }
}
