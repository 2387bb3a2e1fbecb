//! One run, and rows of runs turned into answers.

use runledger_domain::fault::Fault;
use runledger_domain::ids::RunId;
use runledger_domain::log::Stream;
use runledger_domain::run::Status;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::encode;
use runledger_proto::run::v1::{
    GetRunRequest, GetRunResponse, Run, RunStatus, RunTotals, UsageTotal,
};
use sqlx::FromRow;
use uuid::Uuid;

use super::records::Records;
use super::{Api, View, count, database, parse, run_not_found};
use crate::statements;

/// Most meters shown of a run that is asked for alone, the first by name.
const METERS_MAX: i64 = 256;
/// Most meters shown of each run in a list.
pub(super) const METERS_IN_LIST_MAX: i64 = 16;

#[derive(FromRow)]
pub(super) struct Row {
    pub(super) run_id: String,
    status: String,
    note: Option<String>,
    started_record: Option<Uuid>,
    started_at: Option<Timestamp>,
    ended_record: Option<Uuid>,
    ended_at: Option<Timestamp>,
    steps: i64,
    tool_calls: i64,
    failed_tool_calls: i64,
    messages: i64,
    late_facts: i64,
    conflicts: i64,
    first_recorded_at: Timestamp,
    last_recorded_at: Timestamp,
    pub(super) sorted_at: Timestamp,
}

impl Api {
    pub(super) async fn run(
        &self,
        scope: Scope,
        request: GetRunRequest,
    ) -> Result<GetRunResponse, Fault> {
        let (run_id, options) = parse(request.read, |see| {
            see.id("run_id", request.run_id, RunId::parse)
        })?;
        let mut view = self.read(scope, &options).await?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let row: Option<Row> = sqlx::query_as(statements::SELECT_RUN)
            .bind(tenant)
            .bind(mode)
            .bind(run_id.as_str())
            .fetch_optional(&mut **view.tx())
            .await
            .map_err(database)?;
        let row = row.ok_or_else(run_not_found)?;
        let run = answers(&mut view, vec![row], METERS_MAX)
            .await?
            .pop()
            .ok_or_else(run_not_found)?;
        Ok(GetRunResponse {
            run: Some(run),
            as_of: Some(view.close().await?),
        })
    }
}

/// Whether the view's scope has this run.
pub(super) async fn exists(view: &mut View, run_id: &RunId) -> Result<bool, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    sqlx::query_scalar(statements::SELECT_RUN_EXISTS)
        .bind(tenant)
        .bind(mode)
        .bind(run_id.as_str())
        .fetch_one(&mut **view.tx())
        .await
        .map_err(database)
}

/// The runs of `rows` with up to `meters_max` meters each, or the first of them: as many as fit an
/// answer, at least one.
pub(super) async fn answers(
    view: &mut View,
    rows: Vec<Row>,
    meters_max: i64,
) -> Result<Vec<Run>, Fault> {
    let mut asked: Vec<(String, Uuid)> = Vec::new();
    let mut places = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut ask = |record: Option<Uuid>| {
            record.map(|record| {
                asked.push((stream(&row.run_id), record));
                asked.len() - 1
            })
        };
        let (started, ended) = (ask(row.started_record), ask(row.ended_record));
        places.push((started, ended, asked.len()));
    }
    let records = Records::read(view, &asked).await?;
    let mut runs = Vec::with_capacity(rows.len());
    for (row, (started, ended, end)) in rows.into_iter().zip(places) {
        if !runs.is_empty() && !records.reach(end) {
            break;
        }
        runs.push(answer(row, &records, started, ended)?);
    }
    add_usage(view, &mut runs, meters_max).await?;
    let mut room = view.room();
    let fitting = runs.iter().take_while(|run| room.admits(*run)).count();
    runs.truncate(fitting);
    Ok(runs)
}

fn stream(run_id: &str) -> String {
    run_id.parse().map_or_else(
        |_| format!("run/{run_id}"),
        |id| Stream::run(&id).as_str().to_owned(),
    )
}

fn answer(
    row: Row,
    records: &Records,
    started: Option<usize>,
    ended: Option<usize>,
) -> Result<Run, Fault> {
    let status: Option<Status> = row.status.parse().ok();
    let started = started.and_then(|place| records.get(place));
    let ended = ended.and_then(|place| records.get(place));
    Ok(Run {
        run_id: row.run_id,
        status: status
            .map_or(RunStatus::Unspecified, RunStatus::from)
            .into(),
        started: started.map(|record| record.decode()).transpose()?,
        started_at: row.started_at.map(encode::timestamp),
        ended_at: row.ended_at.map(encode::timestamp),
        ended: ended.map(|record| record.decode()).transpose()?,
        totals: Some(RunTotals {
            steps: count(row.steps),
            tool_calls: count(row.tool_calls),
            failed_tool_calls: count(row.failed_tool_calls),
            messages: count(row.messages),
            late_facts: count(row.late_facts),
            conflicts: count(row.conflicts),
        }),
        first_recorded_at: Some(encode::timestamp(row.first_recorded_at)),
        last_recorded_at: Some(encode::timestamp(row.last_recorded_at)),
        note: row.note.unwrap_or_default(),
        usage: Vec::new(),
    })
}

async fn add_usage(view: &mut View, runs: &mut [Run], meters_max: i64) -> Result<(), Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
    let rows: Vec<(i64, String, i64, i64)> = sqlx::query_as(statements::SELECT_USAGE_TOTALS)
        .bind(tenant)
        .bind(mode)
        .bind(&ids)
        .bind(meters_max)
        .fetch_all(&mut **view.tx())
        .await
        .map_err(database)?;
    for (number, meter, quantity, records) in rows {
        let run = usize::try_from(number.saturating_sub(1))
            .ok()
            .and_then(|place| runs.get_mut(place));
        if let Some(run) = run {
            run.usage.push(UsageTotal {
                meter,
                quantity,
                records: count(records),
            });
        }
    }
    Ok(())
}
