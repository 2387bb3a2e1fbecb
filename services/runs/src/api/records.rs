//! Records by their identities: the payloads of what lists and runs point to.

use prost::Message;
use runledger_domain::fault::Fault;
use runledger_domain::log::{Partition, Position};
use runledger_domain::scope::{PrincipalKind, Role};
use runledger_domain::time::Timestamp;
use runledger_projection::Cursors;
use runledger_proto::common::v1 as common;
use runledger_proto::encode;
use sqlx::FromRow;
use uuid::Uuid;

use super::{View, database};
use crate::statements;

#[derive(FromRow)]
pub(super) struct Found {
    number: i64,
    pub(super) record_id: Uuid,
    family: String,
    partition: i32,
    log_offset: i64,
    pub(super) occurred_at: Timestamp,
    pub(super) recorded_at: Timestamp,
    actor_id: Uuid,
    actor_kind: String,
    actor_role: String,
    pub(super) conflicts: i64,
    type_name: String,
    payload: Vec<u8>,
}

impl Found {
    /// Full name of the payload's message.
    pub(super) fn type_name(&self) -> &str {
        &self.type_name
    }

    pub(super) fn decode<M: Message + Default>(&self) -> Result<M, Fault> {
        M::decode(self.payload.as_slice()).map_err(Fault::internal)
    }

    pub(super) fn actor(&self) -> Option<common::Actor> {
        Some(actor(self.actor_id, &self.actor_kind, &self.actor_role))
    }

    /// Where it lies, in the log of `cursors`.
    pub(super) fn position(&self, cursors: &Cursors) -> Option<common::Position> {
        let position = position(cursors, &self.family, self.partition, self.log_offset)?;
        Some(encode::position(&position))
    }
}

/// The place of a row's record in the log of `cursors`.
pub(super) fn position(
    cursors: &Cursors,
    family: &str,
    partition: i32,
    log_offset: i64,
) -> Option<Position> {
    let partition = Partition {
        family: family.parse().ok()?,
        number: u32::try_from(partition).ok()?,
    };
    Some(Position {
        partition,
        incarnation: cursors.get(&partition)?.incarnation?,
        offset: u64::try_from(log_offset).ok()?,
    })
}

/// Who caused a record, as its row says it. Words that this version does not know stay unspecified.
pub(super) fn actor(id: Uuid, kind: &str, role: &str) -> common::Actor {
    let (kind, role) = (kind.parse::<PrincipalKind>(), role.parse::<Role>());
    common::Actor {
        principal_id: id.to_string(),
        kind: kind.map_or(0, |kind| common::PrincipalKind::from(kind).into()),
        role: role.map_or(0, |role| common::Role::from(role).into()),
    }
}

/// The records asked for, or the first of them: as many as fit an answer.
pub(super) struct Records {
    /// By place in the list asked for.
    found: Vec<Option<Found>>,
    /// All before this place were read.
    read_to: usize,
}

impl Records {
    /// Reads the records of these (stream, id) in the view's scope. At least the first is read.
    pub(super) async fn read(view: &mut View, asked: &[(String, Uuid)]) -> Result<Self, Fault> {
        let mut found: Vec<Option<Found>> = Vec::new();
        found.resize_with(asked.len(), || None);
        if asked.is_empty() {
            return Ok(Self { found, read_to: 0 });
        }
        let (tenant, mode, bytes_max) = (view.tenant(), view.mode(), i64::from(view.bytes_max));
        let rows: Vec<Found> = sqlx::query_as(statements::SELECT_RECORDS)
            .bind(tenant)
            .bind(mode)
            .bind(
                asked
                    .iter()
                    .map(|(stream, _)| stream.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(asked.iter().map(|(_, id)| *id).collect::<Vec<_>>())
            .bind(bytes_max)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let mut read_to = asked.len();
        if rows.len() < asked.len() {
            read_to = rows
                .last()
                .map_or(0, |last| usize::try_from(last.number).unwrap_or_default());
        }
        for row in rows {
            let place = usize::try_from(row.number.saturating_sub(1))
                .ok()
                .and_then(|place| found.get_mut(place));
            if let Some(place) = place {
                *place = Some(row);
            }
        }
        Ok(Self { found, read_to })
    }

    /// Whether all records before `place` were read.
    pub(super) fn reach(&self, place: usize) -> bool {
        place <= self.read_to
    }

    /// The record at `place`.
    pub(super) fn get(&self, place: usize) -> Option<&Found> {
        self.found.get(place)?.as_ref()
    }
}
