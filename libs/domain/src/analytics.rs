//! What is counted: cells of rollups, and what runs, calls of tools and other things add to them.
//!
//! A rollup is the sum of what every single thing contributes, and what a thing contributes follows
//! from its state alone. So a change adds what it contributes now and takes away what it contributed
//! before, and neither batches nor orders nor rebuilds make another sum. A thing counts at its own
//! time, however late it was heard of.

use std::collections::BTreeMap;

use chrono::DateTime;

use crate::digest;
use crate::scope::worded;
use crate::time::{self, Timestamp};

mod durations;
mod question;
mod things;

pub use durations::Durations;
pub use question::{Dimension, Filters, Granularity, Measure, POINTS_MAX, Question, Range};
pub use things::{Call, Governed, Run, WITH_ERRORS, charge, counters, message, occurrence, usage};

#[cfg(test)]
mod tests;

worded! {
    /// What a cell counts. Runs: by status and error, with errors on the way as kind, and with durations from
    /// start to end. Calls: by tool,
    /// status, verdict, error and, as kind, how they were governed, with the same. Approvals: by tool and
    /// status, with durations from the request to the answer. Usage: by meter as kind, in its unit. Cost:
    /// the same in micros, by how it was priced as status. Counters: what runs counted themselves, by name
    /// as kind. Messages: by role of the sender as kind, in characters. Occurrences: by status.
    Subject {
        Run = "run", ToolCall = "tool_call", Approval = "approval", Usage = "usage", Cost = "cost",
        Counter = "counter", Message = "message", Occurrence = "occurrence",
    }
}

worded! {
    /// Lengths of time that are summed up. Days are those of UTC; hours, and days and months of every
    /// zone, are sums of quarters, with which all of them begin.
    Grain { Minute = "minute", Quarter = "quarter", Day = "day" }
}

impl Grain {
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Quarter => 900,
            Self::Day => 86_400,
        }
    }

    /// When the one begins that `at` lies in.
    pub fn floor(self, at: Timestamp) -> Timestamp {
        let seconds = at.timestamp();
        let floor = seconds.saturating_sub(seconds.rem_euclid(self.seconds()));
        DateTime::from_timestamp(floor, 0).unwrap_or(at)
    }
}

/// What a run's start says of all that happens in the run. Empty: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub agent: String,
    pub agent_version: String,
    pub model: String,
    pub space: String,
}

/// What a thing is counted under, besides the origin of its run. Empty: does not apply, or not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Begin of the minute.
    pub minute: Timestamp,
    pub subject: Subject,
    pub tool: String,
    pub status: String,
    pub verdict: String,
    pub kind: String,
    pub error: String,
    /// Where the thing names a model of its own.
    pub model: String,
}

impl Cell {
    fn new(subject: Subject, at: Timestamp) -> Self {
        Self {
            minute: Grain::Minute.floor(time::storable(at)),
            subject,
            tool: String::new(),
            status: String::new(),
            verdict: String::new(),
            kind: String::new(),
            error: String::new(),
            model: String::new(),
        }
    }

    /// The first 16 bytes of a digest of all but the time: short, and the same for ever.
    pub fn series(&self, origin: &Origin) -> [u8; 16] {
        let digest = digest::of_parts(&[
            self.subject.as_str().as_bytes(),
            origin.agent.as_bytes(),
            origin.agent_version.as_bytes(),
            self.model(origin).as_bytes(),
            origin.space.as_bytes(),
            self.tool.as_bytes(),
            self.status.as_bytes(),
            self.verdict.as_bytes(),
            self.kind.as_bytes(),
            self.error.as_bytes(),
        ]);
        let mut series = [0; 16];
        series.copy_from_slice(&digest[..16]);
        series
    }

    pub fn model<'a>(&'a self, origin: &'a Origin) -> &'a str {
        if self.model.is_empty() {
            &origin.model
        } else {
            &self.model
        }
    }
}

/// What is added up. Never beyond what can be counted: a log has fewer records than an `i64` counts, and
/// an `i128` holds the sum of as many quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    pub count: i64,
    pub quantity: i128,
    pub durations: Durations,
}

impl Measures {
    const ONE: Self = Self {
        count: 1,
        quantity: 0,
        durations: Durations::EMPTY,
    };

    pub fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.quantity = self.quantity.saturating_add(other.quantity);
        self.durations.add(&other.durations);
    }

    #[must_use]
    pub fn negated(&self) -> Self {
        Self {
            count: self.count.saturating_neg(),
            quantity: self.quantity.saturating_neg(),
            durations: self.durations.negated(),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.count == 0 && self.quantity == 0 && self.durations.is_empty()
    }
}

/// Sums by cell, of one run or of none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<Cell, Measures>);

impl Sums {
    pub fn add(&mut self, cell: Cell, measures: &Measures) {
        self.0.entry(cell).or_default().add(measures);
    }

    /// Takes away what a thing contributed before and adds what it contributes now.
    pub fn change(
        &mut self,
        before: impl IntoIterator<Item = (Cell, Measures)>,
        after: impl IntoIterator<Item = (Cell, Measures)>,
    ) {
        for (cell, measures) in before {
            self.add(cell, &measures.negated());
        }
        for (cell, measures) in after {
            self.add(cell, &measures);
        }
    }

    /// Those that changed anything.
    pub fn iter(&self) -> impl Iterator<Item = (&Cell, &Measures)> {
        self.0.iter().filter(|(_, measures)| !measures.is_zero())
    }
}
