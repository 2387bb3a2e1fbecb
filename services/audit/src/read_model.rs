//! Entries, from decisions in force and from the directory's changes. All else only moves the cursor.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::SecondsFormat;
use runledger_domain::audit::{self, Entry, Said};
use runledger_domain::ids::PrincipalId;
use runledger_domain::log::{Family, Kind, Record};
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError, Kept, Projection, Standing, keep_identities};
use runledger_proto::decode;
use sqlx::{FromRow, PgConnection};
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
        keep_identities(tx, batch, is_change).await
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
            for row in rows_of(kept.applied, &said) {
                rows.push(row);
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
pub(crate) fn is_change(applied: &Applied) -> bool {
    applied.record.kind == Kind::Fact && applied.record.stream.family() == Family::Directory
}

/// What a record says, if entries come from it.
pub(crate) fn said(record: &Record) -> Result<Option<Said>, ApplyError> {
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

/// One entry as its row has it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Row {
    pub(crate) tenant_id: Uuid,
    pub(crate) mode: String,
    pub(crate) family: String,
    pub(crate) partition: i32,
    pub(crate) log_offset: i64,
    pub(crate) ordinal: i32,
    pub(crate) at: Timestamp,
    pub(crate) recorded_at: Timestamp,
    pub(crate) actor_type: String,
    pub(crate) actor: String,
    pub(crate) principal_id: Option<Uuid>,
    pub(crate) role: Option<String>,
    pub(crate) entity_type: String,
    pub(crate) entity_id: String,
    pub(crate) action: String,
    pub(crate) run_id: Option<String>,
    pub(crate) details: String,
    pub(crate) stream: String,
    pub(crate) record_id: Uuid,
}

/// The rows that a record makes.
pub(crate) fn rows_of(applied: &Applied, said: &Said) -> Vec<Row> {
    let entries = audit::entries(&applied.record, said);
    let row = |(ordinal, entry)| Row::of(applied, ordinal, entry);
    (0..).zip(entries).map(row).collect()
}

impl Row {
    fn of(applied: &Applied, ordinal: i32, entry: Entry) -> Self {
        let (record, position) = (&applied.record, applied.position);
        Self {
            tenant_id: record.scope.tenant.as_uuid(),
            mode: record.scope.mode.as_str().to_owned(),
            family: position.partition.family.as_str().to_owned(),
            partition: i32::try_from(position.partition.number).unwrap_or(i32::MAX),
            log_offset: i64::try_from(position.offset).unwrap_or(i64::MAX),
            ordinal,
            at: record.occurred_at,
            recorded_at: record.recorded_at,
            actor_type: entry.by.kind().as_str().to_owned(),
            actor: entry.by.text(),
            principal_id: entry.by.principal().map(PrincipalId::as_uuid),
            role: entry.role.map(|role| role.as_str().to_owned()),
            entity_type: entry.entity_type.to_owned(),
            entity_id: entry.entity_id,
            action: entry.action,
            run_id: audit::run_of(record).map(str::to_owned),
            details: entry.details.as_str().to_owned(),
            stream: record.stream.as_str().to_owned(),
            record_id: record.id.as_uuid(),
        }
    }

    /// The first column in which two differ, and what both say there. Postgres keeps microseconds.
    pub(crate) fn differs(&self, other: &Self) -> Option<(&'static str, String, String)> {
        fn kept(at: Timestamp) -> String {
            at.to_rfc3339_opts(SecondsFormat::Micros, true)
        }
        fn optional(text: Option<&String>) -> String {
            text.cloned().unwrap_or_default()
        }
        let columns = |row: &Self| {
            [
                ("tenant_id", row.tenant_id.to_string()),
                ("mode", row.mode.clone()),
                ("record_id", row.record_id.to_string()),
                ("stream", row.stream.clone()),
                ("run_id", optional(row.run_id.as_ref())),
                ("action", row.action.clone()),
                ("entity_type", row.entity_type.clone()),
                ("entity_id", row.entity_id.clone()),
                ("actor_type", row.actor_type.clone()),
                ("actor", row.actor.clone()),
                (
                    "principal_id",
                    row.principal_id
                        .map(|id| id.to_string())
                        .unwrap_or_default(),
                ),
                ("role", optional(row.role.as_ref())),
                ("details", row.details.clone()),
                ("at", kept(row.at)),
                ("recorded_at", kept(row.recorded_at)),
            ]
        };
        let pairs = columns(self).into_iter().zip(columns(other));
        let mut differing = pairs.filter(|((_, ours), (_, theirs))| ours != theirs);
        differing
            .next()
            .map(|((column, ours), (_, theirs))| (column, ours, theirs))
    }
}

/// Columns of entries.
#[derive(Default)]
struct Rows {
    tenants: Vec<Uuid>,
    modes: Vec<String>,
    families: Vec<String>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    ordinals: Vec<i32>,
    ats: Vec<Timestamp>,
    recorded_ats: Vec<Timestamp>,
    actor_types: Vec<String>,
    actors: Vec<String>,
    principals: Vec<Option<Uuid>>,
    roles: Vec<Option<String>>,
    entity_types: Vec<String>,
    entity_ids: Vec<String>,
    actions: Vec<String>,
    runs: Vec<Option<String>>,
    details: Vec<String>,
    streams: Vec<String>,
    records: Vec<Uuid>,
}

impl Rows {
    fn push(&mut self, row: Row) {
        self.tenants.push(row.tenant_id);
        self.modes.push(row.mode);
        self.families.push(row.family);
        self.partitions.push(row.partition);
        self.offsets.push(row.log_offset);
        self.ordinals.push(row.ordinal);
        self.ats.push(row.at);
        self.recorded_ats.push(row.recorded_at);
        self.actor_types.push(row.actor_type);
        self.actors.push(row.actor);
        self.principals.push(row.principal_id);
        self.roles.push(row.role);
        self.entity_types.push(row.entity_type);
        self.entity_ids.push(row.entity_id);
        self.actions.push(row.action);
        self.runs.push(row.run_id);
        self.details.push(row.details);
        self.streams.push(row.stream);
        self.records.push(row.record_id);
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
