//! Loads the rows of a batch and writes them back: one statement a table, keys sorted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use runledger_domain::digest::{self, Digest};
use runledger_domain::ids::{Name, RecordId, TenantId};
use runledger_domain::run::{Moment, Outcome, Phase, Run, ToolCall, Totals, Work, WorkStatus};
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::ApplyError;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::fold::{Batch, RunRow, WorkRow, Worked};
use super::rows::{Identities, Key, Rows, Scopes, signed, some_text, text, time};
use crate::statements;

/// Keys of rows as columns: scope and up to two ids.
#[derive(Default)]
struct Keys<'a> {
    scopes: Scopes,
    firsts: Vec<&'a str>,
    seconds: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(keys: impl IntoIterator<Item = Key<'a>>) -> Self {
        let mut columns = Self::default();
        for (scope, first, second) in keys {
            columns.scopes.push(scope);
            columns.firsts.push(first);
            columns.seconds.push(second);
        }
        columns
    }
}

fn column<'r, 'a: 'r, V, T>(rows: &'r Rows<'a, V>, pick: impl Fn(&'r V) -> T) -> Vec<T> {
    rows.iter().map(|(_, row)| pick(row)).collect()
}

fn id(moment: Option<Moment>) -> Option<Uuid> {
    moment.map(|moment| moment.record.as_uuid())
}

fn at(moment: Option<Moment>) -> Option<Timestamp> {
    moment.map(|moment| moment.at)
}

fn moment(record: Option<Uuid>, at: Option<Timestamp>) -> Option<Moment> {
    Some(Moment {
        record: RecordId::new(record?),
        at: at?,
    })
}

/// The place in a list of what Postgres counted as `ordinal`, from 1.
fn place(ordinal: i64) -> usize {
    usize::try_from(ordinal.saturating_sub(1)).unwrap_or(usize::MAX)
}

#[derive(FromRow)]
struct LoadedRun {
    number: i64,
    started_record: Option<Uuid>,
    started_at: Option<Timestamp>,
    phase: Option<String>,
    note: Option<String>,
    outcome: Option<String>,
    ended_record: Option<Uuid>,
    ended_at: Option<Timestamp>,
}

impl LoadedRun {
    fn into_state(self) -> Run {
        let outcome: Option<Outcome> = self.outcome.and_then(|word| word.parse().ok());
        Run {
            started: moment(self.started_record, self.started_at),
            phase: self.phase.and_then(|word| word.parse::<Phase>().ok()),
            note: self.note.unwrap_or_default(),
            ended: moment(self.ended_record, self.ended_at).zip(outcome),
            totals: Totals::default(),
        }
    }
}

#[derive(FromRow)]
struct LoadedWork {
    number: i64,
    tool: Option<String>,
    started_record: Option<Uuid>,
    started_at: Option<Timestamp>,
    status: Option<String>,
    ended_record: Option<Uuid>,
    ended_at: Option<Timestamp>,
    late: bool,
}

impl From<LoadedWork> for Work {
    fn from(loaded: LoadedWork) -> Self {
        let status: Option<WorkStatus> = loaded.status.and_then(|word| word.parse().ok());
        Self {
            started: moment(loaded.started_record, loaded.started_at),
            ended: moment(loaded.ended_record, loaded.ended_at).zip(status),
            late: loaded.late,
        }
    }
}

impl From<LoadedWork> for ToolCall {
    fn from(mut loaded: LoadedWork) -> Self {
        let tool = loaded.tool.take().and_then(|tool| Name::parse(tool).ok());
        Self {
            tool,
            work: loaded.into(),
        }
    }
}

/// Loads the states of the runs, steps and tool calls that are about to be folded.
pub(super) async fn load(
    connection: &mut PgConnection,
    batch: &mut Batch<'_>,
) -> Result<(), ApplyError> {
    let owned: Vec<Key<'_>> = batch
        .runs
        .iter()
        .filter(|(_, run)| run.owned)
        .map(|(key, _)| *key)
        .collect();
    if owned.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(owned.iter().copied());
    let loaded: Vec<LoadedRun> = sqlx::query_as(statements::SELECT_RUN_STATES)
        .bind(&keys.scopes.tenants)
        .bind(&keys.scopes.modes)
        .bind(&keys.firsts)
        .fetch_all(&mut *connection)
        .await
        .map_err(ApplyError::database("load runs"))?;
    for loaded in loaded {
        if let Some(run) = owned
            .get(place(loaded.number))
            .and_then(|key| batch.runs.get_mut(*key))
        {
            run.state = loaded.into_state();
        }
    }
    load_work(connection, statements::SELECT_STEP_STATES, &mut batch.steps)
        .await
        .map_err(ApplyError::database("load steps"))?;
    load_work(
        connection,
        statements::SELECT_TOOL_CALL_STATES,
        &mut batch.calls,
    )
    .await
    .map_err(ApplyError::database("load tool calls"))
}

async fn load_work<S: From<LoadedWork>, F>(
    connection: &mut PgConnection,
    statement: &'static str,
    rows: &mut Rows<'_, WorkRow<'_, S, F>>,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(rows.iter().map(|(key, _)| *key));
    let loaded: Vec<LoadedWork> = sqlx::query_as(statement)
        .bind(&keys.scopes.tenants)
        .bind(&keys.scopes.modes)
        .bind(&keys.firsts)
        .bind(&keys.seconds)
        .fetch_all(connection)
        .await?;
    let mut loaded: BTreeMap<usize, LoadedWork> = loaded
        .into_iter()
        .map(|row| (place(row.number), row))
        .collect();
    for (number, (_, row)) in rows.iter_mut().enumerate() {
        if let Some(loaded) = loaded.remove(&number) {
            row.state = loaded.into();
        }
    }
    Ok(())
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
    let messages: Vec<_> = batch
        .messages
        .iter()
        .filter_map(|(_, message)| *message)
        .collect();
    let counted: Vec<(Uuid, String, String, i64)> = sqlx::query_as(statements::INSERT_MESSAGES)
        .bind(&keys.scopes.tenants)
        .bind(&keys.scopes.modes)
        .bind(&keys.firsts)
        .bind(&keys.seconds)
        .bind(
            messages
                .iter()
                .map(|(applied, _)| applied.record.id.as_uuid())
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(applied, _)| signed(applied.position.offset))
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(_, message)| text(&message.sender_id))
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(_, message)| message.role.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(_, message)| message.kind.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(_, message)| signed(message.content.chars()))
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(_, message)| message.in_reply_to.as_ref().map(|id| id.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(_, message)| message.run_id.as_ref().map(|id| id.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            messages
                .iter()
                .map(|(applied, _)| time(applied.record.occurred_at))
                .collect::<Vec<_>>(),
        )
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
    let rows = &batch.occurrences;
    if rows.is_empty() {
        return Ok(());
    }
    let mut scopes = Scopes::default();
    for (applied, _) in rows {
        scopes.push(applied.record.scope);
    }
    sqlx::query(statements::INSERT_OCCURRENCES)
        .bind(&scopes.tenants)
        .bind(&scopes.modes)
        .bind(
            rows.iter()
                .map(|(_, occurrence)| occurrence.schedule_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, occurrence)| time(occurrence.scheduled_at))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, occurrence)| occurrence.owner_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(applied, _)| applied.record.id.as_uuid())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, occurrence)| occurrence.status.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, occurrence)| occurrence.run_id.as_ref().map(|id| id.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, occurrence)| occurrence.next_occurrence_at.map(time))
                .collect::<Vec<_>>(),
        )
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
