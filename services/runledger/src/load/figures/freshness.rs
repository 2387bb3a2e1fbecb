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
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::cpu::Watch;
use super::reading::VISIBLE;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, WARM, ledger, whole};
use crate::load::driver::{CONNECTIONS, drive, micros};
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace, Schedule, work};
use crate::load::{asking, histogram, rate};
use crate::remote::{For, Ingest, Refusal, Remote};
use crate::say;

const SAMPLED_FOR: Duration = Duration::from_secs(15);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const CALLERS: u16 = 64;
/// Of the load of balances.
const RUNS: u64 = 500;
const ACCOUNTS: u64 = 100;
/// So many runs have all partitions.
const EVERYWHERE: u64 = 200;
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

async fn counted(ground: &mut Ground) -> anyhow::Result<Row> {
    let projector = ground.analytics().await?;
    let remote = &ground.remote;
    let (ingest, api) = (remote.ingest().await?, remote.analytics().await?);
    drive(remote, &job(Pace::Callers(CALLERS), WARM * 2)).await?;
    let flat_out = async {
        let load = drive(remote, &job(Pace::Callers(CALLERS), HALF)).await?;
        // Behind all that was acknowledged.
        let starts = (0..EVERYWHERE).map(|_| started("load", ""));
        let read = append(ingest.clone(), starts.collect()).await?;
        let request = analytics::QueryRequest {
            question: Some(question(String::new())),
            read,
            ..Default::default()
        };
        let counted = api.clone().query(request).await;
        counted.map_err(Refusal::from)?;
        Ok(load.accepted)
    };
    let half = half_of(flat_out).await?;
    drive(remote, &job(Pace::Rate(half), WARM * 2)).await?;
    let probe = move |number: u64| {
        let (ingest, mut api) = (ingest.clone(), api.clone());
        async move {
            let agent = format!("probe-{number}");
            let read = append(ingest, vec![started(&agent, "")]).await?;
            let acknowledged = Instant::now();
            let request = analytics::QueryRequest {
                question: Some(question(agent)),
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
        "counts: acknowledged → visible, at half of what goes all the way",
        sample,
        &seen?,
    )
}

/// Runs of one agent.
fn question(agent: String) -> analytics::Question {
    let now = SystemClock.now();
    analytics::Question {
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
    }
}

async fn charged(ground: &mut Ground) -> anyhow::Result<Row> {
    let decider = ground.bill().await?;
    let forwarder = ground.forwarder()?;
    let remote = &ground.remote;
    let runs = begin_runs(remote).await?;
    let usage = |pace, duration| use_up(remote, &runs, pace, duration);
    let warm = usage(Pace::Callers(CALLERS), WARM * 2).await?;
    let charges = ground.pool_of(&ground.configs.billing_decider.database, "billing")?;
    ledger::until(&charges, warm).await?;
    let flat_out = async {
        let used = usage(Pace::Callers(CALLERS), HALF).await?;
        ledger::until(&charges, warm + used).await?;
        Ok(used)
    };
    let half = half_of(flat_out).await?;
    charges.close().await;
    usage(Pace::Rate(half), WARM * 2).await?;
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
    let load = usage(Pace::Rate(half), SAMPLED_FOR);
    let (seen, load) = tokio::join!(sampled(probe), load);
    let (load, spent) = (load?, watch.end());
    forwarder.end().await?;
    decider.end().await?;
    let sample = Sample::new(OURS, load, SAMPLED_FOR).spent(&spent);
    row(
        "visible_balance",
        "balance: usage acknowledged → charged and visible, at half of what goes all the way",
        sample,
        &seen?,
    )
}

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

/// Half of the events a second that go all the way when they are taken in flat out: the load says how many were
/// taken in, once all of them are there to be read.
pub(super) async fn half_of(
    load: impl Future<Output = anyhow::Result<u64>>,
) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let events = load.await?;
    Ok(whole(rate(events, begun.elapsed()) / 2.0).max(1))
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

/// Runs of some accounts, which use what the load says.
async fn begin_runs(remote: &Remote) -> anyhow::Result<Arc<[String]>> {
    let account = |number| format!("account-{}", number % ACCOUNTS);
    let starts: Vec<RunFact> = (0..RUNS)
        .map(|number| started("load", &account(number)))
        .collect();
    let runs = starts.iter().map(run_of).collect();
    append(remote.ingest().await?, starts).await?;
    Ok(runs)
}

/// Reports usage of these runs, one by one; how much was accepted.
async fn use_up(
    remote: &Remote,
    runs: &Arc<[String]>,
    pace: Pace,
    duration: Duration,
) -> anyhow::Result<u64> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(remote.ingest().await?);
    }
    let schedule = Schedule::new(Instant::now(), job(pace, duration));
    let caller = |ingest: Ingest, schedule: Schedule| {
        let runs = Arc::clone(runs);
        async move {
            let mut accepted = 0;
            while let Some((number, _)) = schedule.next().await {
                let run = usize::try_from(number)? % runs.len();
                append(ingest.clone(), vec![used(&runs[run])]).await?;
                accepted += 1;
            }
            Ok::<u64, anyhow::Error>(accepted)
        }
    };
    work(&schedule, &connections, caller)
        .await?
        .into_iter()
        .sum()
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
