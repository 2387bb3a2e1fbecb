//! `runledger runs list|show|tail`: runs, as people and programs look at them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::encode;
use runledger_proto::run::v1::{
    GetRunRequest, GetTimelineRequest, ListRunsRequest, ListToolCallsRequest, RunStatus,
    TailRunRequest, TailRunResponse, TimelineItem, ToolCall,
};
use runledger_service::status;
use tonic::Code;

use crate::cli::{Reading, RunsList, RunsShow, RunsTail};
use crate::json;
use crate::reading::PAGE;
use crate::remote::{For, Refusal, Remote, Runs};
use crate::say;

pub(crate) mod view;

/// How often a tail that was cut off begins again behind its last entry, without any entry in between.
const RESUMES_MAX: u32 = 10;

pub(crate) fn read_options(reading: &Reading) -> Option<ReadOptions> {
    Some(ReadOptions {
        at_least: reading.wait_for.clone(),
        max_wait: reading.max_wait.map(encode::duration),
    })
}

pub(crate) async fn list(args: &RunsList) -> anyhow::Result<()> {
    let mut runs = Remote::resolve(&args.reading.server)?
        .runs(For::Reading)
        .await?;
    let mut request = request(args);
    let mut left = args.limit;
    let mut found = Vec::new();
    while left > 0 {
        request.page_size = left.min(PAGE);
        let page = runs
            .list_runs(request.clone())
            .await
            .map_err(Refusal::from)?
            .into_inner();
        left = left.saturating_sub(u32::try_from(page.runs.len()).unwrap_or(u32::MAX));
        found.extend(page.runs);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if args.reading.json {
        for run in &found {
            say::line(json::of("runledger.run.v1.Run", run)?)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        say::line("No run is like that.")?;
        return Ok(());
    }
    view::runs(&found).print()?;
    if !request.page_token.is_empty() {
        say::line(format_args!(
            "There are more; --limit shows more than {}.",
            args.limit
        ))?;
    }
    Ok(())
}

fn request(args: &RunsList) -> ListRunsRequest {
    let has_failed_tool_calls = match (args.failed_calls, args.no_failed_calls) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        (false, false) => None,
    };
    ListRunsRequest {
        statuses: args
            .statuses
            .iter()
            .map(|status| RunStatus::from(*status).into())
            .collect(),
        agent_id: args.agent.clone().unwrap_or_default(),
        space_id: args.space.clone().unwrap_or_default(),
        labels: args.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        tool: args.tool.clone().unwrap_or_default(),
        has_failed_tool_calls,
        from: args.from.map(encode::timestamp),
        to: args.to.map(encode::timestamp),
        task_contains: args.task.clone().unwrap_or_default(),
        read: read_options(&args.reading),
        ..ListRunsRequest::default()
    }
}

pub(crate) async fn show(args: &RunsShow) -> anyhow::Result<()> {
    let mut runs = Remote::resolve(&args.reading.server)?
        .runs(For::Reading)
        .await?;
    let read = read_options(&args.reading);
    let request = GetRunRequest {
        run_id: args.run.clone(),
        read,
    };
    let found = runs
        .get_run(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    let Some(run) = found.run else {
        anyhow::bail!("the answer lacks the run")
    };
    let calls = tool_calls(&mut runs, &args.run, args.limit).await?;
    let (items, more) = timeline(&mut runs, &args.run, args.limit).await?;
    if args.reading.json {
        say::line(json::of("runledger.run.v1.Run", &run)?)?;
        for call in &calls {
            say::line(json::of("runledger.run.v1.ToolCall", call)?)?;
        }
        for item in &items {
            say::line(json::of("runledger.run.v1.TimelineItem", item)?)?;
        }
        return Ok(());
    }
    view::run(&run, SystemClock.now()).print()?;
    if !calls.is_empty() {
        say::heading("Tool calls")?;
        view::tool_calls(&calls).print()?;
    }
    say::heading("Timeline")?;
    view::timeline(&items).print()?;
    if more {
        say::line(format_args!(
            "There is more; --limit shows more than {} entries.",
            args.limit
        ))?;
    }
    Ok(())
}

/// The first calls of a run, at most `limit`.
async fn tool_calls(runs: &mut Runs, run: &str, limit: u32) -> Result<Vec<ToolCall>, Refusal> {
    let mut request = ListToolCallsRequest {
        run_id: run.to_owned(),
        ..ListToolCallsRequest::default()
    };
    let mut calls = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(calls.len()).unwrap_or(u32::MAX));
        request.page_size = left.min(PAGE);
        let page = runs.list_tool_calls(request.clone()).await?.into_inner();
        calls.extend(page.tool_calls);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || calls.len() >= limit as usize {
            return Ok(calls);
        }
    }
}

/// The first entries of a run's timeline, at most `limit`, and whether there are more.
pub(crate) async fn timeline(
    runs: &mut Runs,
    run: &str,
    limit: u32,
) -> Result<(Vec<TimelineItem>, bool), Refusal> {
    let mut request = GetTimelineRequest {
        run_id: run.to_owned(),
        ..GetTimelineRequest::default()
    };
    let mut items = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        request.page_size = left.min(PAGE);
        let page = runs.get_timeline(request.clone()).await?.into_inner();
        items.extend(page.items);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok((items, false));
        }
        if items.len() >= limit as usize {
            return Ok((items, true));
        }
    }
}

/// Follows a run. A tail that is cut off, because a process behind it was replaced, goes on behind the last
/// entry shown.
pub(crate) async fn tail(args: &RunsTail) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.server)?;
    let mut resume_token = args.resume.clone().unwrap_or_default();
    let mut resumes = 0;
    loop {
        let request = TailRunRequest {
            run_id: args.run.clone(),
            resume_token: resume_token.clone(),
            heartbeat: None,
            until_ended: !args.follow,
        };
        let mut runs = remote.runs(For::Reading).await?;
        let mut tail = runs
            .tail_run(request)
            .await
            .map_err(Refusal::from)?
            .into_inner();
        let cut = loop {
            match tail.message().await {
                Ok(Some(answer)) => {
                    resumes = 0;
                    resume_token.clone_from(&answer.resume_token);
                    show_tailed(&answer, args.json)?;
                }
                Ok(None) => return Ok(()),
                Err(refused) => break refused,
            }
        };
        resumes += 1;
        if cut.code() != Code::Unavailable || resumes > RESUMES_MAX {
            return Err(Refusal::from(cut).into());
        }
        let pause = status::retry_after(&cut).unwrap_or(std::time::Duration::from_secs(1));
        tokio::time::sleep(pause).await;
    }
}

fn show_tailed(answer: &TailRunResponse, as_json: bool) -> anyhow::Result<()> {
    match (&answer.item, as_json) {
        (Some(_), true) => say::line(json::of("runledger.run.v1.TailRunResponse", answer)?)?,
        (Some(item), false) => say::line(view::told(item))?,
        (None, _) => {}
    }
    Ok(())
}

/// A moment of the wire.
pub(crate) fn moment(at: Option<&prost_types::Timestamp>) -> Option<DateTime<Utc>> {
    at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
}
