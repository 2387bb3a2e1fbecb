//! What the two roles are told at their start.

use runledger_service::{auth, limits, metrics, server, telemetry};
use serde::Deserialize;

use crate::api;

/// The embedded defaults of the decider, commented.
pub const DECIDER_DEFAULTS: &str = include_str!("../decider.default.toml");
/// The embedded defaults of the api, commented.
pub const API_DEFAULTS: &str = include_str!("../api.default.toml");

/// The whole configuration of the role `billing decider`. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeciderConfig {
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_billing_writer`.
    pub database: runledger_postgres::Config,
    /// The fold that is decided from. A section of its own: one environment serves every role.
    pub ledger: runledger_projection::Options,
    pub decider: runledger_decider::Options,
}

/// The whole configuration of the role `billing api`. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    pub server: server::Config,
    pub metrics: metrics::Config,
    pub telemetry: telemetry::Config,
    pub kafka: runledger_eventlog::kafka::Config,
    /// Signed in as `runledger_billing_reader`, whom row-level security binds.
    pub database: runledger_postgres::Config,
    /// Signed in as `runledger_keys`, which may look a key up and nothing else.
    pub keys: runledger_postgres::Config,
    pub auth: auth::Config,
    pub limits: limits::Config,
    pub callers: runledger_decider::CallerOptions,
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
        let decider: DeciderConfig = load_with(source(DECIDER_DEFAULTS), []).unwrap();
        let api: ApiConfig = load_with(source(API_DEFAULTS), []).unwrap();
        assert_eq!(decider.database.user, "runledger_billing_writer");
        assert_eq!(
            (api.database.user.as_str(), api.keys.user.as_str()),
            ("runledger_billing_reader", "runledger_keys")
        );
        assert!(!format!("{decider:?} {api:?}").contains("runledger-dev"));
    }
}
