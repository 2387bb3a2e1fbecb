//! Policies: what they say, what they make of a tool call, and how a scope's policies are changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Name, PolicyId, PrincipalId, RunId};
use crate::json::Json;
use crate::run;
use crate::scope::{Actor, Role, worded};
use crate::time::Timestamp;

mod book;
mod check;
mod condition;
mod defaults;
mod expression;
mod field;
mod number;
mod set;
mod simulate;
mod value;

pub use book::{Book, POLICIES_MAX, decide, evolve};
pub use check::{
    APPROVAL_TIME_MAX, APPROVER_PRINCIPALS_MAX, CONDITIONS_MAX, DESCRIPTION_CHARS_MAX,
    NAME_CHARS_MAX, QUORUM_MAX, check,
};
pub use condition::{PATTERN_BYTES_MAX, VALUE_BYTES_MAX};
pub use defaults::defaults;
pub use expression::{ERROR_CHARS_MAX, EXPRESSION_BYTES_MAX};
pub use field::FIELD_BYTES_MAX;
pub use set::{FieldsPresent, MATCHES_MAX, PolicySet, severity_of};
pub use simulate::{Cause, Draft, DraftError, Drafted, Recorded, Simulation};

worded! {
    /// What a policy does with a call that it matches, the mildest first: of several the strictest wins.
    Action { Allow = "allow", Warn = "warn", RequireApproval = "require_approval", Block = "block" }
}

worded! {
    /// How grave a risk is, the slightest first.
    Severity { Low = "low", Medium = "medium", High = "high", Critical = "critical" }
}

worded! {
    /// How a condition compares a field with its value.
    Operator {
        Equals = "equals", NotEquals = "not_equals", Contains = "contains", Matches = "matches",
        In = "in", NotIn = "not_in", Exists = "exists", Gt = "gt", Gte = "gte", Lt = "lt", Lte = "lte",
    }
}

/// One test of one field of a call, as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub field: String,
    pub operator: Operator,
    pub value: Json,
}

/// When a policy matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// All of them hold.
    Conditions(Vec<Condition>),
    /// A CEL expression is true, or cannot be evaluated.
    Cel(String),
}

/// Who may approve. An agent never may.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApproverSet {
    pub roles: BTreeSet<Role>,
    pub principals: BTreeSet<PrincipalId>,
}

impl ApproverSet {
    /// Whether `actor` is one of them. A set that names nobody means admins and reviewers.
    pub fn admits(&self, actor: Actor) -> bool {
        let names_nobody = self.roles.is_empty() && self.principals.is_empty();
        let usual = matches!(actor.role, Role::Admin | Role::Reviewer);
        (names_nobody && usual)
            || self.roles.contains(&actor.role)
            || self.principals.contains(&actor.principal)
    }
}

/// What it takes to approve a call that a policy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRule {
    /// How many different approvers, 1 to 16.
    pub quorum: u32,
    pub approvers: ApproverSet,
    pub requester_may_approve: bool,
    pub time_to_decide: Duration,
    pub time_to_use: Duration,
}

/// A policy as its author writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub description: String,
    pub when: When,
    pub action: Action,
    /// Only with [`Action::RequireApproval`]; `None` there: the default rule.
    pub approval: Option<ApprovalRule>,
    /// `None`: what the action says.
    pub severity: Option<Severity>,
    /// Limits of the run that hold for each call it matches.
    pub limits: run::Limits,
    pub disabled: bool,
}

/// Who changed something, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub at: Timestamp,
    pub by: Actor,
}

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub id: PolicyId,
    /// 0: a default as it ships; 1 when made; one more with each change.
    pub version: u64,
    pub spec: Spec,
    pub created: Option<Change>,
    pub updated: Option<Change>,
    pub deleted: bool,
}

/// A tool call as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub tool: &'a Name,
    pub agent: &'a AgentId,
    pub action_hint: &'a str,
    pub run: &'a RunId,
    /// Empty: not known.
    pub model: &'a str,
    pub arguments: Option<&'a Json>,
    pub labels: &'a BTreeMap<Name, String>,
}

/// A policy that matched a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub policy: PolicyId,
    pub version: u64,
    pub name: String,
    pub action: Action,
    /// `None`: no risk.
    pub severity: Option<Severity>,
    /// Why its expression could not be evaluated, which counts as a match.
    pub error: Option<String>,
}

/// What approving a held call takes, from all policies that hold it: the strictest of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub quorum: u32,
    /// An approver must be in each of these.
    pub approvers: Vec<ApproverSet>,
    pub requester_may_approve: bool,
    pub time_to_decide: Duration,
    pub time_to_use: Duration,
}

/// What a scope's policies make of a call. The order in which they were looked at does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The strictest; [`Action::Allow`] when none matched.
    pub action: Action,
    /// The deciding one first, then the others, the stricter and then the older first.
    pub matches: Vec<Match>,
    /// With [`Action::RequireApproval`].
    pub hold: Option<Hold>,
    /// The highest of the matches.
    pub severity: Option<Severity>,
    /// The least of what the matches allow a run.
    pub limits: run::Limits,
}

/// What is asked of a scope's policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create {
        id: PolicyId,
        spec: Spec,
    },
    Update {
        id: PolicyId,
        spec: Spec,
        expected_version: Option<u64>,
    },
    SetEnabled {
        id: PolicyId,
        enabled: bool,
        expected_version: Option<u64>,
    },
    Delete {
        id: PolicyId,
        expected_version: Option<u64>,
    },
}

worded! {
    /// How a policy was changed.
    Changing {
        Created = "created", Updated = "updated", Enabled = "enabled", Disabled = "disabled",
        Deleted = "deleted",
    }
}

/// A decision: a policy was changed as a command asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub changing: Changing,
    /// As it is from here on.
    pub policy: Policy,
}

#[cfg(test)]
mod tests;
