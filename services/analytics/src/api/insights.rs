//! What stands out: sentences from numbers. What is worth a sentence is decided here alone, purely.

use std::collections::BTreeMap;
use std::time::Duration;

use runledger_domain::analytics::{Dimension, Durations, Filters, Question, Range, Subject};
use runledger_domain::approval::Status as ApprovalStatus;
use runledger_domain::fault::Fault;
use runledger_domain::run::{Status, WorkStatus};
use runledger_domain::scope::Scope;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::decode::analytics as read;
use runledger_proto::encode;
use runledger_role::reading::parse;

use super::summary::p90;
use super::sums::Sum;
use super::{Api, View, unsigned};

const INSIGHTS_MAX: usize = 20;
const GROUPS_MAX: u32 = 1_000;
/// Fewer say nothing.
const CALLS_MIN: i64 = 10;
const RUNS_MIN: i64 = 5;
/// From so many thousandths on failures are worth a sentence.
const FAILURES_MIN: i64 = 100;
/// One that nine in ten answers do not pass.
const WAITING_MAX: Duration = Duration::from_secs(300);

impl Api {
    pub(super) async fn insights(
        &self,
        scope: Scope,
        request: wire::GetInsightsRequest,
    ) -> Result<wire::GetInsightsResponse, Fault> {
        let (range, options) = parse(request.read, |see| read::range("range", request.range, see))?;
        let mut view = self.look(scope, &options).await?;
        let now = view.numbers(range).await?;
        let before = match range.before() {
            Some(before) => view.numbers(before).await?,
            None => Numbers::default(),
        };
        let mut insights = Insights::default();
        insights.of_tools(&now);
        insights.of_runs(&now, &before);
        insights.of_approvals(&now);
        insights.of_money(&now, &before);
        Ok(wire::GetInsightsResponse {
            insights: insights.gravest(),
            range: Some(encode::analytics::range(range)),
            as_of: Some(view.close().await?),
        })
    }
}

/// What sentences are made of, of one range.
#[derive(Default)]
struct Numbers {
    /// By tool, status and how they were governed.
    calls: Vec<Sum>,
    /// By agent and status.
    runs: Vec<Sum>,
    /// Of runs that failed, by error.
    errors: Vec<Sum>,
    /// By status.
    approvals: Vec<Sum>,
    waiting: Durations,
    /// By meter and how they were priced.
    cost: Vec<Sum>,
}

impl View<'_> {
    async fn numbers(&mut self, range: Range) -> Result<Numbers, Fault> {
        let of = |subject, group_by: &[Dimension]| Question {
            durations: matches!(subject, Subject::Run | Subject::Approval),
            ..Question::of(subject, range, group_by)
        };
        let calls = of(
            Subject::ToolCall,
            &[Dimension::Tool, Dimension::Status, Dimension::Kind],
        );
        let failed = Filters::from([(Dimension::Status, vec![Status::Failed.to_string()])]);
        let errors = Question {
            filters: failed,
            ..of(Subject::Run, &[Dimension::Error])
        };
        let approvals = self
            .top(&of(Subject::Approval, &[Dimension::Status]), GROUPS_MAX)
            .await?;
        let runs = of(Subject::Run, &[Dimension::Agent, Dimension::Status]);
        let cost = of(Subject::Cost, &[Dimension::Kind, Dimension::Status]);
        Ok(Numbers {
            calls: self.top(&calls, GROUPS_MAX).await?.sums,
            runs: self.top(&runs, GROUPS_MAX).await?.sums,
            errors: self.top(&errors, GROUPS_MAX).await?.sums,
            waiting: approvals.total.durations,
            approvals: approvals.sums,
            cost: self.top(&cost, GROUPS_MAX).await?.sums,
        })
    }
}

/// How many have ended, how many of them failed, and how long they took.
#[derive(Clone, Default)]
struct Ended {
    ended: i64,
    failed: i64,
    durations: Durations,
}

impl Ended {
    fn thousandths(&self) -> i64 {
        self.failed
            .saturating_mul(1_000)
            .checked_div(self.ended)
            .unwrap_or_default()
    }

    fn add(&mut self, sum: &Sum, has_failed: bool) {
        self.ended = self.ended.saturating_add(sum.measures.count);
        if has_failed {
            self.failed = self.failed.saturating_add(sum.measures.count);
        }
        self.durations.add(&sum.measures.durations);
    }
}

impl Numbers {
    fn tools(&self) -> BTreeMap<&str, Ended> {
        let mut tools: BTreeMap<&str, Ended> = BTreeMap::new();
        for sum in &self.calls {
            if let Ok(status) = sum.group[1].parse::<WorkStatus>() {
                let of = tools.entry(&sum.group[0]).or_default();
                of.add(sum, status == WorkStatus::Failed);
            }
        }
        tools
    }

    fn agents(&self) -> BTreeMap<&str, Ended> {
        let mut agents: BTreeMap<&str, Ended> = BTreeMap::new();
        for sum in &self.runs {
            if let Ok(status @ (Status::Completed | Status::Succeeded | Status::Failed)) =
                sum.group[1].parse()
            {
                let of = agents.entry(&sum.group[0]).or_default();
                of.add(sum, status == Status::Failed);
            }
        }
        agents
    }

    fn spent(&self) -> i128 {
        self.cost.iter().map(|sum| sum.measures.quantity).sum()
    }
}

/// Sentences with how grave they are.
#[derive(Default)]
struct Insights(Vec<(i64, wire::Insight)>);

impl Insights {
    fn say(
        &mut self,
        gravity: i64,
        kind: &str,
        message: String,
        numbers: &[(&str, i64)],
    ) -> &mut wire::Insight {
        let numbers = numbers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        let insight = wire::Insight {
            kind: kind.to_owned(),
            message,
            numbers: numbers.collect(),
            ..wire::Insight::default()
        };
        let last = self.0.len();
        self.0.push((gravity, insight));
        &mut self.0[last].1
    }

    fn gravest(mut self) -> Vec<wire::Insight> {
        self.0
            .sort_by_key(|(gravity, _)| std::cmp::Reverse(*gravity));
        self.0.truncate(INSIGHTS_MAX);
        self.0.into_iter().map(|(_, insight)| insight).collect()
    }

    fn of_tools(&mut self, now: &Numbers) {
        for (tool, of) in now.tools() {
            if of.ended >= CALLS_MIN && of.thousandths() >= FAILURES_MIN {
                let (failed, ended) = (of.failed, of.ended);
                let message = format!(
                    "{tool} failed in {failed} of {ended} calls ({}).",
                    percent(of.thousandths())
                );
                let numbers = [("failed", failed), ("ended", ended)];
                self.say(failed.saturating_mul(10), "TOOL_FAILS", message, &numbers)
                    .tool = tool.to_owned();
            }
        }
        let mut bare: BTreeMap<&str, i64> = BTreeMap::new();
        for sum in now.calls.iter().filter(|sum| sum.group[2] != "covered") {
            *bare.entry(&sum.group[0]).or_default() += sum.measures.count;
        }
        for (tool, calls) in bare {
            let message = format!("Calls of {tool} that no policy covers: {calls}.");
            self.say(calls, "TOOL_UNCOVERED", message, &[("calls", calls)])
                .tool = tool.to_owned();
        }
    }

    fn of_runs(&mut self, now: &Numbers, before: &Numbers) {
        let earlier = before.agents();
        for (agent, of) in now.agents() {
            let then = earlier.get(agent).cloned().unwrap_or_default();
            let (failed, ended) = (of.failed, of.ended);
            if ended >= RUNS_MIN && of.thousandths() >= FAILURES_MIN {
                let mut message = format!(
                    "Runs of {agent} failed {failed} of {ended} times ({})",
                    percent(of.thousandths())
                );
                if then.ended >= RUNS_MIN {
                    message.push_str(&format!(", before that {}", percent(then.thousandths())));
                }
                message.push('.');
                let numbers = [
                    ("failed", failed),
                    ("ended", ended),
                    ("failed_before", then.failed),
                    ("ended_before", then.ended),
                ];
                let gravity = failed.saturating_mul(20);
                agent.clone_into(&mut self.say(gravity, "AGENT_FAILS", message, &numbers).agent_id);
            }
            let both = p90(&of.durations).zip(p90(&then.durations));
            if let Some((long, short)) = both.filter(|_| ended.min(then.ended) >= RUNS_MIN)
                && long > short.saturating_mul(3) / 2
            {
                let message = format!(
                    "Runs of {agent} take longer: nine in ten end within {}, before that within {}.",
                    seconds(long),
                    seconds(short)
                );
                let numbers = [
                    ("p90_micros", micros(long)),
                    ("p90_micros_before", micros(short)),
                ];
                agent.clone_into(&mut self.say(ended, "AGENT_SLOWER", message, &numbers).agent_id);
            }
        }
        let failed: i64 = now.errors.iter().map(|sum| sum.measures.count).sum();
        for sum in now.errors.iter().filter(|sum| !sum.group[0].is_empty()) {
            let count = sum.measures.count;
            if failed >= RUNS_MIN && count.saturating_mul(10) >= failed.saturating_mul(3) {
                let error = sum.group[0].clone();
                let message = format!("{count} of {failed} failed runs ended with {error}.");
                let numbers = [("runs", count), ("failed", failed)];
                self.say(count.saturating_mul(15), "ERROR_COMMON", message, &numbers)
                    .error_code = error;
            }
        }
    }

    fn of_approvals(&mut self, now: &Numbers) {
        let count = |status: ApprovalStatus| -> i64 {
            let those = now
                .approvals
                .iter()
                .filter(|sum| sum.group == [status.as_str()]);
            those.map(|sum| sum.measures.count).sum()
        };
        let expired = count(ApprovalStatus::Expired);
        if expired > 0 {
            let message = format!("Approvals that expired without an answer: {expired}.");
            self.say(
                expired.saturating_mul(30),
                "APPROVALS_EXPIRED",
                message,
                &[("expired", expired)],
            );
        }
        let pending = count(ApprovalStatus::Pending);
        if pending > 0 {
            let message = format!("Approvals that wait for an answer: {pending}.");
            self.say(
                pending.saturating_mul(5),
                "APPROVALS_PENDING",
                message,
                &[("pending", pending)],
            );
        }
        if let Some(long) = p90(&now.waiting).filter(|long| *long >= WAITING_MAX) {
            let message = format!("One approval in ten waited longer than {}.", seconds(long));
            let numbers = [
                ("p90_micros", micros(long)),
                ("answered", now.waiting.count()),
            ];
            self.say(now.waiting.count(), "APPROVALS_SLOW", message, &numbers);
        }
    }

    fn of_money(&mut self, now: &Numbers, before: &Numbers) {
        let (spent, earlier) = (now.spent(), before.spent());
        if earlier > 0 && spent * 2 > earlier * 3 {
            let (spent, earlier) = (
                encode::analytics::within(spent),
                encode::analytics::within(earlier),
            );
            let message = format!(
                "Spending rose from {} to {} credits.",
                credits(earlier),
                credits(spent)
            );
            let numbers = [("micros", spent), ("micros_before", earlier)];
            self.say(100, "SPENDING_ROSE", message, &numbers);
        }
        for sum in now.cost.iter().filter(|sum| sum.group[1] == "unpriced") {
            let (meter, count) = (sum.group[0].clone(), sum.measures.count);
            let message = format!("Uses of {meter} that have no price and cost nothing: {count}.");
            self.say(count, "USAGE_UNPRICED", message, &[("uses", count)])
                .meter = meter;
        }
    }
}

fn percent(thousandths: i64) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

fn seconds(length: Duration) -> String {
    format!("{}.{} s", length.as_secs(), length.subsec_millis() / 100)
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

fn credits(micros: i64) -> String {
    let micros = unsigned(micros);
    format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use runledger_domain::analytics::Measures;

    use super::*;

    fn sum(group: &[&str], count: i64, quantity: i128, seconds: i64) -> Sum {
        let mut durations = Durations::default();
        for _ in 0..count {
            durations.add(&Durations::one(TimeDelta::seconds(seconds)).unwrap());
        }
        Sum {
            group: group.iter().map(|one| (*one).to_owned()).collect(),
            period: 0,
            measures: Measures {
                count,
                quantity,
                durations,
            },
        }
    }

    #[test]
    fn what_stands_out_is_said_gravest_first_and_nothing_else() {
        let quiet = Numbers {
            calls: vec![
                sum(&["pay", "succeeded", "covered"], 99, 0, 1),
                sum(&["pay", "failed", "covered"], 9, 0, 1),
            ],
            runs: vec![sum(&["a", "succeeded"], 20, 0, 10)],
            ..Numbers::default()
        };
        let loud = Numbers {
            calls: vec![
                sum(&["pay", "failed", "covered"], 10, 0, 1),
                sum(&["read", "succeeded", "uncovered"], 3, 0, 1),
            ],
            runs: vec![
                sum(&["a", "failed"], 8, 0, 60),
                sum(&["a", "succeeded"], 2, 0, 60),
            ],
            errors: vec![sum(&["BROKEN"], 7, 0, 0), sum(&[""], 1, 0, 0)],
            approvals: vec![sum(&["expired"], 2, 0, 0), sum(&["pending"], 1, 0, 0)],
            waiting: sum(&[], 4, 0, 900).measures.durations,
            cost: vec![
                sum(&["tokens", "priced"], 2, 3_500_000, 0),
                sum(&["pages", "unpriced"], 4, 0, 0),
            ],
        };
        let told = |now: &Numbers, before: &Numbers| {
            let mut insights = Insights::default();
            insights.of_tools(now);
            insights.of_runs(now, before);
            insights.of_approvals(now);
            insights.of_money(now, before);
            insights.gravest()
        };
        assert!(told(&quiet, &Numbers::default()).is_empty());
        let cheap = Numbers {
            cost: vec![sum(&["tokens", "priced"], 1, 1_000_000, 0)],
            runs: quiet.runs.clone(),
            ..Numbers::default()
        };
        let sentences: Vec<String> = told(&loud, &cheap)
            .into_iter()
            .map(|one| one.message)
            .collect();
        assert_eq!(
            sentences,
            [
                "Runs of a failed 8 of 10 times (80.0 %), before that 0.0 %.",
                "7 of 8 failed runs ended with BROKEN.",
                "pay failed in 10 of 10 calls (100.0 %).",
                "Spending rose from 1.00 to 3.50 credits.",
                "Approvals that expired without an answer: 2.",
                "Runs of a take longer: nine in ten end within 60.0 s, before that within 9.9 s.",
                "Approvals that wait for an answer: 1.",
                "One approval in ten waited longer than 893.4 s.",
                "Uses of pages that have no price and cost nothing: 4.",
                "Calls of read that no policy covers: 3.",
            ]
        );
    }
}
