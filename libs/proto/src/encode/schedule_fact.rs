use runledger_domain::schedule as domain;

use super::{text, timestamp};
use crate::schedule::v1 as wire;

impl From<&domain::OccurrenceRecorded> for wire::OccurrenceRecorded {
    fn from(fact: &domain::OccurrenceRecorded) -> Self {
        Self {
            owner_id: fact.owner_id.to_string(),
            schedule_id: fact.schedule_id.to_string(),
            scheduled_at: Some(timestamp(fact.scheduled_at)),
            status: wire::OccurrenceStatus::from(fact.status).into(),
            result: fact.result.clone(),
            run_id: text(fact.run_id.as_ref()),
            next_occurrence_at: fact.next_occurrence_at.map(timestamp),
        }
    }
}
