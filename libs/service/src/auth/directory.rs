//! Where keys are looked up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use runledger_domain::digest::Digest;
use runledger_domain::ids::{KeyId, PrincipalId, TenantId};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role};
use sqlx::PgPool;
use uuid::Uuid;

use super::{KillSwitch, Limits};

/// What the directory knows of a valid key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub key: KeyId,
    pub principal: Actor,
    pub name: Box<str>,
    /// Id and name; none: an operator.
    pub tenant: Option<(TenantId, Box<str>)>,
    /// The world that the key opens.
    pub mode: Mode,
    pub limits: Limits,
    pub kill_switch: Option<KillSwitch>,
}

/// Why a lookup told nothing of the key.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("the directory gave no answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The directory is well; only what it said of this key means nothing to us.
    #[error("the directory said {0:?} of the key, which this version does not know")]
    Unreadable(Box<str>),
}

/// Looks keys up by the SHA-256 of their text.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// None: unknown, revoked, expired, or of a disabled principal.
    async fn find(&self, digest: &Digest) -> Result<Option<Credential>, LookupError>;
}

/// The directory in Postgres, through the one function that may be called before a scope is known.
pub(super) struct Postgres(pub(super) PgPool);

#[derive(sqlx::FromRow)]
struct Row {
    key_id: Uuid,
    principal_id: Uuid,
    principal_name: String,
    principal_kind: String,
    role: String,
    tenant_id: Option<Uuid>,
    tenant_name: Option<String>,
    mode: String,
    records_per_second: Option<i64>,
    bytes_per_second: Option<i64>,
    commands_per_second: Option<i64>,
    kill_tenant_reason: Option<String>,
    kill_global_reason: Option<String>,
}

#[async_trait]
impl Directory for Postgres {
    async fn find(&self, digest: &Digest) -> Result<Option<Credential>, LookupError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM directory.authenticate($1)")
            .bind(digest.as_slice())
            .fetch_optional(&self.0)
            .await
            .map_err(|source| LookupError::Unreachable(source.into()))?;
        row.map(Credential::try_from).transpose()
    }
}

impl TryFrom<Row> for Credential {
    type Error = LookupError;

    fn try_from(row: Row) -> Result<Self, LookupError> {
        let kill_switch = match (row.kill_global_reason, row.kill_tenant_reason) {
            (Some(reason), _) => Some(KillSwitch {
                reason: reason.into(),
                global: true,
            }),
            (None, Some(reason)) => Some(KillSwitch {
                reason: reason.into(),
                global: false,
            }),
            (None, None) => None,
        };
        Ok(Self {
            key: KeyId::new(row.key_id),
            principal: Actor {
                principal: PrincipalId::new(row.principal_id),
                kind: word::<PrincipalKind>(&row.principal_kind)?,
                role: word::<Role>(&row.role)?,
            },
            name: row.principal_name.into(),
            tenant: row.tenant_id.map(|id| {
                (
                    TenantId::new(id),
                    row.tenant_name.unwrap_or_default().into(),
                )
            }),
            mode: word::<Mode>(&row.mode)?,
            limits: Limits {
                records_per_second: rate(row.records_per_second),
                bytes_per_second: rate(row.bytes_per_second),
                commands_per_second: rate(row.commands_per_second),
            },
            kill_switch,
        })
    }
}

fn word<T>(text: &str) -> Result<T, LookupError>
where
    T: std::str::FromStr<Err = runledger_domain::scope::UnknownWord>,
{
    text.parse()
        .map_err(|_| LookupError::Unreadable(text.into()))
}

fn rate(stored: Option<i64>) -> u64 {
    stored
        .and_then(|rate| u64::try_from(rate).ok())
        .unwrap_or(0)
}

/// A directory of given keys, in memory: for processes without a database, and for tests.
#[derive(Default)]
pub struct Known {
    keys: Mutex<HashMap<Digest, Credential>>,
    away: AtomicBool,
    asked: AtomicU64,
}

impl Known {
    pub fn insert(&self, digest: Digest, credential: Credential) {
        self.keys().insert(digest, credential);
    }

    pub fn remove(&self, digest: &Digest) {
        self.keys().remove(digest);
    }

    /// From now on it gives no answers, or gives them again.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Digest, Credential>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Directory for std::sync::Arc<Known> {
    async fn find(&self, digest: &Digest) -> Result<Option<Credential>, LookupError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // A lookup is never instantaneous; giving way lets others meet it half-way.
        tokio::task::yield_now().await;
        if self.away.load(Ordering::Relaxed) {
            return Err(LookupError::Unreachable("away".into()));
        }
        Ok(self.keys().get(digest).cloned())
    }
}

#[cfg(test)]
mod tests;
