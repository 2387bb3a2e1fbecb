//! Writes the rows of a batch: one statement a table, keys sorted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use runledger_domain::digest::{self, Digest};
use runledger_domain::ids::{Name, TenantId};
use runledger_domain::message::MessageRecorded;
use runledger_domain::run::Moment;
use runledger_domain::schedule::OccurrenceRecorded;
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError};
use sqlx::PgConnection;
use uuid::Uuid;

use super::fold::{Batch, RunRow, WorkRow, Worked};
use super::rows::{Identities, Keys, Rows, Scopes, signed, some_text, text, time};
use crate::statements;

fn column<'r, 'a: 'r, V, T>(rows: &'r Rows<'a, V>, pick: impl Fn(&'r V) -> T) -> Vec<T> {
    rows.iter().map(|(_, row)| pick(row)).collect()
}

fn each<'r, V, T>(items: &[&'r V], pick: impl Fn(&'r V) -> T) -> Vec<T> {
    items.iter().map(|item| pick(item)).collect()
}

fn id(moment: Option<Moment>) -> Option<Uuid> {
    moment.map(|moment| moment.record.as_uuid())
}

fn at(moment: Option<Moment>) -> Option<Timestamp> {
    moment.map(|moment| moment.at)
}

/// Inserts the batch's messages and notes on each run how many it got.
pub(super) async fn messages(
    connection: &mut PgConnection,
    batch: &mut Batch<'_>,
) -> Result<(), ApplyError> {
    if batch.messages.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(batch.messages.iter().map(|(key, _)| *key));
    // Every row has its message: the rows were made from them.
    let (records, messages): (Vec<&Applied>, Vec<&MessageRecorded>) = batch
        .messages
        .iter()
        .filter_map(|(_, message)| *message)
        .unzip();
    let counted: Vec<(Uuid, String, String, i64)> = sqlx::query_as(statements::INSERT_MESSAGES)
        .bind(&keys.scopes.tenants)
        .bind(&keys.scopes.modes)
        .bind(&keys.firsts)
        .bind(&keys.seconds)
        .bind(each(&records, |one| one.record.id.as_uuid()))
        .bind(each(&records, |one| signed(one.position.offset)))
        .bind(each(&messages, |one| text(&one.sender_id)))
        .bind(each(&messages, |one| one.role.as_str()))
        .bind(each(&messages, |one| one.kind.as_str()))
        .bind(each(&messages, |one| signed(one.content.chars())))
        .bind(each(&messages, |one| {
            Some(one.in_reply_to.as_ref()?.as_str())
        }))
        .bind(each(&messages, |one| Some(one.run_id.as_ref()?.as_str())))
        .bind(each(&records, |one| time(one.record.occurred_at)))
        .fetch_all(connection)
        .await
        .map_err(ApplyError::database("insert messages"))?;
    for (tenant, mode, run_id, count) in counted {
        let Ok(mode) = mode.parse::<Mode>() else {
            continue;
        };
        let scope = Scope {
            tenant: TenantId::new(tenant),
            mode,
        };
        if let Some(run) = batch.runs.get_mut((scope, &run_id, "")) {
            run.messages = count;
        }
    }
    Ok(())
}

/// Inserts the batch's occurrences.
pub(super) async fn occurrences(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<(), ApplyError> {
    if batch.occurrences.is_empty() {
        return Ok(());
    }
    let (records, occurrences): (Vec<&Applied>, Vec<&OccurrenceRecorded>) =
        batch.occurrences.iter().copied().unzip();
    let identities = Identities::of(records.iter().map(|applied| &applied.record));
    sqlx::query(statements::INSERT_OCCURRENCES)
        .bind(&identities.scopes.tenants)
        .bind(&identities.scopes.modes)
        .bind(each(&occurrences, |one| one.schedule_id.as_str()))
        .bind(each(&occurrences, |one| time(one.scheduled_at)))
        .bind(each(&occurrences, |one| one.owner_id.as_str()))
        .bind(&identities.ids)
        .bind(each(&occurrences, |one| one.status.as_str()))
        .bind(each(&occurrences, |one| {
            Some(one.run_id.as_ref()?.as_str())
        }))
        .bind(each(&occurrences, |one| one.next_occurrence_at.map(time)))
        .execute(connection)
        .await
        .map_err(ApplyError::database("insert occurrences"))?;
    Ok(())
}

/// Writes the runs: those folded here in full, those only named as stubs.
pub(super) async fn runs(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<(), ApplyError> {
    let rows = &batch.runs;
    if rows.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(rows.iter().map(|(key, _)| *key));
    sqlx::query(statements::UPSERT_RUNS)
        .bind(&keys.scopes.tenants)
        .bind(&keys.scopes.modes)
        .bind(&keys.firsts)
        .bind(column(rows, |run| id(run.state.started)))
        .bind(column(rows, |run| at(run.state.started)))
        .bind(column(rows, |run| Some(run.started?.agent_id.as_str())))
        .bind(column(rows, |run| some_text(&run.started?.agent_version)))
        .bind(column(rows, |run| {
            Some(run.started?.parent_run_id.as_ref()?.as_str())
        }))
        .bind(column(rows, |run| {
            Some(run.started?.conversation_id.as_ref()?.as_str())
        }))
        .bind(column(rows, |run| {
            Some(run.started?.space_id.as_ref()?.as_str())
        }))
        .bind(column(rows, |run| {
            Some(run.started?.account_id.as_ref()?.as_str())
        }))
        .bind(column(rows, |run| Some(run.started?.trigger.as_str())))
        .bind(column(rows, |run| some_text(&run.started?.model)))
        .bind(column(rows, |run| Some(text(&run.started?.task))))
        .bind(column(rows, |run| Some(labels_json(&run.started?.labels))))
        .bind(column(rows, |run| Some(run.state.phase?.as_str())))
        .bind(column(rows, |run| some_text(&run.state.note)))
        .bind(column(rows, |run| Some(run.state.ended?.1.as_str())))
        .bind(column(rows, |run| id(run.state.ended.map(|(end, _)| end))))
        .bind(column(rows, |run| at(run.state.ended.map(|(end, _)| end))))
        .bind(column(rows, |run| {
            Some(run.ended?.error.as_ref()?.code.as_str())
        }))
        .bind(column(rows, |run| run.state.totals.steps))
        .bind(column(rows, |run| run.state.totals.tool_calls))
        .bind(column(rows, |run| run.state.totals.failed_tool_calls))
        .bind(column(rows, |run| run.state.totals.late_facts))
        .bind(column(rows, |run| run.messages))
        .bind(column(rows, |run| run.conflicts))
        .bind(column(rows, |run| run.recorded.map(|(first, _)| first)))
        .bind(column(rows, |run| run.recorded.map(|(_, last)| last)))
        .execute(&mut *connection)
        .await
        .map_err(ApplyError::database("write runs"))?;
    labels(connection, rows).await
}

/// The labels as a JSON object, for dashboards.
fn labels_json(labels: &BTreeMap<Name, String>) -> String {
    let labels: serde_json::Map<String, serde_json::Value> = labels
        .iter()
        .map(|(name, value)| (name.to_string(), text(value).into()))
        .collect();
    serde_json::Value::Object(labels).to_string()
}

/// By which a run is found by one of its labels.
pub(crate) fn label_digest(name: &str, value: &str) -> Digest {
    digest::of_parts(&[name.as_bytes(), value.as_bytes()])
}

/// Inserts the labels of the runs whose start is in this batch.
async fn labels(
    connection: &mut PgConnection,
    rows: &Rows<'_, RunRow<'_>>,
) -> Result<(), ApplyError> {
    let mut labels: Vec<(Scope, Digest, &str)> = rows
        .iter()
        .filter_map(|((scope, run_id, _), run)| Some((*scope, *run_id, run.started?)))
        .flat_map(|(scope, run_id, start)| {
            start
                .labels
                .iter()
                .map(move |(name, value)| (scope, label_digest(name.as_str(), value), run_id))
        })
        .collect();
    if labels.is_empty() {
        return Ok(());
    }
    labels.sort_unstable();
    let mut scopes = Scopes::default();
    for (scope, ..) in &labels {
        scopes.push(*scope);
    }
    sqlx::query(statements::INSERT_RUN_LABELS)
        .bind(&scopes.tenants)
        .bind(&scopes.modes)
        .bind(
            labels
                .iter()
                .map(|(_, label, _)| label.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(
            labels
                .iter()
                .map(|(.., run_id)| *run_id)
                .collect::<Vec<_>>(),
        )
        .execute(connection)
        .await
        .map_err(ApplyError::database("insert labels"))?;
    Ok(())
}

/// The columns that steps and tool calls share.
struct WorkColumns<'a> {
    keys: Keys<'a>,
    log_offsets: Vec<i64>,
    started_records: Vec<Option<Uuid>>,
    started_ats: Vec<Option<Timestamp>>,
    statuses: Vec<Option<&'static str>>,
    ended_records: Vec<Option<Uuid>>,
    ended_ats: Vec<Option<Timestamp>>,
    lates: Vec<bool>,
    error_codes: Vec<Option<&'a str>>,
}

impl<'a> WorkColumns<'a> {
    fn of<S: Worked, F>(rows: &Rows<'a, WorkRow<'a, S, F>>) -> Self {
        let end = |row: &WorkRow<'a, S, F>| row.state.work().ended.map(|(end, _)| end);
        Self {
            keys: Keys::of(rows.iter().map(|(key, _)| *key)),
            log_offsets: column(rows, |row| row.log_offset.unwrap_or_default()),
            started_records: column(rows, |row| id(row.state.work().started)),
            started_ats: column(rows, |row| at(row.state.work().started)),
            statuses: column(rows, |row| {
                row.state.work().ended.map(|(_, status)| status.as_str())
            }),
            ended_records: column(rows, |row| id(end(row))),
            ended_ats: column(rows, |row| at(end(row))),
            lates: column(rows, |row| row.state.work().late),
            error_codes: column(rows, |row| row.error_code),
        }
    }

    /// Writes them, with the `texts` that each kind of work has of its own.
    async fn write<const N: usize>(
        self,
        connection: &mut PgConnection,
        statement: &'static str,
        texts: [Vec<Option<Cow<'_, str>>>; N],
    ) -> Result<(), sqlx::Error> {
        let mut query = sqlx::query(statement)
            .bind(&self.keys.scopes.tenants)
            .bind(&self.keys.scopes.modes)
            .bind(&self.keys.firsts)
            .bind(&self.keys.seconds)
            .bind(&self.log_offsets)
            .bind(&self.started_records)
            .bind(&self.started_ats)
            .bind(&self.statuses)
            .bind(&self.ended_records)
            .bind(&self.ended_ats)
            .bind(&self.lates)
            .bind(&self.error_codes);
        for texts in &texts {
            query = query.bind(texts);
        }
        query.execute(connection).await?;
        Ok(())
    }
}

/// Writes the steps.
pub(super) async fn steps(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<(), ApplyError> {
    let rows = &batch.steps;
    if rows.is_empty() {
        return Ok(());
    }
    let parents = column(rows, |row| {
        Some(row.started?.parent_step_id.as_ref()?.as_str().into())
    });
    let names = column(rows, |row| some_text(&row.started?.name));
    WorkColumns::of(rows)
        .write(connection, statements::UPSERT_STEPS, [parents, names])
        .await
        .map_err(ApplyError::database("write steps"))
}

/// Writes the tool calls.
pub(super) async fn tool_calls(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<(), ApplyError> {
    let rows = &batch.calls;
    if rows.is_empty() {
        return Ok(());
    }
    let steps = column(rows, |row| {
        Some(row.started?.step_id.as_ref()?.as_str().into())
    });
    let hints = column(rows, |row| some_text(&row.started?.action_hint));
    let tools = column(rows, |row| Some(row.state.tool.as_ref()?.as_str().into()));
    WorkColumns::of(rows)
        .write(
            connection,
            statements::UPSERT_TOOL_CALLS,
            [steps, hints, tools],
        )
        .await
        .map_err(ApplyError::database("write tool calls"))
}

/// Adds the batch's use to the totals.
pub(super) async fn usage(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<(), ApplyError> {
    let rows = &batch.usage;
    if rows.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(rows.iter().map(|(key, _)| *key));
    sqlx::query(statements::UPSERT_USAGE_TOTALS)
        .bind(&keys.scopes.tenants)
        .bind(&keys.scopes.modes)
        .bind(&keys.firsts)
        .bind(&keys.seconds)
        .bind(column(rows, |row| row.quantity))
        .bind(column(rows, |row| row.records))
        .execute(connection)
        .await
        .map_err(ApplyError::database("write usage"))?;
    Ok(())
}

/// Flags the records that came after their run had ended: few, so they are inserted first.
pub(super) async fn late(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
) -> Result<(), ApplyError> {
    if batch.late.is_empty() {
        return Ok(());
    }
    let identities = Identities::of(batch.late.iter().map(|applied| &applied.record));
    sqlx::query(statements::UPDATE_LATE_RECORDS)
        .bind(&identities.scopes.tenants)
        .bind(&identities.scopes.modes)
        .bind(&identities.streams)
        .bind(&identities.ids)
        .execute(connection)
        .await
        .map_err(ApplyError::database("flag late records"))?;
    Ok(())
}
