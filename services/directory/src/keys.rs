//! API keys: made, shown once, listed masked, replaced, ended.

use chrono::TimeDelta;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::{KeyId, PrincipalId, TenantId};
use runledger_domain::scope::Mode;
use runledger_domain::time::Timestamp;
use runledger_service::auth::Caller;
use runledger_service::ids;
use runledger_service::page::List;
use secrecy::SecretString;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};
use uuid::Uuid;

use crate::Directory;
use crate::audit::Change;
use crate::error::{Result, key_not_found, principal_disabled};
use crate::model::{Key, Realm};
use crate::page::{Page, Wanted};
use crate::parse;
use crate::principals::lock_principal;
use crate::reach::{self, Reach};
use crate::secret;
use crate::sql;

/// A key to be made.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) principal: PrincipalId,
    pub(crate) mode: Mode,
    pub(crate) label: String,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Which keys are listed.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    /// None: the caller's own.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) principal: Option<PrincipalId>,
}

/// A key, and what hangs on its principal.
struct Locked {
    key: Key,
    realm: Realm,
    principal_disabled: bool,
}

impl FromRow<'_, PgRow> for Locked {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let tenant: Option<Uuid> = row.try_get("tenant_id")?;
        Ok(Self {
            key: Key::from_row(row)?,
            realm: Realm::of(tenant.map(TenantId::new)),
            principal_disabled: row.try_get("principal_disabled")?,
        })
    }
}

impl Directory {
    pub(crate) async fn create_key(
        &self,
        caller: &Caller,
        new: &NewKey,
    ) -> Result<(Key, SecretString)> {
        let reach = Reach::of(caller)?;
        reach::require_live(caller, new.mode)?;
        let mut change = self.begin(caller).await?;
        let principal = lock_principal(&mut change.tx, reach, new.principal).await?;
        if principal.disabled_at.is_some() {
            return Err(principal_disabled().into());
        }
        let (key, secret) = insert(&mut change.tx, principal.realm(), new, change.by.at).await?;
        change
            .commit(Change::key_created(principal.tenant, &key))
            .await?;
        Ok((key, secret))
    }

    /// A call in the sandbox sees test keys alone.
    pub(crate) async fn keys(
        &self,
        caller: &Caller,
        filter: &KeyFilter,
        wanted: &Wanted,
    ) -> Result<Page<Key>> {
        let reach = Reach::of(caller)?;
        let realm = self.existing(reach, filter.tenant).await?;
        let realm_id = realm.as_uuid().to_string();
        let principal = filter
            .principal
            .map(|id| id.to_string())
            .unwrap_or_default();
        let list = List::of(&["ListKeys", &realm_id, &principal, caller.mode.as_str()]);
        let after: Option<(i64, Uuid)> = list.place(&wanted.token)?;
        let (made_at, id) = after.unzip();
        if let Some(principal) = filter.principal {
            let found = self.find_principal(reach, principal).await?;
            if found.realm() != realm {
                return Err(crate::error::principal_not_found().into());
            }
        }
        let only = match caller.mode {
            Mode::Live => None,
            Mode::Sandbox => Some(Mode::Sandbox.as_str()),
        };
        let keys = sqlx::query_as(sql::LIST_KEYS)
            .bind(realm.as_uuid())
            .bind(filter.principal.map(PrincipalId::as_uuid))
            .bind(only)
            .bind(made_at.and_then(Timestamp::from_timestamp_micros))
            .bind(id)
            .bind(wanted.rows())
            .fetch_all(&self.pool)
            .await?;
        let place = |last: &Key| (last.created_at.timestamp_micros(), last.id.as_uuid());
        Ok(wanted.cut(keys, list, place)?)
    }

    /// Makes a key like the old one, which goes on for `overlap` at most. A key with an end gets a
    /// successor that lives as long as it was meant to live itself.
    pub(crate) async fn rotate_key(
        &self,
        caller: &Caller,
        old: KeyId,
        overlap: TimeDelta,
    ) -> Result<(Key, SecretString, Key)> {
        let reach = Reach::of(caller)?;
        let mut change = self.begin(caller).await?;
        let locked = lock(&mut change.tx, reach, old).await?;
        reach::require_live(caller, locked.key.mode)?;
        let now = change.by.at;
        refuse_ended(&locked, now)?;
        let old = locked.key;
        let new = NewKey {
            principal: old.principal,
            mode: old.mode,
            label: old.label.clone(),
            expires_at: old.expires_at.map(|end| now + (end - old.created_at)),
        };
        let (made, secret) = insert(&mut change.tx, locked.realm, &new, now).await?;
        let end = Some(
            old.expires_at
                .map_or(now + overlap, |end| end.min(now + overlap)),
        );
        // Without an overlap the old key must not live on in the gap between two clocks.
        let revoked_at = overlap.is_zero().then_some(now);
        let replaced = end_key(&mut change.tx, old.id, end, revoked_at, Some(made.id)).await?;
        let tenant = locked.realm.tenant();
        change
            .commit(Change::key_rotated(tenant, &replaced, &made))
            .await?;
        Ok((made, secret, replaced))
    }

    pub(crate) async fn revoke_key(&self, caller: &Caller, key: KeyId) -> Result<Key> {
        let reach = Reach::of(caller)?;
        let mut change = self.begin(caller).await?;
        let locked = lock(&mut change.tx, reach, key).await?;
        reach::require_live(caller, locked.key.mode)?;
        if locked.key.revoked_at.is_some() {
            return Ok(locked.key);
        }
        let revoked_at = Some(change.by.at);
        let key = end_key(&mut change.tx, key, None, revoked_at, None).await?;
        let tenant = locked.realm.tenant();
        change.commit(Change::key_revoked(tenant, &key)).await?;
        Ok(key)
    }
}

/// Makes a key of a principal of `realm`, which must be locked.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    realm: Realm,
    new: &NewKey,
    now: Timestamp,
) -> Result<(Key, SecretString)> {
    if realm == Realm::Operators && new.mode != Mode::Live {
        return Err(parse::violation(
            "mode",
            "OPERATOR_IS_LIVE",
            "an operator has no sandbox; ask for a live key",
        )
        .into());
    }
    let fresh = secret::fresh(new.mode).map_err(Fault::internal)?;
    let key = sqlx::query_as(sql::INSERT_KEY)
        .bind(ids::fresh())
        .bind(realm.as_uuid())
        .bind(new.principal.as_uuid())
        .bind(fresh.digest.as_slice())
        .bind(fresh.head)
        .bind(fresh.tail)
        .bind(&new.label)
        .bind(new.mode.as_str())
        .bind(now)
        .bind(new.expires_at)
        .fetch_one(tx)
        .await?;
    Ok((key, fresh.secret))
}

async fn lock(tx: &mut PgConnection, reach: Reach, key: KeyId) -> Result<Locked> {
    let locked = sqlx::query_as(sql::LOCK_KEY)
        .bind(key.as_uuid())
        .bind(reach.confines_to())
        .fetch_optional(tx)
        .await?;
    Ok(locked.ok_or_else(key_not_found)?)
}

/// Sets what is given; the rest stays.
async fn end_key(
    tx: &mut PgConnection,
    key: KeyId,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    replaced_by: Option<KeyId>,
) -> Result<Key> {
    let ended = sqlx::query_as(sql::END_KEY)
        .bind(key.as_uuid())
        .bind(expires_at)
        .bind(revoked_at)
        .bind(replaced_by.map(KeyId::as_uuid))
        .fetch_one(tx)
        .await?;
    Ok(ended)
}

/// Only a key that opens something, and has no successor yet, can be replaced.
fn refuse_ended(locked: &Locked, now: Timestamp) -> Result<(), Fault> {
    let key = &locked.key;
    let (reason, message) = if locked.principal_disabled {
        return Err(principal_disabled());
    } else if key.revoked_at.is_some() {
        (
            "KEY_REVOKED",
            "the key is revoked; make a new one".to_owned(),
        )
    } else if let Some(next) = key.replaced_by {
        (
            "KEY_REPLACED",
            format!("the key was replaced by {next}; rotate that one"),
        )
    } else if key.expires_at.is_some_and(|end| end <= now) {
        (
            "KEY_EXPIRED",
            "the key has expired; make a new one".to_owned(),
        )
    } else {
        return Ok(());
    };
    Err(Fault::new(Kind::Precondition, reason, message))
}
