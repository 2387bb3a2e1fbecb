//! Who changed what: one row in the outbox for every change, written in its transaction.

use runledger_domain::ids::{KeyId, TenantId};
use runledger_domain::scope::{Actor, Mode};
use runledger_domain::time::Timestamp;
use runledger_service::auth::Caller;
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::model::{Key, KillSwitch, Principal, Tenant};
use crate::{secret, sql};

/// Who makes a change, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By {
    pub(crate) actor: Actor,
    pub(crate) mode: Mode,
    /// The key it was authenticated by; none: whoever holds the database's password.
    pub(crate) key: Option<KeyId>,
    pub(crate) at: Timestamp,
}

impl By {
    pub(crate) fn caller(caller: &Caller, at: Timestamp) -> Self {
        Self {
            actor: caller.principal,
            mode: caller.mode,
            key: Some(caller.key),
            at,
        }
    }
}

/// A change. Holds nothing secret: a key's own text never comes near it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// None: a matter of the operators.
    tenant: Option<TenantId>,
    name: &'static str,
    subject: Option<Uuid>,
    detail: Value,
}

impl Change {
    pub(crate) fn tenant_created(tenant: &Tenant) -> Self {
        let detail = json!({ "name": tenant.name, "limits": limits(tenant) });
        Self::of_tenant("TenantCreated", tenant, detail)
    }

    pub(crate) fn limits_set(before: &Tenant, after: &Tenant) -> Self {
        let detail = json!({ "before": limits(before), "after": limits(after) });
        Self::of_tenant("LimitsSet", after, detail)
    }

    pub(crate) fn principal_created(made: &Principal) -> Self {
        let detail =
            json!({ "name": made.name, "kind": made.kind.as_str(), "role": made.role.as_str() });
        Self::of_principal("PrincipalCreated", made, detail)
    }

    pub(crate) fn role_set(before: &Principal, after: &Principal) -> Self {
        let detail = json!({ "before": before.role.as_str(), "after": after.role.as_str() });
        Self::of_principal("RoleSet", after, detail)
    }

    pub(crate) fn principal_disabled(principal: &Principal) -> Self {
        Self::of_principal(
            "PrincipalDisabled",
            principal,
            json!({ "name": principal.name }),
        )
    }

    pub(crate) fn key_created(tenant: Option<TenantId>, made: &Key) -> Self {
        Self::of_key("KeyCreated", tenant, made, json!({}))
    }

    pub(crate) fn key_rotated(tenant: Option<TenantId>, old: &Key, made: &Key) -> Self {
        let extra = json!({ "replaced_by": made.id.to_string(), "new": masked(made) });
        Self::of_key("KeyRotated", tenant, old, extra)
    }

    pub(crate) fn key_revoked(tenant: Option<TenantId>, key: &Key) -> Self {
        Self::of_key("KeyRevoked", tenant, key, json!({}))
    }

    pub(crate) fn kill_switch_on(switch: &KillSwitch) -> Self {
        Self {
            tenant: switch.tenant,
            name: "KillSwitchTurnedOn",
            subject: switch.tenant.map(TenantId::as_uuid),
            detail: json!({ "reason": switch.reason, "since": switch.since }),
        }
    }

    /// `why` is what the caller said, if anything.
    pub(crate) fn kill_switch_off(was: &KillSwitch, why: Option<&str>) -> Self {
        Self {
            tenant: was.tenant,
            name: "KillSwitchTurnedOff",
            subject: was.tenant.map(TenantId::as_uuid),
            detail: json!({ "reason": why, "was": was.reason, "since": was.since }),
        }
    }

    fn of_tenant(name: &'static str, tenant: &Tenant, detail: Value) -> Self {
        Self {
            tenant: Some(tenant.id),
            name,
            subject: Some(tenant.id.as_uuid()),
            detail,
        }
    }

    fn of_principal(name: &'static str, principal: &Principal, detail: Value) -> Self {
        Self {
            tenant: principal.tenant,
            name,
            subject: Some(principal.id.as_uuid()),
            detail,
        }
    }

    fn of_key(name: &'static str, tenant: Option<TenantId>, key: &Key, extra: Value) -> Self {
        let mut detail = json!({
            "principal_id": key.principal.to_string(),
            "masked": masked(key),
            "label": key.label,
            "mode": key.mode.as_str(),
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
        });
        if let (Value::Object(detail), Value::Object(extra)) = (&mut detail, extra) {
            detail.extend(extra);
        }
        Self {
            tenant,
            name,
            subject: Some(key.id.as_uuid()),
            detail,
        }
    }
}

/// A transaction that will have made a change: its rows and its audit row, or nothing. Dropped
/// without [`Open::commit`], it has changed nothing.
pub(crate) struct Open {
    pub(crate) tx: Transaction<'static, Postgres>,
    pub(crate) by: By,
}

impl Open {
    pub(crate) async fn begin(pool: &PgPool, by: By) -> sqlx::Result<Self> {
        let mut tx = runledger_postgres::begin(pool).await?;
        sqlx::query(sql::BOUND_WAIT).execute(&mut *tx).await?;
        Ok(Self { tx, by })
    }

    /// Adds the audit row of `change` and commits. The subject of `change` must be locked by this
    /// transaction already: that keeps the rows of one subject in the order of its changes.
    pub(crate) async fn commit(mut self, change: Change) -> sqlx::Result<()> {
        self.record(&change).await?;
        self.tx.commit().await?;
        tracing::info!(
            change = change.name,
            subject = ?change.subject,
            tenant = ?change.tenant,
            actor = %self.by.actor.principal,
            "directory changed"
        );
        Ok(())
    }

    /// Adds the audit row of `change`, one of several in this transaction.
    pub(crate) async fn record(&mut self, change: &Change) -> sqlx::Result<()> {
        let by = self.by;
        let mut detail = change.detail.clone();
        if let Value::Object(detail) = &mut detail {
            detail.insert("by_key".into(), json!(by.key.map(|key| key.to_string())));
        }
        sqlx::query(sql::INSERT_OUTBOX)
            .bind(runledger_service::ids::fresh())
            .bind(change.tenant.map(TenantId::as_uuid))
            .bind(by.mode.as_str())
            .bind(by.at)
            .bind(by.actor.principal.as_uuid())
            .bind(by.actor.kind.as_str())
            .bind(by.actor.role.as_str())
            .bind(change.name)
            .bind(change.subject)
            .bind(detail)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

/// A key as it may be shown: its prefix, its first and its last digits.
pub(crate) fn masked(key: &Key) -> String {
    format!("{}{}…{}", secret::prefix(key.mode), key.head, key.tail)
}

fn limits(tenant: &Tenant) -> Value {
    json!({
        "records_per_second": tenant.limits.records_per_second,
        "bytes_per_second": tenant.limits.bytes_per_second,
        "commands_per_second": tenant.limits.commands_per_second,
    })
}
