//! Runs, newest first.

use runledger_domain::digest::Digest;
use runledger_domain::fault::Fault;
use runledger_domain::ids::{AgentId, Name, RunId, SpaceId};
use runledger_domain::run::Status;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::decode::fields::Fields;
use runledger_proto::run::v1::{ListRunsRequest, ListRunsResponse, Run, RunStatus};
use runledger_proto::words::known;
use runledger_service::page;
use sqlx::AssertSqlSafe;

use super::runs::{self, Row};
use super::{Api, Page, View, database, is_kept, parse, text_of, unknown_value};
use crate::projector::label_digest;
use crate::statements::{self, filter_runs};

const TASK_CHARS_MAX: usize = 256;
const LABELS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 1_024;

/// Where a page ends: the sort key of its last run.
type Place = (Timestamp, String);

#[derive(Debug)]
struct Filters {
    statuses: Vec<Status>,
    agent: Option<AgentId>,
    space: Option<SpaceId>,
    labels: Vec<Digest>,
    tool: Option<Name>,
    failed: Option<bool>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    task: Option<String>,
}

impl Filters {
    fn read(request: ListRunsRequest, see: &mut Fields<'_>) -> Option<Self> {
        let statuses: Option<Vec<Status>> = request
            .statuses
            .iter()
            .map(|one| known::<RunStatus>(*one))
            .collect();
        if statuses.is_none() {
            unknown_value(see, "statuses");
        }
        let mut statuses = statuses.unwrap_or_default();
        statuses.sort_unstable();
        statuses.dedup();
        let labels = see.texts("labels", request.labels, LABELS_MAX, LABEL_CHARS_MAX);
        let task = see.text("task_contains", request.task_contains, TASK_CHARS_MAX);
        Some(Self {
            statuses,
            agent: see.optional_id("agent_id", request.agent_id, AgentId::parse),
            space: see.optional_id("space_id", request.space_id, SpaceId::parse),
            labels: labels
                .iter()
                .map(|(name, value)| label_digest(name.as_str(), value))
                .collect(),
            tool: see.optional_id("tool", request.tool, Name::parse),
            failed: request.has_failed_tool_calls,
            from: see.optional_time("from", request.from),
            to: see.optional_time("to", request.to),
            task: (!task.is_empty()).then_some(task),
        })
    }

    fn list(&self, scope: Scope) -> page::List {
        let statuses: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        let digits = self.labels.iter().flatten();
        let digits = digits.flat_map(|byte| [byte >> 4, byte & 0xf]);
        page::List::of(&[
            "ListRuns",
            &scope.to_string(),
            &statuses.join(","),
            &text_of(self.agent.as_ref()),
            &text_of(self.space.as_ref()),
            &digits
                .map(|digit| char::from(b'a' + digit))
                .collect::<String>(),
            &text_of(self.tool.as_ref()),
            &text_of(self.failed.as_ref()),
            &text_of(self.from.as_ref()),
            &text_of(self.to.as_ref()),
            &text_of(self.task.as_ref()),
        ])
    }

    /// The statement with the filters asked for and no others.
    fn statement(&self, after: bool) -> String {
        let filters = [
            (self.statuses.len() == 1, filter_runs::BY_STATUS),
            (self.statuses.len() > 1, filter_runs::BY_STATUSES),
            (self.agent.is_some(), filter_runs::BY_AGENT),
            (self.space.is_some(), filter_runs::BY_SPACE),
            (!self.labels.is_empty(), filter_runs::BY_LABEL),
            (self.labels.len() > 1, filter_runs::BY_MORE_LABELS),
            (self.tool.is_some(), filter_runs::BY_TOOL),
            (self.failed.is_some(), filter_runs::BY_FAILED_TOOL_CALLS),
            (self.from.is_some(), filter_runs::FROM),
            (self.to.is_some(), filter_runs::TO),
            (self.task.is_some(), filter_runs::BY_TASK),
            (after, filter_runs::AFTER),
        ];
        statements::filtered(statements::SELECT_RUNS, &filters)
    }

    async fn page(
        &self,
        view: &mut View,
        size: u32,
        after: Option<&Place>,
    ) -> Result<Page<Run, Place>, Fault> {
        let (tenant, mode) = (view.tenant(), view.mode());
        let statuses: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        let labels: Vec<&[u8]> = self.labels.iter().map(Digest::as_slice).collect();
        let mut rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(self.statement(after.is_some())))
            .bind(tenant)
            .bind(mode)
            .bind(i64::from(size) + 1)
            .bind(&statuses)
            .bind(self.agent.as_ref().map(AgentId::as_str))
            .bind(self.space.as_ref().map(SpaceId::as_str))
            .bind(&labels)
            .bind(self.tool.as_ref().map(Name::as_str))
            .bind(self.failed)
            .bind(self.from)
            .bind(self.to)
            .bind(self.task.as_deref().map(containing))
            .bind(after.map(|(at, _)| *at))
            .bind(after.map(|(_, run_id)| run_id.as_str()))
            // Planned anew each time: a plan that fits all values of the filters fits none.
            .persistent(false)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let places: Vec<Place> = rows
            .iter()
            .map(|row| (row.sorted_at, row.run_id.clone()))
            .collect();
        let entries = runs::answers(view, rows, runs::METERS_IN_LIST_MAX).await?;
        let cut = entries.len() < places.len();
        let next = if more || cut {
            entries
                .len()
                .checked_sub(1)
                .and_then(|last| places.get(last))
                .cloned()
        } else {
            None
        };
        Ok(Page { entries, next })
    }
}

/// Whether a run can lie at this place.
fn can_be((at, run_id): &Place) -> bool {
    is_kept(*at) && RunId::parse(run_id.as_str()).is_ok()
}

/// The pattern for texts that contain `text`, taken literally.
fn containing(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

impl Api {
    pub(super) async fn runs(
        &self,
        scope: Scope,
        mut request: ListRunsRequest,
    ) -> Result<ListRunsResponse, Fault> {
        let (size, token) = (
            page::size(request.page_size),
            std::mem::take(&mut request.page_token),
        );
        let (filters, options) = parse(request.read.take(), |see| Filters::read(request, see))?;
        let list = filters.list(scope);
        let after = list.place_where(&token, can_be)?;
        let mut view = self.read(scope, &options).await?;
        let page = filters.page(&mut view, size, after.as_ref()).await?;
        let next_page_token = page
            .next
            .map(|place| list.token(&place))
            .transpose()?
            .unwrap_or_default();
        Ok(ListRunsResponse {
            runs: page.entries,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_no_row_has_is_no_place() {
        let list = page::List::of(&["ListRuns"]);
        let good = ("2026-01-01T00:00:00Z", "r1");
        let bad = [
            (good.0, "a\0b"),
            (good.0, ""),
            ("+262000-01-01T00:00:00Z", good.1),
            ("0000-12-31T23:59:59Z", good.1),
        ];
        let place = |place| list.place_where(&list.token(&place).unwrap(), can_be);
        assert!(place(good).is_ok());
        for bad in bad {
            assert!(place(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_text_is_searched_as_it_stands() {
        assert_eq!(containing("50% of a_b\\c"), "%50\\% of a\\_b\\\\c%");
    }
}
