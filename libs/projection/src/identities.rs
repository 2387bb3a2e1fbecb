//! Identity of facts for read models that keep nothing else of every record.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::apply::{Applied, ApplyError, Standing};

const INSERT: &str = include_str!("../sql/insert_identities.sql");

/// (tenant, mode, stream, record).
type Identity<'a> = (Uuid, &'a str, &'a str, Uuid);

fn identity(applied: &Applied) -> Identity<'_> {
    let record = &applied.record;
    (
        record.scope.tenant.as_uuid(),
        record.scope.mode.as_str(),
        record.stream.as_str(),
        record.id.as_uuid(),
    )
}

/// Keeps in the table `identities` those of a batch that `count`, and answers what each record is. The
/// others are firsts: decisions, which the chain has judged, and what nothing is folded from. Tells no
/// conflict from a copy.
///
/// # Errors
/// What the database says.
pub async fn keep_identities(
    tx: &mut PgConnection,
    batch: &[&Applied],
    count: impl Fn(&Applied) -> bool + Send + Sync,
) -> Result<Vec<Standing>, ApplyError> {
    // Sorted, as everywhere: two writers wait for each other in turn.
    let mut firsts: BTreeMap<Identity<'_>, &Applied> = BTreeMap::new();
    for applied in batch.iter().filter(|applied| count(applied)) {
        firsts.entry(identity(applied)).or_insert(applied);
    }
    let rows = insert(tx, firsts.keys()).await?;
    let went_in: HashSet<Identity<'_>> = rows
        .iter()
        .map(|(tenant, mode, stream, id)| (*tenant, mode.as_str(), stream.as_str(), *id))
        .collect();
    let standing = |applied: &&Applied| {
        let identity = identity(applied);
        let is_first = || {
            let first = firsts.get(&identity);
            first.is_some_and(|first| first.position == applied.position)
        };
        if !count(applied) || (went_in.contains(&identity) && is_first()) {
            Standing::First
        } else {
            Standing::Copy
        }
    };
    Ok(batch.iter().map(standing).collect())
}

/// Those that were not there yet.
async fn insert<'a>(
    tx: &mut PgConnection,
    identities: impl ExactSizeIterator<Item = &'a Identity<'a>> + Clone,
) -> Result<Vec<(Uuid, String, String, Uuid)>, ApplyError> {
    if identities.len() == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_as(INSERT)
        .bind(identities.clone().map(|one| one.0).collect::<Vec<_>>())
        .bind(identities.clone().map(|one| one.1).collect::<Vec<_>>())
        .bind(identities.clone().map(|one| one.2).collect::<Vec<_>>())
        .bind(identities.map(|one| one.3).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("keep the identity of facts"))
}
