//! What the role `directory` is told at its start.

use std::time::Duration;

use runledger_eventlog::kafka;
use runledger_proto::directory::v1 as wire;
use runledger_service::{auth, metrics, server, telemetry};
use serde::Deserialize;

/// The embedded defaults, commented; they name every field there is.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The whole configuration. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: server::Config,
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    /// Signed in as `runledger_directory`, which writes the schema.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_keys`, which may look a key up and nothing else.
    pub keys: runledger_postgres::Config,
    pub auth: auth::Config,
    pub directory: Rules,
    /// Where changes are relayed to. Nothing but the relay waits for it.
    pub kafka: kafka::Config,
    pub relay: Relaying,
}

/// Section `[relay]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relaying {
    /// How often the outbox is looked into when nothing waited at the last look.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// How often a process asks whether it is to relay while another does.
    #[serde(with = "humantime_serde")]
    pub standby_interval: Duration,
    /// Most changes taken at a time; taken as 1 to 1,000.
    pub batch_rows: u32,
}

/// Section `[directory]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What a tenant may do that is made without a word about it.
    pub default_limits: DefaultLimits,
    /// How long a replaced key goes on when nothing is said; at most 30 days.
    #[serde(with = "humantime_serde")]
    pub rotation_overlap: Duration,
    /// How often health asks the database, and how long it waits for the answer.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
}

/// Section `[directory.default_limits]`: bounds as in `runledger.directory.v1.Limits`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultLimits {
    pub records_per_second: u64,
    pub bytes_per_second: u64,
    pub commands_per_second: u64,
}

impl From<DefaultLimits> for wire::Limits {
    fn from(limits: DefaultLimits) -> Self {
        Self {
            records_per_second: limits.records_per_second,
            bytes_per_second: limits.bytes_per_second,
            commands_per_second: limits.commands_per_second,
        }
    }
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
        assert_eq!(config.database.user, "runledger_directory");
        assert_eq!(config.keys.user, "runledger_keys");
        assert_eq!(
            format!("{:?}", config.kafka),
            format!("{:?}", kafka::Config::default())
        );
        assert!(!format!("{config:?}").contains("runledger-dev"));
    }
}
