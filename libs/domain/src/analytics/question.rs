//! What is asked of rollups, and which of them answer it.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::{Grain, Subject};
use crate::calendar::Zone;
use crate::scope::worded;
use crate::time::Timestamp;

/// Most lengths of time of one question, over all of its groups.
pub const POINTS_MAX: usize = 20_000;

worded! {
    /// What things are grouped and selected by.
    Dimension {
        Agent = "agent_id", AgentVersion = "agent_version", Model = "model", Space = "space_id", Tool = "tool",
        Status = "status", Verdict = "verdict", Kind = "kind", Error = "error",
    }
}

worded! {
    /// Into which lengths of time a range is cut, by the clocks of a zone.
    Granularity { Minute = "minute", Hour = "hour", Day = "day", Week = "week", Month = "month" }
}

worded! {
    /// By what groups are ordered.
    Measure { Count = "count", Quantity = "quantity", Duration = "duration" }
}

/// Whole minutes: from the first of them on, and before the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// By which values of which dimension.
pub type Filters = BTreeMap<Dimension, Vec<String>>;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub subject: Subject,
    pub range: Range,
    pub group_by: Vec<Dimension>,
    pub filters: Filters,
    /// `None`: the range is not cut.
    pub granularity: Option<Granularity>,
    pub zone: Zone,
    pub order_by: Measure,
    pub durations: bool,
}

impl Question {
    /// All of a subject in a range.
    pub fn of(subject: Subject, range: Range, group_by: &[Dimension]) -> Self {
        Self {
            subject,
            range,
            group_by: group_by.to_vec(),
            filters: Filters::new(),
            granularity: None,
            zone: Zone::default(),
            order_by: Measure::Count,
            durations: false,
        }
    }

    /// Into how many lengths of time the range would be cut at most, without cutting it.
    pub fn periods_max(&self) -> usize {
        let seconds = match self.granularity {
            None => return 1,
            Some(Granularity::Minute) => 60,
            // Clocks may be set between hours, and days may be short.
            Some(Granularity::Hour) => 1_800,
            Some(Granularity::Day) => 79_200,
            Some(Granularity::Week) => 597_600,
            Some(Granularity::Month) => 2_415_600,
        };
        let range = (self.range.to - self.range.from).num_seconds().max(0);
        usize::try_from(range / seconds)
            .unwrap_or(usize::MAX)
            .saturating_add(2)
    }

    /// The lengths of time of the range: when each begins, and how people there write it. The first may
    /// begin before the range.
    pub fn periods(&self) -> Vec<(Timestamp, String)> {
        let Range { from, to } = self.range;
        match self.granularity {
            None => Vec::new(),
            Some(Granularity::Minute) => self.zone.minutes(from, to),
            Some(Granularity::Hour) => self.zone.hours(from, to),
            Some(Granularity::Day) => self.zone.days(from, to),
            Some(Granularity::Week) => self.zone.weeks(from, to),
            Some(Granularity::Month) => self.zone.months(from, to),
        }
    }
}

impl Range {
    /// The whole minutes that any part of the range lies in.
    pub fn of(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from: Grain::Minute.floor(from),
            to: ceil(Grain::Minute, to),
        }
    }

    /// The one as long right before it.
    pub fn before(self) -> Option<Self> {
        let length = self.to - self.from;
        Some(Self {
            from: self.from.checked_sub_signed(length)?,
            to: self.from,
        })
    }

    /// The fewest rollups that make up the range, none of which lies across one of `edges`: pieces of one
    /// grain each, in the order of time.
    pub fn cover(self, edges: &[Timestamp]) -> Vec<(Grain, Self)> {
        let fits = |grain: &Grain| edges.iter().all(|edge| grain.floor(*edge) == *edge);
        let grains: Vec<Grain> = Grain::ALL.iter().copied().filter(fits).collect();
        let mut pieces = Vec::new();
        self.cover_by(&grains, &mut pieces);
        pieces
    }

    fn cover_by(self, grains: &[Grain], pieces: &mut Vec<(Grain, Self)>) {
        let Some((grain, finer)) = grains.split_last().filter(|_| self.from < self.to) else {
            return;
        };
        let (from, to) = (ceil(*grain, self.from), grain.floor(self.to));
        if from >= to {
            return self.cover_by(finer, pieces);
        }
        let piece = |from, to| Self { from, to };
        piece(self.from, from).cover_by(finer, pieces);
        pieces.push((*grain, piece(from, to)));
        piece(to, self.to).cover_by(finer, pieces);
    }
}

fn ceil(grain: Grain, at: Timestamp) -> Timestamp {
    let floor = grain.floor(at);
    if floor == at {
        return at;
    }
    floor
        .checked_add_signed(TimeDelta::seconds(grain.seconds()))
        .unwrap_or(floor)
}
