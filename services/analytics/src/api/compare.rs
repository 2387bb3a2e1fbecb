//! Two ranges, or two selections, side by side.

use std::collections::BTreeMap;

use runledger_domain::analytics::{Filters, Measures, Question};
use runledger_domain::fault::Fault;
use runledger_domain::scope::Scope;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::decode::analytics as read;
use runledger_proto::decode::fields::Fields;
use runledger_proto::encode::analytics as encode;
use runledger_role::reading::parse;
use runledger_service::page;

use super::Api;

/// Groups that are looked at on each side: those that are large on one may be small on the other.
const GROUPS_MAX: u32 = 10_000;

impl Api {
    pub(super) async fn compare(
        &self,
        scope: Scope,
        mut request: wire::CompareRequest,
    ) -> Result<wire::CompareResponse, Fault> {
        let (limit, read) = (page::size(request.limit), request.read.take());
        let ((question, other), options) = parse(read, |see| sides(request, see))?;
        let mut view = self.look(scope, &options).await?;
        let (one, two) = (
            view.top(&question, GROUPS_MAX).await?,
            view.top(&other, GROUPS_MAX).await?,
        );
        let mut groups: BTreeMap<Vec<String>, (Measures, Measures)> = BTreeMap::new();
        for sum in one.sums {
            groups.entry(sum.group).or_default().0 = sum.measures;
        }
        for sum in two.sums {
            groups.entry(sum.group).or_default().1 = sum.measures;
        }
        let mut rows: Vec<_> = groups.into_iter().collect();
        rows.sort_by_key(|(_, (one, two))| std::cmp::Reverse(one.count.max(two.count)));
        rows.truncate(limit as usize);
        let row = |(group, (one, two))| wire::Comparison {
            group,
            measures: Some(encode::measures(&one)),
            other: Some(encode::measures(&two)),
        };
        Ok(wire::CompareResponse {
            rows: rows.into_iter().map(row).collect(),
            total: Some(encode::measures(&one.total)),
            other_total: Some(encode::measures(&two.total)),
            range: Some(encode::range(question.range)),
            other_range: Some(encode::range(other.range)),
            as_of: Some(view.close().await?),
        })
    }
}

/// Both questions.
fn sides(request: wire::CompareRequest, see: &mut Fields<'_>) -> Option<(Question, Question)> {
    let question = read::question(request.question, see);
    let filters: Option<Filters> = read::filters("other_filters", request.other_filters, see);
    let range = match request.other_range {
        None => None,
        some => Some(read::range("other_range", some, see)?),
    };
    let (question, filters) = (question?, filters?);
    if question.granularity.is_some() {
        let why = "must be left out: two ranges are compared as wholes";
        see.fault("question.granularity", "NOT_ALLOWED", why);
    }
    let range = match range {
        Some(range) => range,
        None if filters.is_empty() => question.range.before()?,
        None => question.range,
    };
    let other = Question {
        range,
        filters: if filters.is_empty() {
            question.filters.clone()
        } else {
            filters
        },
        ..question.clone()
    };
    Some((question, other))
}
