//! A row of the outbox as a record of the log. Pure.

use runledger_domain::directory::Changed;
use runledger_domain::ids::{InvalidId, KeyId, Name, PrincipalId, RecordId, TenantId};
use runledger_domain::json::{InvalidJson, Json};
use runledger_domain::log::{Author, Kind, Record, Stream};
use runledger_domain::scope::UnknownWord;
use runledger_domain::time::Timestamp;
use runledger_proto::encode;
use uuid::Uuid;

/// Why a row is no fact. Only what another version wrote can be none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("its mode is unknown")]
    Mode(#[source] UnknownWord),
    #[error("its type is no name")]
    Change(#[source] InvalidId),
    #[error("its detail is no JSON that can be kept")]
    Detail(#[source] InvalidJson),
}

/// A row of the outbox.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) tenant_id: Option<Uuid>,
    pub(super) mode: String,
    pub(super) at: Timestamp,
    pub(super) actor_id: Uuid,
    pub(super) actor_kind: String,
    pub(super) actor_role: String,
    pub(super) r#type: String,
    pub(super) subject_id: Option<Uuid>,
    pub(super) detail: String,
    pub(super) key_id: Option<Uuid>,
}

impl Row {
    /// The same row gives the same record whenever it is asked, but for the time of appending: else a
    /// repeat would be a conflict.
    pub(super) fn record(self, now: Timestamp) -> Result<Record, Error> {
        let mode = self.mode.parse().map_err(Error::Mode)?;
        let changed = Changed {
            change: Name::parse(self.r#type).map_err(Error::Change)?,
            subject: self.subject_id,
            detail: Json::parse(&self.detail).map_err(Error::Detail)?,
            key: self.key_id.map(KeyId::new),
        };
        let (type_name, payload) = encode::directory_changed(&changed);
        Ok(Record {
            id: RecordId::new(self.id),
            scope: Changed::scope(self.tenant_id.map(TenantId::new), mode),
            stream: Stream::directory(),
            kind: Kind::Fact,
            type_name: type_name.into(),
            occurred_at: self.at,
            recorded_at: now,
            author: Author {
                principal: PrincipalId::new(self.actor_id),
                kind: self.actor_kind.parse().ok(),
                role: self.actor_role.parse().ok(),
            },
            cause: None,
            request_digest: Record::digest_request(type_name, self.at, None, &payload),
            key: None,
            payload,
            terms: None,
        })
    }
}
