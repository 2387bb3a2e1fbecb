//! What the roles are told at their start.

use runledger_service::{metrics, telemetry};
use serde::Deserialize;

/// The embedded defaults of the projector, commented.
pub const PROJECTOR_DEFAULTS: &str = include_str!("../projector.default.toml");

/// The whole configuration of the role `analytics projector`. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorConfig {
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_analytics_writer`.
    pub database: runledger_postgres::Config,
    /// A section of its own: one environment serves every role.
    pub analytics: runledger_projection::Options,
}

#[cfg(test)]
mod tests {
    use runledger_service::config::{Source, load_with};

    use super::*;

    #[test]
    fn the_defaults_are_configurations() {
        let source = Source {
            defaults: PROJECTOR_DEFAULTS,
            file: None,
        };
        let projector: ProjectorConfig = load_with(source, []).unwrap();
        assert_eq!(projector.database.user, "runledger_analytics_writer");
        assert!(!format!("{projector:?}").contains("runledger-dev"));
    }
}
