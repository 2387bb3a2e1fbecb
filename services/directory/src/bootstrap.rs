//! The first operator, made by whoever holds the database's password, once.

use runledger_domain::ids::PrincipalId;
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role};
use runledger_domain::time::Clock;
use runledger_service::ids;
use secrecy::SecretString;
use sqlx::PgPool;

use crate::audit::{By, Change, Open};
use crate::error;
use crate::keys::{self, NewKey};
use crate::model::Realm;
use crate::principals::lock_principal;
use crate::reach::Reach;
use crate::sql;

/// The first operator's name. It is never free again: that is what makes the first the only one.
const NAME: &str = "operator";

/// Why there is no new operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the first operator was made before; operators make further ones, and keys, through the api"
    )]
    AlreadyBootstrapped,
    #[error("making the first operator")]
    Make(#[source] runledger_domain::fault::Fault),
}

impl From<error::Error> for Error {
    fn from(error: error::Error) -> Self {
        Self::Make(error.into())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        error::Error::from(error).into()
    }
}

/// Makes the first operator and its key. `pool` belongs to the role that writes the schema. Of many
/// at once exactly one gets a key.
///
/// # Errors
/// [`Error::AlreadyBootstrapped`] ever after.
pub async fn bootstrap(pool: &PgPool, clock: &dyn Clock) -> Result<SecretString, Error> {
    let principal = PrincipalId::new(ids::fresh());
    let by = By {
        actor: Actor {
            principal,
            kind: PrincipalKind::User,
            role: Role::Operator,
        },
        mode: Mode::Live,
        key: None,
        at: clock.now(),
    };
    let mut change = Open::begin(pool, by).await?;
    let inserted = sqlx::query(sql::INSERT_FIRST_OPERATOR)
        .bind(principal.as_uuid())
        .bind(NAME)
        .bind(by.at)
        .execute(&mut *change.tx)
        .await?;
    if inserted.rows_affected() == 0 {
        return Err(Error::AlreadyBootstrapped);
    }
    let operator = lock_principal(&mut change.tx, Reach::Everything, principal).await?;
    let new = NewKey {
        principal,
        mode: Mode::Live,
        label: "first key".to_owned(),
        expires_at: None,
    };
    let (key, secret) = keys::insert(&mut change.tx, Realm::Operators, &new, by.at).await?;
    change.record(&Change::principal_created(&operator)).await?;
    change.commit(Change::key_created(None, &key)).await?;
    Ok(secret)
}
