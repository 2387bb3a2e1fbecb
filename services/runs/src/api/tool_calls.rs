//! Tool calls of a run, in the order of the log.

use runledger_domain::fault::Fault;
use runledger_domain::ids::{Name, RunId};
use runledger_domain::log::Stream;
use runledger_domain::run::WorkStatus;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::approval::v1::{ToolCallDecided, Verdict};
use runledger_proto::decode::fields::Fields;
use runledger_proto::run::v1::{
    self as wire, CallDecision, CallVerdict, ListToolCallsRequest, ListToolCallsResponse, ToolCall,
};
use runledger_proto::words::known;
use runledger_proto::{encode, types};
use runledger_service::page;
use sqlx::FromRow;
use uuid::Uuid;

use super::records::Records;
use super::{Api, Page, View, database, parse, run_not_found, runs, text_of, unknown_value};
use crate::statements;

#[derive(Debug)]
struct Filters {
    run: RunId,
    tool: Option<Name>,
    statuses: Vec<WorkStatus>,
}

#[derive(FromRow)]
struct Row {
    tool_call_id: String,
    log_offset: i64,
    started_record: Option<Uuid>,
    started_at: Option<Timestamp>,
    ended_record: Option<Uuid>,
    ended_at: Option<Timestamp>,
    late: bool,
}

impl Filters {
    fn read(request: ListToolCallsRequest, see: &mut Fields<'_>) -> Option<Self> {
        let statuses: Option<Vec<WorkStatus>> = request
            .statuses
            .iter()
            .map(|one| known::<wire::WorkStatus>(*one))
            .collect();
        if statuses.is_none() {
            unknown_value(see, "statuses");
        }
        let mut statuses = statuses.unwrap_or_default();
        statuses.sort_unstable();
        statuses.dedup();
        let tool = see.optional_id("tool", request.tool, Name::parse);
        Some(Self {
            run: see.id("run_id", request.run_id, RunId::parse)?,
            tool,
            statuses,
        })
    }

    async fn page(
        &self,
        view: &mut View,
        size: u32,
        after: Option<i64>,
    ) -> Result<Page<ToolCall, i64>, Fault> {
        let (tenant, mode) = (view.tenant(), view.mode());
        let statuses: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        let mut rows: Vec<Row> = sqlx::query_as(statements::SELECT_TOOL_CALLS)
            .bind(tenant)
            .bind(mode)
            .bind(self.run.as_str())
            .bind(self.tool.as_ref().map(Name::as_str))
            .bind((!statuses.is_empty()).then_some(&statuses))
            .bind(after.unwrap_or(-1))
            .bind(i64::from(size) + 1)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let stream = Stream::run(&self.run);
        let ids = rows
            .iter()
            .flat_map(|row| [row.started_record, row.ended_record])
            .flatten();
        let asked: Vec<(String, Uuid)> = ids.map(|id| (stream.as_str().to_owned(), id)).collect();
        let records = Records::read(view, &asked).await?;
        let (mut entries, mut place, mut last) = (Vec::with_capacity(rows.len()), 0, None);
        let (mut room, asked_for) = (view.room(), rows.len());
        for row in rows {
            let end = place
                + usize::from(row.started_record.is_some())
                + usize::from(row.ended_record.is_some());
            if !entries.is_empty() && !records.reach(end) {
                break;
            }
            let log_offset = row.log_offset;
            let call = answer(&self.run, row, &records, place)?;
            if !room.admits(&call) {
                break;
            }
            last = Some(log_offset);
            entries.push(call);
            place = end;
        }
        let next = last.filter(|_| more || entries.len() < asked_for);
        Ok(Page { entries, next })
    }
}

fn decision(decided: ToolCallDecided) -> CallDecision {
    let verdict = match decided.verdict() {
        Verdict::Unspecified => CallVerdict::Unspecified,
        Verdict::Allowed => CallVerdict::Allowed,
        Verdict::Warned => CallVerdict::Warned,
        Verdict::Blocked => CallVerdict::Blocked,
        Verdict::AwaitingApproval => CallVerdict::AwaitingApproval,
    };
    let matches = decided.matches.into_iter();
    CallDecision {
        verdict: verdict.into(),
        reason: decided.reason,
        message: decided.message,
        approval_id: decided.approval_id,
        policy_ids: matches.map(|one| one.policy_id).collect(),
    }
}

/// The call of `row`, whose records begin at `place`.
fn answer(run: &RunId, row: Row, records: &Records, place: usize) -> Result<ToolCall, Fault> {
    let started = row.started_record.and_then(|_| records.get(place));
    let ended = row
        .ended_record
        .and_then(|_| records.get(place + usize::from(row.started_record.is_some())));
    let (started, decided) = match started {
        None => (None, None),
        // A governed call was asked for: the decision is its start.
        Some(record) if record.type_name() == types::TOOL_CALL_DECIDED => {
            let decided: ToolCallDecided = record.decode()?;
            (decided.call.clone(), Some(decision(decided)))
        }
        Some(record) => (Some(record.decode()?), None),
    };
    Ok(ToolCall {
        run_id: run.to_string(),
        tool_call_id: row.tool_call_id,
        started,
        decision: decided,
        started_at: row.started_at.map(encode::timestamp),
        ended: ended.map(|record| record.decode()).transpose()?,
        ended_at: row.ended_at.map(encode::timestamp),
        late: row.late,
    })
}

impl Api {
    pub(super) async fn tool_calls(
        &self,
        scope: Scope,
        mut request: ListToolCallsRequest,
    ) -> Result<ListToolCallsResponse, Fault> {
        let (size, token) = (
            page::size(request.page_size),
            std::mem::take(&mut request.page_token),
        );
        let (filters, options) = parse(request.read.take(), |see| Filters::read(request, see))?;
        let statuses: Vec<&str> = filters.statuses.iter().map(|one| one.as_str()).collect();
        let list = page::List::of(&[
            "ListToolCalls",
            &scope.to_string(),
            filters.run.as_str(),
            &text_of(filters.tool.as_ref()),
            &statuses.join(","),
        ]);
        let after: Option<i64> = list.place(&token)?;
        let mut view = self.read(scope, &options).await?;
        let page = filters.page(&mut view, size, after).await?;
        if page.entries.is_empty() && !runs::exists(&mut view, &filters.run).await? {
            return Err(run_not_found());
        }
        let next_page_token = page
            .next
            .map(|place| list.token(&place))
            .transpose()?
            .unwrap_or_default();
        Ok(ListToolCallsResponse {
            tool_calls: page.entries,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}
