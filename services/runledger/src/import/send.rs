//! Facts to the ingestion services: in bounded requests, in the order that their streams need, again when
//! what became of them is unknown.
//!
//! The facts of one run go to three services, and those of runs and tool calls into one stream. So a group of
//! runs goes in steps, each begun when the one before is acknowledged: of every run the facts up to where its
//! service changes. In the log, and in every timeline, they then lie in the order in which they happened.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use runledger_eventlog::token::Token;
use runledger_proto::common::v1::AppendResult;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::message::v1::MessageIngestServiceAppendRequest;
use runledger_proto::run::v1::{RunIngestServiceAppendRequest, ToolCallIngestServiceAppendRequest};
use runledger_proto::schedule::v1::ScheduleIngestServiceAppendRequest;
use runledger_service::status;
use tokio::sync::Mutex;
use tonic::{Code, Request, Status};

use super::plan::{Facts, Planned, requests};
use super::progress::Progress;
use crate::remote::{Ingest, Refusal};

/// Runs of one group.
const GROUP_RUNS: usize = 500;
/// Facts of one request.
const REQUEST_FACTS: usize = 500;
/// Bytes of one request: well below the megabyte that a service takes.
const REQUEST_BYTES: usize = 768 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often one request is sent, and how long is waited in between.
const ATTEMPTS: u32 = 8;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Faults that are spelled out.
const FAULTS_SHOWN: usize = 10;

/// Sends the facts of several runs at a time; clones share what is done.
#[derive(Clone)]
pub(crate) struct Sender {
    ingest: Ingest,
    done: Arc<Mutex<(Option<Progress>, Token)>>,
}

/// Sends everything and answers with the token that covers it.
pub(super) async fn all(
    ingest: Ingest,
    planned: Vec<Planned>,
    progress: Option<Progress>,
) -> anyhow::Result<Token> {
    let sender = Sender::new(ingest, progress);
    let mut planned = planned.into_iter().peekable();
    while planned.peek().is_some() {
        sender
            .group(planned.by_ref().take(GROUP_RUNS).collect())
            .await?;
    }
    Ok(sender.token().await)
}

impl Sender {
    pub(crate) fn new(ingest: Ingest, progress: Option<Progress>) -> Self {
        Self {
            ingest,
            done: Arc::new(Mutex::new((progress, Token::default()))),
        }
    }

    /// The same over another connection.
    pub(crate) fn over(&self, ingest: Ingest) -> Self {
        Self {
            ingest,
            done: Arc::clone(&self.done),
        }
    }

    /// Covers everything sent so far.
    pub(crate) async fn token(&self) -> Token {
        self.done.lock().await.1.clone()
    }

    /// Sends all facts of some streams, each stream's in its order.
    ///
    /// # Errors
    /// When facts are refused, or what became of them stays unknown.
    pub(crate) async fn group(&self, planned: Vec<Planned>) -> anyhow::Result<()> {
        let mut left: Vec<_> = planned
            .into_iter()
            .map(|one| one.segments.into_iter())
            .collect();
        loop {
            let (mut runs, mut calls) = (Vec::new(), Vec::new());
            let (mut messages, mut schedules) = (Vec::new(), Vec::new());
            for segment in left.iter_mut().filter_map(Iterator::next) {
                match segment {
                    Facts::Runs(facts) => runs.extend(facts),
                    Facts::ToolCalls(facts) => calls.extend(facts),
                    Facts::Messages(facts) => messages.extend(facts),
                    Facts::Schedules(facts) => schedules.extend(facts),
                }
            }
            let is_over = runs.is_empty() && calls.is_empty();
            if is_over && messages.is_empty() && schedules.is_empty() {
                return Ok(());
            }
            tokio::try_join!(
                self.step(runs, Facts::Runs),
                self.step(calls, Facts::ToolCalls),
                self.step(messages, Facts::Messages),
                self.step(schedules, Facts::Schedules)
            )?;
        }
    }

    async fn step<T: prost::Message>(
        &self,
        facts: Vec<T>,
        of: fn(Vec<T>) -> Facts,
    ) -> anyhow::Result<()> {
        for facts in requests(facts, REQUEST_FACTS, REQUEST_BYTES) {
            let count = facts.len();
            let token = self.send(of(facts)).await?;
            let mut done = self.done.lock().await;
            if let Some(progress) = &mut done.0 {
                progress.add(u64::try_from(count)?);
            }
            done.1
                .merge(&token)
                .context("the log was made anew in the middle")?;
        }
        Ok(())
    }

    /// Sends one request until every fact of it is in the log. Sending one again is always safe: it has its id.
    async fn send(&self, facts: Facts) -> anyhow::Result<Token> {
        let mut pause = PAUSE_MIN;
        let mut trouble = String::new();
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            attempts += 1;
            match self.call(facts.clone()).await {
                Ok((results, token)) => {
                    refuse(&results)?;
                    if !results
                        .iter()
                        .any(|result| matches!(result.outcome, Some(Outcome::Unknown(_))))
                    {
                        return Token::parse(&token).context("the answer's token");
                    }
                    "what became of some facts is unknown".clone_into(&mut trouble);
                }
                // As slow as the tenant may be: it goes on, and nobody has to be told.
                Err(refused) if status::reason(&refused).as_deref() == Some("RATE_LIMITED") => {
                    attempts -= 1;
                    let pause = status::retry_after(&refused).unwrap_or(PAUSE_MIN);
                    tokio::time::sleep(pause.min(PAUSE_MAX)).await;
                    continue;
                }
                Err(refused) if worth_again(&refused) => {
                    pause = status::retry_after(&refused).unwrap_or(pause);
                    trouble = Refusal::from(refused).to_string();
                }
                Err(refused) => return Err(Refusal::from(refused).into()),
            }
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
            pause *= 2;
        }
        bail!("given up after {ATTEMPTS} attempts; do it again, that is always safe: {trouble}")
    }

    async fn call(&self, facts: Facts) -> Result<(Vec<AppendResult>, String), Status> {
        let mut ingest = self.ingest.clone();
        match facts {
            Facts::Runs(facts) => {
                let request = RunIngestServiceAppendRequest { facts };
                let answer = ingest.runs.append(timed(request)).await?.into_inner();
                Ok((answer.results, answer.token))
            }
            Facts::ToolCalls(facts) => {
                let request = ToolCallIngestServiceAppendRequest { facts };
                let answer = ingest.tool_calls.append(timed(request)).await?.into_inner();
                Ok((answer.results, answer.token))
            }
            Facts::Messages(facts) => {
                let request = MessageIngestServiceAppendRequest { facts };
                let answer = ingest.messages.append(timed(request)).await?.into_inner();
                Ok((answer.results, answer.token))
            }
            Facts::Schedules(facts) => {
                let request = ScheduleIngestServiceAppendRequest { facts };
                let answer = ingest.schedules.append(timed(request)).await?.into_inner();
                Ok((answer.results, answer.token))
            }
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

fn worth_again(refused: &Status) -> bool {
    matches!(
        refused.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled
    )
}

/// Refused facts would be refused again.
fn refuse(results: &[AppendResult]) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for result in results {
        if let Some(Outcome::Refused(refused)) = &result.outcome {
            faults.extend(
                refused
                    .violations
                    .iter()
                    .map(|one| format!("  {}  {}: {}", one.field, one.reason, one.description)),
            );
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let more = faults.len().saturating_sub(FAULTS_SHOWN);
    faults.truncate(FAULTS_SHOWN);
    if more > 0 {
        faults.push(format!("  and {more} more"));
    }
    bail!("facts were refused:\n{}", faults.join("\n"))
}
