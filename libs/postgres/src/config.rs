use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

/// Where a role finds its database, and as whom it signs in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: SecretString,
    /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub ssl_mode: String,
    /// Most connections of this pool.
    pub connections_max: u32,
    /// How long a caller waits for a connection before it hears that there is none.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
}

/// A pool that connects when it is first used, so that a role starts while the database is away.
/// `application` shows in `pg_stat_activity`; unqualified names are looked up in `schema`.
pub fn connect(config: &Config, application: &str, schema: &str) -> Result<PgPool, sqlx::Error> {
    let ssl_mode: PgSslMode = config.ssl_mode.parse()?;
    let options = PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .database(&config.database)
        .username(&config.user)
        .password(config.password.expose_secret())
        .ssl_mode(ssl_mode)
        .application_name(application)
        .options([("search_path", schema)]);
    Ok(PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(config.acquire_timeout)
        .connect_lazy_with(options))
}
