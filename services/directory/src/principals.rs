//! Users, agents, services and operators.

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::{PrincipalId, TenantId};
use runledger_domain::scope::{Mode, PrincipalKind, Role};
use runledger_service::auth::Caller;
use runledger_service::ids;
use runledger_service::page::List;
use sqlx::PgConnection;

use crate::Directory;
use crate::audit::Change;
use crate::error::{Result, principal_disabled, principal_not_found};
use crate::model::{Principal, Realm};
use crate::page::{Page, Wanted};
use crate::parse;
use crate::reach::{self, Reach, operators_only};
use crate::sql;

/// A principal to be made.
#[derive(Debug)]
pub(crate) struct NewPrincipal {
    /// None: the caller's own, or none for an operator to be.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) name: String,
    pub(crate) kind: PrincipalKind,
    pub(crate) role: Role,
}

impl Directory {
    pub(crate) async fn create_principal(
        &self,
        caller: &Caller,
        new: NewPrincipal,
    ) -> Result<Principal> {
        let reach = Reach::of(caller)?;
        let realm = reach.realm(new.tenant)?;
        reach::require_live(caller, Mode::Live)?;
        check_role(reach, realm, new.role)?;
        let mut change = self.begin(caller).await?;
        let principal: Principal = sqlx::query_as(sql::INSERT_PRINCIPAL)
            .bind(ids::fresh())
            .bind(realm.tenant().map(TenantId::as_uuid))
            .bind(new.name)
            .bind(new.kind.as_str())
            .bind(new.role.as_str())
            .bind(change.by.at)
            .fetch_one(&mut *change.tx)
            .await?;
        change.commit(Change::principal_created(&principal)).await?;
        Ok(principal)
    }

    pub(crate) async fn find_principal(
        &self,
        reach: Reach,
        principal: PrincipalId,
    ) -> Result<Principal> {
        let found = sqlx::query_as(sql::GET_PRINCIPAL)
            .bind(principal.as_uuid())
            .bind(reach.confines_to())
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.ok_or_else(principal_not_found)?)
    }

    pub(crate) async fn principals(
        &self,
        caller: &Caller,
        tenant: Option<TenantId>,
        wanted: &Wanted,
    ) -> Result<Page<Principal>> {
        let realm = self.existing(Reach::of(caller)?, tenant).await?;
        let list = List::of(&["ListPrincipals", &realm.as_uuid().to_string()]);
        let after: Option<String> = list.place(&wanted.token)?;
        let principals = sqlx::query_as(sql::LIST_PRINCIPALS)
            .bind(realm.as_uuid())
            .bind(after)
            .bind(wanted.rows())
            .fetch_all(&self.pool)
            .await?;
        Ok(wanted.cut(principals, list, |last: &Principal| last.name.clone())?)
    }

    /// The realm that a list is about.
    pub(crate) async fn existing(&self, reach: Reach, tenant: Option<TenantId>) -> Result<Realm> {
        let realm = reach.realm(tenant)?;
        if let (Reach::Everything, Some(tenant)) = (reach, realm.tenant()) {
            self.find_tenant(tenant).await?;
        }
        Ok(realm)
    }

    pub(crate) async fn set_role(
        &self,
        caller: &Caller,
        principal: PrincipalId,
        role: Role,
    ) -> Result<Principal> {
        let reach = Reach::of(caller)?;
        let found = self.find_principal(reach, principal).await?;
        reach::require_live(caller, Mode::Live)?;
        check_role(reach, found.realm(), role)?;
        refuse_oneself(caller, principal, "role")?;
        let mut change = self.begin(caller).await?;
        let before = lock_head(&mut change.tx, reach, &found).await?;
        if before.disabled_at.is_some() {
            return Err(principal_disabled().into());
        }
        let after = Principal {
            role,
            ..before.clone()
        };
        if before.role == after.role {
            return Ok(after);
        }
        keep_a_head(&mut change.tx, &before).await?;
        sqlx::query(sql::SET_ROLE)
            .bind(principal.as_uuid())
            .bind(role.as_str())
            .execute(&mut *change.tx)
            .await?;
        change.commit(Change::role_set(&before, &after)).await?;
        Ok(after)
    }

    pub(crate) async fn disable_principal(
        &self,
        caller: &Caller,
        principal: PrincipalId,
    ) -> Result<Principal> {
        let reach = Reach::of(caller)?;
        let found = self.find_principal(reach, principal).await?;
        reach::require_live(caller, Mode::Live)?;
        refuse_oneself(caller, principal, "standing")?;
        let mut change = self.begin(caller).await?;
        let before = lock_head(&mut change.tx, reach, &found).await?;
        if before.disabled_at.is_some() {
            return Ok(before);
        }
        keep_a_head(&mut change.tx, &before).await?;
        let after = Principal {
            disabled_at: Some(change.by.at),
            ..before
        };
        sqlx::query(sql::DISABLE_PRINCIPAL)
            .bind(principal.as_uuid())
            .bind(after.disabled_at)
            .execute(&mut *change.tx)
            .await?;
        change.commit(Change::principal_disabled(&after)).await?;
        Ok(after)
    }
}

/// Operators are those without a tenant, all of them, and only they make more.
fn check_role(reach: Reach, realm: Realm, role: Role) -> Result<(), Fault> {
    match (realm, role) {
        (Realm::Operators, Role::Operator)
        | (Realm::Tenant(_), Role::Admin | Role::Reviewer | Role::Viewer | Role::Agent) => Ok(()),
        (Realm::Tenant(_), Role::Operator) => match reach {
            Reach::Tenant(_) => Err(operators_only("only an operator makes operators")),
            Reach::Everything => Err(parse::violation(
                "role",
                "ROLE_NOT_OF_TENANT",
                "an operator belongs to no tenant; make a new principal and name no tenant",
            )),
        },
        (Realm::Operators, Role::Admin | Role::Reviewer | Role::Viewer | Role::Agent) => {
            Err(parse::violation(
                "role",
                "ROLE_NEEDS_TENANT",
                "without a tenant there are only operators; name the tenant",
            ))
        }
    }
}

fn refuse_oneself(caller: &Caller, principal: PrincipalId, what: &str) -> Result<(), Fault> {
    if caller.principal.principal != principal {
        return Ok(());
    }
    Err(Fault::new(
        Kind::Forbidden,
        "NOT_ONESELF",
        format!("nobody changes its own {what}; another must do it"),
    ))
}

/// Locks the question who heads the realm of `found`, then `found` itself, as it is now.
async fn lock_head(tx: &mut PgConnection, reach: Reach, found: &Principal) -> Result<Principal> {
    sqlx::query(sql::LOCK_REALM)
        .bind(found.realm().as_uuid())
        .execute(&mut *tx)
        .await?;
    lock_principal(tx, reach, found.id).await
}

/// `principal` as it is now and, but for this transaction, stays.
pub(crate) async fn lock_principal(
    tx: &mut PgConnection,
    reach: Reach,
    principal: PrincipalId,
) -> Result<Principal> {
    let locked = sqlx::query_as(sql::LOCK_PRINCIPAL)
        .bind(principal.as_uuid())
        .bind(reach.confines_to())
        .fetch_optional(tx)
        .await?;
    Ok(locked.ok_or_else(principal_not_found)?)
}

/// Refuses to lose the last admin of a tenant, or the last operator. Under [`lock_head`] alone.
async fn keep_a_head(tx: &mut PgConnection, losing: &Principal) -> Result<()> {
    let realm = losing.realm();
    if losing.role != realm.head() {
        return Ok(());
    }
    let heads: i64 = sqlx::query_scalar(sql::COUNT_HEADS)
        .bind(realm.as_uuid())
        .bind(realm.head().as_str())
        .fetch_one(tx)
        .await?;
    if heads > 1 {
        return Ok(());
    }
    Err(match realm {
        Realm::Operators => Fault::new(
            Kind::Precondition,
            "LAST_OPERATOR",
            "this is the last operator; make another first",
        ),
        Realm::Tenant(_) => Fault::new(
            Kind::Precondition,
            "LAST_ADMIN",
            "this is the tenant's last admin; make another first",
        ),
    }
    .into())
}
