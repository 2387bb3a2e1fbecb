//! `runledger import`: recorded runs, through the ingestion services, into the read model.

use std::path::Path;

use anyhow::{Context as _, bail};
use runledger_eventlog::token::Token;

use crate::cli;
use crate::reading;
use crate::remote::{For, Ingest, Remote};
use crate::say;

mod plan;
mod progress;
mod send;
mod source;

pub(crate) use plan::Plan;
pub(crate) use plan::{Facts, LABEL, Planned};
use progress::Progress;
pub(crate) use send::Sender;
pub(crate) use source::{Event, Run, ToolCall, Totals, read};

/// What an import came to.
pub(crate) struct Imported {
    /// Value of the label [`LABEL`] that its runs carry.
    pub(crate) label: String,
    /// Covers everything appended.
    pub(crate) token: Token,
    pub(crate) source: Totals,
    pub(crate) read_model: Totals,
    /// All of it was there before.
    pub(crate) unchanged: bool,
}

/// The command.
pub(crate) async fn run(args: &cli::Import) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.server)?;
    let imported = import(&remote, &args.file, args.seed, &args.prefix).await?;
    report(&imported)
}

fn planned(plan: &Plan, recorded: &[Run]) -> anyhow::Result<Vec<Planned>> {
    recorded
        .iter()
        .map(|run| {
            plan.of(run)
                .with_context(|| format!("the prefix does not go with the run {}", run.run))
        })
        .collect()
}

/// Appends facts in their order, and answers with the token that covers them.
pub(crate) async fn send(ingest: Ingest, planned: Vec<Planned>) -> anyhow::Result<Token> {
    send::all(ingest, planned, None).await
}

/// Appends a file without a word and without looking at what becomes of it.
pub(crate) async fn append(
    remote: &Remote,
    file: &Path,
    seed: u64,
    prefix: &str,
) -> anyhow::Result<()> {
    let recorded = read(file)?;
    let planned = planned(&Plan::new(&recorded, seed, prefix), &recorded)?;
    send::all(remote.ingest().await?, planned, None).await?;
    Ok(())
}

/// Imports a file, waits until the read model has it, and counts.
pub(crate) async fn import(
    remote: &Remote,
    file: &Path,
    seed: u64,
    prefix: &str,
) -> anyhow::Result<Imported> {
    let recorded = read(file)?;
    let plan = Plan::new(&recorded, seed, prefix);
    let planned = planned(&plan, &recorded)?;
    let mut runs = remote.runs(For::Appending).await?;
    let label = (LABEL, plan.label.as_str());
    let before = reading::seen(&mut runs, label, &Token::default()).await?;
    let facts: usize = planned.iter().map(Planned::len).sum();
    let progress = Progress::new(u64::try_from(facts)?);
    let token = send::all(remote.ingest().await?, planned, Some(progress)).await?;
    let after = reading::seen(&mut runs, label, &token).await?;
    Ok(Imported {
        source: Totals::of(&recorded),
        read_model: after.totals,
        unchanged: before == after,
        label: plan.label,
        token,
    })
}

/// Shows both counts beside each other.
///
/// # Errors
/// When they differ.
pub(crate) fn report(imported: &Imported) -> anyhow::Result<()> {
    let (source, model) = (&imported.source, &imported.read_model);
    let mut table = say::Columns::new(&["", ">in the file", ">in the read model"]);
    for (name, there, here) in [
        ("runs", source.runs, model.runs),
        ("  succeeded", source.succeeded, model.succeeded),
        ("tool calls", source.tool_calls, model.tool_calls),
        (
            "  failed",
            source.failed_tool_calls,
            model.failed_tool_calls,
        ),
        ("messages", source.messages, model.messages),
    ] {
        let tone = if there == here {
            say::Tone::Good
        } else {
            say::Tone::Bad
        };
        table.row([
            say::cell(name),
            say::cell(say::count(there)),
            say::toned(say::count(here), tone),
        ]);
    }
    table.print()?;
    if source != model {
        bail!(
            "the read model does not show what the file holds; had these runs been imported before from another \
             version of the file, or with another seed? `runledger runs list --label {LABEL}={}` shows them",
            imported.label
        );
    }
    if imported.unchanged {
        say::line("All of it had been imported before: nothing changed.")?;
    }
    Ok(())
}
