//! Loads the states of the rows that a batch is about to fold.

use std::collections::BTreeMap;

use runledger_domain::ids::{Name, RecordId};
use runledger_domain::run::{Moment, Outcome, Phase, Run, ToolCall, Totals, Work, WorkStatus};
use runledger_domain::time::Timestamp;
use runledger_projection::ApplyError;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::fold::{Batch, WorkRow};
use super::rows::{Key, Keys, Rows};
use crate::statements;

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
pub(super) async fn states(
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
    work(connection, statements::SELECT_STEP_STATES, &mut batch.steps)
        .await
        .map_err(ApplyError::database("load steps"))?;
    work(
        connection,
        statements::SELECT_TOOL_CALL_STATES,
        &mut batch.calls,
    )
    .await
    .map_err(ApplyError::database("load tool calls"))
}

async fn work<S: From<LoadedWork>, F>(
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
