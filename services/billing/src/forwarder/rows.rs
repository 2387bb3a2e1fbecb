//! What is known of runs, as rows. Statements take columns; rows go in sorted.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::ids::{Name, RecordId, RunId, TenantId, ToolCallId};
use runledger_domain::run::UsageRecorded;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_domain::usage::Payer;
use runledger_projection::ApplyError;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::fold::{Call, CallKey, Run, RunKey, Waiting};
use super::statements;

#[derive(FromRow)]
struct RunRow {
    tenant_id: Uuid,
    mode: String,
    run_id: String,
    account_id: Option<String>,
    agent_id: Option<String>,
    model: Option<String>,
    space_id: Option<String>,
    started_at: Option<Timestamp>,
    end_id: Option<Uuid>,
    ended_at: Option<Timestamp>,
    outcome: Option<String>,
}

impl RunRow {
    fn read(self) -> Option<(RunKey, Run)> {
        let key = run_key(self.tenant_id, &self.mode, self.run_id)?;
        let payer = || {
            Some(Payer {
                account: self.account_id?.parse().ok()?,
                run: key.1.clone(),
                agent: self.agent_id?.parse().ok()?,
                model: self.model?,
                space: self.space_id.and_then(|space| space.parse().ok()),
                started_at: self.started_at?,
            })
        };
        let end = || {
            let outcome = self.outcome?.parse().ok()?;
            Some((RecordId::new(self.end_id?), self.ended_at?, outcome))
        };
        let (payer, end) = (payer(), end());
        Some((key, Run { payer, end }))
    }
}

#[derive(FromRow)]
struct CallRow {
    tenant_id: Uuid,
    mode: String,
    run_id: String,
    tool_call_id: String,
    tool: Option<String>,
    started_at: Option<Timestamp>,
    end_id: Option<Uuid>,
    ended_at: Option<Timestamp>,
    outcome: Option<String>,
    forwarded: bool,
}

impl CallRow {
    fn read(self) -> Option<(CallKey, Call)> {
        let (scope, run) = run_key(self.tenant_id, &self.mode, self.run_id)?;
        let key = (scope, run, self.tool_call_id.parse().ok()?);
        let start = || Some((self.tool?.parse().ok()?, self.started_at?));
        let end = || {
            let status = self.outcome?.parse().ok()?;
            Some((RecordId::new(self.end_id?), self.ended_at?, status))
        };
        let call = Call {
            start: start(),
            end: end(),
            forwarded: self.forwarded,
        };
        Some((key, call))
    }
}

#[derive(FromRow)]
struct WaitingRow {
    tenant_id: Uuid,
    mode: String,
    run_id: String,
    source_id: Uuid,
    log_offset: i64,
    meter: String,
    quantity: i64,
    dimensions: String,
    tool_call_id: Option<String>,
    used_at: Timestamp,
}

impl WaitingRow {
    fn read(self) -> Option<(RunKey, Waiting)> {
        let key = run_key(self.tenant_id, &self.mode, self.run_id)?;
        let usage = UsageRecorded {
            run_id: key.1.clone(),
            meter: self.meter.parse().ok()?,
            quantity: self.quantity,
            tool_call_id: self.tool_call_id.and_then(|call| call.parse().ok()),
            dimensions: serde_json::from_str(&self.dimensions).ok()?,
        };
        let waiting = Waiting {
            source_id: RecordId::new(self.source_id),
            offset: u64::try_from(self.log_offset).unwrap_or_default(),
            used_at: self.used_at,
            usage,
        };
        Some((key, waiting))
    }
}

fn run_key(tenant: Uuid, mode: &str, run: String) -> Option<RunKey> {
    let scope = Scope {
        tenant: TenantId::new(tenant),
        mode: mode.parse().ok()?,
    };
    Some((scope, RunId::parse(run).ok()?))
}

/// Columns of runs.
struct Keys<'a> {
    tenants: Vec<Uuid>,
    modes: Vec<&'static str>,
    runs: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(keys: impl Iterator<Item = (&'a Scope, &'a RunId)>) -> Self {
        let mut columns = Self {
            tenants: Vec::new(),
            modes: Vec::new(),
            runs: Vec::new(),
        };
        for (scope, run) in keys {
            columns.tenants.push(scope.tenant.as_uuid());
            columns.modes.push(scope.mode.as_str());
            columns.runs.push(run.as_str());
        }
        columns
    }
}

pub(super) async fn runs(
    tx: &mut PgConnection,
    keys: &BTreeSet<RunKey>,
) -> Result<BTreeMap<RunKey, Run>, ApplyError> {
    let keys = Keys::of(keys.iter().map(|(scope, run)| (scope, run)));
    let rows: Vec<RunRow> = sqlx::query_as(statements::SELECT_RUNS)
        .bind(keys.tenants)
        .bind(keys.modes)
        .bind(keys.runs)
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("load runs"))?;
    Ok(rows.into_iter().filter_map(RunRow::read).collect())
}

/// Calls by their keys, and at most `most` of those that wait for some runs.
pub(super) async fn calls(
    tx: &mut PgConnection,
    keys: &BTreeSet<CallKey>,
    of: &BTreeSet<RunKey>,
    most: u16,
) -> Result<BTreeMap<CallKey, Call>, ApplyError> {
    if keys.is_empty() && of.is_empty() {
        return Ok(BTreeMap::new());
    }
    let calls: Vec<&str> = keys.iter().map(|(.., call)| call.as_str()).collect();
    let keys = Keys::of(keys.iter().map(|(scope, run, _)| (scope, run)));
    let of = Keys::of(of.iter().map(|(scope, run)| (scope, run)));
    let rows: Vec<CallRow> = sqlx::query_as(statements::SELECT_CALLS)
        .bind(keys.tenants)
        .bind(keys.modes)
        .bind(keys.runs)
        .bind(calls)
        .bind(of.tenants)
        .bind(of.modes)
        .bind(of.runs)
        .bind(i64::from(most))
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("load calls"))?;
    Ok(rows.into_iter().filter_map(CallRow::read).collect())
}

/// At most `most` of the calls that wait for a run, behind one of them; by their ids.
pub(super) async fn calls_of_run(
    tx: &mut PgConnection,
    (scope, run): &RunKey,
    behind: &str,
    most: u16,
) -> Result<BTreeMap<CallKey, Call>, ApplyError> {
    let rows: Vec<CallRow> = sqlx::query_as(statements::SELECT_CALLS_OF_RUN)
        .bind(scope.tenant.as_uuid())
        .bind(scope.mode.as_str())
        .bind(run.as_str())
        .bind(behind)
        .bind(i64::from(most))
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("load calls of a run"))?;
    Ok(rows.into_iter().filter_map(CallRow::read).collect())
}

/// Takes at most `most` of what waits for the start of a run, behind an id.
pub(super) async fn take_waiting_of_run(
    tx: &mut PgConnection,
    (scope, run): &RunKey,
    behind: Uuid,
    most: u16,
) -> Result<Vec<Waiting>, ApplyError> {
    let rows: Vec<WaitingRow> = sqlx::query_as(statements::DELETE_WAITING_OF_RUN)
        .bind(scope.tenant.as_uuid())
        .bind(scope.mode.as_str())
        .bind(run.as_str())
        .bind(behind)
        .bind(i64::from(most))
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("take what waits for a run"))?;
    let waiting = rows.into_iter().filter_map(WaitingRow::read);
    Ok(waiting.map(|(_, one)| one).collect())
}

/// Takes at most `most` of what waits for the start of some runs.
pub(super) async fn take_waiting(
    tx: &mut PgConnection,
    keys: &BTreeSet<RunKey>,
    most: u16,
) -> Result<BTreeMap<RunKey, Vec<Waiting>>, ApplyError> {
    let mut waiting: BTreeMap<RunKey, Vec<Waiting>> = BTreeMap::new();
    if keys.is_empty() {
        return Ok(waiting);
    }
    let keys = Keys::of(keys.iter().map(|(scope, run)| (scope, run)));
    let rows: Vec<WaitingRow> = sqlx::query_as(statements::DELETE_WAITING)
        .bind(keys.tenants)
        .bind(keys.modes)
        .bind(keys.runs)
        .bind(i64::from(most))
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("take what waits"))?;
    for (key, one) in rows.into_iter().filter_map(WaitingRow::read) {
        waiting.entry(key).or_default().push(one);
    }
    Ok(waiting)
}

pub(super) async fn write_runs(
    tx: &mut PgConnection,
    runs: &[(&RunKey, &Run)],
) -> Result<(), ApplyError> {
    if runs.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(runs.iter().map(|((scope, run), _)| (scope, run)));
    let payers = || runs.iter().map(|(_, run)| run.payer.as_ref());
    let ends = || runs.iter().map(|(_, run)| run.end.as_ref());
    let texts = |text: fn(&Payer) -> Option<&str>| -> Vec<Option<&str>> {
        payers().map(|payer| payer.and_then(text)).collect()
    };
    let started = payers().map(|payer| payer.map(|payer| payer.started_at));
    sqlx::query(statements::UPSERT_RUNS)
        .bind(keys.tenants)
        .bind(keys.modes)
        .bind(keys.runs)
        .bind(texts(|payer| Some(payer.account.as_str())))
        .bind(texts(|payer| Some(payer.agent.as_str())))
        .bind(texts(|payer| Some(payer.model.as_str())))
        .bind(texts(|payer| {
            payer.space.as_ref().map(|space| space.as_str())
        }))
        .bind(started.collect::<Vec<_>>())
        .bind(
            ends()
                .map(|end| end.map(|(id, ..)| id.as_uuid()))
                .collect::<Vec<_>>(),
        )
        .bind(
            ends()
                .map(|end| end.map(|(_, at, _)| *at))
                .collect::<Vec<_>>(),
        )
        .bind(
            ends()
                .map(|end| end.map(|(.., outcome)| outcome.as_str()))
                .collect::<Vec<_>>(),
        )
        .execute(tx)
        .await
        .map_err(ApplyError::database("write runs"))?;
    Ok(())
}

pub(super) async fn write_calls(
    tx: &mut PgConnection,
    calls: &[(&CallKey, &Call)],
) -> Result<(), ApplyError> {
    if calls.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(calls.iter().map(|((scope, run, _), _)| (scope, run)));
    let ids: Vec<&str> = calls
        .iter()
        .map(|((.., id), _)| ToolCallId::as_str(id))
        .collect();
    let starts = || calls.iter().map(|(_, call)| call.start.as_ref());
    let ends = || calls.iter().map(|(_, call)| call.end.as_ref());
    sqlx::query(statements::UPSERT_CALLS)
        .bind(keys.tenants)
        .bind(keys.modes)
        .bind(keys.runs)
        .bind(ids)
        .bind(
            starts()
                .map(|start| start.map(|(tool, _)| Name::as_str(tool)))
                .collect::<Vec<_>>(),
        )
        .bind(
            starts()
                .map(|start| start.map(|(_, at)| *at))
                .collect::<Vec<_>>(),
        )
        .bind(
            ends()
                .map(|end| end.map(|(id, ..)| id.as_uuid()))
                .collect::<Vec<_>>(),
        )
        .bind(
            ends()
                .map(|end| end.map(|(_, at, _)| *at))
                .collect::<Vec<_>>(),
        )
        .bind(
            ends()
                .map(|end| end.map(|(.., status)| status.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            calls
                .iter()
                .map(|(_, call)| call.forwarded)
                .collect::<Vec<_>>(),
        )
        .execute(tx)
        .await
        .map_err(ApplyError::database("write calls"))?;
    Ok(())
}

/// What waits for the start of its run. Of a report that comes twice the first stays.
pub(super) async fn write_waiting(
    tx: &mut PgConnection,
    waiting: &BTreeMap<RunKey, Vec<Waiting>>,
) -> Result<(), ApplyError> {
    let all = || {
        let runs = waiting.iter();
        runs.flat_map(|((scope, run), ones)| ones.iter().map(move |one| (scope, run, one)))
    };
    if all().next().is_none() {
        return Ok(());
    }
    let keys = Keys::of(all().map(|(scope, run, _)| (scope, run)));
    let usages = || all().map(|(.., one)| &one.usage);
    // Names and texts: nothing can stand in the way of writing them.
    let dimensions =
        usages().map(|usage| serde_json::to_string(&usage.dimensions).unwrap_or_default());
    let calls = usages().map(|usage| usage.tool_call_id.as_ref().map(|call| call.as_str()));
    let offset = |one: &Waiting| i64::try_from(one.offset).unwrap_or(i64::MAX);
    sqlx::query(statements::INSERT_WAITING)
        .bind(keys.tenants)
        .bind(keys.modes)
        .bind(keys.runs)
        .bind(
            all()
                .map(|(.., one)| one.source_id.as_uuid())
                .collect::<Vec<_>>(),
        )
        .bind(all().map(|(.., one)| offset(one)).collect::<Vec<_>>())
        .bind(
            usages()
                .map(|usage| usage.meter.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(usages().map(|usage| usage.quantity).collect::<Vec<_>>())
        .bind(dimensions.collect::<Vec<_>>())
        .bind(calls.collect::<Vec<_>>())
        .bind(all().map(|(.., one)| one.used_at).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map_err(ApplyError::database("write what waits"))?;
    Ok(())
}
