//! Callers and credentials for the tests of this crate.

use runledger_domain::ids::{KeyId, PrincipalId, TenantId};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use uuid::Uuid;

use crate::auth::{Caller, Credential, Limits};

const LIMITS: Limits = Limits {
    records_per_second: 1_000,
    bytes_per_second: 1_000_000,
    commands_per_second: 100,
};

fn actor(role: Role) -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(2)),
        kind: PrincipalKind::Service,
        role,
    }
}

fn tenant() -> TenantId {
    TenantId::new(Uuid::from_u128(1))
}

pub(crate) fn caller() -> Caller {
    Caller {
        principal: actor(Role::Agent),
        name: "worker".into(),
        scope: Some(Scope {
            tenant: tenant(),
            mode: Mode::Live,
        }),
        tenant_name: Some("acme".into()),
        mode: Mode::Live,
        key: KeyId::new(Uuid::from_u128(3)),
        limits: LIMITS,
        kill_switch: None,
    }
}

pub(crate) fn sandbox() -> Caller {
    Caller {
        scope: Some(Scope {
            tenant: tenant(),
            mode: Mode::Sandbox,
        }),
        mode: Mode::Sandbox,
        ..caller()
    }
}

pub(crate) fn credential(mode: Mode, role: Role) -> Credential {
    Credential {
        key: KeyId::new(Uuid::from_u128(3)),
        principal: actor(role),
        name: "worker".into(),
        tenant: (role != Role::Operator).then(|| (tenant(), "acme".into())),
        mode,
        limits: LIMITS,
        kill_switch: None,
    }
}
