//! Connections of those who write a read model, and of those who read it.

use runledger_postgres::Config;
use sqlx::PgPool;

/// How a writer's statements are planned. Every one goes by a key, and its plans are made while
/// tables are still small: without the first settings Postgres would choose to read whole tables
/// then, and go on doing so when they have grown. Without the last it would plan every batch anew,
/// which costs more than a small batch does.
pub const BY_KEY: &[(&str, &str)] = &[
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// A commit does not wait for the disk. Rows and cursors are lost together, the last ones first, when
/// the database falls; the log has what they are made of, and the loop reads it again, as after a
/// restored backup. Only for what is a fold of the log and nothing else.
const ASYNCHRONOUS: &[(&str, &str)] = &[("synchronous_commit", "off")];

/// The pool of a loop that folds the log into `schema`.
///
/// # Errors
/// When the configuration cannot be understood; the database itself is not asked yet.
pub fn writer_pool(
    config: &Config,
    application: &str,
    schema: &str,
) -> Result<PgPool, sqlx::Error> {
    let settings = [BY_KEY, ASYNCHRONOUS].concat();
    runledger_postgres::connect_with(config, application, schema, &settings)
}

/// The pool of a command that builds, verifies or switches generations of `schema`: what it has
/// said to be done stays done.
///
/// # Errors
/// As [`writer_pool`].
pub fn upkeep_pool(
    config: &Config,
    application: &str,
    schema: &str,
) -> Result<PgPool, sqlx::Error> {
    runledger_postgres::connect_with(config, application, schema, BY_KEY)
}

/// How a reader's statements are planned: all that anybody may ask is answered by an index, also what was
/// planned while tables were small, or only looked small because whoever empties them leaves dead rows.
pub const BY_INDEX: &[(&str, &str)] = &[("enable_seqscan", "off")];

/// The pool of an api that reads `schema`.
///
/// # Errors
/// As [`writer_pool`].
pub fn reader_pool(
    config: &Config,
    application: &str,
    schema: &str,
) -> Result<PgPool, sqlx::Error> {
    runledger_postgres::connect_with(config, application, schema, BY_INDEX)
}
