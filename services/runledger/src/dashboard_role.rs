//! `runledger dashboard-role`: who may read the views of the schema `dashboard`, each role for one scope.
//!
//! Roles are made by a superuser of Postgres, since no role of the house may make others; what they see hangs on the name
//! they sign in with (`dashboard.roles`), which no setting changes.

use anyhow::{Context as _, bail, ensure};
use runledger_domain::ids::TenantId;
use runledger_domain::scope::Mode;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::cli::DashboardRole;
use crate::say::{self, Columns, cell};

/// Before every name, so that no role of the house can be meant.
const PREFIX: &str = "runledger_dashboard_";
/// What Postgres leaves of a name, less the prefix.
const NAME_MAX: usize = 63 - PREFIX.len();
/// What a role begins with; it can be lifted for a session, since dashboards know their queries.
const SETTINGS: [&str; 3] = [
    "default_transaction_read_only = on",
    "statement_timeout = '30s'",
    "idle_in_transaction_session_timeout = '60s'",
];
const CONNECTIONS_MAX: u8 = 20;

/// The command.
pub(crate) async fn run(command: &DashboardRole) -> anyhow::Result<()> {
    match command {
        DashboardRole::Create {
            name,
            tenant,
            mode,
            admin,
        } => create(name, *tenant, *mode, &admin.admin_postgres).await,
        DashboardRole::List { admin } => list(&admin.admin_postgres).await,
        DashboardRole::Drop { name, admin } => drop_role(name, &admin.admin_postgres).await,
    }
}

async fn connect(admin: &SecretString) -> anyhow::Result<(PgConnection, PgConnectOptions)> {
    let options: PgConnectOptions = admin
        .expose_secret()
        .parse()
        .context("--admin-postgres is no address of a Postgres")?;
    let connection = PgConnection::connect_with(&options).await;
    let connection =
        connection.context("signing in as a superuser of Postgres (--admin-postgres)")?;
    Ok((connection, options))
}

fn role(name: &str) -> anyhow::Result<String> {
    let is_fit = (1..=NAME_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    ensure!(
        is_fit,
        "NAME_MALFORMED: a name is of 1 to {NAME_MAX} small letters, digits and _"
    );
    Ok(format!("{PREFIX}{name}"))
}

async fn create(
    name: &str,
    tenant: TenantId,
    mode: Mode,
    admin: &SecretString,
) -> anyhow::Result<()> {
    let role = role(name)?;
    let (mut connection, options) = connect(admin).await?;
    let mut tx = connection.begin().await?;
    let known: Option<String> =
        sqlx::query_scalar("SELECT name FROM directory.tenants WHERE tenant_id = $1")
            .bind(tenant.as_uuid())
            .fetch_optional(&mut *tx)
            .await?;
    let Some(tenant_name) = known else {
        bail!("TENANT_NOT_FOUND: there is no tenant {tenant}; `runledger tenants list` shows them");
    };
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(&role)
        .fetch_one(&mut *tx)
        .await?;
    ensure!(
        !there,
        "ROLE_EXISTS: there is a role {role} already; drop it first, or take another name"
    );
    let password: String = sqlx::query_scalar(
        "SELECT replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')",
    )
    .fetch_one(&mut *tx)
    .await?;
    // Name and password are letters and digits that were checked or made here.
    let mut statements = vec!["SET LOCAL log_statement = 'none'".to_owned()]; // It has a password.
    statements.push(format!(
        "CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT \
         CONNECTION LIMIT {CONNECTIONS_MAX} PASSWORD '{password}' IN ROLE runledger_dashboard"
    ));
    statements.extend(SETTINGS.map(|setting| format!("ALTER ROLE {role} SET {setting}")));
    statements.push(format!("ALTER ROLE {role} SET search_path = dashboard"));
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("INSERT INTO dashboard.roles (role_name, tenant_id, mode) VALUES ($1, $2, $3)")
        .bind(&role)
        .bind(tenant.as_uuid())
        .bind(mode.as_str())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    say::line(format_args!(
        "{role} sees the views of the schema dashboard, of {tenant_name} ({mode}) alone. Its password is shown this once:"
    ))?;
    say::line(format_args!(
        "postgres://{role}:{password}@{}:{}/{}",
        options.get_host(),
        options.get_port(),
        options.get_database().unwrap_or("runledger")
    ))?;
    Ok(())
}

async fn list(admin: &SecretString) -> anyhow::Result<()> {
    let (mut connection, _) = connect(admin).await?;
    let rows = sqlx::query(
        "SELECT r.role_name::text, coalesce(t.name, ''), r.tenant_id::text, r.mode, r.made_at::text
           FROM dashboard.roles r LEFT JOIN directory.tenants t ON t.tenant_id = r.tenant_id ORDER BY r.role_name",
    )
    .fetch_all(&mut connection)
    .await?;
    if rows.is_empty() {
        return Ok(say::line(
            "There is none; `runledger dashboard-role create` makes one.",
        )?);
    }
    let mut table = Columns::new(&["role", "tenant", "tenant id", "world", "made"]);
    for row in rows {
        let columns: [String; 5] = [
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
            row.try_get(4)?,
        ];
        table.row(columns.map(cell));
    }
    Ok(table.print()?)
}

async fn drop_role(name: &str, admin: &SecretString) -> anyhow::Result<()> {
    let role = role(name.strip_prefix(PREFIX).unwrap_or(name))?;
    let (mut connection, _) = connect(admin).await?;
    let mut tx = connection.begin().await?;
    let dropped = sqlx::query("DELETE FROM dashboard.roles WHERE role_name = $1")
        .bind(&role)
        .execute(&mut *tx)
        .await?;
    ensure!(
        dropped.rows_affected() > 0,
        "ROLE_NOT_FOUND: there is no role {role} of a dashboard; `runledger dashboard-role list` shows them"
    );
    sqlx::query(AssertSqlSafe(format!("DROP ROLE IF EXISTS {role}")))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    // Who is signed in may do nothing any more, and the views ask for the row that is gone.
    Ok(say::line(format_args!("{role} is gone."))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_nothing_that_sql_could_take_for_its_own() {
        assert_eq!(
            role("ours_1").ok().as_deref(),
            Some("runledger_dashboard_ours_1")
        );
        for name in [
            "",
            "Ours",
            "a b",
            "a'; DROP ROLE x",
            "a\"",
            "ä",
            &"a".repeat(NAME_MAX + 1),
        ] {
            assert!(role(name).is_err(), "{name}");
        }
    }
}
