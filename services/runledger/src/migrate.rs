//! Bringing the database and the topics up to date.

use std::time::Duration;

use anyhow::Context as _;
use runledger_domain::log::Family;
use runledger_domain::time::SystemClock;
use runledger_eventlog::Log as _;
use runledger_eventlog::kafka::{self, Kafka};
use runledger_postgres::MigrateError;
use runledger_service::{status, telemetry};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::time::Instant;

/// The embedded defaults of `runledger migrate`, commented.
pub(crate) const DEFAULTS: &str = include_str!("../migrate.default.toml");
/// The same for a developer's house: fewer partitions, logs for eyes.
pub(crate) const DEV_DEFAULTS: &str = include_str!("../dev.default.toml");

/// How often Kafka and Postgres are asked whether they are there yet.
const AGAIN: Duration = Duration::from_millis(500);

/// The whole configuration. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) telemetry: telemetry::Config,
    pub(crate) kafka: kafka::Config,
    /// Signed in as `runledger_migrator`, which owns what it makes.
    pub(crate) database: runledger_postgres::Config,
    pub(crate) migrate: Rules,
}

/// Section `[migrate]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// How long to wait for Kafka and Postgres to be there.
    #[serde(with = "humantime_serde")]
    pub(crate) wait: Duration,
}

/// Applies the migrations that are missing, then makes the topics and Genesis records that are missing.
///
/// # Errors
/// When Kafka or Postgres is not there in time, or refuses.
pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    let deadline = Instant::now() + config.migrate.wait;
    let pool = runledger_postgres::connect(&config.database, "runledger migrate", "public")?;
    let migrated = database(&pool, deadline).await;
    pool.close().await;
    migrated.with_context(|| {
        format!(
            "Postgres at {}:{}",
            config.database.host, config.database.port
        )
    })?;
    let log = Kafka::connect(&config.kafka)?;
    loop {
        match log.create(Family::ALL, &SystemClock).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_weather() && Instant::now() < deadline => {
                tracing::info!(cause = status::chain(&error), "Kafka is not there yet");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("Kafka at {}", config.kafka.brokers));
            }
        }
    }
}

async fn database(pool: &PgPool, deadline: Instant) -> Result<(), MigrateError> {
    loop {
        match runledger_postgres::migrate(pool).await {
            Err(MigrateError::LookUpRoles(error))
                if runledger_postgres::is_weather(&error) && Instant::now() < deadline =>
            {
                tracing::info!(cause = status::chain(&error), "Postgres is not there yet");
                tokio::time::sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use runledger_service::config::{Source, load_with};

    use super::*;

    #[test]
    fn the_defaults_are_configurations() {
        for (defaults, partitions) in [(DEFAULTS, 12), (DEV_DEFAULTS, 4)] {
            let config: Config = load_with(
                Source {
                    defaults,
                    file: None,
                },
                [],
            )
            .unwrap();
            assert_eq!(
                (config.kafka.partitions, config.database.user.as_str()),
                (partitions, "runledger_migrator")
            );
            assert!(!format!("{config:?}").contains("runledger-dev"));
        }
    }
}
