//! What policies make of calls, from outside.

use std::collections::BTreeMap;

use super::*;

mod cel;
mod checking;
mod judging;
mod simulating;
mod table;

/// A call that owns what it is made of.
pub(super) struct Given {
    pub(super) tool: Name,
    agent: AgentId,
    run: RunId,
    pub(super) hint: String,
    model: String,
    pub(super) arguments: Option<Json>,
    pub(super) labels: BTreeMap<Name, String>,
}

impl Given {
    pub(super) fn new(arguments: &str) -> Self {
        Self {
            tool: "book".parse().unwrap(),
            agent: "agent-7".parse().unwrap(),
            run: "run-1".parse().unwrap(),
            hint: String::new(),
            model: "gpt-4o".into(),
            arguments: (!arguments.is_empty()).then(|| json(arguments)),
            labels: BTreeMap::from([("env".parse().unwrap(), "prod".into())]),
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            tool: &self.tool,
            agent: &self.agent,
            action_hint: &self.hint,
            run: &self.run,
            model: &self.model,
            arguments: self.arguments.as_ref(),
            labels: &self.labels,
        }
    }
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

pub(super) fn condition(field: &str, operator: &str, value: &str) -> Condition {
    Condition {
        field: field.into(),
        operator: operator.parse().unwrap(),
        value: json(value),
    }
}

pub(super) fn spec(action: Action, when: When) -> Spec {
    Spec {
        name: "A policy".into(),
        description: String::new(),
        when,
        action,
        approval: None,
        severity: None,
        limits: run::Limits::default(),
        disabled: false,
    }
}

pub(super) fn policy(id: &str, spec: Spec) -> Policy {
    Policy {
        id: id.parse().unwrap(),
        version: 1,
        spec,
        created: None,
        updated: None,
        deleted: false,
    }
}

/// Whether one policy with these conditions matches, and that nothing went wrong.
pub(super) fn matches(conditions: Vec<Condition>, given: &Given) -> bool {
    let spec = spec(Action::Warn, When::Conditions(conditions));
    assert_eq!(check(&spec), []);
    let judged = PolicySet::compile([&policy("p", spec)]).judge(&given.subject());
    assert!(judged.matches.iter().all(|one| one.error.is_none()));
    !judged.matches.is_empty()
}
