//! Governed calls as load: each request asks whether one tool call may be made, and waits for the decision.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use runledger_proto::approval::v1::tool_call_answer::Answer;
use runledger_proto::approval::v1::{RequestToolCallRequest, ToolCallRequest};
use runledger_proto::run::v1::ToolCallStarted;
use runledger_service::{ids, status};
use tokio::time::Instant;
use tonic::{Request, Status};

use super::driver::{ARGUMENT_CHARS, CONNECTIONS, Measured, RUNS, TIMEOUT, micros};
use super::pacing::{Job, Schedule, work};
use crate::remote::{Approvals, For, Remote};

/// Asks for one call a request, by the pace of `job`. Accepted: decided; unknown: still pending when
/// its caller was answered.
pub(super) async fn ask(remote: &Remote, job: &Job) -> anyhow::Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(remote.approvals(For::Appending).await?);
    }
    let schedule = Schedule::new(Instant::now(), *job);
    let session: Arc<str> = ids::fresh().simple().to_string().into();
    let measured = Arc::new(Mutex::new(Measured::new()?));
    let asker = |approvals, schedule| {
        let asker = Asker {
            schedule,
            session: Arc::clone(&session),
            approvals,
            measured: Arc::clone(&measured),
        };
        asker.work()
    };
    work(&schedule, &connections, asker).await?;
    let measured = Arc::into_inner(measured).context("all callers have ended")?;
    Ok(measured
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

struct Asker {
    schedule: Schedule,
    session: Arc<str>,
    approvals: Approvals,
    measured: Arc<Mutex<Measured>>,
}

impl Asker {
    /// Held for a few additions, never across a wait.
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(mut self) {
        while let Some((number, moment)) = self.schedule.next().await {
            let request = request(&self.session, number);
            let answered = self.approvals.request_tool_call(request).await;
            let answer = answered.map(|answered| answered.into_inner().answer);
            self.count(
                moment,
                answer.map(|answer| answer.and_then(|one| one.answer)),
            );
        }
    }

    fn count(&self, moment: Instant, answered: Result<Option<Answer>, Status>) {
        let mut measured = self.measured();
        measured.requests += 1;
        measured.elapsed = self.schedule.begin.elapsed();
        match answered {
            Ok(Some(Answer::Decided(_))) => {
                measured.accepted += 1;
                measured.latency.saturating_record(micros(moment.elapsed()));
            }
            Ok(_) => measured.unknown += 1,
            Err(refused) => {
                measured.refused += 1;
                let reason = status::reason(&refused).unwrap_or_else(|| refused.code().to_string());
                *measured.reasons.entry(reason).or_default() += 1;
            }
        }
    }
}

fn request(session: &str, number: u64) -> Request<RequestToolCallRequest> {
    let call = ToolCallStarted {
        run_id: format!("load-{session}-{}", number % RUNS),
        tool_call_id: number.to_string(),
        tool: "load".to_owned(),
        arguments_json: format!("{{\"text\":\"{}\"}}", "x".repeat(ARGUMENT_CHARS)),
        ..ToolCallStarted::default()
    };
    let mut request = Request::new(RequestToolCallRequest {
        request: Some(ToolCallRequest {
            id: ids::fresh().to_string(),
            call: Some(call),
            agent_id: "load".to_owned(),
        }),
        at_least: Vec::new(),
    });
    request.set_timeout(TIMEOUT);
    request
}
