use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use runledger_proto::common::v1::AppendResult;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::run::v1::run_fact::Fact as InRun;
use runledger_proto::run::v1::{
    RunEnded, RunFact, RunIngestServiceAppendRequest, RunOutcome, ToolCallFact,
    ToolCallIngestServiceAppendRequest, UsageRecorded, WorkStatus,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::Clients;
use crate::facts::{run_fact, run_started, tool_call_ended, tool_call_started};

/// How long a story tries again while a service is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was promised to clients: every fact that was acknowledged, and what the runs must add up to.
#[derive(Debug, Default)]
pub struct Ledger {
    pub acknowledged: BTreeSet<Uuid>,
    pub runs: BTreeMap<String, RunPlan>,
}

impl Ledger {
    pub fn merge(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.runs.extend(other.runs);
    }
}

/// A run that is going to be reported, and what its totals must be.
#[derive(Clone, Debug)]
pub struct RunPlan {
    pub run_id: String,
    pub tool_calls: u64,
    pub failed_tool_calls: u64,
    pub tokens: i64,
    opening: Vec<RunFact>,
    calls: Vec<ToolCallFact>,
    closing: Vec<RunFact>,
}

impl RunPlan {
    /// A run of up to ten tool calls.
    pub fn random(rng: &mut impl Rng) -> Self {
        let run_id = format!("run-{:016x}", rng.random::<u64>());
        let mut plan = Self {
            run_id: run_id.clone(),
            tool_calls: rng.random_range(0..10),
            failed_tool_calls: 0,
            tokens: 0,
            opening: Vec::new(),
            calls: Vec::new(),
            closing: Vec::new(),
        };
        plan.opening.push(run_started(rng, &run_id));
        for number in 0..plan.tool_calls {
            let failed = rng.random_bool(0.2);
            plan.failed_tool_calls += u64::from(failed);
            let tool_call_id = format!("call-{number}");
            let tool = format!("tool-{}", number % 3);
            let status = if failed {
                WorkStatus::Failed
            } else {
                WorkStatus::Succeeded
            };
            plan.calls
                .push(tool_call_started(rng, &run_id, &tool_call_id, &tool));
            plan.calls
                .push(tool_call_ended(rng, &run_id, &tool_call_id, status));
        }
        for _ in 0..rng.random_range(0..4) {
            let quantity = rng.random_range(1..1_000);
            plan.tokens += quantity;
            let used = UsageRecorded {
                run_id: run_id.clone(),
                meter: "tokens.output".into(),
                quantity,
                ..UsageRecorded::default()
            };
            plan.closing.push(run_fact(rng, InRun::UsageRecorded(used)));
        }
        let ended = RunEnded {
            run_id,
            outcome: RunOutcome::Completed.into(),
            ..RunEnded::default()
        };
        plan.closing.push(run_fact(rng, InRun::RunEnded(ended)));
        plan
    }

    /// Reports it in three batches, each until it is acknowledged, now and then once more for
    /// nothing. Returns the token of the last acknowledgement.
    pub async fn report(
        &self,
        clients: &Clients,
        rng: &mut impl Rng,
        ledger: &mut Ledger,
    ) -> String {
        let mut token = self.report_run(clients, &self.opening, ledger).await;
        if !self.calls.is_empty() {
            token = self.report_calls(clients, ledger).await;
            if rng.random_bool(0.3) {
                self.report_calls(clients, ledger).await;
            }
        }
        if !self.closing.is_empty() {
            token = self.report_run(clients, &self.closing, ledger).await;
        }
        if rng.random_bool(0.3) {
            self.report_run(clients, &self.opening, ledger).await;
        }
        ledger.runs.insert(self.run_id.clone(), self.clone());
        token
    }

    /// Its first batch, for those who want to send it themselves.
    pub fn opening(&self) -> RunIngestServiceAppendRequest {
        RunIngestServiceAppendRequest {
            facts: self.opening.clone(),
        }
    }

    async fn report_run(
        &self,
        clients: &Clients,
        facts: &[RunFact],
        ledger: &mut Ledger,
    ) -> String {
        let request = RunIngestServiceAppendRequest {
            facts: facts.to_vec(),
        };
        let answer =
            patiently(async || clients.runs_in.clone().append(request.clone()).await).await;
        acknowledge(&answer.results, ledger);
        answer.token
    }

    async fn report_calls(&self, clients: &Clients, ledger: &mut Ledger) -> String {
        let request = ToolCallIngestServiceAppendRequest {
            facts: self.calls.clone(),
        };
        let answer =
            patiently(async || clients.tool_calls_in.clone().append(request.clone()).await).await;
        acknowledge(&answer.results, ledger);
        answer.token
    }
}

/// Reports one random run after another, with a pause between them, until told to stop.
pub async fn keep_reporting(
    clients: Clients,
    mut rng: StdRng,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Ledger {
    let mut ledger = Ledger::default();
    while !stop.load(Ordering::SeqCst) {
        RunPlan::random(&mut rng)
            .report(&clients, &mut rng, &mut ledger)
            .await;
        tokio::time::sleep(pause).await;
    }
    ledger
}

fn acknowledge(results: &[AppendResult], ledger: &mut Ledger) {
    for result in results {
        assert!(
            matches!(result.outcome, Some(Outcome::Accepted(_))),
            "{result:?}"
        );
        ledger
            .acknowledged
            .insert(result.id.parse().expect("the id that was sent"));
    }
}

/// Sends the same again while the answer is that a retry makes sense.
///
/// # Panics
/// When it is refused, or when a minute has passed.
pub async fn patiently<T>(send: impl AsyncFn() -> Result<tonic::Response<T>, Status>) -> T {
    let trying = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            pause.tick().await;
            match send().await {
                Ok(answer) => return answer.into_inner(),
                Err(status)
                    if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => {}
                Err(status) => panic!("an append was refused: {status:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, trying)
        .await
        .expect("an acknowledgement in time")
}
