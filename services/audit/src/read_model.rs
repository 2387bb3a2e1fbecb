//! Entries, from decisions in force and from the directory's changes. All else only moves the cursor.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use runledger_domain::audit::{self, Entry, Said};
use runledger_domain::ids::PrincipalId;
use runledger_domain::log::{Family, Kind, Record};
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError, Kept, Projection, Standing};
use runledger_proto::decode;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{FAMILIES, statements};

/// The tables of one generation.
const TABLES: &[&str] = &["identities", "entries", "principals"];

/// The projection. Keeps nothing in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Audit;

#[async_trait]
impl Projection for Audit {
    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    async fn keep(
        &mut self,
        tx: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        let facts: Vec<&Applied> = batch.iter().copied().filter(|one| is_change(one)).collect();
        let fresh = keep_facts(tx, &facts).await?;
        let standing = |applied: &&Applied| {
            // The chain has judged decisions, and of other facts nothing is written.
            if is_change(applied) && !fresh.contains(&applied.position.offset) {
                Standing::Copy
            } else {
                Standing::First
            }
        };
        Ok(batch.iter().map(standing).collect())
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError> {
        let mut rows = Rows::default();
        let mut names: BTreeMap<(Uuid, PrincipalId), String> = BTreeMap::new();
        for kept in batch.iter().filter(|one| one.standing == Standing::First) {
            let Some(said) = said(&kept.applied.record)? else {
                continue;
            };
            if let Said::Directory(changed) = &said
                && let Some((principal, name)) = audit::named(changed)
            {
                let tenant = kept.applied.record.scope.tenant.as_uuid();
                names.entry((tenant, principal)).or_insert(name);
            }
            let entries = audit::entries(&kept.applied.record, &said);
            for (ordinal, entry) in (0..).zip(entries) {
                rows.push(kept.applied, ordinal, entry);
            }
        }
        rows.write(tx)
            .await
            .map_err(ApplyError::database("write entries"))?;
        write_names(tx, &names)
            .await
            .map_err(ApplyError::database("write names of principals"))
    }
}

/// A change in the directory: the only facts that are looked into. The family has one partition.
fn is_change(applied: &Applied) -> bool {
    applied.record.kind == Kind::Fact && applied.record.stream.family() == Family::Directory
}

/// What a record says, if entries come from it.
fn said(record: &Record) -> Result<Option<Said>, ApplyError> {
    let (type_name, payload) = (&record.type_name, &record.payload);
    let read = || -> Result<Option<Said>, decode::Error> {
        // What is sealed cannot be read here.
        if record.key.is_some() {
            return Ok(None);
        }
        match record.kind {
            Kind::Decision => {
                if let Some((rejection, command)) = decode::stored_rejection(type_name, payload)? {
                    return Ok(Some(Said::Rejected(rejection, command)));
                }
                if let Some(changed) = decode::stored_policy_changed(type_name, payload)? {
                    return Ok(Some(Said::Policy(changed)));
                }
                let decision = decode::stored_approval_decision(type_name, payload)?;
                Ok(decision.map(Said::Call))
            }
            Kind::Fact if record.stream.family() == Family::Directory => {
                let changed = decode::stored_directory_changed(type_name, payload)?;
                Ok(changed.map(Said::Directory))
            }
            Kind::Fact | Kind::Command | Kind::Genesis => Ok(None),
        }
    };
    read().map_err(ApplyError::payload)
}

/// Keeps the identity of the directory's facts; the offsets of those that are new.
async fn keep_facts(tx: &mut PgConnection, facts: &[&Applied]) -> Result<HashSet<u64>, ApplyError> {
    let mut firsts: BTreeMap<(Uuid, &str, &str, Uuid), u64> = BTreeMap::new();
    for applied in facts {
        let record = &applied.record;
        let identity = (
            record.scope.tenant.as_uuid(),
            record.scope.mode.as_str(),
            record.stream.as_str(),
            record.id.as_uuid(),
        );
        firsts.entry(identity).or_insert(applied.position.offset);
    }
    if firsts.is_empty() {
        return Ok(HashSet::new());
    }
    let went_in: Vec<(Uuid, String, String, Uuid)> = sqlx::query_as(statements::INSERT_IDENTITIES)
        .bind(firsts.keys().map(|one| one.0).collect::<Vec<_>>())
        .bind(firsts.keys().map(|one| one.1).collect::<Vec<_>>())
        .bind(firsts.keys().map(|one| one.2).collect::<Vec<_>>())
        .bind(firsts.keys().map(|one| one.3).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("keep the identity of facts"))?;
    let went_in: HashSet<(Uuid, &str, &str, Uuid)> = went_in
        .iter()
        .map(|(tenant, mode, stream, id)| (*tenant, mode.as_str(), stream.as_str(), *id))
        .collect();
    let fresh = firsts
        .iter()
        .filter(|(identity, _)| went_in.contains(identity));
    Ok(fresh.map(|(_, offset)| *offset).collect())
}

async fn write_names(
    tx: &mut PgConnection,
    names: &BTreeMap<(Uuid, PrincipalId), String>,
) -> Result<(), sqlx::Error> {
    if names.is_empty() {
        return Ok(());
    }
    let principals = names.keys().map(|(_, id)| id.as_uuid());
    sqlx::query(statements::INSERT_PRINCIPALS)
        .bind(names.keys().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
        .bind(principals.collect::<Vec<_>>())
        .bind(names.values().map(String::as_str).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// Columns of entries.
#[derive(Default)]
struct Rows {
    tenants: Vec<Uuid>,
    modes: Vec<&'static str>,
    families: Vec<&'static str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    ordinals: Vec<i32>,
    ats: Vec<Timestamp>,
    recorded_ats: Vec<Timestamp>,
    actor_types: Vec<&'static str>,
    actors: Vec<String>,
    principals: Vec<Option<Uuid>>,
    roles: Vec<Option<&'static str>>,
    entity_types: Vec<&'static str>,
    entity_ids: Vec<String>,
    actions: Vec<String>,
    runs: Vec<Option<String>>,
    details: Vec<String>,
    streams: Vec<String>,
    records: Vec<Uuid>,
}

impl Rows {
    fn push(&mut self, applied: &Applied, ordinal: i32, entry: Entry) {
        let (record, position) = (&applied.record, applied.position);
        self.tenants.push(record.scope.tenant.as_uuid());
        self.modes.push(record.scope.mode.as_str());
        self.families.push(position.partition.family.as_str());
        self.partitions
            .push(i32::try_from(position.partition.number).unwrap_or(i32::MAX));
        self.offsets
            .push(i64::try_from(position.offset).unwrap_or(i64::MAX));
        self.ordinals.push(ordinal);
        self.ats.push(record.occurred_at);
        self.recorded_ats.push(record.recorded_at);
        self.actor_types.push(entry.by.kind().as_str());
        self.actors.push(entry.by.text());
        self.principals
            .push(entry.by.principal().map(PrincipalId::as_uuid));
        self.roles.push(entry.role.map(|role| role.as_str()));
        self.entity_types.push(entry.entity_type);
        self.entity_ids.push(entry.entity_id);
        self.actions.push(entry.action);
        self.runs.push(audit::run_of(record).map(str::to_owned));
        self.details.push(entry.details.as_str().to_owned());
        self.streams.push(record.stream.as_str().to_owned());
        self.records.push(record.id.as_uuid());
    }

    async fn write(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        sqlx::query(statements::INSERT_ENTRIES)
            .bind(&self.tenants)
            .bind(&self.modes)
            .bind(&self.families)
            .bind(&self.partitions)
            .bind(&self.offsets)
            .bind(&self.ordinals)
            .bind(&self.ats)
            .bind(&self.recorded_ats)
            .bind(&self.actor_types)
            .bind(&self.actors)
            .bind(&self.principals)
            .bind(&self.roles)
            .bind(&self.entity_types)
            .bind(&self.entity_ids)
            .bind(&self.actions)
            .bind(&self.runs)
            .bind(&self.details)
            .bind(&self.streams)
            .bind(&self.records)
            .execute(tx)
            .await?;
        Ok(())
    }
}
