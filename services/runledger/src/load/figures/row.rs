//! One row of the benchmark: what every side did in each round, what that comes to, and what was to be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::cpu::Spent;
use super::machine::Machine;
use crate::load::rate;

/// What one side did in one round. Peers print it as a line of JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) who: String,
    pub(super) events: u64,
    /// Events a second.
    pub(super) rate: f64,
    #[serde(default)]
    pub(super) cpu_us_per_event: BTreeMap<String, f64>,
    #[serde(default)]
    pub(super) p50_ms: Option<f64>,
    #[serde(default)]
    pub(super) p99_ms: Option<f64>,
    /// Events a second that could be read as fast as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) visible_rate: Option<f64>,
    /// Acknowledged before a kill -9, and gone after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lost_after_kill: Option<u64>,
}

/// Runledger, as it stands in the lines.
pub(super) const OURS: &str = "runledger";

impl Sample {
    pub(super) fn new(who: &str, events: u64, elapsed: Duration) -> Self {
        Self {
            who: who.to_owned(),
            events,
            rate: rate(events, elapsed),
            ..Self::default()
        }
    }

    pub(super) fn spent(mut self, spent: &Spent) -> Self {
        self.cpu_us_per_event = spent.per_event(self.events);
        self
    }

    /// Of a histogram of microseconds.
    pub(super) fn waited(mut self, latency: &Histogram<u64>) -> Self {
        let at = |quantile| Some(millis(latency.value_at_quantile(quantile)));
        (self.p50_ms, self.p99_ms) = (at(0.5), at(0.99));
        self
    }

    /// Of the processes under test, which the callers are not.
    fn cpu_us(&self) -> f64 {
        let tested = self.cpu_us_per_event.iter();
        tested
            .filter(|(name, _)| *name != "client")
            .map(|(_, us)| us)
            .sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Is {
    Ours,
    /// What no system on this machine could exceed.
    Limit,
    /// What a user would take instead.
    Peer,
}

/// One side of a row: medians over its rounds.
#[derive(Debug, Serialize)]
struct Side {
    is: Is,
    #[serde(flatten)]
    median: Sample,
    rates: Vec<f64>,
    #[serde(skip)]
    samples: Vec<Sample>,
}

impl Side {
    fn new(is: Is, samples: Vec<Sample>) -> Option<Self> {
        let first = samples.first()?;
        let of = |value: &dyn Fn(&Sample) -> f64| median(samples.iter().map(value).collect());
        let processes = first.cpu_us_per_event.keys();
        let cpu = processes.map(|name| {
            let used = |sample: &Sample| sample.cpu_us_per_event.get(name).copied();
            (name.clone(), of(&|sample| used(sample).unwrap_or_default()))
        });
        let median = Sample {
            who: first.who.clone(),
            events: samples.iter().map(|sample| sample.events).sum(),
            rate: of(&|sample| sample.rate),
            cpu_us_per_event: cpu.collect(),
            p50_ms: first
                .p50_ms
                .map(|_| of(&|sample| sample.p50_ms.unwrap_or_default())),
            p99_ms: first
                .p99_ms
                .map(|_| of(&|sample| sample.p99_ms.unwrap_or_default())),
            visible_rate: None,
            lost_after_kill: samples
                .iter()
                .filter_map(|sample| sample.lost_after_kill)
                .max(),
        };
        Some(Self {
            is,
            median,
            rates: samples.iter().map(|sample| sample.rate).collect(),
            samples,
        })
    }
}

/// Something to be reached.
#[derive(Debug, Serialize)]
struct Goal {
    what: String,
    value: f64,
    bound: f64,
    is_least: bool,
    reached: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    row: &'static str,
    what: String,
    /// What an event is here.
    unit: &'static str,
    rounds: usize,
    sides: Vec<Side>,
    goals: Vec<Goal>,
    /// Why the row does not count.
    void: Option<String>,
}

impl Row {
    pub(super) fn new(row: &'static str, what: impl Into<String>, unit: &'static str) -> Self {
        Self {
            row,
            what: what.into(),
            unit,
            rounds: 0,
            sides: Vec::new(),
            goals: Vec::new(),
            void: None,
        }
    }

    /// Another side; one that was not measured is left out, and so are the goals against it.
    pub(super) fn side(mut self, is: Is, samples: Vec<Sample>) -> Self {
        self.rounds = self.rounds.max(samples.len());
        self.sides.extend(Side::new(is, samples));
        self
    }

    /// Our rate is at least so many times that of the other side.
    pub(super) fn rate_at_least(self, is: Is, least: f64) -> Self {
        self.against(is, "rate, of", least, |sample| sample.rate)
    }

    /// What a second of processor time does is at least so many times what it does on the other side.
    pub(super) fn per_cpu_at_least(self, is: Is, least: f64) -> Self {
        self.against(is, "per second of CPU, of", least, |sample| {
            1e6 / sample.cpu_us().max(f64::MIN_POSITIVE)
        })
    }

    fn against(self, is: Is, what: &str, least: f64, value: fn(&Sample) -> f64) -> Self {
        let of = |is| self.sides.iter().find(|side| side.is == is);
        let (Some(ours), Some(other)) = (of(Is::Ours), of(is)) else {
            return self;
        };
        let (us, them) = (&ours.samples, &other.samples);
        let ratio = |(us, them): (&Sample, &Sample)| value(us) / value(them).max(f64::MIN_POSITIVE);
        // Round by round, where there are as many: the machine's speed moves between rounds.
        let ratio = if us.len() == them.len() {
            median(us.iter().zip(them).map(ratio).collect())
        } else {
            let median = |samples: &[Sample]| median(samples.iter().map(value).collect());
            median(us) / median(them).max(f64::MIN_POSITIVE)
        };
        let what = format!("{what} {}", other.median.who);
        self.least(what, ratio, least)
    }

    pub(super) fn least(mut self, what: impl Into<String>, value: f64, bound: f64) -> Self {
        self.goals.push(Goal {
            what: what.into(),
            value,
            bound,
            is_least: true,
            reached: value >= bound,
        });
        self
    }

    pub(super) fn most(mut self, what: impl Into<String>, value: f64, bound: f64) -> Self {
        self.goals.push(Goal {
            what: what.into(),
            value,
            bound,
            is_least: false,
            reached: value <= bound,
        });
        self
    }

    /// Our latency is at most so many milliseconds.
    pub(super) fn waits_at_most(mut self, p50: Option<Duration>, p99: Duration) -> Self {
        let ours = self.sides.iter().find(|side| side.is == Is::Ours);
        let waited = ours.map(|side| (side.median.p50_ms, side.median.p99_ms));
        let Some((Some(half), Some(most))) = waited else {
            return self;
        };
        if let Some(bound) = p50 {
            self = self.most("p50 in ms", half, bound.as_secs_f64() * 1e3);
        }
        self.most("p99 in ms", most, p99.as_secs_f64() * 1e3)
    }

    /// What our median rate is.
    pub(super) fn our_rate(&self) -> f64 {
        let ours = self.sides.iter().find(|side| side.is == Is::Ours);
        ours.map_or(0.0, |side| side.median.rate)
    }

    /// The row does not count unless as many events are found as were acknowledged.
    pub(super) fn found(mut self, acknowledged: u64, found: u64) -> Self {
        if acknowledged != found {
            self.void = Some(format!(
                "{acknowledged} events were acknowledged, and {found} found"
            ));
        }
        self
    }

    /// One line for people, while it goes on.
    pub(super) fn said(&self) -> String {
        let goal = |goal: &Goal| {
            let sign = if goal.is_least { '≥' } else { '≤' };
            let reached = if goal.reached { "reached" } else { "missed" };
            format!(
                "{} {:.2} ({sign} {}, {reached})",
                goal.what, goal.value, goal.bound
            )
        };
        let side = |side: &Side| format!("{} {:.0}/s", side.median.who, side.median.rate);
        let sides = self.sides.iter().map(side);
        let said: Vec<String> = sides.chain(self.goals.iter().map(goal)).collect();
        let void = self
            .void
            .as_deref()
            .map_or_else(String::new, |why| format!(" VOID: {why}"));
        format!("  {}: {}{void}", self.row, said.join("; "))
    }

    /// The line of JSON. `at`: when the run began.
    pub(super) fn line(&self, at: &str, machine: &Machine) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            at: &'a str,
            #[serde(flatten)]
            row: &'a Row,
            machine: &'a Machine,
        }
        let row = self;
        let line = serde_json::to_value(Line { at, row, machine })?;
        serde_json::to_string(&rounded(line))
    }
}

/// Four digits are more than a benchmark knows.
fn rounded(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) if number.is_f64() => {
            let precise = number.as_f64().unwrap_or_default();
            let digits = if precise.abs() < 10.0 { 1e4 } else { 1e1 };
            ((precise * digits).round() / digits).into()
        }
        Value::Array(values) => values.into_iter().map(rounded).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(fields.map(|(name, value)| (name, rounded(value))).collect())
        }
        other => other,
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds, far below 2^52")]
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rates: &[f64]) -> Vec<Sample> {
        let sample = |rate: &f64| Sample {
            rate: *rate,
            p50_ms: Some(20.0),
            p99_ms: Some(90.0),
            cpu_us_per_event: [("client".to_owned(), 90.0), ("server".to_owned(), 10.0)].into(),
            ..Sample::default()
        };
        rates.iter().map(sample).collect()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was ten times as fast in the last round, for both.
        let row = Row::new("row", "", "events")
            .side(Is::Ours, samples(&[40.0, 44.0, 600.0]))
            .side(Is::Limit, samples(&[80.0, 100.0, 1_000.0]))
            .rate_at_least(Is::Limit, 0.5)
            .rate_at_least(Is::Peer, 2.0)
            .per_cpu_at_least(Is::Limit, 1.0)
            .waits_at_most(Some(Duration::from_millis(20)), Duration::from_millis(80));
        let goals: Vec<(f64, bool)> = row
            .goals
            .iter()
            .map(|goal| (goal.value, goal.reached))
            .collect();
        assert_eq!(
            goals,
            [(0.5, true), (1.0, true), (20.0, true), (90.0, false)]
        );
        assert!((row.sides[0].median.cpu_us() - 10.0).abs() < f64::EPSILON);
    }

    #[test]
    fn events_that_are_missing_void_a_row() {
        assert!(Row::new("row", "", "events").found(7, 7).void.is_none());
        assert!(Row::new("row", "", "events").found(7, 6).void.is_some());
    }
}
