//! What the role `ingest` is told at its start.

use std::time::Duration;

use runledger_eventlog::kafka;
use runledger_service::{auth, limits, metrics, server, telemetry};
use serde::Deserialize;

/// The embedded defaults, commented; they name every section there is.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The whole configuration. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: server::Config,
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: kafka::Config,
    /// Signed in as `runledger_keys`, which may look a key up and nothing else.
    pub keys: runledger_postgres::Config,
    pub auth: auth::Config,
    pub limits: limits::Config,
    pub ingest: Rules,
}

/// Section `[ingest]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// How long a batch may wait for its delivery reports when its caller sets no earlier deadline.
    #[serde(with = "humantime_serde")]
    pub append_timeout: Duration,
    /// How many batches of one stream may be on their way into the log at once; taken as 1 to 64.
    pub batches_in_flight: usize,
    /// How often health asks whether the log can be appended to, and how long it waits.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_configuration() {
        let source = runledger_service::config::Source {
            defaults: DEFAULTS,
            file: None,
        };
        let config: Config = runledger_service::config::load_with(source, []).unwrap();
        assert_eq!(config.server.listen.port(), 7101);
        assert_eq!(
            format!("{:?}", config.kafka),
            format!("{:?}", kafka::Config::default())
        );
        assert_eq!(config.keys.user, "runledger_keys");
        assert!(!format!("{config:?}").contains("runledger-dev"));
    }

    #[test]
    fn how_kafka_is_reached_can_be_said_by_the_environment() {
        let source = runledger_service::config::Source {
            defaults: DEFAULTS,
            file: None,
        };
        let variables = [
            ("RUNLEDGER_KAFKA__SECURITY__PROTOCOL", "sasl_tls"),
            ("RUNLEDGER_KAFKA__SECURITY__MECHANISM", "scram-sha-512"),
            ("RUNLEDGER_KAFKA__SECURITY__PASSWORD", "0077"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config: Config = runledger_service::config::load_with(source, variables).unwrap();
        let security = &config.kafka.security;
        assert_eq!(security.protocol, kafka::Protocol::SaslTls);
        assert_eq!(security.mechanism, Some(kafka::Mechanism::ScramSha512));
        assert!(security.password.is_some() && !format!("{config:?}").contains("0077"));
    }
}
