//! The demo's last part: runs, queue, credits and analytics of the recorded runs on one page.

use chrono::TimeDelta;
use runledger_domain::money::Credits;
use runledger_domain::time::{Clock as _, SystemClock, Timestamp};
use runledger_eventlog::token::Token;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::billing::v1 as billing;
use runledger_proto::encode;
use runledger_proto::run::v1::Run;

use super::billed::ACCOUNT;
use crate::reading;
use crate::remote::{For, Refusal, Remote};
use crate::runs::moment;
use crate::say::{self, Columns, cell, count};

/// Sentences and tools that are shown.
const SHOWN: usize = 5;

/// What is shown, and what each part must have seen.
pub(super) struct Parts {
    /// When the recorded runs began.
    pub(super) recorded: wire::Range,
    pub(super) imported: Token,
    pub(super) governed: Token,
    pub(super) billed: Token,
}

/// Shows it.
pub(super) async fn show(remote: &Remote, parts: &Parts) -> anyhow::Result<()> {
    say::heading("All of it on one page")?;
    let mut page = Columns::new(&["runs", "", ">all", ">succeeded", ">failed"]);
    runs(remote, parts, &mut page).await?;
    queue(remote, parts, &mut page).await?;
    credits(remote, &parts.billed, &mut page).await?;
    page.print()?;
    say::line("")?;
    for sentence in insights(remote, parts).await? {
        say::line(format_args!("  {sentence}"))?;
    }
    Ok(())
}

/// From the first start of some runs on, until the last of them are over: a day after they began.
pub(super) fn range<'r>(runs: impl IntoIterator<Item = &'r Run>) -> wire::Range {
    let starts = runs
        .into_iter()
        .filter_map(|run| moment(run.started_at.as_ref()));
    let (first, last) = starts.fold((None, None), |(first, last), at| {
        let first = first.map_or(at, |first: Timestamp| first.min(at));
        let last = last.map_or(at, |last: Timestamp| last.max(at));
        (Some(first), Some(last))
    });
    wire::Range {
        from: first.map(encode::timestamp),
        to: last.map(|at| encode::timestamp(at + TimeDelta::days(1))),
    }
}

fn success(rate: Option<u32>) -> String {
    rate.map(|rate| format!("{}.{} % succeeded", rate / 10, rate % 10))
        .unwrap_or_default()
}

async fn runs(remote: &Remote, parts: &Parts, page: &mut Columns) -> anyhow::Result<()> {
    let analytics = remote.analytics().await?;
    let request = wire::GetRunSummaryRequest {
        range: Some(parts.recorded),
        read: reading::at_least(&parts.imported),
        ..Default::default()
    };
    let summary = reading::patiently(|| {
        let (mut analytics, request) = (analytics.clone(), request.clone());
        async move { analytics.get_run_summary(request).await }
    })
    .await?;
    let succeeded = summary
        .completed
        .saturating_add(summary.completed_with_errors);
    let counts = [summary.total, succeeded, summary.failed].map(|one| cell(count(one)));
    page.row(
        [cell(""), cell(success(summary.success_rate))]
            .into_iter()
            .chain(counts),
    );
    let request = wire::QueryRequest {
        question: Some(wire::Question {
            subject: wire::Subject::ToolCall.into(),
            range: Some(parts.recorded),
            group_by: vec![wire::Dimension::Tool.into(), wire::Dimension::Status.into()],
            ..Default::default()
        }),
        limit: 1_000,
        ..Default::default()
    };
    let found = analytics
        .clone()
        .query(request)
        .await
        .map_err(Refusal::from)?;
    page.row(["tools", "", "calls", "", "failed"].map(cell));
    for (tool, calls, failed) in tools(found.get_ref()).into_iter().take(SHOWN) {
        page.row([
            cell(""),
            cell(tool),
            cell(count(calls)),
            cell(""),
            cell(count(failed)),
        ]);
    }
    Ok(())
}

/// Tools with their calls and those of them that failed, most called first.
fn tools(found: &wire::QueryResponse) -> Vec<(String, u64, u64)> {
    let mut tools = std::collections::BTreeMap::<String, (u64, u64)>::new();
    for row in &found.rows {
        let calls = row.measures.map_or(0, |measures| measures.count);
        let [tool, status] = row.group.as_slice() else {
            continue;
        };
        let of = tools.entry(tool.clone()).or_default();
        of.0 = of.0.saturating_add(calls);
        if status == "failed" {
            of.1 = of.1.saturating_add(calls);
        }
    }
    let mut tools: Vec<_> = tools
        .into_iter()
        .map(|(tool, of)| (tool, of.0, of.1))
        .collect();
    tools.sort_by_key(|(_, calls, _)| std::cmp::Reverse(*calls));
    tools
}

async fn queue(remote: &Remote, parts: &Parts, page: &mut Columns) -> anyhow::Result<()> {
    let analytics = remote.analytics().await?;
    let now: Timestamp = SystemClock.now();
    let request = wire::GetFunnelRequest {
        range: Some(wire::Range {
            from: parts.recorded.from,
            to: Some(encode::timestamp(now + TimeDelta::days(1))),
        }),
        read: reading::at_least(&parts.governed),
        ..Default::default()
    };
    let funnel = reading::patiently(|| {
        let (mut analytics, request) = (analytics.clone(), request.clone());
        async move { analytics.get_funnel(request).await }
    })
    .await?;
    page.row(["queue", "", "approved", "rejected", "pending"].map(cell));
    let held = format!(
        "{} held of {} asked for",
        count(funnel.held),
        count(funnel.asked)
    );
    let rejected = funnel.rejected.saturating_add(funnel.expired);
    let counts = [funnel.approved, rejected, funnel.pending].map(|one| cell(count(one)));
    page.row([cell(""), cell(held)].into_iter().chain(counts));
    Ok(())
}

async fn credits(remote: &Remote, token: &Token, page: &mut Columns) -> anyhow::Result<()> {
    let service = remote.billing(For::Reading).await?;
    let request = billing::GetBalanceRequest {
        account_id: ACCOUNT.to_owned(),
        read: reading::at_least(token),
        ..Default::default()
    };
    let found = reading::patiently(|| {
        let (mut service, request) = (service.clone(), request.clone());
        async move { service.get_balance(request).await }
    })
    .await?;
    let balance = found.balance.unwrap_or_default();
    page.row(["credits", "", "available", "held", "owed"].map(cell));
    let owed = balance
        .overdrawn_micros
        .saturating_add(balance.unpaid_micros);
    let amounts = [balance.available_micros, balance.held_micros, owed];
    let amounts = amounts.map(|micros| cell(Credits::from_micros(micros)));
    page.row(
        [cell(""), cell(format!("account {ACCOUNT}"))]
            .into_iter()
            .chain(amounts),
    );
    Ok(())
}

async fn insights(remote: &Remote, parts: &Parts) -> anyhow::Result<Vec<String>> {
    let mut analytics = remote.analytics().await?;
    let request = wire::GetInsightsRequest {
        range: Some(parts.recorded),
        read: reading::at_least(&parts.imported),
    };
    let found = analytics
        .get_insights(request)
        .await
        .map_err(Refusal::from)?;
    let insights = found.into_inner().insights.into_iter();
    Ok(insights.map(|one| one.message).take(SHOWN).collect())
}
