//! Summaries: how runs ended, what they counted, and what became of calls that were asked for.

use runledger_domain::analytics::{
    Dimension, Durations, Filters, Measure, Question, Range, Subject, WITH_ERRORS,
};
use runledger_domain::approval::{Status as ApprovalStatus, Verdict};
use runledger_domain::fault::Fault;
use runledger_domain::run::{Status, WorkStatus};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::decode::analytics as read;
use runledger_proto::decode::fields::Fields;
use runledger_proto::encode;
use runledger_role::reading::parse;
use sqlx::FromRow;

use super::{Api, View, unsigned};
use crate::statements;

/// What a run's start says.
pub(super) const ORIGIN: [Dimension; 4] = [
    Dimension::Agent,
    Dimension::AgentVersion,
    Dimension::Model,
    Dimension::Space,
];
const FAILED_MAX: i64 = 100;
const GROUPS_MAX: u32 = 1_000;

/// Range and filters of a summary, of which only some dimensions can be asked of all that it sums up.
pub(super) fn selection(
    range: Option<wire::Range>,
    filters: Vec<wire::Filter>,
    others: &[Dimension],
    see: &mut Fields<'_>,
) -> Option<(Range, Filters)> {
    let range = read::range("range", range, see);
    let filters = read::filters("filters", filters, see)?;
    let not = |one: &&Dimension| !ORIGIN.contains(one) && !others.contains(one);
    if let Some(other) = filters.keys().find(not) {
        let why = format_args!("cannot select by {other} here; AnalyticsService.Query can");
        see.fault("filters", "NOT_ALLOWED", why);
    }
    Some((range?, filters))
}

/// A question within a selection.
pub(super) fn asked(
    subject: Subject,
    (range, filters): &(Range, Filters),
    group_by: &[Dimension],
) -> Question {
    Question {
        filters: filters.clone(),
        ..Question::of(subject, *range, group_by)
    }
}

#[derive(FromRow)]
struct Failed {
    run_id: String,
    agent_id: String,
    agent_version: String,
    model: String,
    space_id: String,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    error_code: String,
    error_message: String,
}

impl From<Failed> for wire::FailedRun {
    fn from(failed: Failed) -> Self {
        Self {
            run_id: failed.run_id,
            agent_id: failed.agent_id,
            agent_version: failed.agent_version,
            model: failed.model,
            space_id: failed.space_id,
            started_at: failed.started_at.map(encode::timestamp),
            ended_at: failed.ended_at.map(encode::timestamp),
            error_code: failed.error_code,
            error_message: failed.error_message,
        }
    }
}

impl Api {
    pub(super) async fn run_summary(
        &self,
        scope: Scope,
        request: wire::GetRunSummaryRequest,
    ) -> Result<wire::GetRunSummaryResponse, Fault> {
        let (selection, options) = parse(request.read, |see| {
            let others = [Dimension::Status, Dimension::Error];
            selection(request.range, request.filters, &others, see)
        })?;
        let mut view = self.look(scope, &options).await?;
        let mut summary = view.count_runs(&selection).await?;
        summary.agents = view.count_agents(&selection).await?;
        if request.include_failed {
            summary.failed_runs = view.failed_runs(&selection).await?;
        }
        summary.range = Some(encode::analytics::range(selection.0));
        summary.as_of = Some(view.close().await?);
        Ok(summary)
    }

    pub(super) async fn records_summary(
        &self,
        scope: Scope,
        request: wire::GetRecordsSummaryRequest,
    ) -> Result<wire::GetRecordsSummaryResponse, Fault> {
        let (selection, options) = parse(request.read, |see| {
            selection(request.range, request.filters, &[], see)
        })?;
        let mut view = self.look(scope, &options).await?;
        let counters = Question {
            order_by: Measure::Quantity,
            ..asked(Subject::Counter, &selection, &[Dimension::Kind])
        };
        let counters = view.top(&counters, GROUPS_MAX).await?;
        let runs = view.top(&asked(Subject::Run, &selection, &[]), 1).await?;
        let calls = asked(Subject::ToolCall, &selection, &[Dimension::Status]);
        let calls = view.top(&calls, GROUPS_MAX).await?;
        let failed = calls
            .sums
            .iter()
            .filter(|sum| sum.group == [WorkStatus::Failed.as_str()]);
        let failed = failed.map(|sum| sum.measures.count).sum();
        let mut counters: Vec<wire::Counted> = counters
            .sums
            .into_iter()
            .map(|sum| wire::Counted {
                name: sum.group.concat(),
                sum: encode::analytics::within(sum.measures.quantity),
                runs: unsigned(sum.measures.count),
            })
            .collect();
        counters.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(wire::GetRecordsSummaryResponse {
            counters,
            runs: unsigned(runs.total.count),
            tool_calls: unsigned(calls.total.count),
            failed_tool_calls: unsigned(failed),
            range: Some(encode::analytics::range(selection.0)),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn funnel(
        &self,
        scope: Scope,
        request: wire::GetFunnelRequest,
    ) -> Result<wire::GetFunnelResponse, Fault> {
        let (selection, options) = parse(request.read, |see| {
            selection(request.range, request.filters, &[Dimension::Tool], see)
        })?;
        let mut view = self.look(scope, &options).await?;
        let calls = [Dimension::Verdict, Dimension::Status];
        let calls = view
            .top(&asked(Subject::ToolCall, &selection, &calls), GROUPS_MAX)
            .await?;
        let approvals = Question {
            durations: true,
            ..asked(Subject::Approval, &selection, &[Dimension::Status])
        };
        let approvals = view.top(&approvals, GROUPS_MAX).await?;
        let calls_where = |is: &dyn Fn(&str, &str) -> bool| {
            let those = calls
                .sums
                .iter()
                .filter(|sum| is(&sum.group[0], &sum.group[1]));
            unsigned(those.map(|sum| sum.measures.count).sum())
        };
        let by = |verdict: Verdict| calls_where(&|one, _| one == verdict.as_str());
        let answered = |status: ApprovalStatus| {
            let those = approvals
                .sums
                .iter()
                .filter(|sum| sum.group == [status.as_str()]);
            unsigned(those.map(|sum| sum.measures.count).sum())
        };
        let has_ended = |status: &str| status.parse::<WorkStatus>().is_ok();
        let failed = WorkStatus::Failed.as_str();
        Ok(wire::GetFunnelResponse {
            reported: calls_where(&|verdict, _| verdict.is_empty()),
            asked: calls_where(&|verdict, _| !verdict.is_empty()),
            allowed: by(Verdict::Allowed),
            warned: by(Verdict::Warned),
            blocked: by(Verdict::Blocked),
            held: by(Verdict::AwaitingApproval),
            pending: answered(ApprovalStatus::Pending),
            approved: answered(ApprovalStatus::Approved),
            rejected: answered(ApprovalStatus::Rejected),
            expired: answered(ApprovalStatus::Expired),
            cancelled: answered(ApprovalStatus::Cancelled),
            ended: calls_where(&|verdict, status| !verdict.is_empty() && has_ended(status)),
            failed: calls_where(&|verdict, status| !verdict.is_empty() && status == failed),
            waiting: encode::analytics::durations(&approvals.total.durations),
            range: Some(encode::analytics::range(selection.0)),
            as_of: Some(view.close().await?),
        })
    }
}

impl View<'_> {
    async fn count_runs(
        &mut self,
        selection: &(Range, Filters),
    ) -> Result<wire::GetRunSummaryResponse, Fault> {
        let question = Question {
            durations: true,
            ..asked(
                Subject::Run,
                selection,
                &[Dimension::Status, Dimension::Kind],
            )
        };
        let runs = self.top(&question, GROUPS_MAX).await?;
        let mut summary = wire::GetRunSummaryResponse {
            total: unsigned(runs.total.count),
            durations: encode::analytics::durations(&runs.total.durations),
            ..wire::GetRunSummaryResponse::default()
        };
        for sum in &runs.sums {
            let count = unsigned(sum.measures.count);
            let place = match sum.group[0].parse::<Status>() {
                Ok(Status::Completed | Status::Succeeded) if sum.group[1] == WITH_ERRORS => {
                    &mut summary.completed_with_errors
                }
                Ok(Status::Completed | Status::Succeeded) => &mut summary.completed,
                Ok(Status::Failed) => &mut summary.failed,
                Ok(Status::Queued | Status::Waiting) => &mut summary.queued,
                Ok(Status::Stopped | Status::Cancelled) => &mut summary.stopped,
                Ok(Status::Skipped) => &mut summary.skipped,
                Ok(
                    Status::Running
                    | Status::Starting
                    | Status::Exporting
                    | Status::Stopping
                    | Status::Unknown,
                )
                | Err(_) => &mut summary.running,
            };
            *place = place.saturating_add(count);
        }
        let done = summary
            .completed
            .saturating_add(summary.completed_with_errors);
        let judged = done.saturating_add(summary.failed);
        let rate = done.saturating_mul(1_000).checked_div(judged);
        summary.success_rate = rate.and_then(|rate| u32::try_from(rate).ok());
        Ok(summary)
    }

    /// How many agents have runs in a selection.
    async fn count_agents(&mut self, selection: &(Range, Filters)) -> Result<u64, Fault> {
        let agents = asked(Subject::Run, selection, &[Dimension::Agent]);
        let mut unknown = agents.clone();
        unknown
            .filters
            .insert(Dimension::Agent, vec![String::new()]);
        let (all, none) = (self.top(&agents, 1).await?, self.top(&unknown, 1).await?);
        let is_none_among = selection
            .1
            .get(&Dimension::Agent)
            .is_none_or(|names| names.contains(&String::new()));
        Ok(all
            .groups
            .saturating_sub(if is_none_among { none.groups } else { 0 }))
    }

    async fn failed_runs(
        &mut self,
        (range, filters): &(Range, Filters),
    ) -> Result<Vec<wire::FailedRun>, Fault> {
        let failed = Status::Failed.as_str();
        let statuses = filters.get(&Dimension::Status);
        if statuses.is_some_and(|statuses| statuses.iter().all(|status| status != failed)) {
            return Ok(Vec::new());
        }
        let rows: Result<Vec<Failed>, _> = sqlx::query_as(statements::SELECT_FAILED_RUNS)
            .bind(self.scope.tenant.as_uuid())
            .bind(self.scope.mode.as_str())
            .bind(range.from)
            .bind(range.to)
            .bind(filters.get(&Dimension::Agent))
            .bind(filters.get(&Dimension::AgentVersion))
            .bind(filters.get(&Dimension::Model))
            .bind(filters.get(&Dimension::Space))
            .bind(filters.get(&Dimension::Error))
            .bind(FAILED_MAX)
            .fetch_all(&mut *self.snapshot.tx)
            .await;
        let rows = rows.map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

/// The longest that nine in ten did not pass.
pub(super) fn p90(durations: &Durations) -> Option<std::time::Duration> {
    durations.quantile(900)
}
