//! `runledger demo`: real agent runs, from a file through Kafka into Postgres and onto the terminal.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use runledger_eventlog::token::Token;
use runledger_proto::run::v1::{
    ListRunsRequest, ListToolCallsRequest, Run, RunStatus, ToolCall, WorkStatus,
};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::credentials::Credentials;
use crate::house::{self, Configs};
use crate::import::{self, Imported, LABEL};
use crate::reading;
use crate::remote::{For, Refusal, Remote, Runs};
use crate::runs::{self, view};
use crate::say::{self, Columns, Tone, cell, count, toned};
use crate::{cli, dev, seed};

mod billed;
mod governed;
mod page;

/// Our own warnings, and what is waited for; those of the Kafka client would only alarm.
const LOG_FILTER: &str = "warn,runledger::migrate=info,rdkafka=off,librdkafka=off";
/// What times and ids are derived from.
const SEED: u64 = 1;
/// Runs of the list of the latest.
const LATEST: usize = 8;
/// Entries shown of the one timeline.
const TIMELINE: u32 = 32;
/// How many runs are asked for their calls at once.
const AT_ONCE: usize = 8;

/// The command: with the house that runs already, else with one of its own.
pub(crate) async fn run(args: &cli::Demo) -> anyhow::Result<()> {
    if !args.file.is_file() {
        bail!(
            "{} is not there; run this at the top of the checkout, or name a file with --file",
            args.file.display()
        );
    }
    let path = Credentials::place(&env::current_dir().context("cannot tell the current folder")?);
    if let Some(credentials) = running(&path).await? {
        say::line("A house is running already; this uses it.")?;
        let remote = Remote::with(credentials.clone(), path);
        tour(&remote, &args.file).await?;
        return next(&credentials, true);
    }
    Box::pin(in_own_house(args, path)).await
}

/// The credentials of a house that answers and that they open.
async fn running(path: &Path) -> anyhow::Result<Option<Credentials>> {
    let Some(credentials) = Credentials::read(path)? else {
        return Ok(None);
    };
    let endpoints = &credentials.endpoints;
    for url in [
        &endpoints.directory,
        &endpoints.ingest,
        &endpoints.runs,
        &endpoints.approvals,
        &endpoints.billing,
        &endpoints.analytics,
    ] {
        if !house::serves(url).await {
            return Ok(None);
        }
    }
    let known = seed::opens(&endpoints.directory, credentials.keys.agent.as_ref()).await?;
    Ok(known.map(|_| credentials))
}

async fn in_own_house(args: &cli::Demo, path: PathBuf) -> anyhow::Result<()> {
    let configs = Configs::load()?;
    let _telemetry = configs.log(Some(LOG_FILTER))?;
    say::line("Starting every role in this process.")?;
    let (supervisor, addresses) = house::start(&configs).await?;
    let stopper = supervisor.stopper();
    let mut running = pin!(supervisor.run());
    let show = async {
        let credentials =
            seed::seed_file(&configs.directory.database, addresses.endpoints(), &path).await?;
        let remote = Remote::with(credentials.clone(), path.clone());
        tour(&remote, &args.file).await?;
        if args.keep {
            say::heading("The house stays up")?;
            dev::show(&addresses, &credentials, &path)?;
            say::line("\nCtrl-C ends it.")?;
        }
        next(&credentials, args.keep)
    };
    let shown = tokio::select! {
        ended = &mut running => {
            ended?;
            bail!("interrupted");
        }
        shown = show => shown,
    };
    if !args.keep || shown.is_err() {
        stopper.cancel();
    }
    running.await?;
    shown
}

/// Imports and shows.
async fn tour(remote: &Remote, file: &Path) -> anyhow::Result<()> {
    let priced_from = billed::publish(remote).await?;
    say::line(format_args!(
        "Importing {} through the ingestion services.",
        file.display()
    ))?;
    let began = Instant::now();
    let imported = import::import(remote, file, SEED, "").await?;
    let took = began.elapsed();
    import::report(&imported)?;
    say::line(format_args!(
        "Appended to Kafka, read back from Postgres: {:.1} s.",
        took.as_secs_f64()
    ))?;

    let mut runs = remote.runs(For::Reading).await?;
    let all = all_runs(&mut runs, &imported).await?;
    let ids = all.iter().map(|run| &run.run_id);
    let calls = all_calls(&runs, ids, &imported.token).await?;
    say::heading("Runs by status")?;
    by_status(&all).print()?;
    say::heading("Tools, by calls")?;
    by_tool(&calls).print()?;
    say::heading("The latest runs")?;
    view::runs(all.get(..LATEST.min(all.len())).unwrap_or_default()).print()?;
    if let Some(run) = telling(&all) {
        let (items, more) = runs::timeline(&mut runs, &run.run_id, TIMELINE).await?;
        say::heading(&format!("The timeline of {}", say::short(&run.run_id, 48)))?;
        view::timeline(&items).print()?;
        if more {
            say::line("And so on.")?;
        }
    }
    say::line(
        "\nAsking for the same calls once more, in runs of their own, as calls that policies govern.",
    )?;
    let began = Instant::now();
    let outcome = Box::pin(governed::replay(remote, file, &imported.label)).await?;
    let took = began.elapsed();
    governed::show(remote, &outcome, took).await?;
    let billed = Box::pin(billed::tour(remote, file, priced_from)).await?;
    let parts = page::Parts {
        recorded: page::range(&all),
        imported: imported.token,
        governed: outcome.token,
        billed,
    };
    Box::pin(page::show(remote, &parts)).await
}

/// The runs of the import, newest first.
async fn all_runs(runs: &mut Runs, imported: &Imported) -> Result<Vec<Run>, Refusal> {
    let labels = [(LABEL.to_owned(), imported.label.clone())].into();
    let request = ListRunsRequest {
        labels,
        ..ListRunsRequest::default()
    };
    let mut all = Vec::new();
    reading::each_run(runs, request, &imported.token, |run| all.push(run)).await?;
    Ok(all)
}

/// Every tool call of some runs.
async fn all_calls(
    runs: &Runs,
    ids: impl Iterator<Item = &String>,
    token: &Token,
) -> Result<Vec<ToolCall>, Refusal> {
    let of_one = |run_id: &String| {
        let (runs, run_id) = (runs.clone(), run_id.clone());
        async move {
            let mut request = ListToolCallsRequest {
                run_id,
                page_size: reading::PAGE,
                read: reading::at_least(token),
                ..ListToolCallsRequest::default()
            };
            let mut calls = Vec::new();
            loop {
                let page = reading::patiently(|| {
                    let (mut runs, request) = (runs.clone(), request.clone());
                    async move { runs.list_tool_calls(request).await }
                })
                .await?;
                calls.extend(page.tool_calls);
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    return Ok::<_, Refusal>(calls);
                }
            }
        }
    };
    let asked: Vec<_> = ids.map(of_one).collect();
    let found: Vec<Vec<ToolCall>> = stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

fn by_status(all: &[Run]) -> Columns {
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for run in all {
        *counts.entry(run.status).or_default() += 1;
    }
    let mut table = Columns::new(&["status", ">runs", ">share"]);
    for (status, runs) in counts {
        let share = runs * 100 / u64::try_from(all.len().max(1)).unwrap_or(u64::MAX);
        table.row([
            view::status(status),
            cell(count(runs)),
            cell(format!("{share} %")),
        ]);
    }
    table
}

fn by_tool(calls: &[ToolCall]) -> Columns {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for call in calls {
        let tool = call
            .started
            .as_ref()
            .map_or("?", |started| started.tool.as_str());
        let failed = call
            .ended
            .as_ref()
            .is_some_and(|ended| ended.status == i32::from(WorkStatus::Failed));
        let entry = counts.entry(tool).or_default();
        entry.0 += 1;
        entry.1 += u64::from(failed);
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(tool, (calls, _))| (std::cmp::Reverse(*calls), *tool));
    let mut table = Columns::new(&["tool", ">calls", ">failed"]);
    for (tool, (calls, failed)) in sorted {
        let failed = if failed > 0 {
            toned(count(failed), Tone::Bad)
        } else {
            cell("")
        };
        table.row([cell(say::short(tool, 48)), cell(count(calls)), failed]);
    }
    table
}

/// A run worth a look: it got there although a call failed; the shortest of those.
fn telling(all: &[Run]) -> Option<&Run> {
    let length = |run: &&Run| {
        run.totals
            .map_or(0, |totals| totals.tool_calls + totals.messages)
    };
    let stumbled = |run: &&Run| {
        run.totals
            .is_some_and(|totals| totals.failed_tool_calls > 0)
    };
    let arrived = |run: &&Run| run.status == i32::from(RunStatus::Succeeded);
    all.iter()
        .filter(arrived)
        .filter(stumbled)
        .min_by_key(length)
        .or_else(|| all.first())
}

/// What to try, ready to be pasted.
fn next(credentials: &Credentials, up: bool) -> anyhow::Result<()> {
    let program = program();
    let runs = credentials.endpoints.runs.trim_start_matches("http://");
    let key = credentials
        .keys
        .viewer
        .as_ref()
        .map_or("", |key| key.expose_secret());
    say::heading("Try next")?;
    if !up {
        say::line(format_args!(
            "  {program} dev        # keeps the house up; the others go in another terminal"
        ))?;
    }
    say::line(format_args!(
        "  {program} runs list --failed-calls --status succeeded"
    ))?;
    if up {
        say::line(format_args!("  {program} runs show airline-0-0"))?;
    }
    governed::next(&program)?;
    billed::next(&program)?;
    say::line(format_args!(
        "  {program} analytics summary --from 2024-09-01 --to 2025-01-01 --failed"
    ))?;
    say::line(format_args!(
        "  grpcurl -plaintext -H 'authorization: Bearer {key}' -d '{{\"run_id\":\"airline-0-0\"}}' {runs} \
         runledger.run.v1.RunsService/GetRun"
    ))?;
    Ok(())
}

/// This program as it can be called from here.
fn program() -> String {
    let path = env::current_exe().ok();
    let here = env::current_dir().ok();
    let near = path
        .as_ref()
        .zip(here)
        .and_then(|(path, here)| path.strip_prefix(here).ok());
    match (near, &path) {
        (Some(near), _) => near.display().to_string(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => "runledger".to_owned(),
    }
}
