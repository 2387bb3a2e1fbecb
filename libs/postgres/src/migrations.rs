use sqlx::PgPool;
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Why the migrations could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("these login roles are missing: {}; create them with deploy/postgres/roles.sql", .0.join(", "))]
    RolesMissing(Vec<String>),
    #[error("cannot look up the login roles")]
    LookUpRoles(#[source] sqlx::Error),
    #[error("cannot apply the migrations")]
    Apply(#[source] sqlx::migrate::MigrateError),
}

/// The embedded migrations, in order.
pub fn migrator() -> &'static Migrator {
    &MIGRATIONS
}

/// Applies what is missing. Applying twice, or two at once, is harmless: sqlx holds an advisory lock.
///
/// `pool` must be signed in as `runledger_migrator`, so that it owns what it makes.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    let missing: Vec<String> = sqlx::query_scalar(
        "SELECT wanted FROM unnest(ARRAY['runledger_directory', 'runledger_keys', 'runledger_runs_writer',
         'runledger_runs_reader', 'runledger_approvals_writer', 'runledger_approvals_reader',
         'runledger_audit_writer', 'runledger_audit_reader',
         'runledger_billing_writer', 'runledger_billing_reader',
         'runledger_analytics_writer', 'runledger_analytics_reader', 'runledger_dashboard']) AS wanted
          WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)",
    )
    .fetch_all(pool)
    .await
    .map_err(MigrateError::LookUpRoles)?;
    if !missing.is_empty() {
        return Err(MigrateError::RolesMissing(missing));
    }
    MIGRATIONS.run(pool).await.map_err(MigrateError::Apply)
}
