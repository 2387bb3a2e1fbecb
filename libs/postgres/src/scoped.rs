use runledger_domain::scope::Scope;
use sqlx::{PgPool, Postgres, Transaction};

use crate::begin::begin_with;

/// Begins a transaction that reads one snapshot and, by row-level security, only rows of `scope`.
pub async fn begin_scoped(
    pool: &PgPool,
    scope: Scope,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = begin_with(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    sqlx::query(
        "SELECT set_config('runledger.tenant', $1, true), set_config('runledger.mode', $2, true)",
    )
    .bind(scope.tenant.to_string())
    .bind(scope.mode.as_str())
    .execute(&mut *tx)
    .await?;
    Ok(tx)
}

/// Why a reader is not let near the data.
#[derive(Debug, thiserror::Error)]
pub enum BypassError {
    #[error(
        "role {role} is a superuser, may bypass row-level security or owns tables of schema {schema}; \
             sign in as a reader made by deploy/postgres/roles.sql"
    )]
    Bypasses { role: String, schema: String },
    #[error("row-level security is not forced on these tables of schema {schema}: {}; run `runledger migrate`", .tables.join(", "))]
    NotForced { schema: String, tables: Vec<String> },
    #[error("cannot look at the reader's rights")]
    Look(#[source] sqlx::Error),
}

impl BypassError {
    /// Whether it is worth asking again: the database did not answer.
    pub fn is_weather(&self) -> bool {
        match self {
            Self::Look(error) => crate::is_weather(error),
            Self::Bypasses { .. } | Self::NotForced { .. } => false,
        }
    }
}

/// Refuses a reader that row-level security would not bind: a superuser, a role with BYPASSRLS, an
/// owner of the tables; and a schema in which a table with a tenant has no forced policy. The schemas
/// of later generations, `<schema>_<number>`, are looked at too.
pub async fn refuse_bypass(pool: &PgPool, schema: &str) -> Result<(), BypassError> {
    let (role, bypasses): (String, bool) = sqlx::query_as(
        "SELECT current_user::text, bool_or(r.rolsuper OR r.rolbypassrls OR EXISTS (
             SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname ~ ('^' || $1 || '(_[0-9]+)?$') AND c.relkind IN ('r', 'p') AND pg_has_role(current_user, c.relowner, 'MEMBER')))
           FROM pg_roles r WHERE r.rolname = current_user",
    )
    .bind(schema)
    .fetch_one(pool)
    .await
    .map_err(BypassError::Look)?;
    if bypasses {
        return Err(BypassError::Bypasses {
            role,
            schema: schema.into(),
        });
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
          WHERE n.nspname ~ ('^' || $1 || '(_[0-9]+)?$') AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
          ORDER BY 1",
    )
    .bind(schema)
    .fetch_all(pool)
    .await
    .map_err(BypassError::Look)?;
    if tables.is_empty() {
        Ok(())
    } else {
        Err(BypassError::NotForced {
            schema: schema.into(),
            tables,
        })
    }
}
