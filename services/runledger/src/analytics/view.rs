//! Answers as tables.

use runledger_proto::analytics::v1 as wire;

use super::length;
use crate::cli::AnalyticsQuery;
use crate::say::{self, Columns, cell};

pub(crate) fn summary(found: &wire::GetRunSummaryResponse) -> anyhow::Result<()> {
    let mut table = Columns::new(&["runs", ">", "", ">"]);
    let durations = found.durations.unwrap_or_default();
    let rate = found
        .success_rate
        .map(|rate| format!("{}.{} %", rate / 10, rate % 10));
    for (name, count, other, value) in [
        ("total", found.total, "agents", cell(found.agents)),
        (
            "completed",
            found.completed,
            "success",
            cell(rate.unwrap_or_default()),
        ),
        (
            "with errors",
            found.completed_with_errors,
            "half end within",
            length(durations.p50.as_ref()),
        ),
        (
            "failed",
            found.failed,
            "nine in ten within",
            length(durations.p90.as_ref()),
        ),
        (
            "running",
            found.running,
            "99 in 100 within",
            length(durations.p99.as_ref()),
        ),
        ("queued", found.queued, "", cell("")),
        ("stopped", found.stopped, "", cell("")),
        ("skipped", found.skipped, "", cell("")),
    ] {
        table.row([cell(name), cell(count), cell(other), value]);
    }
    table.print()?;
    if found.failed_runs.is_empty() {
        return Ok(());
    }
    let mut failed = Columns::new(&["failed run", "agent", "error", "message"]);
    for one in &found.failed_runs {
        failed.row([
            cell(&one.run_id),
            cell(&one.agent_id),
            cell(&one.error_code),
            cell(&one.error_message),
        ]);
    }
    failed.print()?;
    Ok(())
}

pub(crate) fn query(args: &AnalyticsQuery, found: &wire::QueryResponse) -> anyhow::Result<()> {
    if found.rows.is_empty() {
        return Ok(say::line("Nothing was counted there.")?);
    }
    let mut heads: Vec<&str> = args.group_by.iter().map(|one| one.as_str()).collect();
    heads.extend(args.every.map(|_| "period"));
    heads.extend([">count", ">quantity"]);
    if args.durations {
        heads.extend([">ended", ">mean", ">p50", ">p90", ">p99"]);
    }
    let mut table = Columns::new(&heads);
    for row in &found.rows {
        let mut cells: Vec<say::Cell> = row.group.iter().map(cell).collect();
        cells.extend(args.every.map(|_| cell(&row.period)));
        let measures = row.measures.unwrap_or_default();
        cells.extend([cell(measures.count), cell(measures.quantity)]);
        if args.durations {
            let durations = measures.durations.unwrap_or_default();
            cells.push(cell(durations.count));
            let lengths = [durations.mean, durations.p50, durations.p90, durations.p99];
            cells.extend(lengths.iter().map(|one| length(one.as_ref())));
        }
        table.row(cells);
    }
    table.print()?;
    if found.groups > u64::from(args.limit) {
        say::line(format_args!(
            "{} groups in all; --limit shows more of them, --csv all.",
            found.groups
        ))?;
    }
    Ok(())
}

pub(crate) fn funnel(found: &wire::GetFunnelResponse) -> anyhow::Result<()> {
    let mut table = Columns::new(&["calls", ">"]);
    for (name, count) in [
        ("only reported", found.reported),
        ("asked for", found.asked),
        ("  allowed", found.allowed),
        ("  warned", found.warned),
        ("  blocked", found.blocked),
        ("  held", found.held),
        ("    pending", found.pending),
        ("    approved", found.approved),
        ("    rejected", found.rejected),
        ("    expired", found.expired),
        ("    cancelled", found.cancelled),
        ("  ended", found.ended),
        ("  failed", found.failed),
    ] {
        table.row([cell(name), cell(count)]);
    }
    table.print()?;
    Ok(())
}

pub(crate) fn coverage(found: &wire::GetCoverageResponse) -> anyhow::Result<()> {
    if found.tools.is_empty() {
        return Ok(say::line("No tool was called there.")?);
    }
    let mut table = Columns::new(&["tool", ">calls", ">covered", ">no policy", ">only reported"]);
    for one in &found.tools {
        table.row([
            cell(&one.tool),
            cell(one.calls),
            cell(one.covered),
            cell(one.uncovered),
            cell(one.reported),
        ]);
    }
    table.print()?;
    Ok(())
}
