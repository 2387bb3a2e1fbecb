//! Tenants and what they may do.

use runledger_domain::ids::TenantId;
use runledger_domain::scope::Mode;
use runledger_service::auth::{Caller, Limits};
use runledger_service::ids;
use runledger_service::page::List;

use crate::Directory;
use crate::audit::Change;
use crate::error::{Result, tenant_not_found};
use crate::model::Tenant;
use crate::page::{Page, Wanted};
use crate::reach::{self, Reach};
use crate::sql;

impl Directory {
    pub(crate) async fn create_tenant(
        &self,
        caller: &Caller,
        name: &str,
        limits: Option<Limits>,
    ) -> Result<Tenant> {
        reach::require_operator(caller)?;
        reach::require_live(caller, Mode::Live)?;
        let [records, bytes, commands] = columns(limits.unwrap_or(self.limits_default));
        let mut change = self.begin(caller).await?;
        let tenant: Tenant = sqlx::query_as(sql::INSERT_TENANT)
            .bind(ids::fresh())
            .bind(name)
            .bind(records)
            .bind(bytes)
            .bind(commands)
            .bind(change.by.at)
            .fetch_one(&mut *change.tx)
            .await?;
        change.commit(Change::tenant_created(&tenant)).await?;
        Ok(tenant)
    }

    pub(crate) async fn tenant(&self, caller: &Caller, named: Option<TenantId>) -> Result<Tenant> {
        let tenant = Reach::of(caller)?.tenant(named)?;
        self.find_tenant(tenant).await
    }

    pub(crate) async fn find_tenant(&self, tenant: TenantId) -> Result<Tenant> {
        let found = sqlx::query_as(sql::GET_TENANT)
            .bind(tenant.as_uuid())
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.ok_or_else(tenant_not_found)?)
    }

    pub(crate) async fn tenants(&self, caller: &Caller, wanted: &Wanted) -> Result<Page<Tenant>> {
        reach::require_operator(caller)?;
        let list = List::of(&["ListTenants"]);
        let after: Option<String> = list.place(&wanted.token)?;
        let tenants = sqlx::query_as(sql::LIST_TENANTS)
            .bind(after)
            .bind(wanted.rows())
            .fetch_all(&self.pool)
            .await?;
        Ok(wanted.cut(tenants, list, |last: &Tenant| last.name.clone())?)
    }

    pub(crate) async fn set_limits(
        &self,
        caller: &Caller,
        tenant: TenantId,
        limits: Limits,
    ) -> Result<Tenant> {
        reach::require_operator(caller)?;
        reach::require_live(caller, Mode::Live)?;
        let mut change = self.begin(caller).await?;
        let before: Option<Tenant> = sqlx::query_as(sql::LOCK_TENANT)
            .bind(tenant.as_uuid())
            .fetch_optional(&mut *change.tx)
            .await?;
        let before = before.ok_or_else(tenant_not_found)?;
        let after = Tenant {
            limits,
            ..before.clone()
        };
        if before.limits == after.limits {
            return Ok(after);
        }
        let [records, bytes, commands] = columns(limits);
        sqlx::query(sql::SET_LIMITS)
            .bind(tenant.as_uuid())
            .bind(records)
            .bind(bytes)
            .bind(commands)
            .execute(&mut *change.tx)
            .await?;
        change.commit(Change::limits_set(&before, &after)).await?;
        Ok(after)
    }
}

/// Limits were checked against bounds far below what a column holds.
fn columns(limits: Limits) -> [i64; 3] {
    [
        limits.records_per_second,
        limits.bytes_per_second,
        limits.commands_per_second,
    ]
    .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
