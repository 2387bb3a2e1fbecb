//! The queue: one approval, lists of them, and counts.

use prost::Message as _;
use runledger_domain::approval::Status;
use runledger_domain::fault::Fault;
use runledger_domain::ids::{AgentId, ApprovalId, Name, PolicyId, RunId};
use runledger_domain::policy::Severity;
use runledger_domain::time::Timestamp;
use runledger_proto::approval::v1 as wire;
use runledger_proto::decode::fields::{Fields, reason};
use runledger_proto::words::known;
use runledger_proto::{encode, policy::v1 as policy};
use runledger_service::page;
use sqlx::{FromRow as _, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::rows::ApprovalRow;
use super::{Api, Call, View, approval_not_found, database, parse};
use crate::statements;

/// Of a list: which approvals.
#[derive(Debug)]
struct Filters {
    statuses: Vec<Status>,
    policy: Option<PolicyId>,
    agent: Option<AgentId>,
    tool: Option<Name>,
    run: Option<RunId>,
    severity: Option<Severity>,
    before: Option<Timestamp>,
}

/// Behind which approval a page begins.
type Place = (Timestamp, Uuid);

impl Filters {
    fn read(
        request: wire::ListApprovalsRequest,
        now: Timestamp,
        see: &mut Fields<'_>,
    ) -> Option<Self> {
        let mut statuses = Vec::new();
        for status in &request.statuses {
            match known::<wire::ApprovalStatus>(*status) {
                Some(status) => statuses.push(status),
                None => see.fault("statuses", reason::UNKNOWN_VALUE, "must be known statuses"),
            }
        }
        statuses.sort_unstable();
        statuses.dedup();
        let severity = match request.severity {
            0 => None,
            number => see.word::<policy::Severity>("severity", number),
        };
        let older_than = see.optional_duration("older_than", request.older_than);
        let before = older_than.map(|age| {
            let age = chrono::TimeDelta::from_std(age).unwrap_or(chrono::TimeDelta::MAX);
            now.checked_sub_signed(age).unwrap_or(Timestamp::UNIX_EPOCH)
        });
        Some(Self {
            statuses,
            policy: see.optional_id("policy_id", request.policy_id, PolicyId::parse),
            agent: see.optional_id("agent_id", request.agent_id, AgentId::parse),
            tool: see.optional_id("tool", request.tool, Name::parse),
            run: see.optional_id("run_id", request.run_id, RunId::parse),
            severity,
            before,
        })
    }

    /// What a page token is bound to: all but the age, which moves on with the clock.
    fn list(&self, view: &str) -> page::List {
        let text = |one: Option<String>| one.unwrap_or_default();
        let statuses: Vec<&str> = self.statuses.iter().map(|one| one.as_str()).collect();
        page::List::of(&[
            "ListApprovals",
            view,
            &statuses.join(","),
            &text(self.policy.as_ref().map(ToString::to_string)),
            &text(self.agent.as_ref().map(ToString::to_string)),
            &text(self.tool.as_ref().map(ToString::to_string)),
            &text(self.run.as_ref().map(ToString::to_string)),
            self.severity.map_or("", |one| one.as_str()),
        ])
    }

    /// The statement with the filters that were asked for. What is pushed is never a caller's text.
    fn statement(&self, view: &View, after: Option<Place>, size: u32) -> QueryBuilder<Postgres> {
        let (head, rest) = statements::SELECT_APPROVALS
            .split_once("WHERE")
            .unwrap_or((statements::SELECT_APPROVALS, ""));
        let order = rest.split_once("ORDER BY").map_or("", |(_, order)| order);
        let order = order.split_once("LIMIT").map_or(order, |(order, _)| order);
        let mut query = QueryBuilder::new(head);
        query.push("WHERE a.tenant_id = ").push_bind(view.tenant());
        query.push(" AND a.mode = ").push_bind(view.mode());
        let statuses: Vec<&'static str> = self.statuses.iter().map(|one| one.as_str()).collect();
        if statuses.as_slice() == ["pending"] {
            // As it stands in the index that holds no others.
            query.push(" AND a.status = 'pending'");
        } else if !statuses.is_empty() {
            query
                .push(" AND a.status = ANY (")
                .push_bind(statuses)
                .push(")");
        }
        for (column, value) in [
            (
                " AND a.policy_id = ",
                self.policy.as_ref().map(PolicyId::as_str),
            ),
            (
                " AND a.agent_id = ",
                self.agent.as_ref().map(AgentId::as_str),
            ),
            (" AND a.tool = ", self.tool.as_ref().map(Name::as_str)),
            (" AND a.run_id = ", self.run.as_ref().map(RunId::as_str)),
        ] {
            if let Some(value) = value {
                query.push(column).push_bind(value.to_owned());
            }
        }
        if let Some(least) = self.severity {
            let graver = Severity::ALL.iter().filter(|one| **one >= least);
            let graver: Vec<&'static str> = graver.map(|one| one.as_str()).collect();
            query
                .push(" AND a.severity = ANY (")
                .push_bind(graver)
                .push(")");
        }
        if let Some(before) = self.before {
            query.push(" AND a.requested_at <= ").push_bind(before);
        }
        if let Some((at, id)) = after {
            query
                .push(" AND (a.requested_at, a.approval_id) < (")
                .push_bind(at);
            query.push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY").push(order).push("LIMIT ");
        query.push_bind(i64::from(size) + 1);
        query
    }
}

impl Api {
    pub(super) async fn approval(
        &self,
        call: Call<wire::GetApprovalRequest>,
    ) -> Result<wire::GetApprovalResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let (approval_id, options) = parse(request.read, |see| {
            see.uuid("approval_id", &request.approval_id)
                .map(ApprovalId::new)
        })?;
        let mut view = self.read(scope, &options, None).await?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let row = sqlx::query(statements::SELECT_APPROVAL)
            .bind(tenant)
            .bind(mode)
            .bind(approval_id.as_uuid())
            .fetch_optional(&mut **view.tx())
            .await
            .map_err(database)?
            .ok_or_else(approval_not_found)?;
        let decision: Vec<u8> = row.try_get("decision").map_err(Fault::internal)?;
        let row = ApprovalRow::from_row(&row).map_err(Fault::internal)?;
        let held = wire::ToolCallDecided::decode(decision.as_slice()).map_err(Fault::internal)?;
        let votes: Vec<Vec<u8>> = sqlx::query_scalar(statements::SELECT_VOTES)
            .bind(tenant)
            .bind(mode)
            .bind(approval_id.as_uuid())
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let votes = votes
            .iter()
            .map(|vote| wire::ApprovalVoted::decode(vote.as_slice()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Fault::internal)?;
        let alike: Vec<ApprovalRow> = sqlx::query_as(statements::SELECT_APPROVALS_ALIKE)
            .bind(tenant)
            .bind(mode)
            .bind(&row.agent_id)
            .bind(&row.tool)
            .bind(approval_id.as_uuid())
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        Ok(wire::GetApprovalResponse {
            approval: Some(row.to_wire()),
            held: Some(held),
            edited_arguments_json: row.edited_arguments.clone().unwrap_or_default(),
            votes,
            like_it: alike.iter().map(ApprovalRow::to_wire).collect(),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn approvals(
        &self,
        call: Call<wire::ListApprovalsRequest>,
    ) -> Result<wire::ListApprovalsResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let mut request = call.message;
        let size = page::size(request.page_size);
        let token = std::mem::take(&mut request.page_token);
        let now = self.0.parts.clock.now();
        let (filters, options) =
            parse(request.read.take(), |see| Filters::read(request, now, see))?;
        let list = filters.list(&scope.to_string());
        let after: Option<Place> = list.place(&token)?;
        let mut view = self.read(scope, &options, None).await?;
        let mut query = filters.statement(&view, after, size);
        let mut rows: Vec<ApprovalRow> = query
            .build_query_as()
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let last = rows.last().filter(|_| more);
        let next_page_token = last
            .map(|row| list.token(&(row.requested_at, row.approval_id)))
            .transpose()?
            .unwrap_or_default();
        Ok(wire::ListApprovalsResponse {
            approvals: rows.iter().map(ApprovalRow::to_wire).collect(),
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn counts(
        &self,
        call: Call<wire::CountApprovalsRequest>,
    ) -> Result<wire::CountApprovalsResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let ((), options) = parse(call.message.read, |_| Some(()))?;
        let mut view = self.read(scope, &options, None).await?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let rows: Vec<(String, String, i64, Timestamp)> = sqlx::query_as(statements::SELECT_COUNTS)
            .bind(tenant)
            .bind(mode)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let counts = rows
            .into_iter()
            .map(|(policy_id, policy_name, pending, oldest)| {
                wire::count_approvals_response::Count {
                    policy_id,
                    policy_name,
                    pending: u64::try_from(pending).unwrap_or_default(),
                    oldest: Some(encode::timestamp(oldest)),
                }
            });
        Ok(wire::CountApprovalsResponse {
            counts: counts.collect(),
            as_of: Some(view.close().await?),
        })
    }
}
