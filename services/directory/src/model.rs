//! What the directory keeps, as its rows are read.

use std::str::FromStr;

use runledger_domain::ids::{KeyId, PrincipalId, TenantId};
use runledger_domain::scope::{Mode, PrincipalKind, Role};
use runledger_domain::time::Timestamp;
use runledger_service::auth::Limits;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// A tenant, or the operators, who have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    Operators,
    Tenant(TenantId),
}

impl Realm {
    pub(crate) fn of(tenant: Option<TenantId>) -> Self {
        tenant.map_or(Self::Operators, Self::Tenant)
    }

    /// What stands for it in the column `realm`.
    pub(crate) fn as_uuid(self) -> Uuid {
        self.tenant().map_or(Uuid::nil(), TenantId::as_uuid)
    }

    pub(crate) fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Operators => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// The role that runs it, and of which one must stay.
    pub(crate) fn head(self) -> Role {
        match self {
            Self::Operators => Role::Operator,
            Self::Tenant(_) => Role::Admin,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) id: PrincipalId,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) name: String,
    pub(crate) kind: PrincipalKind,
    pub(crate) role: Role,
    pub(crate) created_at: Timestamp,
    pub(crate) disabled_at: Option<Timestamp>,
}

impl Principal {
    pub(crate) fn realm(&self) -> Realm {
        Realm::of(self.tenant)
    }
}

/// A key without its secret.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) principal: PrincipalId,
    /// The first and the last four digits.
    pub(crate) head: String,
    pub(crate) tail: String,
    pub(crate) label: String,
    pub(crate) mode: Mode,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) replaced_by: Option<KeyId>,
}

/// A kill switch that is on.
#[derive(Clone, Debug)]
pub(crate) struct KillSwitch {
    /// None: all tenants.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    pub(crate) set_by: PrincipalId,
    /// What an operator turned on, only an operator turns off.
    pub(crate) by_operator: bool,
}

impl FromRow<'_, PgRow> for Tenant {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: TenantId::new(row.try_get("tenant_id")?),
            name: row.try_get("name")?,
            limits: Limits {
                records_per_second: count(row, "records_per_second")?,
                bytes_per_second: count(row, "bytes_per_second")?,
                commands_per_second: count(row, "commands_per_second")?,
            },
            created_at: row.try_get("created_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for Principal {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: PrincipalId::new(row.try_get("principal_id")?),
            tenant: row
                .try_get::<Option<Uuid>, _>("tenant_id")?
                .map(TenantId::new),
            name: row.try_get("name")?,
            kind: word(row, "kind")?,
            role: word(row, "role")?,
            created_at: row.try_get("created_at")?,
            disabled_at: row.try_get("disabled_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for Key {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: KeyId::new(row.try_get("key_id")?),
            principal: PrincipalId::new(row.try_get("principal_id")?),
            head: row.try_get("head")?,
            tail: row.try_get("tail")?,
            label: row.try_get("label")?,
            mode: word(row, "mode")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            revoked_at: row.try_get("revoked_at")?,
            replaced_by: row
                .try_get::<Option<Uuid>, _>("replaced_by")?
                .map(KeyId::new),
        })
    }
}

impl FromRow<'_, PgRow> for KillSwitch {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            tenant: row
                .try_get::<Option<Uuid>, _>("tenant_id")?
                .map(TenantId::new),
            reason: row.try_get("reason")?,
            since: row.try_get("since")?,
            set_by: PrincipalId::new(row.try_get("set_by")?),
            by_operator: row.try_get("by_operator")?,
        })
    }
}

fn count(row: &PgRow, column: &str) -> sqlx::Result<u64> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|error| undecodable(column, error))
}

fn word<T>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let value: &str = row.try_get(column)?;
    value.parse().map_err(|error| undecodable(column, error))
}

fn undecodable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.into(),
        source: Box::new(error),
    }
}
