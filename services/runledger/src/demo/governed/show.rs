//! What the governed calls came to, in a terminal.

use std::time::Duration;

use runledger_domain::approval::Verdict;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_proto::approval::v1 as wire;
use runledger_proto::words::known;

use super::Outcome;
use crate::approvals::{self, view};
use crate::reading;
use crate::remote::{For, Remote};
use crate::say::{self, Columns, Tone, cell, count, toned};

/// Held calls of the queue that are shown.
const QUEUE: u32 = 5;

/// Verdicts, and the head of the queue.
pub(crate) async fn show(remote: &Remote, outcome: &Outcome, took: Duration) -> anyhow::Result<()> {
    say::heading("Governed calls, by verdict")?;
    verdicts(outcome).print()?;
    let calls: u64 = outcome.verdicts.values().sum();
    say::line(format_args!(
        "{} calls of {} runs under {} policies of the demo: {:.1} s.",
        count(calls),
        count(outcome.runs),
        count(outcome.policies),
        took.as_secs_f64()
    ))?;
    if outcome.unchanged {
        say::line("All of it had been decided before: nothing changed.")?;
    }
    let mut service = remote.approvals(For::Reading).await?;
    let request = wire::ListApprovalsRequest {
        statuses: vec![wire::ApprovalStatus::Pending.into()],
        read: reading::at_least(&outcome.token),
        ..wire::ListApprovalsRequest::default()
    };
    let (waiting, more) = approvals::fetch(&mut service, request, QUEUE).await?;
    say::heading("The queue: calls that wait for a person")?;
    if waiting.is_empty() {
        say::line("Nothing waits.")?;
        return Ok(());
    }
    view::approvals(&waiting, SystemClock.now()).print()?;
    if more {
        say::line("And so on.")?;
    }
    Ok(())
}

fn verdicts(outcome: &Outcome) -> Columns {
    let mut table = Columns::new(&["verdict", ">calls", ""]);
    for (verdict, calls) in &outcome.verdicts {
        let known = known::<wire::Verdict>((*verdict).into());
        let tone = match known {
            Some(Verdict::Allowed) => Tone::Good,
            Some(Verdict::Warned | Verdict::AwaitingApproval) => Tone::Busy,
            Some(Verdict::Blocked) => Tone::Bad,
            None => Tone::Faint,
        };
        let what = known.map_or_else(|| "?".to_owned(), |one| one.as_str().replace('_', " "));
        let became = if *verdict == wire::Verdict::AwaitingApproval {
            let (approved, rejected) = (outcome.approved, outcome.rejected);
            let left = calls.saturating_sub(approved + rejected);
            format!(
                "of which the demo's reviewer approved {approved}, rejected {rejected}, left {left}"
            )
        } else {
            String::new()
        };
        table.row([toned(what, tone), cell(count(*calls)), cell(became)]);
    }
    table
}

/// What to try with them.
pub(crate) fn next(program: &str) -> anyhow::Result<()> {
    say::line(format_args!(
        "  {program} approvals list        # then show, approve or reject one by its id"
    ))?;
    say::line(format_args!("  {program} policies list"))?;
    Ok(())
}
