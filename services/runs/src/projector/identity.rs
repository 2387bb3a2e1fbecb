//! Which records of a batch are new. Identity is (scope, stream, id); the first in the log wins, a
//! copy changes nothing, and one with another content is counted on the record that stands.

use std::collections::{BTreeMap, HashMap, HashSet};

use runledger_domain::digest::Digest;
use runledger_domain::ids::{RecordId, TenantId};
use runledger_domain::log::Family;
use runledger_domain::scope::{Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError};
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

/// What identity makes of a batch.
#[derive(Debug)]
pub(super) struct Settled<'a> {
    /// The records that went in, in the order of the batch.
    pub(super) fresh: Vec<&'a Applied>,
    pub(super) conflicts: Vec<Conflict>,
    /// The copies that contradict a record.
    pub(super) contradicting: Vec<&'a Applied>,
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
pub(super) async fn settle<'a>(
    connection: &mut PgConnection,
    batch: &'a [Applied],
) -> Result<Settled<'a>, ApplyError> {
    let mut firsts: BTreeMap<Identity<'a>, &'a Applied> = BTreeMap::new();
    let mut copies: Vec<&'a Applied> = Vec::new();
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
    let mut standing: HashMap<Identity<'a>, Digest> = HashMap::new();
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
    let conflicts = count_conflicts(connection, &copies).await?;
    let fresh = batch.iter().filter(|applied| is_new(applied)).collect();
    Ok(Settled {
        fresh,
        conflicts,
        contradicting: copies,
    })
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

/// Counts `copies` on the records that stand, which they contradict.
async fn count_conflicts(
    connection: &mut PgConnection,
    copies: &[&Applied],
) -> Result<Vec<Conflict>, ApplyError> {
    if copies.is_empty() {
        return Ok(Vec::new());
    }
    let identities = Identities::of(copies.iter().map(|copy| &copy.record));
    let offsets: Vec<i64> = copies
        .iter()
        .map(|copy| signed(copy.position.offset))
        .collect();
    let rows: Vec<(Uuid, String, Option<String>, Timestamp, i64)> =
        sqlx::query_as(statements::UPDATE_CONFLICTING_RECORDS)
            .bind(&identities.scopes.tenants)
            .bind(&identities.scopes.modes)
            .bind(&identities.streams)
            .bind(&identities.ids)
            .bind(&offsets)
            .fetch_all(connection)
            .await
            .map_err(ApplyError::database("count conflicts"))?;
    let conflict = |(tenant, mode, run_id, recorded_at, copies): (
        Uuid,
        String,
        Option<String>,
        Timestamp,
        i64,
    )| {
        let mode: Mode = mode.parse().ok()?;
        Some(Conflict {
            scope: Scope {
                tenant: TenantId::new(tenant),
                mode,
            },
            run_id: run_id?,
            recorded_at,
            copies,
        })
    };
    Ok(rows.into_iter().filter_map(conflict).collect())
}
