//! What is counted of one scope, and every way to ask for it.

use std::collections::BTreeMap;

use prost::Message;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{
    FactError, RunEnded, RunIngestServiceAppendRequest, RunOutcome,
    ToolCallIngestServiceAppendRequest, WorkStatus,
};
use runledger_tests::{Clients, facts};

use super::Ask;

/// So many failed calls of one tool are worth a sentence.
const FAILED: usize = 10;

/// A run that failed, and what it counted; the marker stands in its id, its error, its tool and its counter.
pub(super) struct Counted {
    run_id: String,
    marker: String,
    tokens: Vec<String>,
}

impl Counted {
    pub(super) async fn report(clients: &Clients, marker: &str) -> Self {
        let run_id = format!("failed-{marker}");
        let rng = &mut rand::rng();
        let ended = RunEnded {
            run_id: run_id.clone(),
            outcome: RunOutcome::Failed.into(),
            error: Some(FactError {
                code: format!("E-{marker}"),
                message: String::new(),
            }),
            counters: BTreeMap::from([(marker.to_owned(), 1)]),
            ..RunEnded::default()
        };
        let facts = vec![
            facts::run_started(rng, &run_id),
            facts::run_fact(rng, Fact::RunEnded(ended)),
        ];
        let request = RunIngestServiceAppendRequest { facts };
        let run = clients.runs_in.clone().append(request).await.expect("runs");
        let calls = (0..FAILED).flat_map(|number| {
            let (call, tool) = (format!("failed-{number}"), format!("fails-{marker}"));
            let rng = &mut rand::rng();
            [
                facts::tool_call_started(rng, &run_id, &call, &tool),
                facts::tool_call_ended(rng, &run_id, &call, WorkStatus::Failed),
            ]
        });
        let request = ToolCallIngestServiceAppendRequest {
            facts: calls.collect(),
        };
        let calls = clients.tool_calls_in.clone().append(request).await;
        let calls = calls.expect("calls").into_inner();
        Self {
            run_id,
            marker: marker.to_owned(),
            tokens: vec![run.into_inner().token, calls.token],
        }
    }

    fn read(&self) -> Option<ReadOptions> {
        Some(ReadOptions {
            at_least: self.tokens.clone(),
            max_wait: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        })
    }

    /// Every read that shows its owner the marker.
    pub(super) fn reads(&self) -> Vec<Ask> {
        let read = self.read();
        let tools = question(wire::Subject::ToolCall, wire::Dimension::Tool);
        let errors = wire::Question {
            filters: vec![wire::Filter {
                dimension: wire::Dimension::Error.into(),
                values: vec![format!("E-{}", self.marker)],
            }],
            ..question(wire::Subject::Run, wire::Dimension::Error)
        };
        let run = wire::diagnose_run_request::Run::RunId(self.run_id.clone());
        ask!["analytics.v1.AnalyticsService",
            Query => wire::QueryRequest { question: Some(tools.clone()), read: read.clone(), ..Default::default() },
            Query => wire::QueryRequest { question: Some(errors), read: read.clone(), ..Default::default() },
            ExportQuery => wire::ExportQueryRequest { question: Some(tools.clone()), read: read.clone() },
            Compare => wire::CompareRequest { question: Some(tools), read: read.clone(), ..Default::default() },
            GetRunSummary => wire::GetRunSummaryRequest {
                range: always(), include_failed: true, read: read.clone(), ..Default::default()
            },
            GetRecordsSummary => wire::GetRecordsSummaryRequest { range: always(), read: read.clone(), ..Default::default() },
            GetCoverage => wire::GetCoverageRequest { range: always(), read: read.clone(), ..Default::default() },
            GetInsights => wire::GetInsightsRequest { range: always(), read: read.clone() },
            DiagnoseRun => wire::DiagnoseRunRequest { run: Some(run), read },
        ]
    }

    /// What shows its owner no text of his.
    pub(super) fn commands(&self) -> Vec<Ask> {
        ask!["analytics.v1.AnalyticsService",
            GetFunnel => wire::GetFunnelRequest { range: always(), read: self.read(), ..Default::default() },
        ]
    }
}

fn question(subject: wire::Subject, by: wire::Dimension) -> wire::Question {
    wire::Question {
        subject: subject.into(),
        range: always(),
        group_by: vec![by.into()],
        ..Default::default()
    }
}

fn always() -> Option<wire::Range> {
    let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
    Some(wire::Range {
        from: Some(at(1_700_000_000)),
        to: Some(at(2_000_000_000)),
    })
}
