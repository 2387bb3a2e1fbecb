//! Who calls: API keys, the callers behind them, and the small cache between us and the directory.
//!
//! The scope of a call comes from here alone, never from a body.

mod authenticator;
mod directory;
mod key;

use std::sync::Arc;

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::KeyId;
use runledger_domain::scope::{Actor, Mode, Scope};
use tonic::{Request, Status};

use crate::status;

pub use authenticator::{Authenticator, Config, MODE_HEADER};
pub use directory::{Credential, Directory, Known, LookupError};
pub use key::{Key, Malformed};

/// What a tenant may do a second, over the whole installation. A burst may be twice as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub records_per_second: u64,
    pub bytes_per_second: u64,
    pub commands_per_second: u64,
}

/// Why the caller's writes are stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSwitch {
    /// In the words of whoever turned it on.
    pub reason: Box<str>,
    /// Stops everybody, not this tenant alone. Named rather than the tenant's own when both are on.
    pub global: bool,
}

/// An authenticated caller, as of at most one second ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Goes into every record that this call appends.
    pub principal: Actor,
    /// The principal's name.
    pub name: Box<str>,
    /// Everything this call may see or change; none: an operator, who belongs to no tenant.
    pub scope: Option<Scope>,
    pub tenant_name: Option<Box<str>>,
    /// The world this call is in; a live key may ask for the sandbox.
    pub mode: Mode,
    pub key: KeyId,
    /// The tenant's; all zero for an operator.
    pub limits: Limits,
    pub kill_switch: Option<KillSwitch>,
}

impl Caller {
    /// The scope of this call.
    ///
    /// # Errors
    /// Forbidden, `SCOPE_REQUIRED`, for an operator.
    pub fn require_scope(&self) -> Result<Scope, Fault> {
        self.scope.ok_or_else(|| {
            Fault::new(
                Kind::Forbidden,
                "SCOPE_REQUIRED",
                "this call acts inside one tenant and an operator belongs to none; use a key of the tenant meant",
            )
        })
    }
}

/// The caller of `request`, as the gate of [`crate::server`] left it there.
///
/// # Errors
/// Internal, when the request did not come through the gate or the rpc is public.
pub fn caller<T>(request: &Request<T>) -> Result<&Arc<Caller>, Status> {
    request.extensions().get::<Arc<Caller>>().ok_or_else(|| {
        status::from_fault(Fault::internal(
            "a request reached its handler without a caller",
        ))
    })
}
