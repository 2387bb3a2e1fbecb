//! What can go wrong inside, and what it means to a caller. Constraints are known by their names.

use std::time::Duration;

use runledger_domain::fault::{Fault, Kind};

/// When a caller may try again after the database was away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("refused")]
    Refused(#[from] Fault),
    /// From anywhere in an operation: what it means hangs on the error alone.
    #[error("asking the database")]
    Database(#[from] sqlx::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(fault) => fault,
            Error::Database(error) => database(error),
        }
    }
}

fn database(error: sqlx::Error) -> Fault {
    if runledger_postgres::is_weather(&error) {
        return Fault::new(
            Kind::Unavailable,
            "DIRECTORY_UNAVAILABLE",
            "the directory's database does not answer; look before you retry whether the change was made",
        )
        .retry_after(RETRY_AFTER)
        .because(error);
    }
    match runledger_postgres::constraint(&error) {
        Some("tenants_name_key") => taken("TENANT_NAME_TAKEN", "there is a tenant of this name"),
        Some("principals_name_key") => taken(
            "PRINCIPAL_NAME_TAKEN",
            "the tenant has a principal of this name",
        ),
        Some("principals_tenant_fkey" | "kill_switches_tenant_fkey") => tenant_not_found(),
        _ => Fault::internal(error),
    }
}

fn taken(reason: &'static str, what: &str) -> Fault {
    Fault::new(
        Kind::AlreadyExists,
        reason,
        format!("{what} already; choose another name, or use that one"),
    )
}

pub(crate) fn tenant_not_found() -> Fault {
    Fault::new(
        Kind::NotFound,
        "TENANT_NOT_FOUND",
        "there is no such tenant",
    )
}

pub(crate) fn principal_not_found() -> Fault {
    Fault::new(
        Kind::NotFound,
        "PRINCIPAL_NOT_FOUND",
        "there is no such principal",
    )
}

pub(crate) fn key_not_found() -> Fault {
    Fault::new(Kind::NotFound, "KEY_NOT_FOUND", "there is no such key")
}

pub(crate) fn principal_disabled() -> Fault {
    Fault::new(
        Kind::Precondition,
        "PRINCIPAL_DISABLED",
        "the principal is disabled, for good; make another",
    )
}
