//! The load: so many callers, or a fixed rate whatever the answers take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::histogram;
use crate::remote::{For, Ingest, Remote, Runs};

/// Connections that callers share.
pub(super) const CONNECTIONS: usize = 4;
/// Most requests in flight in an open loop; beyond that requests wait, and their latency says so.
const IN_FLIGHT_MAX: u16 = 1_024;
/// Runs that the tool calls belong to, beside those of the checks.
pub(super) const RUNS: u64 = 512;
/// Characters of the arguments, so that a record is about a kilobyte.
pub(super) const ARGUMENT_CHARS: usize = 640;
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a check asks the read model to wait.
const CHECK_WAIT: Duration = Duration::from_secs(10);
/// Longest pause that a refusal may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Records a second, each request at its moment.
    Rate(u64),
    /// As fast as they are answered.
    Callers(u16),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) pace: Pace,
    pub(super) duration: Duration,
    /// Records of a request.
    pub(super) batch: u16,
    pub(super) records_max: u64,
    /// Reads back after every so many requests; 0: never.
    pub(super) check_every: u64,
}

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

/// When the requests of a job are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    begin: Instant,
    job: Job,
}

impl Schedule {
    pub(super) fn new(begin: Instant, job: Job) -> Self {
        Self { begin, job }
    }

    /// When request `number` is meant to be sent; `None` when it no longer belongs to the job.
    pub(super) fn moment(&self, number: u64, now: Instant) -> Option<Instant> {
        let batch = u64::from(self.job.batch);
        if number.saturating_mul(batch) >= self.job.records_max {
            return None;
        }
        let moment = match self.job.pace {
            Pace::Callers(_) => now,
            Pace::Rate(rate) => {
                let nanos = u128::from(number) * u128::from(batch) * 1_000_000_000
                    / u128::from(rate.max(1));
                self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        (moment < self.begin + self.job.duration).then_some(moment)
    }

    pub(super) fn workers(&self) -> u16 {
        match self.job.pace {
            Pace::Callers(callers) => callers,
            Pace::Rate(_) => IN_FLIGHT_MAX,
        }
    }
}

/// Runs a job to its end.
pub(super) async fn drive(remote: &Remote, job: &Job) -> anyhow::Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push((remote.ingest().await?, remote.runs(For::Reading).await?));
    }
    let begin = Instant::now();
    let schedule = Schedule::new(begin, *job);
    let next = Arc::new(AtomicU64::new(0));
    let session: Arc<str> = ids::fresh().simple().to_string().into();
    let measured = Arc::new(Mutex::new(Measured::new()?));
    let mut workers = JoinSet::new();
    for number in 0..schedule.workers() {
        let (ingest, runs) = connections[usize::from(number) % CONNECTIONS].clone();
        let measured = Arc::clone(&measured);
        let worker = Worker {
            schedule,
            next: Arc::clone(&next),
            session: Arc::clone(&session),
            ingest,
            runs,
            measured,
        };
        workers.spawn(worker.work());
    }
    while let Some(joined) = workers.join_next().await {
        joined?;
    }
    let measured = Arc::into_inner(measured).context("all callers have ended")?;
    Ok(measured
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

struct Worker {
    schedule: Schedule,
    next: Arc<AtomicU64>,
    session: Arc<str>,
    ingest: Ingest,
    runs: Runs,
    measured: Arc<Mutex<Measured>>,
}

impl Worker {
    /// Held for a few additions, never across a wait.
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(mut self) {
        let job = self.schedule.job;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(moment) = self.schedule.moment(number, Instant::now()) else {
                return;
            };
            sleep_until(moment).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job(pace: Pace) -> Job {
        Job {
            pace,
            duration: Duration::from_secs(2),
            batch: 10,
            records_max: 150,
            check_every: 0,
        }
    }

    #[test]
    fn an_open_loop_has_its_moments_whatever_the_hour() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, job(Pace::Rate(100)));
        let late = begin + Duration::from_secs(60);
        assert_eq!(schedule.moment(0, late), Some(begin));
        assert_eq!(
            schedule.moment(14, late),
            Some(begin + Duration::from_millis(1_400))
        );
        assert_eq!(schedule.moment(15, begin), None, "records_max");
        let longer = Job {
            records_max: 1_000_000,
            ..job(Pace::Rate(100))
        };
        let schedule = Schedule::new(begin, longer);
        assert!(schedule.moment(19, begin).is_some());
        assert_eq!(schedule.moment(20, begin), None, "duration");
        assert_eq!(schedule.moment(u64::MAX, begin), None);
    }

    #[test]
    fn a_closed_loop_goes_on_at_once_until_the_end() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, job(Pace::Callers(4)));
        let now = begin + Duration::from_millis(700);
        assert_eq!(schedule.moment(3, now), Some(now));
        assert_eq!(schedule.moment(3, begin + Duration::from_secs(2)), None);
        assert_eq!(schedule.moment(15, now), None);
    }
}
