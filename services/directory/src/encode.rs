//! Outward: what the directory keeps, as the wire says it.

use runledger_domain::ids::TenantId;
use runledger_proto::common::v1 as common;
use runledger_proto::directory::v1 as wire;
use runledger_proto::encode::timestamp;
use runledger_service::auth::Caller;

use crate::audit;
use crate::model::{Key, KillSwitch, Principal, Tenant};

pub(crate) fn tenant(tenant: Tenant) -> wire::Tenant {
    wire::Tenant {
        tenant_id: tenant.id.to_string(),
        name: tenant.name,
        created_at: Some(timestamp(tenant.created_at)),
        limits: Some(wire::Limits {
            records_per_second: tenant.limits.records_per_second,
            bytes_per_second: tenant.limits.bytes_per_second,
            commands_per_second: tenant.limits.commands_per_second,
        }),
    }
}

pub(crate) fn principal(principal: Principal) -> wire::Principal {
    wire::Principal {
        principal_id: principal.id.to_string(),
        tenant_id: tenant_id(principal.tenant),
        name: principal.name,
        kind: common::PrincipalKind::from(principal.kind).into(),
        role: common::Role::from(principal.role).into(),
        created_at: Some(timestamp(principal.created_at)),
        disabled_at: principal.disabled_at.map(timestamp),
    }
}

pub(crate) fn key(key: Key) -> wire::Key {
    wire::Key {
        key_id: key.id.to_string(),
        principal_id: key.principal.to_string(),
        masked: audit::masked(&key),
        label: key.label,
        mode: common::Mode::from(key.mode).into(),
        created_at: Some(timestamp(key.created_at)),
        expires_at: key.expires_at.map(timestamp),
        revoked_at: key.revoked_at.map(timestamp),
        replaced_by_key_id: key.replaced_by.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// Who the operators are is no tenant's business: it learns that one of them did it.
pub(crate) fn kill_switches(caller: &Caller, on: Vec<KillSwitch>) -> Vec<wire::KillSwitch> {
    let one = |switch: KillSwitch| wire::KillSwitch {
        tenant_id: tenant_id(switch.tenant),
        reason: switch.reason,
        since: Some(timestamp(switch.since)),
        set_by: if switch.by_operator && caller.scope.is_some() {
            String::new()
        } else {
            switch.set_by.to_string()
        },
    };
    on.into_iter().map(one).collect()
}

fn tenant_id(tenant: Option<TenantId>) -> String {
    tenant.map(|id| id.to_string()).unwrap_or_default()
}
