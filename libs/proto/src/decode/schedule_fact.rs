//! Facts about schedules.

use runledger_domain::ids::{OwnerId, RunId, ScheduleId};
use runledger_domain::schedule as domain;

use super::fields::Fields;
use crate::schedule::v1 as wire;

const RESULT_CHARS_MAX: usize = 4_096;

pub(super) fn occurrence_recorded(
    wire: wire::OccurrenceRecorded,
    see: &mut Fields<'_>,
) -> Option<domain::Fact> {
    let owner_id = see.id("owner_id", wire.owner_id, OwnerId::parse);
    let schedule_id = see.id("schedule_id", wire.schedule_id, ScheduleId::parse);
    let scheduled_at = see.time("scheduled_at", wire.scheduled_at);
    let status = see.word::<wire::OccurrenceStatus>("status", wire.status);
    let result = see.text("result", wire.result, RESULT_CHARS_MAX);
    let run_id = see.optional_id("run_id", wire.run_id, RunId::parse);
    let next_occurrence_at = see.optional_time("next_occurrence_at", wire.next_occurrence_at);
    Some(domain::Fact::OccurrenceRecorded(
        domain::OccurrenceRecorded {
            owner_id: owner_id?,
            schedule_id: schedule_id?,
            scheduled_at: scheduled_at?,
            status: status?,
            result,
            run_id,
            next_occurrence_at,
        },
    ))
}
