//! Usage on its way to whoever pays for it: the facts in the stream of an account.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::credit::{Spender, Usage};
use crate::digest;
use crate::ids::{AccountId, AgentId, Name, RecordId, RunId, SpaceId};
use crate::log::Stream;
use crate::price::Meter;
use crate::run::{Outcome, Started, UsageRecorded, WorkStatus};
use crate::scope::Scope;
use crate::time::Timestamp;

/// The account of runs that name none.
pub const ACCOUNT_DEFAULT: &str = "default";
/// The meter of how long calls of tools took. Not one of those that ship prices by name.
pub const CALL_MILLISECONDS: &str = "tool_call_milliseconds";
/// Longest value of a dimension that is passed on, in characters.
const DIMENSION_CHARS_MAX: usize = 256;

/// Something was used in a run of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub account_id: AccountId,
    pub meter: Name,
    /// In the meter's own unit.
    pub quantity: u64,
    pub dimensions: BTreeMap<Name, String>,
    pub spender: Spender,
}

impl Forwarded {
    /// What is to be charged. `id`: of the record that says so.
    pub fn usage(&self, id: RecordId, used_at: Timestamp) -> Usage {
        Usage {
            source: id,
            meter: self.meter.clone(),
            quantity: self.quantity,
            dimensions: self.dimensions.clone(),
            spender: self.spender.clone(),
            used_at,
        }
    }
}

/// A fact of the family `billing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Forwarded(Forwarded),
}

impl Fact {
    pub fn forwarded(&self) -> &Forwarded {
        match self {
            Self::Forwarded(forwarded) => forwarded,
        }
    }
}

/// What a run's start says of all that is used in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    pub account: AccountId,
    pub run: RunId,
    pub agent: AgentId,
    pub model: String,
    pub space: Option<SpaceId>,
    pub started_at: Timestamp,
}

impl Payer {
    pub fn of(started: &Started, started_at: Timestamp) -> Self {
        let default = || AccountId::from(Name::of_word(ACCOUNT_DEFAULT));
        Self {
            account: started.account_id.clone().unwrap_or_else(default),
            run: started.run_id.clone(),
            agent: started.agent_id.clone(),
            model: started.model.clone(),
            space: started.space_id.clone(),
            started_at,
        }
    }

    /// What was reported, with what its run implies. Of model and tool the report knows best.
    pub fn reported(&self, usage: &UsageRecorded, tool: Option<&Name>) -> Forwarded {
        let mut dimensions = usage.dimensions.clone();
        if let Some(tool) = tool {
            let said = dimensions.entry(Name::of_word("tool"));
            said.or_insert_with(|| tool.to_string());
        }
        // A fact's quantity is at least 0.
        let quantity = u64::try_from(usage.quantity).unwrap_or_default();
        self.forwarded(usage.meter.clone(), quantity, dimensions)
    }

    /// What the end of a tool call implies: the call, and how long it took.
    pub fn called(
        &self,
        tool: &Name,
        started_at: Timestamp,
        ended_at: Timestamp,
        status: WorkStatus,
    ) -> [Forwarded; 2] {
        let took = ended_at.signed_duration_since(started_at);
        let took = u64::try_from(took.num_milliseconds()).unwrap_or_default();
        let dimensions: BTreeMap<Name, String> = [
            (Name::of_word("tool"), tool.to_string()),
            (Name::of_word("outcome"), status.to_string()),
        ]
        .into();
        [
            self.forwarded(Meter::ToolCalls.into(), 1, dimensions.clone()),
            self.forwarded(Name::of_word(CALL_MILLISECONDS), took, dimensions),
        ]
    }

    /// What the end of the run implies: the seconds that it took, the last one whole.
    pub fn ran(&self, ended_at: Timestamp, outcome: Outcome) -> Forwarded {
        let took = ended_at.signed_duration_since(self.started_at);
        let millis = u64::try_from(took.num_milliseconds()).unwrap_or_default();
        let dimensions = [(Name::of_word("outcome"), outcome.to_string())];
        let seconds = millis.div_ceil(1_000);
        self.forwarded(Meter::RunSeconds.into(), seconds, dimensions.into())
    }

    fn forwarded(
        &self,
        meter: Name,
        quantity: u64,
        mut dimensions: BTreeMap<Name, String>,
    ) -> Forwarded {
        if !self.model.is_empty() {
            let said = dimensions.entry(Name::of_word("model"));
            said.or_insert_with(|| self.model.clone());
        }
        dimensions.insert(Name::of_word("agent"), self.agent.to_string());
        if let Some(space) = &self.space {
            dimensions.insert(Name::of_word("space"), space.to_string());
        }
        for value in dimensions.values_mut() {
            if let Some((end, _)) = value.char_indices().nth(DIMENSION_CHARS_MAX) {
                value.truncate(end);
            }
        }
        Forwarded {
            account_id: self.account.clone(),
            meter,
            quantity,
            dimensions,
            spender: Spender {
                agent: Some(self.agent.clone()),
                run: Some(self.run.clone()),
            },
        }
    }
}

/// What of a run's usage is forwarded. Whatever says it again is the same usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// A report, by its record.
    Report(RecordId),
    /// A call, which ends once.
    Call(&'a str),
    CallTime(&'a str),
    /// The run, which ends once.
    Run,
}

/// The id of a forwarded record. It follows from what it is of: forwarded again, it is a copy, which
/// nobody counts.
pub fn forwarded_id(scope: Scope, run: &RunId, of: Of<'_>) -> RecordId {
    let report;
    let (what, which): (&[u8], &[u8]) = match of {
        Of::Report(id) => {
            report = id.as_uuid();
            (b"report", report.as_bytes())
        }
        Of::Call(call) => (b"call", call.as_bytes()),
        Of::CallTime(call) => (b"call time", call.as_bytes()),
        Of::Run => (b"run", b""),
    };
    let key = Stream::run(run).key(scope);
    let from = digest::of_parts(&[b"runledger.forwarder", key.as_bytes(), what, which]);
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = from;
    RecordId::new(Uuid::new_v8(bytes))
}

#[cfg(test)]
mod tests;
