//! What `runledger analytics` says of itself.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use runledger_domain::analytics::{Dimension, Granularity, Measure, Subject};

use super::people::{label, moment};
use super::{Reading, Role};

#[derive(Debug, Subcommand)]
pub(crate) enum Analytics {
    /// Role: count what the log tells
    Projector(Role),
    /// Role: answer questions over what was counted
    Api(Role),
    #[command(flatten)]
    Ask(Box<AnalyticsAsk>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AnalyticsAsk {
    /// How runs ended, and those that failed
    Summary(AnalyticsSummary),
    /// Counts, quantities and durations of a subject, grouped and by time as asked
    Query(Box<AnalyticsQuery>),
    /// What became of calls that agents asked for
    Funnel(AnalyticsRange),
    /// Which tools policies cover, and which they do not
    Coverage(AnalyticsRange),
    /// What stands out, with the numbers behind it
    Insights(AnalyticsRange),
    /// Why a run went wrong, as far as can be told, and what to do
    Diagnose(AnalyticsDiagnose),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AnalyticsRange {
    /// From this moment on: 2024-09-01 or 2024-09-01T10:00:00Z [default: a day before --to]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Before this moment [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// Of this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AnalyticsSummary {
    /// With the runs that failed
    #[arg(long)]
    pub(crate) failed: bool,
    #[command(flatten)]
    pub(crate) of: AnalyticsRange,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AnalyticsQuery {
    /// run, tool-call, approval, usage, cost, counter, message or occurrence
    #[arg(value_parser = |text: &str| word(text, Subject::ALL))]
    pub(crate) subject: Subject,
    /// Grouped by these: agent-id, agent-version, model, space-id, tool, status, verdict, kind, error
    #[arg(long = "by", value_name = "DIMENSION", value_delimiter = ',', value_parser = |text: &str| word(text, Dimension::ALL))]
    pub(crate) group_by: Vec<Dimension>,
    /// Cut into minutes, hours, days, weeks or months: minute, hour, day, week, month
    #[arg(long, value_name = "LENGTH", value_parser = |text: &str| word(text, Granularity::ALL))]
    pub(crate) every: Option<Granularity>,
    /// By the clocks of this time zone, for example Europe/Berlin
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    pub(crate) zone: String,
    /// Only with this value of a dimension, for example tool=pay; of one given again, any
    #[arg(long = "where", value_name = "DIMENSION=VALUE", value_parser = label)]
    pub(crate) filters: Vec<(String, String)>,
    /// The largest first by count, quantity or duration
    #[arg(long, value_name = "MEASURE", default_value = "count", value_parser = |text: &str| word(text, Measure::ALL))]
    pub(crate) order: Measure,
    /// With how long things took
    #[arg(long)]
    pub(crate) durations: bool,
    /// At most so many groups
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// All groups as CSV
    #[arg(long, conflicts_with_all = ["limit", "json"])]
    pub(crate) csv: bool,
    #[command(flatten)]
    pub(crate) of: AnalyticsRange,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AnalyticsDiagnose {
    /// Id of the run
    #[arg(value_name = "RUN", required_unless_present = "agent")]
    pub(crate) run: Option<String>,
    /// In its place the latest failed run of this agent
    #[arg(long, value_name = "ID", conflicts_with = "run")]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// A word as people write it: `tool-call` for `tool_call`, and `agent` for `agent_id`.
fn word<T: Copy + std::fmt::Display>(text: &str, all: &[T]) -> Result<T, String> {
    let written = |one: &T| one.to_string().replace('_', "-");
    let is = |one: &&T| {
        let word = written(one);
        word == text || word.strip_suffix("-id") == Some(text)
    };
    all.iter().find(is).copied().ok_or_else(|| {
        let all: Vec<String> = all.iter().map(written).collect();
        format!("must be one of: {}", all.join(", "))
    })
}

/// A dimension as people write it.
pub(crate) fn dimension(text: &str) -> Result<Dimension, String> {
    word(text, Dimension::ALL)
}
