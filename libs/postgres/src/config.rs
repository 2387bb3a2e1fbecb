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
    /// How long one statement may run; zero: for ever.
    #[serde(with = "humantime_serde", default = "statement_timeout")]
    pub statement_timeout: Duration,
}

fn statement_timeout() -> Duration {
    Duration::from_secs(30)
}

/// How long a statement waits for another transaction's lock, and how long a transaction may stand
/// idle before the server ends it. A process that vanished in mid-transaction must not hold up the
/// one that takes its place until the network notices.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// When the server asks a silent client whether it is still there, how often, and how many times.
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// A pool that connects when it is first used, so that a role starts while the database is away.
/// `application` shows in `pg_stat_activity`; unqualified names are looked up in `schema`.
pub fn connect(config: &Config, application: &str, schema: &str) -> Result<PgPool, sqlx::Error> {
    connect_with(config, application, schema, &[])
}

/// The same, with more settings of the server for every connection.
pub fn connect_with(
    config: &Config,
    application: &str,
    schema: &str,
    settings: &[(&str, &str)],
) -> Result<PgPool, sqlx::Error> {
    let ssl_mode: PgSslMode = config.ssl_mode.parse()?;
    let options = PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .database(&config.database)
        .username(&config.user)
        .password(config.password.expose_secret())
        .ssl_mode(ssl_mode)
        .application_name(application)
        .options([("search_path", schema)])
        .options([
            ("statement_timeout", millis(config.statement_timeout)),
            ("lock_timeout", millis(LOCK_TIMEOUT)),
            (
                "idle_in_transaction_session_timeout",
                millis(IDLE_IN_TRANSACTION_TIMEOUT),
            ),
        ])
        .options(KEEPALIVES)
        // Compiling a statement takes longer than any of ours runs.
        .options([("jit", "off")])
        .options(settings.iter().copied());
    Ok(PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(config.acquire_timeout)
        .connect_lazy_with(options))
}

/// A pool like `pool`, but for these settings of the server.
pub fn connect_like(pool: &PgPool, settings: &[(&str, &str)]) -> PgPool {
    let options = PgConnectOptions::clone(&pool.connect_options());
    pool.options()
        .clone()
        .connect_lazy_with(options.options(settings.iter().copied()))
}

fn millis(timeout: Duration) -> String {
    timeout.as_millis().to_string()
}
