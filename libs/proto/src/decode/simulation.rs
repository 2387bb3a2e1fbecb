//! The request to judge calls by a draft.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::approval::RequestToolCall;
use runledger_domain::ids::{AgentId, Name, PolicyId, RunId};
use runledger_domain::policy::{Draft, POLICIES_MAX};
use runledger_domain::time::Timestamp;

use super::approval::call_of_agent;
use super::fields::{Fields, reason};
use super::policy::policy;
use super::run_fact;
use crate::approval::v1 as wire;

/// What a caller asks to be simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulate {
    pub draft: Draft,
    pub calls: Calls,
}

/// Which calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Boxed: it is many times the size of the other.
    Described(Box<Described>),
    Recorded(Recorded),
}

/// A call that nobody has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub request: RequestToolCall,
    pub model: String,
    pub labels: BTreeMap<Name, String>,
}

/// Calls that were asked for; `None` restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub run: Option<RunId>,
    pub agent: Option<AgentId>,
    pub tool: Option<Name>,
}

/// A request to simulate. `None`: faults are noted.
pub fn simulate(
    draft: Option<wire::Draft>,
    calls: Option<wire::simulate_request::Calls>,
    see: &mut Fields<'_>,
) -> Option<Simulate> {
    use wire::simulate_request::Calls as Wire;

    let draft = see.within("draft", |see| self::draft(draft.unwrap_or_default(), see));
    let Some(calls) = calls else {
        let why = "must be given, or described in its place";
        see.fault("recorded", reason::REQUIRED, why);
        return None;
    };
    let calls = match calls {
        Wire::Described(wire) => see
            .within("described", |see| described(wire, see))
            .map(|one| Calls::Described(Box::new(one))),
        Wire::Recorded(wire) => Some(Calls::Recorded(
            see.within("recorded", |see| recorded(wire, see)),
        )),
    };
    Some(Simulate {
        draft,
        calls: calls?,
    })
}

fn draft(wire: wire::Draft, see: &mut Fields<'_>) -> Draft {
    let mut draft = Draft {
        from_nothing: wire.from_nothing,
        ..Draft::default()
    };
    for (name, count) in [
        ("policies", wire.policies.len()),
        ("without", wire.without.len()),
    ] {
        if count > POLICIES_MAX {
            let why = format_args!("must be at most {POLICIES_MAX}");
            see.fault(name, reason::TOO_MANY, why);
            return draft;
        }
    }
    let mut ids = BTreeSet::new();
    for (index, one) in wire.policies.into_iter().enumerate() {
        see.item("policies", index, |see| {
            let id = see.id("policy_id", one.policy_id, PolicyId::parse);
            let spec = see.required("spec", one.spec);
            let spec = spec.and_then(|spec| {
                policy(spec, see.at().field("spec"))
                    .map_err(|faults| see.take_over(faults))
                    .ok()
            });
            if let (Some(id), Some(spec)) = (id, spec) {
                if !ids.insert(id.clone()) {
                    let why = "must be another one than the policies before it";
                    see.fault("policy_id", reason::NOT_ALLOWED, why);
                }
                draft.policies.push((id, spec));
            }
        });
    }
    for (index, id) in wire.without.into_iter().enumerate() {
        let id = see.item("without", index, |see| see.item_id(id, PolicyId::parse));
        draft.without.extend(id);
    }
    draft
}

fn described(wire: wire::DescribedCall, see: &mut Fields<'_>) -> Option<Described> {
    let request = call_of_agent(wire.call, wire.agent_id, see);
    let model = run_fact::model(wire.model, see);
    let labels = run_fact::labels(wire.labels, see);
    Some(Described {
        request: request?,
        model,
        labels,
    })
}

fn recorded(wire: wire::RecordedCalls, see: &mut Fields<'_>) -> Recorded {
    let from = see.optional_time("from", wire.from);
    let to = see.optional_time("to", wire.to);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        let why = "must be later than from: swap them";
        see.fault("to", reason::OUT_OF_RANGE, why);
    }
    Recorded {
        from,
        to,
        run: see.optional_id("run_id", wire.run_id, RunId::parse),
        agent: see.optional_id("agent_id", wire.agent_id, AgentId::parse),
        tool: see.optional_id("tool", wire.tool, Name::parse),
    }
}
