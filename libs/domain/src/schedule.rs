//! Schedules: their facts.

use crate::ids::{OwnerId, RunId, ScheduleId};
use crate::scope::worded;
use crate::time::Timestamp;

worded! {
    /// What became of an occurrence.
    OccurrenceStatus { Completed = "completed", Skipped = "skipped", Failed = "failed" }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccurrenceRecorded {
    pub owner_id: OwnerId,
    pub schedule_id: ScheduleId,
    pub scheduled_at: Timestamp,
    pub status: OccurrenceStatus,
    pub result: String,
    pub run_id: Option<RunId>,
    pub next_occurrence_at: Option<Timestamp>,
}

/// A fact of the family `schedule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    OccurrenceRecorded(OccurrenceRecorded),
}

impl Fact {
    pub fn occurrence(&self) -> &OccurrenceRecorded {
        match self {
            Self::OccurrenceRecorded(occurrence) => occurrence,
        }
    }
}
