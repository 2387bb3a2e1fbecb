//! How far a caller's word goes. Every operation begins here: without a [`Reach`] nothing is read.

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::TenantId;
use runledger_domain::scope::{Mode, Role};
use runledger_service::auth::Caller;
use uuid::Uuid;

use crate::error;
use crate::model::Realm;

/// What an administrator may see and change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// An operator: every tenant that it names, and the operators.
    Everything,
    /// An admin: its own tenant.
    Tenant(TenantId),
}

impl Reach {
    /// The reach of `caller`.
    ///
    /// # Errors
    /// Forbidden, `ROLE_NOT_ALLOWED`, unless it is an admin or an operator.
    pub(crate) fn of(caller: &Caller) -> Result<Self, Fault> {
        match (caller.principal.role, caller.scope) {
            (Role::Operator, None) => Ok(Self::Everything),
            (Role::Admin, Some(scope)) => Ok(Self::Tenant(scope.tenant)),
            (
                Role::Operator | Role::Admin | Role::Reviewer | Role::Viewer | Role::Agent,
                None | Some(_),
            ) => Err(Fault::new(
                Kind::Forbidden,
                "ROLE_NOT_ALLOWED",
                "only admins and operators administer the directory",
            )),
        }
    }

    /// The realm that a request means by `tenant`; none: the caller's own.
    ///
    /// # Errors
    /// NotFound, `TENANT_NOT_FOUND`, when it is another's.
    pub(crate) fn realm(self, tenant: Option<TenantId>) -> Result<Realm, Fault> {
        match (self, tenant) {
            (Self::Everything, tenant) => Ok(Realm::of(tenant)),
            (Self::Tenant(own), None) => Ok(Realm::Tenant(own)),
            (Self::Tenant(own), Some(named)) if own == named => Ok(Realm::Tenant(own)),
            (Self::Tenant(_), Some(_)) => Err(error::tenant_not_found()),
        }
    }

    /// As [`Reach::realm`], where the operators' realm makes no sense.
    ///
    /// # Errors
    /// Invalid as well, when an operator names no tenant.
    pub(crate) fn tenant(self, tenant: Option<TenantId>) -> Result<TenantId, Fault> {
        self.realm(tenant)?
            .tenant()
            .ok_or_else(|| crate::parse::required("tenant_id", "an operator must name the tenant"))
    }

    /// The realm to which a look-up by id is confined; null: none.
    pub(crate) fn confines_to(self) -> Option<Uuid> {
        match self {
            Self::Everything => None,
            Self::Tenant(tenant) => Some(tenant.as_uuid()),
        }
    }
}

/// # Errors
/// Forbidden, `OPERATORS_ONLY`, unless `caller` is an operator.
pub(crate) fn require_operator(caller: &Caller) -> Result<(), Fault> {
    match Reach::of(caller)? {
        Reach::Everything => Ok(()),
        Reach::Tenant(_) => Err(operators_only("only an operator does this")),
    }
}

pub(crate) fn operators_only(message: &str) -> Fault {
    Fault::new(Kind::Forbidden, "OPERATORS_ONLY", message)
}

/// # Errors
/// Forbidden, `MODE_NOT_ALLOWED`, when a call in the sandbox would change something of the live world.
pub(crate) fn require_live(caller: &Caller, touched: Mode) -> Result<(), Fault> {
    match (caller.mode, touched) {
        (Mode::Live, _) | (Mode::Sandbox, Mode::Sandbox) => Ok(()),
        (Mode::Sandbox, Mode::Live) => Err(Fault::new(
            Kind::Forbidden,
            "MODE_NOT_ALLOWED",
            "from the sandbox only test keys are administered; use a live key, without x-runledger-mode: sandbox",
        )),
    }
}

#[cfg(test)]
mod tests {
    use runledger_domain::ids::{KeyId, PrincipalId};
    use runledger_domain::scope::{Actor, PrincipalKind, Scope};
    use runledger_service::auth::Limits;

    use super::*;

    fn caller(role: Role, scope: Option<Scope>) -> Caller {
        Caller {
            principal: Actor {
                principal: PrincipalId::new(Uuid::from_u128(1)),
                kind: PrincipalKind::User,
                role,
            },
            name: "someone".into(),
            scope,
            tenant_name: None,
            mode: scope.map_or(Mode::Live, |scope| scope.mode),
            key: KeyId::new(Uuid::from_u128(2)),
            limits: Limits::default(),
            kill_switch: None,
        }
    }

    fn tenant(number: u128) -> TenantId {
        TenantId::new(Uuid::from_u128(number))
    }

    #[test]
    fn only_admins_and_operators_reach_anything() {
        let scope = Some(Scope {
            tenant: tenant(3),
            mode: Mode::Live,
        });
        assert_eq!(
            Reach::of(&caller(Role::Operator, None)).unwrap(),
            Reach::Everything
        );
        assert_eq!(
            Reach::of(&caller(Role::Admin, scope)).unwrap(),
            Reach::Tenant(tenant(3))
        );
        for role in [Role::Reviewer, Role::Viewer, Role::Agent] {
            assert_eq!(
                Reach::of(&caller(role, scope)).unwrap_err().reason,
                "ROLE_NOT_ALLOWED"
            );
        }
        // Neither of these can come from the directory; neither may pass if it did.
        assert!(Reach::of(&caller(Role::Operator, scope)).is_err());
        assert!(Reach::of(&caller(Role::Admin, None)).is_err());
    }

    #[test]
    fn an_admin_means_its_own_tenant_whatever_it_names() {
        let reach = Reach::Tenant(tenant(3));
        assert_eq!(reach.realm(None).unwrap(), Realm::Tenant(tenant(3)));
        assert_eq!(
            reach.realm(Some(tenant(3))).unwrap(),
            Realm::Tenant(tenant(3))
        );
        assert_eq!(
            reach.realm(Some(tenant(4))).unwrap_err().kind,
            Kind::NotFound
        );
        assert_eq!(Reach::Everything.realm(None).unwrap(), Realm::Operators);
        assert_eq!(
            Reach::Everything.tenant(None).unwrap_err().kind,
            Kind::Invalid
        );
    }
}
