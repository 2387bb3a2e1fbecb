//! One question: groups, by lengths of time where they are asked for.

use runledger_domain::analytics::{POINTS_MAX, Question};
use runledger_domain::fault::Fault;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::ReadOptions;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::decode::analytics as read;
use runledger_proto::decode::fields::Fields;
use runledger_proto::encode;
use runledger_role::reading::parse;
use runledger_service::page;

use super::sums::{Sum, Top};
use super::{Api, View};

/// What a question comes to.
pub(super) struct Found {
    pub(super) rows: Vec<wire::Row>,
    pub(super) top: Top,
}

impl Api {
    pub(super) async fn query(
        &self,
        scope: Scope,
        request: wire::QueryRequest,
    ) -> Result<wire::QueryResponse, Fault> {
        let ((question, limit), options) = parse(request.read, |see| {
            let question = read::question(request.question, see)?;
            let limit = limit(&question, request.limit, see);
            Some((question, limit))
        })?;
        let (mut view, range) = (self.view(scope, &options).await?, question.range);
        let found = view.find(&question, limit).await?;
        Ok(wire::QueryResponse {
            rows: found.rows,
            groups: found.top.groups,
            total: Some(encode::analytics::measures(&found.top.total)),
            range: Some(encode::analytics::range(range)),
            as_of: Some(view.close().await?),
        })
    }

    /// A view for a question that is put by ourselves.
    pub(super) async fn look(
        &self,
        scope: Scope,
        options: &ReadOptions,
    ) -> Result<View<'_>, Fault> {
        self.view(scope, options).await
    }
}

/// How many groups a question is answered with: as many as were asked for, or else as its lengths of time
/// leave room for.
fn limit(question: &Question, asked: u32, see: &mut Fields<'_>) -> u32 {
    let limit = page::size(asked);
    if question.granularity.is_none() || question.group_by.is_empty() {
        return limit;
    }
    let most = u32::try_from(POINTS_MAX / question.periods_max()).unwrap_or(u32::MAX);
    if asked != 0 && limit > most {
        let why = format_args!(
            "so many groups in so many lengths of time are more than {POINTS_MAX}; ask for {most} groups, a shorter range or a coarser granularity"
        );
        see.fault("limit", "TOO_MANY_POINTS", why);
    }
    limit.min(most.max(1))
}

impl View<'_> {
    /// Answers a question.
    pub(super) async fn find(&mut self, question: &Question, limit: u32) -> Result<Found, Fault> {
        let top = self.top(question, limit).await?;
        let periods = question.periods();
        if periods.is_empty() || top.sums.is_empty() {
            let rows = top.sums.iter().map(|sum| row(sum, None)).collect();
            return Ok(Found { rows, top });
        }
        let groups: Vec<Vec<String>> = top.sums.iter().map(|sum| sum.group.clone()).collect();
        let edges: Vec<Timestamp> = periods.iter().map(|(begin, _)| *begin).collect();
        let mut sums = self.periods(question, &groups, &edges).await?;
        let place = |sum: &Sum| groups.iter().position(|group| *group == sum.group);
        sums.sort_by_cached_key(|sum| (place(sum), sum.period));
        let rows = sums
            .iter()
            .map(|sum| row(sum, periods.get(sum.period)))
            .collect();
        Ok(Found { rows, top })
    }
}

fn row(sum: &Sum, period: Option<&(Timestamp, String)>) -> wire::Row {
    wire::Row {
        group: sum.group.clone(),
        begin: period.map(|(begin, _)| encode::timestamp(*begin)),
        period: period.map(|(_, name)| name.clone()).unwrap_or_default(),
        measures: Some(encode::analytics::measures(&sum.measures)),
    }
}
