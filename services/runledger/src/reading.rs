//! Reading runs: pages, tokens, and the patience that a read needs right after a write.

use std::future::Future;
use std::time::Duration;

use prost::Message as _;
use runledger_domain::digest::{self, Digest};
use runledger_eventlog::token::Token;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::{ListRunsRequest, Run, RunStatus};
use runledger_service::status;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::import::Totals;
use crate::remote::{Refusal, Runs};

/// Most runs of one page.
pub(crate) const PAGE: u32 = 1_000;
/// How long the read model may take to catch up before a person is told that it does not.
const PATIENCE: Duration = Duration::from_secs(60);
/// What one read is asked to wait; the longest that it may.
const WAIT: prost_types::Duration = prost_types::Duration {
    seconds: 10,
    nanos: 0,
};

/// What a read must not be older than.
pub(crate) fn at_least(token: &Token) -> Option<ReadOptions> {
    let at_least = if token.is_empty() {
        Vec::new()
    } else {
        vec![token.to_string()]
    };
    Some(ReadOptions {
        at_least,
        max_wait: Some(WAIT),
    })
}

/// Asks again while the read model is behind, for a minute at most.
pub(crate) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(refused) if is_behind(&refused) && Instant::now() < deadline => {}
            Err(refused) => return Err(refused.into()),
        }
    }
}

/// Such a refusal comes only after the wait that was asked for, so asking again at once is no hurry.
fn is_behind(refused: &Status) -> bool {
    refused.code() == Code::Unavailable
        && status::reason(refused).as_deref() == Some("READ_MODEL_BEHIND")
}

/// Hands every run that `request` asks for to `each`, page by page; the first page no older than `token`.
pub(crate) async fn each_run(
    runs: &mut Runs,
    mut request: ListRunsRequest,
    token: &Token,
    mut each: impl FnMut(Run),
) -> Result<(), Refusal> {
    request.page_size = PAGE;
    request.read = at_least(token);
    loop {
        let page = patiently(|| {
            let (mut runs, request) = (runs.clone(), request.clone());
            async move { runs.list_runs(request).await }
        })
        .await?;
        page.runs.into_iter().for_each(&mut each);
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
        // Time does not run backwards in a read model: what the first page showed, later ones show.
        request.read = None;
    }
}

/// The figures of some runs, and a digest that changes when anything about them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) totals: Totals,
    digest: Digest,
}

/// Reads the figures of all runs that carry a label.
pub(crate) async fn seen(
    runs: &mut Runs,
    label: (&str, &str),
    token: &Token,
) -> Result<Seen, Refusal> {
    let request = ListRunsRequest {
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        ..ListRunsRequest::default()
    };
    let mut seen = Seen {
        totals: Totals::default(),
        digest: [0; 32],
    };
    each_run(runs, request, token, |run| {
        let counts = run.totals.unwrap_or_default();
        seen.totals.runs += 1;
        seen.totals.succeeded += u64::from(run.status == i32::from(RunStatus::Succeeded));
        seen.totals.tool_calls += counts.tool_calls;
        seen.totals.failed_tool_calls += counts.failed_tool_calls;
        seen.totals.messages += counts.messages;
        seen.digest = digest::of_parts(&[&seen.digest, &run.encode_to_vec()]);
    })
    .await?;
    Ok(seen)
}
