//! Which records of a batch are new. Identity is (scope, stream, id); the first in the log wins, a
//! copy changes nothing, and one with another content is counted on the record that stands.

use std::collections::{BTreeMap, HashMap, HashSet};

use runledger_domain::digest::Digest;
use runledger_domain::ids::{RecordId, TenantId};
use runledger_domain::log::Family;
use runledger_domain::scope::{Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError, Standing};
use sqlx::PgConnection;
use uuid::Uuid;

use super::fold;
use super::rows::{Identities, number, signed, text, time};
use crate::statements;

type Identity<'a> = (Scope, &'a str, RecordId);

fn identity(applied: &Applied) -> Identity<'_> {
    (
        applied.record.scope,
        applied.record.stream.as_str(),
        applied.record.id,
    )
}

/// Copies with another content of a record that names a run.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) scope: Scope,
    pub(super) run_id: String,
    /// When the record that stands was appended.
    pub(super) recorded_at: Timestamp,
    pub(super) copies: i64,
}

/// Inserts the records that are new, and counts on those that stand the copies that contradict them.
/// What each record of the batch is, in its order.
pub(super) async fn keep(
    connection: &mut PgConnection,
    batch: &[&Applied],
) -> Result<Vec<Standing>, ApplyError> {
    let mut firsts: BTreeMap<Identity<'_>, &Applied> = BTreeMap::new();
    let mut copies: Vec<&Applied> = Vec::new();
    for applied in batch {
        let first = firsts.entry(identity(applied)).or_insert(applied);
        if first.position != applied.position {
            copies.push(applied);
        }
    }
    let sorted: Vec<&Applied> = firsts.values().copied().collect();
    let went_in = insert(connection, &sorted).await?;
    let is_new = |applied: &Applied| {
        let partition = applied.position.partition;
        went_in.contains(&(
            partition.family,
            number(partition),
            signed(applied.position.offset),
        ))
    };
    let mut standing: HashMap<Identity<'_>, Digest> = HashMap::new();
    if went_in.len() < sorted.len() {
        let known: Vec<&Applied> = sorted
            .iter()
            .copied()
            .filter(|applied| !is_new(applied))
            .collect();
        standing = digests(connection, &known).await?;
        copies.extend(known);
    }
    copies.retain(|copy| {
        let id = identity(copy);
        let first = || firsts.get(&id).map(|first| &first.record.request_digest);
        standing
            .get(&id)
            .or_else(first)
            .is_some_and(|digest| *digest != copy.record.request_digest)
    });
    let counted = count_conflicts(connection, &copies).await?;
    let standing = |applied: &&Applied| {
        if is_new(applied) {
            Standing::First
        } else if counted.contains(&place(applied)) {
            Standing::Conflict
        } else {
            Standing::Copy
        }
    };
    Ok(batch.iter().map(standing).collect())
}

/// A record by where it lies in its stream's partition.
type Place = (Scope, String, i64);

fn place(applied: &Applied) -> Place {
    (
        applied.record.scope,
        applied.record.stream.as_str().to_owned(),
        signed(applied.position.offset),
    )
}

fn column<'a, T>(records: &[&'a Applied], pick: impl Fn(&'a Applied) -> T) -> Vec<T> {
    records.iter().map(|applied| pick(applied)).collect()
}

/// Inserts `records`, sorted by identity, and returns the positions of those that went in.
async fn insert(
    connection: &mut PgConnection,
    records: &[&Applied],
) -> Result<HashSet<(Family, i32, i64)>, ApplyError> {
    let identities = Identities::of(records.iter().map(|applied| &applied.record));
    let rows: Vec<(String, i32, i64)> = sqlx::query_as(statements::INSERT_RECORDS)
        .bind(&identities.scopes.tenants)
        .bind(&identities.scopes.modes)
        .bind(&identities.streams)
        .bind(&identities.ids)
        .bind(column(records, |one| {
            one.position.partition.family.as_str()
        }))
        .bind(column(records, |one| number(one.position.partition)))
        .bind(column(records, |one| signed(one.position.offset)))
        .bind(column(records, |one| text(&one.record.type_name)))
        .bind(column(records, |one| time(one.record.occurred_at)))
        .bind(column(records, |one| time(one.record.recorded_at)))
        .bind(column(records, |one| one.record.author.principal.as_uuid()))
        .bind(column(records, |one| {
            one.record.author.kind.map_or("", PrincipalKind::as_str)
        }))
        .bind(column(records, |one| {
            one.record.author.role.map_or("", Role::as_str)
        }))
        .bind(column(records, |one| {
            one.record.cause.as_ref().map(|cause| cause.id.as_uuid())
        }))
        .bind(column(records, |one| {
            one.record.cause.as_ref()?.stream.as_deref()
        }))
        .bind(column(records, |one| one.record.request_digest.as_slice()))
        .bind(column(records, fold::run_of))
        .bind(column(records, |one| one.record.key.as_deref().map(text)))
        .bind(column(records, |one| one.record.payload.as_slice()))
        .fetch_all(connection)
        .await
        .map_err(ApplyError::database("insert records"))?;
    let position = |(family, partition, offset): (String, i32, i64)| {
        Some((family.parse().ok()?, partition, offset))
    };
    Ok(rows.into_iter().filter_map(position).collect())
}

/// The digests of the records that stand under these identities.
async fn digests<'a>(
    connection: &mut PgConnection,
    known: &[&'a Applied],
) -> Result<HashMap<Identity<'a>, Digest>, ApplyError> {
    let identities = Identities::of(known.iter().map(|applied| &applied.record));
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(statements::SELECT_STANDING_DIGESTS)
        .bind(&identities.scopes.tenants)
        .bind(&identities.scopes.modes)
        .bind(&identities.streams)
        .bind(&identities.ids)
        .fetch_all(connection)
        .await
        .map_err(ApplyError::database("load the digests of known records"))?;
    let digest = |(ordinal, digest): (i64, Vec<u8>)| {
        let applied = known.get(usize::try_from(ordinal).ok()?.checked_sub(1)?)?;
        Some((identity(applied), digest.try_into().ok()?))
    };
    Ok(rows.into_iter().filter_map(digest).collect())
}

/// Counts `copies` on the records that stand, which they contradict. Which were not counted before.
async fn count_conflicts(
    connection: &mut PgConnection,
    copies: &[&Applied],
) -> Result<HashSet<Place>, ApplyError> {
    if copies.is_empty() {
        return Ok(HashSet::new());
    }
    let identities = Identities::of(copies.iter().map(|copy| &copy.record));
    let offsets: Vec<i64> = copies
        .iter()
        .map(|copy| signed(copy.position.offset))
        .collect();
    let rows: Vec<(Uuid, String, String, Vec<i64>)> =
        sqlx::query_as(statements::UPDATE_CONFLICTING_RECORDS)
            .bind(&identities.scopes.tenants)
            .bind(&identities.scopes.modes)
            .bind(&identities.streams)
            .bind(&identities.ids)
            .bind(&offsets)
            .fetch_all(connection)
            .await
            .map_err(ApplyError::database("count conflicts"))?;
    let mut counted = HashSet::new();
    for (tenant, mode, stream, offsets) in rows {
        let Some(scope) = scope(tenant, &mode) else {
            continue;
        };
        counted.extend(
            offsets
                .into_iter()
                .map(|offset| (scope, stream.clone(), offset)),
        );
    }
    Ok(counted)
}

/// Copies that contradict records which name a run, by the record that stands.
pub(super) async fn conflicts(
    connection: &mut PgConnection,
    contradicting: &[&Applied],
) -> Result<Vec<Conflict>, ApplyError> {
    if contradicting.is_empty() {
        return Ok(Vec::new());
    }
    let identities = Identities::of(contradicting.iter().map(|copy| &copy.record));
    let rows: Vec<(Uuid, String, Option<String>, Timestamp, i64)> =
        sqlx::query_as(statements::SELECT_CONFLICTING_RECORDS)
            .bind(&identities.scopes.tenants)
            .bind(&identities.scopes.modes)
            .bind(&identities.streams)
            .bind(&identities.ids)
            .fetch_all(connection)
            .await
            .map_err(ApplyError::database(
                "load the records that conflicts contradict",
            ))?;
    let conflict = |(tenant, mode, run_id, recorded_at, copies): (
        Uuid,
        String,
        Option<String>,
        Timestamp,
        i64,
    )| {
        Some(Conflict {
            scope: scope(tenant, &mode)?,
            run_id: run_id?,
            recorded_at,
            copies,
        })
    };
    Ok(rows.into_iter().filter_map(conflict).collect())
}

fn scope(tenant: Uuid, mode: &str) -> Option<Scope> {
    let mode: Mode = mode.parse().ok()?;
    Some(Scope {
        tenant: TenantId::new(tenant),
        mode,
    })
}
