//! Tool calls as load: appended, and now and then read back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::encode;
use runledger_proto::run::v1::{
    GetRunRequest, ToolCallFact, ToolCallIngestServiceAppendRequest,
    ToolCallIngestServiceAppendResponse, ToolCallStarted, tool_call_fact,
};
use runledger_service::{ids, status};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::histogram;
use super::pacing::{Job, Pace, Schedule, work};
use crate::remote::{For, Ingest, Remote, Runs};

/// Connections that callers share.
pub(super) const CONNECTIONS: usize = 4;
/// Runs that the tool calls belong to, beside those of the checks.
pub(super) const RUNS: u64 = 512;
/// Characters of the arguments, so that a record is about a kilobyte.
pub(super) const ARGUMENT_CHARS: usize = 640;
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a check asks the read model to wait.
const CHECK_WAIT: Duration = Duration::from_secs(10);
/// Longest pause that a refusal may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What was measured. Histograms count microseconds.
pub(super) struct Measured {
    /// From the beginning to the last batch that was answered.
    pub(super) elapsed: Duration,
    pub(super) requests: u64,
    pub(super) accepted: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    /// Of requests that were answered; in an open loop from the moment each was meant to be sent.
    pub(super) latency: Histogram<u64>,
    /// From the acknowledgement to the answer of a read that shows what was acknowledged.
    pub(super) visible: Histogram<u64>,
    pub(super) checks: u64,
    /// Reads that showed less than their token covers: must be none.
    pub(super) stale: u64,
    /// Reads that were told to come back: allowed, and slow.
    pub(super) behind: u64,
}

impl Measured {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            elapsed: Duration::ZERO,
            requests: 0,
            accepted: 0,
            unknown: 0,
            refused: 0,
            reasons: BTreeMap::new(),
            latency: histogram()?,
            visible: histogram()?,
            checks: 0,
            stale: 0,
            behind: 0,
        })
    }
}

/// Runs a job to its end.
pub(super) async fn drive(remote: &Remote, job: &Job) -> anyhow::Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push((remote.ingest().await?, remote.runs(For::Reading).await?));
    }
    let schedule = Schedule::new(Instant::now(), *job);
    let session: Arc<str> = ids::fresh().simple().to_string().into();
    let measured = Arc::new(Mutex::new(Measured::new()?));
    let caller = |(ingest, runs), schedule| {
        let caller = Caller {
            schedule,
            session: Arc::clone(&session),
            ingest,
            runs,
            measured: Arc::clone(&measured),
        };
        caller.work()
    };
    work(&schedule, &connections, caller).await?;
    let measured = Arc::into_inner(measured).context("all callers have ended")?;
    Ok(measured
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

struct Caller {
    schedule: Schedule,
    session: Arc<str>,
    ingest: Ingest,
    runs: Runs,
    measured: Arc<Mutex<Measured>>,
}

impl Caller {
    /// Held for a few additions, never across a wait.
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(mut self) {
        let job = self.schedule.job;
        while let Some((number, moment)) = self.schedule.next().await {
            let is_checked = job.check_every > 0 && number.is_multiple_of(job.check_every);
            // A run of its own for what is read back: its one token then covers all there is of it.
            let run = if is_checked {
                format!("check-{number}")
            } else {
                (number % RUNS).to_string()
            };
            let run = format!("load-{}-{run}", self.session);
            let request = request(&run, number, job.batch);
            let answered = self.ingest.tool_calls.append(request).await;
            match answered {
                Ok(answer) => {
                    self.answered(moment);
                    let answer = answer.into_inner();
                    if self.count(&answer) && is_checked {
                        self.check(run, answer.token).await;
                    }
                }
                Err(refused) => self.refuse(&refused).await,
            }
        }
    }

    fn answered(&self, moment: Instant) {
        let mut measured = self.measured();
        measured.requests += 1;
        measured.elapsed = self.schedule.begin.elapsed();
        measured.latency.saturating_record(micros(moment.elapsed()));
    }

    /// Counts what became of a batch; true when all of it was accepted.
    fn count(&self, answer: &ToolCallIngestServiceAppendResponse) -> bool {
        let mut measured = self.measured();
        for result in &answer.results {
            match &result.outcome {
                Some(Outcome::Accepted(_)) => measured.accepted += 1,
                Some(Outcome::Refused(_)) => measured.refused += 1,
                Some(Outcome::Unknown(_)) | None => measured.unknown += 1,
            }
        }
        answer
            .results
            .iter()
            .all(|result| matches!(result.outcome, Some(Outcome::Accepted(_))))
    }

    async fn refuse(&mut self, refused: &Status) {
        let records = u64::from(self.schedule.job.batch);
        self.measured().requests += 1;
        match refused.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                self.measured().unknown += records
            }
            _ => self.measured().refused += records,
        }
        let reason = status::reason(refused).unwrap_or_else(|| refused.code().to_string());
        *self.measured().reasons.entry(reason).or_default() += 1;
        if let (Pace::Callers(_), Some(pause)) =
            (self.schedule.job.pace, status::retry_after(refused))
        {
            sleep(pause.min(PAUSE_MAX)).await;
        }
    }

    /// Reads back what was just acknowledged, with its token, and counts how long it took to be seen.
    async fn check(&mut self, run_id: String, token: String) {
        let acknowledged = Instant::now();
        let read = Some(ReadOptions {
            at_least: vec![token],
            max_wait: Some(encode::duration(CHECK_WAIT)),
        });
        self.measured().checks += 1;
        match self.runs.get_run(GetRunRequest { run_id, read }).await {
            Ok(answer) => {
                self.measured()
                    .visible
                    .saturating_record(micros(acknowledged.elapsed()));
                let totals = answer
                    .into_inner()
                    .run
                    .and_then(|run| run.totals)
                    .unwrap_or_default();
                self.measured().stale +=
                    u64::from(totals.tool_calls != u64::from(self.schedule.job.batch));
            }
            // The token covers it, so it must be there.
            Err(refused) if refused.code() == Code::NotFound => self.measured().stale += 1,
            Err(refused) => {
                self.measured().behind += 1;
                let reason = status::reason(&refused).unwrap_or_else(|| refused.code().to_string());
                *self
                    .measured()
                    .reasons
                    .entry(format!("{reason}, when reading"))
                    .or_default() += 1;
            }
        }
    }
}

fn request(run: &str, number: u64, batch: u16) -> Request<ToolCallIngestServiceAppendRequest> {
    let occurred_at = Some(encode::timestamp(SystemClock.now()));
    let arguments_json = format!("{{\"text\":\"{}\"}}", "x".repeat(ARGUMENT_CHARS));
    let fact = |index: u16| {
        let started = ToolCallStarted {
            run_id: run.to_owned(),
            tool_call_id: format!("{number}-{index}"),
            tool: "load".to_owned(),
            arguments_json: arguments_json.clone(),
            ..ToolCallStarted::default()
        };
        let id: Uuid = ids::fresh();
        ToolCallFact {
            id: id.to_string(),
            occurred_at,
            cause_id: String::new(),
            cause_stream: String::new(),
            fact: Some(tool_call_fact::Fact::ToolCallStarted(started)),
        }
    };
    let mut request = Request::new(ToolCallIngestServiceAppendRequest {
        facts: (0..batch).map(fact).collect(),
    });
    request.set_timeout(TIMEOUT);
    request
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
