//! How soon what was acknowledged is there to be read: in the queue, in balances, in what is counted. That of runs is
//! measured with the projector.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use hdrhistogram::Histogram;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_proto::analytics::v1 as analytics;
use runledger_proto::approval::v1 as approval;
use runledger_proto::approval::v1::tool_call_answer::Answer;
use runledger_proto::billing::v1 as billing;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::encode;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::{
    RunFact, RunIngestServiceAppendRequest, RunStarted, ToolCallStarted, Trigger, UsageRecorded,
    run_fact,
};
use runledger_service::ids;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::cpu::Watch;
use super::reading::VISIBLE;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, WARM, ledger, whole};
use crate::load::driver::{Job, Pace, drive, micros};
use crate::load::ground::Ground;
use crate::load::{asking, histogram, rate};
use crate::remote::{For, Ingest, Refusal, Remote};
use crate::say;

const SAMPLED_FOR: Duration = Duration::from_secs(15);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const CALLERS: u16 = 64;
const HELD: &str = "held";
const WAIT: Duration = Duration::from_secs(10);

pub(super) async fn measure(ground: &mut Ground, figures: &Figures) -> anyhow::Result<()> {
    say::aside("From acknowledged to visible: what is counted …");
    figures.push(counted(ground).await?)?;
    say::aside("From acknowledged to visible: balances …");
    figures.push(charged(ground).await?)?;
    say::aside("From acknowledged to visible: the queue …");
    figures.push(queued(ground).await?)
}

/// Half of what single appends reach beside the projector.
async fn counted(ground: &mut Ground) -> anyhow::Result<Row> {
    let projector = ground.analytics().await?;
    let remote = &ground.remote;
    drive(remote, &job(Pace::Callers(CALLERS), WARM * 2)).await?;
    let most = drive(remote, &job(Pace::Callers(CALLERS), HALF)).await?;
    let half = whole(rate(most.accepted, most.elapsed) / 2.0).max(1);
    // Until what was appended flat out is counted, and what is measured stands alone.
    drive(remote, &job(Pace::Rate(half), WARM * 5)).await?;
    let (ingest, api) = (remote.ingest().await?, remote.analytics().await?);
    let probe = move |number: u64| {
        let (ingest, mut api) = (ingest.clone(), api.clone());
        async move {
            let agent = format!("probe-{number}");
            let read = append(ingest, vec![started(&agent, "")]).await?;
            let acknowledged = Instant::now();
            let now = SystemClock.now();
            let question = analytics::Question {
                subject: analytics::Subject::Run.into(),
                range: Some(analytics::Range {
                    from: Some(encode::timestamp(now - TimeDelta::hours(1))),
                    to: Some(encode::timestamp(now + TimeDelta::hours(1))),
                }),
                filters: vec![analytics::Filter {
                    dimension: analytics::Dimension::Agent.into(),
                    values: vec![agent],
                }],
                ..Default::default()
            };
            let request = analytics::QueryRequest {
                question: Some(question),
                read,
                ..Default::default()
            };
            let answer = api
                .query(request)
                .await
                .map_err(Refusal::from)?
                .into_inner();
            let total = answer.total.unwrap_or_default().count;
            anyhow::ensure!(total == 1, "{total} runs are counted in place of one");
            Ok(acknowledged.elapsed())
        }
    };
    let load = job(Pace::Rate(half), SAMPLED_FOR);
    let watch = Watch::begin();
    let (seen, load) = tokio::join!(sampled(probe), drive(remote, &load));
    let (load, spent) = (load?, watch.end());
    projector.end().await?;
    let sample = Sample::new(OURS, load.accepted, SAMPLED_FOR).spent(&spent);
    row(
        "visible_counts",
        "counts: acknowledged → visible, at half of what is taken in",
        sample,
        &seen?,
    )
}

/// Half of the usage a second that goes all the way from its report to its charge.
async fn charged(ground: &mut Ground) -> anyhow::Result<Row> {
    let decider = ground.bill().await?;
    let forwarder = ground.forwarder()?;
    for warm in [true, false] {
        ledger::through(ground, u64::from(!warm)).await?;
    }
    let half = whole(ledger::through(ground, 2).await? / 2.0).max(1);
    let remote = &ground.remote;
    let (ingest, api) = (remote.ingest().await?, remote.billing(For::Reading).await?);
    let probe = move |number: u64| {
        let (ingest, mut api) = (ingest.clone(), api.clone());
        async move {
            let account_id = format!("probe-{number}");
            let start = started("load", &account_id);
            let used = used(&run_of(&start));
            let read = append(ingest, vec![start, used]).await?;
            let acknowledged = Instant::now();
            let request = billing::GetBalanceRequest {
                account_id,
                read,
                ..Default::default()
            };
            // There is no such account before its first charge.
            api.get_balance(request).await.map_err(Refusal::from)?;
            Ok(acknowledged.elapsed())
        }
    };
    let watch = Watch::begin();
    let (seen, load) = tokio::join!(sampled(probe), use_up(remote, half, SAMPLED_FOR));
    let (load, spent) = (load?, watch.end());
    forwarder.end().await?;
    decider.end().await?;
    let sample = Sample::new(OURS, load, SAMPLED_FOR).spent(&spent);
    row(
        "visible_balance",
        "balance: usage acknowledged → charged and visible, at half of what is charged",
        sample,
        &seen?,
    )
}

/// Half of the calls a second that are decided.
async fn queued(ground: &mut Ground) -> anyhow::Result<Row> {
    let decider = ground.govern().await?;
    let remote = &ground.remote;
    hold(remote).await?;
    asking::ask(remote, &job(Pace::Callers(CALLERS), WARM * 5)).await?;
    let most = asking::ask(remote, &job(Pace::Callers(CALLERS), HALF)).await?;
    let half = whole(rate(most.accepted, most.elapsed) / 2.0).max(1);
    asking::ask(remote, &job(Pace::Rate(half), WARM * 2)).await?;
    let asking = remote.approvals(For::Appending).await?;
    let reading = remote.approvals(For::Reading).await?;
    let probe = move |number: u64| {
        let (mut asking, mut reading) = (asking.clone(), reading.clone());
        async move {
            let run_id = format!("probe-{number}");
            let call = ToolCallStarted {
                run_id: run_id.clone(),
                tool_call_id: "1".to_owned(),
                tool: HELD.to_owned(),
                arguments_json: "{}".to_owned(),
                ..ToolCallStarted::default()
            };
            let request = approval::RequestToolCallRequest {
                request: Some(approval::ToolCallRequest {
                    id: ids::fresh().to_string(),
                    call: Some(call),
                    agent_id: "load".to_owned(),
                }),
                at_least: Vec::new(),
            };
            let asked = asking.request_tool_call(request).await;
            let answer = asked.map_err(Refusal::from)?.into_inner().answer;
            let answer = answer.context("an answer")?;
            anyhow::ensure!(
                matches!(answer.answer, Some(Answer::Decided(_))),
                "a call was not decided in time"
            );
            let acknowledged = Instant::now();
            let request = approval::ListApprovalsRequest {
                run_id,
                read: reads(answer.token),
                ..Default::default()
            };
            let listed = reading.list_approvals(request).await;
            let listed = listed.map_err(Refusal::from)?.into_inner().approvals;
            anyhow::ensure!(
                listed.len() == 1,
                "{} calls wait in place of one",
                listed.len()
            );
            Ok(acknowledged.elapsed())
        }
    };
    let load = job(Pace::Rate(half), SAMPLED_FOR);
    let watch = Watch::begin();
    let (seen, load) = tokio::join!(sampled(probe), asking::ask(remote, &load));
    let (load, spent) = (load?, watch.end());
    decider.end().await?;
    let sample = Sample::new(OURS, load.accepted, SAMPLED_FOR).spent(&spent);
    row(
        "visible_queue",
        "queue: call held → visible, at half of what is decided",
        sample,
        &seen?,
    )
}

/// The sample is of the load, and waits as long as the probes did.
fn row(
    name: &'static str,
    what: &'static str,
    sample: Sample,
    seen: &Histogram<u64>,
) -> anyhow::Result<Row> {
    anyhow::ensure!(!seen.is_empty(), "nothing was sampled");
    let row = Row::new(name, what, "events").side(Is::Ours, vec![sample.waited(seen)]);
    Ok(row.waits_at_most(Some(VISIBLE.0), VISIBLE.1))
}

fn job(pace: Pace, duration: Duration) -> Job {
    Job {
        pace,
        duration,
        batch: 1,
        records_max: u64::MAX,
        check_every: 0,
    }
}

/// Probes begun one after another, whatever they take. An answer that lacks what its token covers is an error.
async fn sampled<F, P>(probe: F) -> anyhow::Result<Histogram<u64>>
where
    F: Fn(u64) -> P,
    P: Future<Output = anyhow::Result<Duration>> + Send + 'static,
{
    let (mut probes, mut seen) = (JoinSet::new(), histogram()?);
    let mut ticks = interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < SAMPLED_FOR {
        ticks.tick().await;
        probes.spawn(probe(number));
        number += 1;
    }
    while let Some(probed) = probes.join_next().await {
        seen.saturating_record(micros(probed??));
    }
    Ok(seen)
}

async fn append(mut ingest: Ingest, facts: Vec<RunFact>) -> anyhow::Result<Option<ReadOptions>> {
    let request = RunIngestServiceAppendRequest { facts };
    let answer = ingest.runs.append(request).await.map_err(Refusal::from)?;
    Ok(reads(answer.into_inner().token))
}

fn reads(token: String) -> Option<ReadOptions> {
    Some(ReadOptions {
        at_least: vec![token],
        max_wait: Some(encode::duration(WAIT)),
    })
}

fn fact(fact: run_fact::Fact) -> RunFact {
    RunFact {
        id: ids::fresh().to_string(),
        occurred_at: Some(encode::timestamp(SystemClock.now())),
        fact: Some(fact),
        ..RunFact::default()
    }
}

/// A run of its own.
fn started(agent_id: &str, account_id: &str) -> RunFact {
    fact(run_fact::Fact::RunStarted(RunStarted {
        run_id: ids::fresh().to_string(),
        agent_id: agent_id.to_owned(),
        account_id: account_id.to_owned(),
        trigger: Trigger::Api.into(),
        ..RunStarted::default()
    }))
}

fn run_of(started: &RunFact) -> String {
    match &started.fact {
        Some(run_fact::Fact::RunStarted(started)) => started.run_id.clone(),
        _ => String::new(),
    }
}

fn used(run_id: &str) -> RunFact {
    fact(run_fact::Fact::UsageRecorded(UsageRecorded {
        run_id: run_id.to_owned(),
        meter: "messages".to_owned(),
        quantity: 1,
        ..UsageRecorded::default()
    }))
}

/// So many usages a second, some at a time; how many there were, of runs that [`ledger::through`] has started.
async fn use_up(remote: &Remote, rate: u64, duration: Duration) -> anyhow::Result<u64> {
    let ingest = remote.ingest().await?;
    let (begun, mut sending) = (Instant::now(), JoinSet::new());
    let beats = u64::try_from(duration.as_millis() / SAMPLE_EVERY.as_millis())?;
    let each = (rate * u64::try_from(SAMPLE_EVERY.as_millis())?).div_ceil(1_000);
    let runs = Arc::new(ledger::runs_of(0));
    for beat in 0..beats {
        sleep_until(begun + SAMPLE_EVERY * u32::try_from(beat)?).await;
        let (ingest, runs) = (ingest.clone(), Arc::clone(&runs));
        sending.spawn(async move {
            let number = |one| usize::try_from(beat * each + one).unwrap_or_default() % runs.len();
            let facts = (0..each)
                .filter_map(|one| runs.get(number(one)))
                .map(|run| used(run));
            append(ingest, facts.collect()).await
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(beats * each)
}

/// Calls of one tool are held.
async fn hold(remote: &Remote) -> anyhow::Result<()> {
    let spec = policy::PolicySpec {
        name: HELD.to_owned(),
        when: Some(policy::policy_spec::When::Conditions(policy::Conditions {
            all: vec![policy::Condition {
                field: "tool".to_owned(),
                operator: policy::Operator::Equals.into(),
                value_json: format!("\"{HELD}\""),
            }],
        })),
        action: policy::Action::RequireApproval.into(),
        ..policy::PolicySpec::default()
    };
    let request = policy::CreatePolicyRequest {
        id: ids::fresh().to_string(),
        policy_id: HELD.to_owned(),
        spec: Some(spec),
    };
    let mut policies = remote.policies(For::Administering).await?;
    policies
        .create_policy(request)
        .await
        .map_err(Refusal::from)?;
    Ok(())
}
