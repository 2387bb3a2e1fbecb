//! What the two roles are told at their start.

use runledger_service::{auth, metrics, server, telemetry};
use serde::Deserialize;

use crate::api;

/// The embedded defaults of the projector, commented.
pub const PROJECTOR_DEFAULTS: &str = include_str!("../projector.default.toml");
/// The embedded defaults of the api, commented.
pub const API_DEFAULTS: &str = include_str!("../api.default.toml");

/// The whole configuration of the role `runs projector`. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorConfig {
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_runs_writer`.
    pub database: runledger_postgres::Config,
    pub projection: runledger_projection::Options,
}

/// The whole configuration of the role `runs api`. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    pub server: server::Config,
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_runs_reader`, whom row-level security binds.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_keys`, which may look a key up and nothing else.
    pub keys: runledger_postgres::Config,
    pub auth: auth::Config,
    pub api: api::Options,
}

#[cfg(test)]
mod tests {
    use runledger_service::config::{Source, load_with};

    use super::*;

    #[test]
    fn the_defaults_are_configurations() {
        let source = |defaults| Source {
            defaults,
            file: None,
        };
        let projector: ProjectorConfig = load_with(source(PROJECTOR_DEFAULTS), []).unwrap();
        let api: ApiConfig = load_with(source(API_DEFAULTS), []).unwrap();
        assert_eq!(projector.database.user, "runledger_runs_writer");
        assert_eq!(
            (api.database.user.as_str(), api.keys.user.as_str()),
            ("runledger_runs_reader", "runledger_keys")
        );
        assert_eq!(format!("{:?}", projector.kafka), format!("{:?}", api.kafka));
        assert!(!format!("{projector:?} {api:?}").contains("runledger-dev"));
    }
}
