//! The directory's changes, as the log tells them. The directory itself is no fold of the log; these
//! facts are for those who ask later who changed what.

use uuid::Uuid;

use crate::ids::{KeyId, Name, TenantId};
use crate::json::Json;
use crate::scope::{Mode, Scope};

/// Where changes lie that are about no tenant: the operators and their keys, the kill switch of all.
/// No tenant ever has this id; the directory's tables refuse it.
pub const OPERATORS: Scope = Scope {
    tenant: TenantId::new(Uuid::nil()),
    mode: Mode::Live,
};

/// Something in the directory was changed. Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What was done, for example `KeyRevoked`. Any name: later versions do more.
    pub change: Name,
    /// What was changed; `None`: the kill switch of all tenants.
    pub subject: Option<Uuid>,
    /// What it was and became: an object.
    pub detail: Json,
    /// The key of whoever asked for it; `None`: whoever holds the database's password.
    pub key: Option<KeyId>,
}

impl Changed {
    /// The scope of a change to `tenant` that was made in `mode`; [`OPERATORS`] without one.
    pub fn scope(tenant: Option<TenantId>, mode: Mode) -> Scope {
        tenant.map_or(OPERATORS, |tenant| Scope { tenant, mode })
    }
}
