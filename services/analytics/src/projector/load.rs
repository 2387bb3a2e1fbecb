//! Loads the states that a batch is about to fold.

use runledger_domain::analytics::{Call, Cell, Durations, Governed, Measures, Origin, Run};
use runledger_domain::approval::Verdict;
use runledger_domain::ids::{Name, RecordId};
use runledger_domain::run::{self, Moment, ToolCall, Work};
use runledger_domain::time::Timestamp;
use runledger_postgres::values::Scopes;
use runledger_projection::ApplyError;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::attribute::Unreported;
use super::fold::{CallKey, Change, Fold, RunKey};
use crate::statements;

/// When something was said; by which record is not kept.
fn moment(at: Timestamp) -> Moment {
    Moment {
        record: RecordId::new(Uuid::nil()),
        at,
    }
}

/// The place in a list of what Postgres counted as `number`, from 1.
fn place(number: i64) -> usize {
    usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX)
}

#[derive(FromRow)]
struct LoadedRun {
    number: i64,
    agent_id: String,
    agent_version: String,
    model: String,
    space_id: String,
    is_reported: bool,
    started_at: Option<Timestamp>,
    phase: Option<String>,
    ended_at: Option<Timestamp>,
    outcome: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    has_errors: bool,
    charges_over_limits: i64,
}

impl From<LoadedRun> for Run {
    fn from(loaded: LoadedRun) -> Self {
        let outcome = loaded.outcome.and_then(|word| word.parse().ok());
        let code = loaded.error_code.and_then(|code| Name::parse(code).ok());
        Self {
            state: run::Run {
                started: loaded.started_at.map(moment),
                phase: loaded.phase.and_then(|word| word.parse().ok()),
                ended: loaded.ended_at.map(moment).zip(outcome),
                ..run::Run::default()
            },
            origin: Origin {
                agent: loaded.agent_id,
                agent_version: loaded.agent_version,
                model: loaded.model,
                space: loaded.space_id,
            },
            is_reported: loaded.is_reported,
            has_errors: loaded.has_errors,
            charges_over_limits: loaded.charges_over_limits,
            error: code
                .zip(loaded.error_message)
                .map(|(code, message)| run::Error { code, message }),
        }
    }
}

#[derive(FromRow)]
struct LoadedCall {
    number: i64,
    tool: Option<String>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    status: Option<String>,
    error_code: Option<String>,
    verdict: Option<String>,
    is_covered: Option<bool>,
    asked_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    approval_status: Option<String>,
}

impl From<LoadedCall> for Call {
    fn from(loaded: LoadedCall) -> Self {
        let status = loaded.status.and_then(|word| word.parse().ok());
        let verdict: Option<Verdict> = loaded.verdict.and_then(|word| word.parse().ok());
        let answer = loaded.approval_status.and_then(|word| word.parse().ok());
        Self {
            state: ToolCall {
                tool: loaded.tool.and_then(|tool| Name::parse(tool).ok()),
                work: Work {
                    started: loaded.started_at.map(moment),
                    ended: loaded.ended_at.map(moment).zip(status),
                    late: false,
                },
            },
            error: loaded.error_code.and_then(|code| Name::parse(code).ok()),
            governed: verdict
                .zip(loaded.is_covered)
                .map(|(verdict, is_covered)| Governed {
                    verdict,
                    is_covered,
                }),
            asked_at: loaded.asked_at,
            answered: loaded.answered_at.zip(answer),
        }
    }
}

/// Loads the states of the runs and calls of a batch. Of runs that are locked, what others have
/// counted is there, and what they count later comes after.
pub(super) async fn states(tx: &mut PgConnection, fold: &mut Fold<'_>) -> Result<(), ApplyError> {
    let of = |locked: bool| {
        let those = fold
            .runs
            .iter()
            .filter(move |(_, run)| run.is_locked == locked);
        those.map(|(key, _)| *key).collect::<Vec<RunKey<'_>>>()
    };
    let (locked, own) = (of(true), of(false));
    if !locked.is_empty() {
        let (scopes, ids) = run_columns(&locked);
        sqlx::query(statements::INSERT_RUNS_NAMED)
            .bind(&scopes.tenants)
            .bind(&scopes.modes)
            .bind(&ids)
            .execute(&mut *tx)
            .await
            .map_err(ApplyError::database("make the rows of runs that are named"))?;
    }
    for (keys, statement) in [
        (locked, statements::SELECT_RUNS_FOR_UPDATE),
        (own, statements::SELECT_RUNS),
    ] {
        if keys.is_empty() {
            continue;
        }
        let (scopes, ids) = run_columns(&keys);
        let rows: Vec<LoadedRun> = sqlx::query_as(statement)
            .bind(&scopes.tenants)
            .bind(&scopes.modes)
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await
            .map_err(ApplyError::database("load runs"))?;
        for row in rows {
            let run = keys
                .get(place(row.number))
                .and_then(|key| fold.runs.get_mut(key));
            if let Some(run) = run {
                let state = Run::from(row);
                run.state = Change {
                    before: state.clone(),
                    now: state,
                };
            }
        }
    }
    calls(tx, fold).await
}

async fn calls(tx: &mut PgConnection, fold: &mut Fold<'_>) -> Result<(), ApplyError> {
    let keys: Vec<CallKey<'_>> = fold.calls.keys().copied().collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut scopes = Scopes::default();
    for (scope, ..) in &keys {
        scopes.push(*scope);
    }
    let rows: Vec<LoadedCall> = sqlx::query_as(statements::SELECT_TOOL_CALLS)
        .bind(&scopes.tenants)
        .bind(&scopes.modes)
        .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("load tool calls"))?;
    for row in rows {
        let call = keys
            .get(place(row.number))
            .and_then(|key| fold.calls.get_mut(key));
        if let Some(call) = call {
            let state = Call::from(row);
            *call = Change {
                before: state.clone(),
                now: state,
            };
        }
    }
    Ok(())
}

#[derive(FromRow)]
struct LoadedUnreported {
    number: i64,
    at: Timestamp,
    subject: String,
    model: String,
    tool: String,
    status: String,
    verdict: String,
    kind: String,
    error: String,
    count: i64,
    quantity: String,
    duration: String,
    bins: Vec<i64>,
    counts: Vec<i64>,
}

impl LoadedUnreported {
    /// `None`: a word that a later version has written.
    fn into_cell(self) -> Option<(Cell, Measures)> {
        let cell = Cell {
            minute: self.at,
            subject: self.subject.parse().ok()?,
            tool: self.tool,
            status: self.status,
            verdict: self.verdict,
            kind: self.kind,
            error: self.error,
            model: self.model,
        };
        let bins = self
            .bins
            .into_iter()
            .map(|bin| i32::try_from(bin).unwrap_or_default());
        let measures = Measures {
            count: self.count,
            quantity: self.quantity.parse().ok()?,
            durations: Durations::stored(self.duration.parse().ok()?, bins.zip(self.counts)),
        };
        Some((cell, measures))
    }
}

/// What was kept aside of runs whose origin has changed; of those whose start is here it is taken away.
pub(super) async fn unreported<'a>(
    tx: &mut PgConnection,
    fold: &Fold<'a>,
) -> Result<Unreported<'a>, ApplyError> {
    let moved = fold.runs.iter().filter(|(_, run)| {
        let (before, now) = (&run.state.before, &run.state.now);
        before.origin != now.origin || before.is_reported != now.is_reported
    });
    let (reported, opened): (Vec<_>, Vec<_>) =
        moved.partition(|(_, run)| run.state.now.is_reported);
    let mut unreported = Unreported::new();
    for (runs, statement) in [
        (reported, statements::DELETE_UNREPORTED),
        (opened, statements::SELECT_UNREPORTED),
    ] {
        let keys: Vec<RunKey<'a>> = runs.into_iter().map(|(key, _)| *key).collect();
        if keys.is_empty() {
            continue;
        }
        let (scopes, ids) = run_columns(&keys);
        let rows: Vec<LoadedUnreported> = sqlx::query_as(statement)
            .bind(&scopes.tenants)
            .bind(&scopes.modes)
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await
            .map_err(ApplyError::database("load what was counted before a start"))?;
        for row in rows {
            if let Some(key) = keys.get(place(row.number))
                && let Some(counted) = row.into_cell()
            {
                unreported.entry(*key).or_default().push(counted);
            }
        }
    }
    Ok(unreported)
}

fn run_columns<'a>(keys: &[RunKey<'a>]) -> (Scopes, Vec<&'a str>) {
    let mut scopes = Scopes::default();
    for (scope, _) in keys {
        scopes.push(*scope);
    }
    (scopes, keys.iter().map(|(_, run_id)| *run_id).collect())
}
