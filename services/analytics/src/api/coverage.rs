//! Which tools policies cover.

use std::collections::BTreeMap;

use runledger_domain::analytics::{Dimension, Filters, Range, Subject};
use runledger_domain::fault::Fault;
use runledger_domain::scope::Scope;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::encode;
use runledger_role::reading::parse;

use super::summary::{asked, selection};
use super::{Api, View, unsigned};

/// Most tools of an answer, and most of them and ways of governing that are looked at.
const TOOLS_MAX: usize = 1_000;
const GROUPS_MAX: u32 = 10_000;

impl Api {
    pub(super) async fn coverage(
        &self,
        scope: Scope,
        request: wire::GetCoverageRequest,
    ) -> Result<wire::GetCoverageResponse, Fault> {
        let (selection, options) = parse(request.read, |see| {
            selection(request.range, request.filters, &[Dimension::Tool], see)
        })?;
        let mut view = self.look(scope, &options).await?;
        let mut tools = view.tools(&selection).await?;
        tools.truncate(TOOLS_MAX);
        Ok(wire::GetCoverageResponse {
            tools,
            range: Some(encode::analytics::range(selection.0)),
            as_of: Some(view.close().await?),
        })
    }
}

impl View<'_> {
    /// Tools, those with the most calls that no policy covers first.
    pub(super) async fn tools(
        &mut self,
        selection: &(Range, Filters),
    ) -> Result<Vec<wire::ToolCoverage>, Fault> {
        let calls = [Dimension::Tool, Dimension::Kind];
        let calls = self
            .top(&asked(Subject::ToolCall, selection, &calls), GROUPS_MAX)
            .await?;
        let mut tools: BTreeMap<String, wire::ToolCoverage> = BTreeMap::new();
        for sum in calls.sums {
            let [tool, kind] = <[String; 2]>::try_from(sum.group).unwrap_or_default();
            let count = unsigned(sum.measures.count);
            let of = tools.entry(tool.clone()).or_default();
            of.tool = tool;
            of.calls = of.calls.saturating_add(count);
            let place = match kind.as_str() {
                "covered" => &mut of.covered,
                "uncovered" => &mut of.uncovered,
                _ => &mut of.reported,
            };
            *place = place.saturating_add(count);
        }
        let mut tools: Vec<wire::ToolCoverage> = tools.into_values().collect();
        tools.sort_by_key(|one| std::cmp::Reverse(one.uncovered.saturating_add(one.reported)));
        Ok(tools)
    }
}
