//! `runledger analytics …`: questions over what was counted, for people and programs.

use std::io::Write as _;

use anyhow::Context as _;
use chrono::{TimeDelta, Utc};
use runledger_domain::analytics::Dimension;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::encode;

use crate::cli::{
    AnalyticsAsk, AnalyticsDiagnose, AnalyticsQuery, AnalyticsRange, AnalyticsSummary,
};
use crate::json;
use crate::remote::{Analytics, Refusal, Remote};
use crate::runs::{moment, read_options};
use crate::say::{self, cell};

mod view;

pub(crate) async fn run(asked: &AnalyticsAsk) -> anyhow::Result<()> {
    match asked {
        AnalyticsAsk::Summary(args) => summary(args).await,
        AnalyticsAsk::Query(args) if args.csv => export(args).await,
        AnalyticsAsk::Query(args) => query(args).await,
        AnalyticsAsk::Funnel(args) => funnel(args).await,
        AnalyticsAsk::Coverage(args) => coverage(args).await,
        AnalyticsAsk::Insights(args) => insights(args).await,
        AnalyticsAsk::Diagnose(args) => diagnose(args).await,
    }
}

async fn connect(args: &AnalyticsRange) -> anyhow::Result<Analytics> {
    Remote::resolve(&args.reading.server)?.analytics().await
}

fn range(args: &AnalyticsRange) -> Option<wire::Range> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the person at the terminal means their own clock"
    )]
    let to = args.to.unwrap_or_else(Utc::now);
    let from = args
        .from
        .or_else(|| to.checked_sub_signed(TimeDelta::days(1)));
    Some(wire::Range {
        from: from.map(encode::timestamp),
        to: Some(encode::timestamp(to)),
    })
}

fn filters(args: &AnalyticsRange) -> Vec<wire::Filter> {
    let agent = args
        .agent
        .iter()
        .map(|agent| filter(Dimension::Agent, agent.clone()));
    agent.collect()
}

fn filter(dimension: Dimension, value: String) -> wire::Filter {
    wire::Filter {
        dimension: wire::Dimension::from(dimension).into(),
        values: vec![value],
    }
}

/// Shows an answer as JSON where that was asked for; otherwise by `show`.
fn show<T: prost::Message>(
    args: &crate::cli::Reading,
    name: &str,
    answer: &T,
    show: impl FnOnce(&T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if args.json {
        let name = format!("runledger.analytics.v1.{name}");
        return Ok(say::line(json::of(&name, answer)?)?);
    }
    show(answer)
}

async fn summary(args: &AnalyticsSummary) -> anyhow::Result<()> {
    let request = wire::GetRunSummaryRequest {
        range: range(&args.of),
        filters: filters(&args.of),
        include_failed: args.failed,
        read: read_options(&args.of.reading),
    };
    let mut analytics = connect(&args.of).await?;
    let answer = analytics
        .get_run_summary(request)
        .await
        .map_err(Refusal::from)?;
    let reading = &args.of.reading;
    show(
        reading,
        "GetRunSummaryResponse",
        answer.get_ref(),
        view::summary,
    )
}

fn question(args: &AnalyticsQuery) -> anyhow::Result<wire::Question> {
    let mut filters = filters(&args.of);
    for (name, value) in &args.filters {
        let dimension = crate::cli::dimension(name)
            .map_err(|why| anyhow::anyhow!("--where {name}={value}: the dimension {why}"))?;
        let number = i32::from(wire::Dimension::from(dimension));
        match filters.iter_mut().find(|one| one.dimension == number) {
            Some(known) => known.values.push(value.clone()),
            None => filters.push(filter(dimension, value.clone())),
        }
    }
    let group_by = args
        .group_by
        .iter()
        .map(|one| wire::Dimension::from(*one).into());
    Ok(wire::Question {
        subject: wire::Subject::from(args.subject).into(),
        range: range(&args.of),
        group_by: group_by.collect(),
        filters,
        granularity: args
            .every
            .map_or(0, |one| wire::Granularity::from(one).into()),
        time_zone: args.zone.clone(),
        order_by: wire::Measure::from(args.order).into(),
        durations: args.durations,
    })
}

async fn query(args: &AnalyticsQuery) -> anyhow::Result<()> {
    let request = wire::QueryRequest {
        question: Some(question(args)?),
        limit: args.limit,
        read: read_options(&args.of.reading),
    };
    let mut analytics = connect(&args.of).await?;
    let answer = analytics.query(request).await.map_err(Refusal::from)?;
    let reading = &args.of.reading;
    show(reading, "QueryResponse", answer.get_ref(), |found| {
        view::query(args, found)
    })
}

async fn export(args: &AnalyticsQuery) -> anyhow::Result<()> {
    let request = wire::ExportQueryRequest {
        question: Some(question(args)?),
        read: read_options(&args.of.reading),
    };
    let mut analytics = connect(&args.of).await?;
    let answer = analytics
        .export_query(request)
        .await
        .map_err(Refusal::from)?;
    let mut chunks = answer.into_inner();
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = chunks.message().await.map_err(Refusal::from)? {
        out.write_all(&chunk.csv).context("writing the answer")?;
    }
    Ok(())
}

async fn funnel(args: &AnalyticsRange) -> anyhow::Result<()> {
    let request = wire::GetFunnelRequest {
        range: range(args),
        filters: filters(args),
        read: read_options(&args.reading),
    };
    let answer = connect(args)
        .await?
        .get_funnel(request)
        .await
        .map_err(Refusal::from)?;
    show(
        &args.reading,
        "GetFunnelResponse",
        answer.get_ref(),
        view::funnel,
    )
}

async fn coverage(args: &AnalyticsRange) -> anyhow::Result<()> {
    let request = wire::GetCoverageRequest {
        range: range(args),
        filters: filters(args),
        read: read_options(&args.reading),
    };
    let answer = connect(args)
        .await?
        .get_coverage(request)
        .await
        .map_err(Refusal::from)?;
    show(
        &args.reading,
        "GetCoverageResponse",
        answer.get_ref(),
        view::coverage,
    )
}

async fn insights(args: &AnalyticsRange) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.agent.is_none(),
        "insights are about all agents; leave --agent out"
    );
    let request = wire::GetInsightsRequest {
        range: range(args),
        read: read_options(&args.reading),
    };
    let answer = connect(args)
        .await?
        .get_insights(request)
        .await
        .map_err(Refusal::from)?;
    show(
        &args.reading,
        "GetInsightsResponse",
        answer.get_ref(),
        |found| {
            if found.insights.is_empty() {
                say::line("Nothing stands out.")?;
            }
            for one in &found.insights {
                say::line(&one.message)?;
            }
            Ok(())
        },
    )
}

async fn diagnose(args: &AnalyticsDiagnose) -> anyhow::Result<()> {
    use wire::diagnose_run_request::Run;
    let run = args.run.clone().map(Run::RunId);
    let request = wire::DiagnoseRunRequest {
        run: run.or_else(|| args.agent.clone().map(Run::LatestFailureOfAgentId)),
        read: read_options(&args.reading),
    };
    let mut analytics = Remote::resolve(&args.reading.server)?.analytics().await?;
    let answer = analytics
        .diagnose_run(request)
        .await
        .map_err(Refusal::from)?;
    show(
        &args.reading,
        "DiagnoseRunResponse",
        answer.get_ref(),
        |found| {
            let ended = moment(found.ended_at.as_ref());
            let ended = ended
                .map(|at| format!(" at {}", at.format("%Y-%m-%d %H:%M:%S")))
                .unwrap_or_default();
            say::line(format_args!(
                "{} of {}: {}{ended}",
                found.run_id, found.agent_id, found.status
            ))?;
            say::line(format_args!(
                "{} calls of tools, {} failed, {} blocked",
                found.tool_calls, found.failed_tool_calls, found.blocked_tool_calls
            ))?;
            if found.causes.is_empty() {
                say::line("Nothing went wrong, as far as can be told.")?;
            }
            for one in &found.causes {
                say::line(format_args!("- {}\n  {}", one.cause, one.action))?;
            }
            Ok(())
        },
    )
}

fn length(one: Option<&prost_types::Duration>) -> say::Cell {
    let text = one.map(|one| {
        let millis = one
            .seconds
            .saturating_mul(1_000)
            .saturating_add(i64::from(one.nanos / 1_000_000));
        format!("{}.{:03} s", millis / 1_000, millis % 1_000)
    });
    cell(text.unwrap_or_default())
}
