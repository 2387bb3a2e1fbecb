//! Writes what a batch has come to: one statement a table, keys sorted.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use metrics::counter;
use runledger_domain::analytics::{Call, Cell, Durations, Measures, Origin, Run};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_postgres::values::{Scopes, text};
use runledger_projection::ApplyError;
use sqlx::PgConnection;
use uuid::Uuid;

use super::attribute::Changes;
use super::fold::{Change, Fold};
use super::said::{Said, What};
use crate::statements;

/// Keeps the messages that are new, and drops the others from what was said.
pub(super) async fn messages(
    tx: &mut PgConnection,
    said: &mut Vec<Said<'_>>,
) -> Result<(), ApplyError> {
    let key = |one: &Said<'_>| match &one.what {
        What::Message(message) => Some((
            one.scope.tenant.as_uuid(),
            one.scope.mode.as_str().to_owned(),
            message.conversation_id.to_string(),
            message.message_id.to_string(),
        )),
        What::Run(_) | What::Decided { .. } | What::Occurrence(_) | What::Charged(_) => None,
    };
    let mut keys: Vec<(Uuid, String, String, String)> = said.iter().filter_map(key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable();
    keys.dedup();
    let rows: Vec<(Uuid, String, String, String)> = sqlx::query_as(statements::INSERT_MESSAGES)
        .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.1.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.2.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.3.as_str()).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("keep messages"))?;
    let mut new: HashSet<(Uuid, String, String, String)> = rows.into_iter().collect();
    said.retain(|one| key(one).is_none_or(|key| new.remove(&key)));
    Ok(())
}

/// Writes the runs and calls that have changed.
pub(super) async fn states(tx: &mut PgConnection, fold: &Fold<'_>) -> Result<(), ApplyError> {
    runs(tx, fold)
        .await
        .map_err(ApplyError::database("write runs"))?;
    let calls = fold.calls.iter().filter(|(_, call)| has_changed(call));
    let (mut scopes, mut runs, mut ids, mut states) = (Scopes::default(), vec![], vec![], vec![]);
    for ((scope, run_id, call_id), call) in calls {
        scopes.push(*scope);
        runs.push(*run_id);
        ids.push(*call_id);
        states.push(&call.now);
    }
    if states.is_empty() {
        return Ok(());
    }
    let ended = |call: &Call| call.state.work.ended;
    sqlx::query(statements::UPSERT_TOOL_CALLS)
        .bind(&scopes.tenants)
        .bind(&scopes.modes)
        .bind(&runs)
        .bind(&ids)
        .bind(each(&states, |call| {
            Some(call.state.tool.as_ref()?.as_str())
        }))
        .bind(each(&states, |call| Some(call.state.work.started?.at)))
        .bind(each(&states, |call| Some(ended(call)?.0.at)))
        .bind(each(&states, |call| Some(ended(call)?.1.as_str())))
        .bind(each(&states, |call| Some(call.error.as_ref()?.as_str())))
        .bind(each(&states, |call| Some(call.governed?.verdict.as_str())))
        .bind(each(&states, |call| Some(call.governed?.is_covered)))
        .bind(each(&states, |call| call.asked_at))
        .bind(each(&states, |call| Some(call.answered?.0)))
        .bind(each(&states, |call| Some(call.answered?.1.as_str())))
        .execute(tx)
        .await
        .map_err(ApplyError::database("write tool calls"))?;
    Ok(())
}

async fn runs(tx: &mut PgConnection, fold: &Fold<'_>) -> Result<(), sqlx::Error> {
    let changed = fold.runs.iter().filter(|(_, run)| is_other(&run.state));
    let (mut scopes, mut ids, mut states) = (Scopes::default(), vec![], vec![]);
    for ((scope, run_id), run) in changed {
        scopes.push(*scope);
        ids.push(*run_id);
        states.push(&run.state.now);
    }
    if states.is_empty() {
        return Ok(());
    }
    let ended = |run: &Run| run.state.ended;
    sqlx::query(statements::UPSERT_RUNS)
        .bind(&scopes.tenants)
        .bind(&scopes.modes)
        .bind(&ids)
        .bind(each(&states, |run| run.origin.agent.as_str()))
        .bind(each(&states, |run| run.origin.agent_version.as_str()))
        .bind(each(&states, |run| run.origin.model.as_str()))
        .bind(each(&states, |run| run.origin.space.as_str()))
        .bind(each(&states, |run| run.is_reported))
        .bind(each(&states, |run| Some(run.state.started?.at)))
        .bind(each(&states, |run| Some(run.state.phase?.as_str())))
        .bind(each(&states, |run| Some(ended(run)?.0.at)))
        .bind(each(&states, |run| Some(ended(run)?.1.as_str())))
        .bind(each(&states, |run| Some(run.error.as_ref()?.code.as_str())))
        .bind(each(&states, |run| {
            Some(text(&run.error.as_ref()?.message))
        }))
        .bind(each(&states, |run| run.has_errors))
        .bind(each(&states, |run| run.charges_over_limits))
        .execute(tx)
        .await?;
    Ok(())
}

fn each<'r, V, T>(items: &[&'r V], pick: impl Fn(&'r V) -> T) -> Vec<T> {
    items.iter().map(|item| pick(item)).collect()
}

fn has_changed(call: &Change<Call>) -> bool {
    call.before != call.now
}

/// Whether a run's row has to be written: totals and notes are not in it.
fn is_other(run: &Change<Run>) -> bool {
    let row = |run: &Run| {
        let state = &run.state;
        let started = state.started.map(|start| start.at);
        let ended = state.ended.map(|(end, outcome)| (end.at, outcome));
        (
            run.origin.clone(),
            run.is_reported,
            run.has_errors,
            run.charges_over_limits,
            started,
            state.phase,
            ended,
        )
    };
    row(&run.before) != row(&run.now)
}

/// The columns that cells have in both tables.
#[derive(Default)]
struct Cells<'a> {
    scopes: Scopes,
    ats: Vec<Timestamp>,
    series: Vec<Uuid>,
    subjects: Vec<&'static str>,
    tools: Vec<&'a str>,
    statuses: Vec<&'a str>,
    verdicts: Vec<&'a str>,
    kinds: Vec<&'a str>,
    errors: Vec<&'a str>,
    counts: Vec<i64>,
    quantities: Vec<String>,
    duration: Vec<String>,
    durations: Vec<String>,
}

impl<'a> Cells<'a> {
    fn push(
        &mut self,
        scope: Scope,
        at: Timestamp,
        series: [u8; 16],
        cell: &'a Cell,
        measures: &Measures,
    ) {
        self.scopes.push(scope);
        self.ats.push(at);
        self.series.push(Uuid::from_bytes(series));
        self.subjects.push(cell.subject.as_str());
        self.tools.push(&cell.tool);
        self.statuses.push(&cell.status);
        self.verdicts.push(&cell.verdict);
        self.kinds.push(&cell.kind);
        self.errors.push(&cell.error);
        self.counts.push(measures.count);
        self.quantities.push(measures.quantity.to_string());
        self.duration.push(measures.durations.micros().to_string());
        self.durations.push(array(&measures.durations));
    }
}

impl Cells<'_> {
    /// Then no cell can have come to nothing.
    fn take_nothing_away(&self) -> bool {
        self.counts.iter().all(|count| *count >= 0)
    }
}

/// Bins and their counts as an array of pairs, in Postgres's notation.
fn array(durations: &Durations) -> String {
    let mut text = String::from("{");
    for (bin, count) in durations.bins() {
        let comma = if text.len() == 1 { "" } else { "," };
        // Writing to a string cannot fail.
        write!(text, "{comma}{{{bin},{count}}}").unwrap_or_default();
    }
    text.push('}');
    text
}

/// Keeps aside what is counted in runs whose start was not reported yet.
pub(super) async fn unreported(
    tx: &mut PgConnection,
    changes: &Changes<'_>,
) -> Result<(), ApplyError> {
    let nowhere = Origin::default();
    let (mut cells, mut runs, mut models) = (Cells::default(), vec![], vec![]);
    for ((scope, run_id), sums) in &changes.unreported {
        // By place, as they lie in the table.
        let sorted: BTreeMap<(Timestamp, [u8; 16]), (&Cell, &Measures)> = sums
            .iter()
            .map(|(cell, measures)| ((cell.minute, cell.series(&nowhere)), (cell, measures)))
            .collect();
        for ((at, series), (cell, measures)) in sorted {
            cells.push(*scope, at, series, cell, measures);
            runs.push(*run_id);
            models.push(cell.model.as_str());
        }
    }
    if runs.is_empty() {
        return Ok(());
    }
    sqlx::query(statements::UPSERT_UNREPORTED)
        .bind(&cells.scopes.tenants)
        .bind(&cells.scopes.modes)
        .bind(&runs)
        .bind(&cells.ats)
        .bind(&cells.series)
        .bind(&cells.subjects)
        .bind(&models)
        .bind(&cells.tools)
        .bind(&cells.statuses)
        .bind(&cells.verdicts)
        .bind(&cells.kinds)
        .bind(&cells.errors)
        .bind(&cells.counts)
        .bind(&cells.quantities)
        .bind(&cells.duration)
        .bind(&cells.durations)
        .execute(&mut *tx)
        .await
        .map_err(ApplyError::database("keep what is counted before a start"))?;
    if cells.take_nothing_away() {
        return Ok(());
    }
    sqlx::query(statements::DELETE_EMPTY_UNREPORTED)
        .bind(&cells.scopes.tenants)
        .bind(&cells.scopes.modes)
        .bind(&runs)
        .bind(&cells.ats)
        .bind(&cells.series)
        .execute(tx)
        .await
        .map_err(ApplyError::database(
            "remove what comes to nothing before a start",
        ))?;
    Ok(())
}

/// Adds to the rollups, and removes those that nothing is left of.
pub(super) async fn rollups(
    tx: &mut PgConnection,
    changes: &Changes<'_>,
) -> Result<(), ApplyError> {
    let mut cells = Cells::default();
    let (mut grains, mut origins, mut models) = (vec![], vec![], vec![]);
    for ((scope, grain, at, series), rollup) in &changes.rollups {
        cells.push(*scope, *at, *series, &rollup.cell, &rollup.measures);
        grains.push(grain.as_str());
        origins.push(&rollup.origin);
        models.push(rollup.cell.model(&rollup.origin));
    }
    if grains.is_empty() {
        return Ok(());
    }
    let added = sqlx::query(statements::UPSERT_ROLLUPS)
        .bind(&cells.scopes.tenants)
        .bind(&cells.scopes.modes)
        .bind(&grains)
        .bind(&cells.ats)
        .bind(&cells.series)
        .bind(&cells.subjects)
        .bind(each(&origins, |origin| origin.agent.as_str()))
        .bind(each(&origins, |origin| origin.agent_version.as_str()))
        .bind(&models)
        .bind(each(&origins, |origin| origin.space.as_str()))
        .bind(&cells.tools)
        .bind(&cells.statuses)
        .bind(&cells.verdicts)
        .bind(&cells.kinds)
        .bind(&cells.errors)
        .bind(&cells.counts)
        .bind(&cells.quantities)
        .bind(&cells.duration)
        .bind(&cells.durations)
        .execute(&mut *tx)
        .await
        .map_err(ApplyError::database("add to the rollups"))?;
    let left_out = u64::try_from(grains.len())
        .unwrap_or_default()
        .saturating_sub(added.rows_affected());
    if left_out > 0 {
        counter!("runledger_analytics_retired_total").increment(left_out);
    }
    if cells.take_nothing_away() {
        return Ok(());
    }
    sqlx::query(statements::DELETE_EMPTY_ROLLUPS)
        .bind(&cells.scopes.tenants)
        .bind(&cells.scopes.modes)
        .bind(&grains)
        .bind(&cells.ats)
        .bind(&cells.series)
        .execute(tx)
        .await
        .map_err(ApplyError::database("remove rollups of nothing"))?;
    Ok(())
}
