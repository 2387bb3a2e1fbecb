//! From a recorded fact to one that is told again: under which ids, and when it happened. Pure.

use std::str::FromStr as _;

use chrono::TimeDelta;
use prost::Message;
use runledger_domain::digest::{self, Digest};
use runledger_domain::ids;
use runledger_domain::time::Timestamp;
use runledger_proto::log::v1::{Kind, Record};
use runledger_proto::message::v1::{MessageFact, MessageRecorded, message_fact};
use runledger_proto::run::v1::{
    AgentContext, RunEnded, RunFact, RunProgressed, RunStarted, StepEnded, StepStarted,
    ToolCallEnded, ToolCallFact, ToolCallStarted, UsageRecorded, run_fact, tool_call_fact,
};
use runledger_proto::schedule::v1::{OccurrenceRecorded, ScheduleFact, schedule_fact};
use runledger_proto::{encode, types};
use uuid::Uuid;

use crate::import::Facts;
use crate::runs::moment;

/// Names this way of deriving ids: another one must not be taken for it.
const MAKER: &[u8] = b"runledger.replay.v1";

/// Under which ids a fact is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// Its own: in one scope it then counts once, however often it is told.
    Kept,
    /// New ones of records, and the prefix before those of runs, conversations and schedules.
    New { prefix: String },
}

/// A fact that can be told, and what it will be in the log.
pub(super) struct Told {
    pub(super) stream: String,
    /// Over all that a reader of the log gets of it.
    pub(super) digest: Digest,
    /// Its identity in a scope: 16 bytes of a hash over stream and id.
    pub(super) identity: [u8; 16],
    pub(super) fact: Facts,
}

/// Why a record is none that can be told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untold {
    /// A command, a decision, or a fact of people or deciders: what was decided is decided anew.
    #[error("{0} is nothing that a service reports")]
    NoReport(String),
    #[error("a record of the recording cannot be understood: {0}")]
    Malformed(&'static str),
    #[error("the prefix makes the id of {0} too long; choose a shorter one")]
    TooLong(String),
}

/// Whether a record of this kind and type is one that a service reports.
pub(super) fn is_told(kind: i32, type_name: &str) -> bool {
    const TOLD: &[&str] = &[
        types::RUN_STARTED,
        types::RUN_PROGRESSED,
        types::RUN_ENDED,
        types::STEP_STARTED,
        types::STEP_ENDED,
        types::TOOL_CALL_STARTED,
        types::TOOL_CALL_ENDED,
        types::USAGE_RECORDED,
        types::OCCURRENCE_RECORDED,
        types::MESSAGE_RECORDED,
    ];
    kind == i32::from(Kind::Fact) && TOLD.contains(&type_name)
}

/// A fact as it lies in the log.
///
/// # Errors
/// When its bytes are none of a fact that a service reports.
pub(super) fn as_recorded(record: &Record) -> Result<Told, Untold> {
    tell(record, &Ids::Kept, TimeDelta::zero())
}

/// The fact again, with these ids, so much later.
///
/// # Errors
/// As [`as_recorded`]; and when an id would become too long.
pub(super) fn tell(record: &Record, ids: &Ids, later: TimeDelta) -> Result<Told, Untold> {
    let mut parts = Parts::of(record, ids, later)?;
    let (fact, payload) = parts.fact(record)?;
    let occurred = record_time(parts.occurred_at);
    let digest = digest::of_parts(&[
        parts.id.as_bytes(),
        parts.stream.as_bytes(),
        record.r#type.as_bytes(),
        &occurred,
        parts.cause_id.as_bytes(),
        if parts.cause_stream.is_empty() {
            parts.stream.as_bytes()
        } else {
            parts.cause_stream.as_bytes()
        },
        &payload,
    ]);
    let mut identity = [0; 16];
    let whole = digest::of_parts(&[parts.stream.as_bytes(), parts.id.as_bytes()]);
    identity.copy_from_slice(&whole[..16]);
    Ok(Told {
        stream: parts.stream,
        digest,
        identity,
        fact,
    })
}

fn record_time(at: Timestamp) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&at.timestamp().to_be_bytes());
    bytes[8..].copy_from_slice(&at.timestamp_subsec_nanos().to_be_bytes());
    bytes
}

/// What all facts have.
struct Parts<'a> {
    ids: &'a Ids,
    id: String,
    stream: String,
    occurred_at: Timestamp,
    cause_id: String,
    cause_stream: String,
}

impl<'a> Parts<'a> {
    fn of(record: &Record, ids: &'a Ids, later: TimeDelta) -> Result<Self, Untold> {
        if !is_told(record.kind, &record.r#type) {
            return Err(Untold::NoReport(record.r#type.clone()));
        }
        let id = Uuid::from_slice(&record.id).map_err(|_| Untold::Malformed("its id"))?;
        let occurred_at =
            moment(record.occurred_at.as_ref()).ok_or(Untold::Malformed("its time"))?;
        let occurred_at = occurred_at.checked_add_signed(later);
        let cause_id = match &*record.cause_id {
            [] => String::new(),
            id => {
                let id = Uuid::from_slice(id).map_err(|_| Untold::Malformed("its cause"))?;
                ids.record(id).to_string()
            }
        };
        Ok(Self {
            id: ids.record(id).to_string(),
            stream: ids.stream(&record.stream),
            occurred_at: occurred_at.ok_or(Untold::Malformed("its time"))?,
            cause_id,
            cause_stream: ids.stream(&record.cause_stream),
            ids,
        })
    }

    /// The fact for its service, and what of it will lie in the log.
    fn fact(&mut self, record: &Record) -> Result<(Facts, Vec<u8>), Untold> {
        let payload = &*record.payload;
        match record.r#type.as_str() {
            types::RUN_STARTED => {
                let mut fact: RunStarted = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                self.rename(&mut fact.parent_run_id)?;
                self.rename(&mut fact.conversation_id)?;
                self.rename_in(&mut fact.agent_context)?;
                Ok(self.of_run(fact, run_fact::Fact::RunStarted))
            }
            types::RUN_PROGRESSED => {
                let mut fact: RunProgressed = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                Ok(self.of_run(fact, run_fact::Fact::RunProgressed))
            }
            types::RUN_ENDED => {
                let mut fact: RunEnded = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                Ok(self.of_run(fact, run_fact::Fact::RunEnded))
            }
            types::STEP_STARTED => {
                let mut fact: StepStarted = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                Ok(self.of_run(fact, run_fact::Fact::StepStarted))
            }
            types::STEP_ENDED => {
                let mut fact: StepEnded = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                Ok(self.of_run(fact, run_fact::Fact::StepEnded))
            }
            types::USAGE_RECORDED => {
                let mut fact: UsageRecorded = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                Ok(self.of_run(fact, run_fact::Fact::UsageRecorded))
            }
            types::TOOL_CALL_STARTED => {
                let mut fact: ToolCallStarted = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                self.rename_in(&mut fact.agent_context)?;
                Ok(self.of_tool_call(fact, tool_call_fact::Fact::ToolCallStarted))
            }
            types::TOOL_CALL_ENDED => {
                let mut fact: ToolCallEnded = decoded(payload)?;
                self.rename(&mut fact.run_id)?;
                Ok(self.of_tool_call(fact, tool_call_fact::Fact::ToolCallEnded))
            }
            types::OCCURRENCE_RECORDED => {
                let mut fact: OccurrenceRecorded = decoded(payload)?;
                self.rename(&mut fact.owner_id)?;
                self.rename(&mut fact.schedule_id)?;
                self.rename(&mut fact.run_id)?;
                let payload = fact.encode_to_vec();
                Ok((Facts::Schedules(vec![self.occurrence(fact)]), payload))
            }
            types::MESSAGE_RECORDED => {
                let mut fact: MessageRecorded = decoded(payload)?;
                self.rename(&mut fact.conversation_id)?;
                self.rename(&mut fact.run_id)?;
                let payload = fact.encode_to_vec();
                Ok((Facts::Messages(vec![self.message(fact)]), payload))
            }
            other => Err(Untold::NoReport(other.to_owned())),
        }
    }

    fn of_run<F: Message>(&self, fact: F, of: fn(F) -> run_fact::Fact) -> (Facts, Vec<u8>) {
        let payload = fact.encode_to_vec();
        let fact = RunFact {
            id: self.id.clone(),
            occurred_at: Some(encode::timestamp(self.occurred_at)),
            cause_id: self.cause_id.clone(),
            cause_stream: self.cause_stream.clone(),
            fact: Some(of(fact)),
        };
        (Facts::Runs(vec![fact]), payload)
    }

    fn of_tool_call<F: Message>(
        &self,
        fact: F,
        of: fn(F) -> tool_call_fact::Fact,
    ) -> (Facts, Vec<u8>) {
        let payload = fact.encode_to_vec();
        let fact = ToolCallFact {
            id: self.id.clone(),
            occurred_at: Some(encode::timestamp(self.occurred_at)),
            cause_id: self.cause_id.clone(),
            cause_stream: self.cause_stream.clone(),
            fact: Some(of(fact)),
        };
        (Facts::ToolCalls(vec![fact]), payload)
    }

    fn occurrence(&self, fact: OccurrenceRecorded) -> ScheduleFact {
        ScheduleFact {
            id: self.id.clone(),
            occurred_at: Some(encode::timestamp(self.occurred_at)),
            cause_id: self.cause_id.clone(),
            cause_stream: self.cause_stream.clone(),
            fact: Some(schedule_fact::Fact::OccurrenceRecorded(fact)),
        }
    }

    fn message(&self, fact: MessageRecorded) -> MessageFact {
        MessageFact {
            id: self.id.clone(),
            occurred_at: Some(encode::timestamp(self.occurred_at)),
            cause_id: self.cause_id.clone(),
            cause_stream: self.cause_stream.clone(),
            fact: Some(message_fact::Fact::MessageRecorded(fact)),
        }
    }

    fn rename_in(&self, context: &mut Option<AgentContext>) -> Result<(), Untold> {
        context
            .as_mut()
            .map_or(Ok(()), |context| self.rename(&mut context.conversation_id))
    }

    fn rename(&self, id: &mut String) -> Result<(), Untold> {
        let Ids::New { prefix } = self.ids else {
            return Ok(());
        };
        if id.is_empty() {
            return Ok(());
        }
        let renamed = format!("{prefix}{id}");
        // All ids of callers are alike in what they may be.
        ids::RunId::from_str(&renamed).map_err(|_| Untold::TooLong(id.clone()))?;
        *id = renamed;
        Ok(())
    }
}

impl Ids {
    fn record(&self, id: Uuid) -> Uuid {
        let Self::New { prefix } = self else {
            return id;
        };
        let mut bytes = [0; 16];
        let whole = digest::of_parts(&[MAKER, prefix.as_bytes(), id.as_bytes()]);
        bytes.copy_from_slice(&whole[..16]);
        Uuid::new_v8(bytes)
    }

    fn stream(&self, name: &str) -> String {
        match (self, name.split_once('/')) {
            (Self::New { prefix }, Some((kind, id))) => format!("{kind}/{prefix}{id}"),
            _ => name.to_owned(),
        }
    }
}

fn decoded<F: Message + Default>(payload: &[u8]) -> Result<F, Untold> {
    F::decode(payload).map_err(|_| Untold::Malformed("its payload"))
}

#[cfg(test)]
mod tests;
