use prost::Message as _;
use runledger_domain::policy as domain;
use runledger_domain::run::Limits;

use super::{actor, duration, timestamp};
use crate::policy::v1 as wire;
use crate::{common, types};

/// The type name and the encoded payload of a command about policies, as they are stored.
pub fn policy_command(command: &domain::Command) -> (&'static str, Vec<u8>) {
    match command {
        domain::Command::Create { id, spec } => {
            let message = wire::CreatePolicy {
                policy_id: id.to_string(),
                spec: Some(spec.into()),
            };
            (types::CREATE_POLICY, message.encode_to_vec())
        }
        domain::Command::Update {
            id,
            spec,
            expected_version,
        } => {
            let message = wire::UpdatePolicy {
                policy_id: id.to_string(),
                spec: Some(spec.into()),
                expected_version: *expected_version,
            };
            (types::UPDATE_POLICY, message.encode_to_vec())
        }
        domain::Command::SetEnabled {
            id,
            enabled,
            expected_version,
        } => {
            let message = wire::SetPolicyEnabled {
                policy_id: id.to_string(),
                enabled: *enabled,
                expected_version: *expected_version,
            };
            (types::SET_POLICY_ENABLED, message.encode_to_vec())
        }
        domain::Command::Delete {
            id,
            expected_version,
        } => {
            let message = wire::DeletePolicy {
                policy_id: id.to_string(),
                expected_version: *expected_version,
            };
            (types::DELETE_POLICY, message.encode_to_vec())
        }
    }
}

/// The type name and the encoded payload of the decision that a policy was changed.
pub fn policy_changed(changed: &domain::Changed) -> (&'static str, Vec<u8>) {
    let message = wire::PolicyChanged {
        change: wire::PolicyChange::from(changed.changing).into(),
        policy: Some((&changed.policy).into()),
    };
    (types::POLICY_CHANGED, message.encode_to_vec())
}

/// The policies of a scope, as a decider keeps them: one message behind the other.
pub fn policy_book(book: &domain::Book) -> Vec<u8> {
    let mut bytes = Vec::new();
    for policy in book.policies() {
        bytes.extend(wire::Policy::from(policy).encode_length_delimited_to_vec());
    }
    bytes
}

impl From<&domain::Policy> for wire::Policy {
    fn from(policy: &domain::Policy) -> Self {
        Self {
            policy_id: policy.id.to_string(),
            version: policy.version,
            spec: Some((&policy.spec).into()),
            created: policy.created.as_ref().map(Into::into),
            updated: policy.updated.as_ref().map(Into::into),
            deleted: policy.deleted,
        }
    }
}

impl From<&domain::Change> for wire::Change {
    fn from(change: &domain::Change) -> Self {
        Self {
            at: Some(timestamp(change.at)),
            by: Some(actor(&change.by)),
        }
    }
}

impl From<&domain::Spec> for wire::PolicySpec {
    fn from(spec: &domain::Spec) -> Self {
        Self {
            name: spec.name.clone(),
            description: spec.description.clone(),
            action: wire::Action::from(spec.action).into(),
            approval: spec.approval.as_ref().map(Into::into),
            severity: spec
                .severity
                .map_or(0, |severity| wire::Severity::from(severity).into()),
            limits: (spec.limits != Limits::default()).then(|| (&spec.limits).into()),
            disabled: spec.disabled,
            when: Some(match &spec.when {
                domain::When::Conditions(all) => {
                    let all = all.iter().map(Into::into).collect();
                    wire::policy_spec::When::Conditions(wire::Conditions { all })
                }
                domain::When::Cel(text) => wire::policy_spec::When::Cel(text.clone()),
            }),
        }
    }
}

impl From<&domain::Condition> for wire::Condition {
    fn from(condition: &domain::Condition) -> Self {
        Self {
            field: condition.field.clone(),
            operator: wire::Operator::from(condition.operator).into(),
            value_json: condition.value.to_string(),
        }
    }
}

impl From<&domain::ApprovalRule> for wire::ApprovalRule {
    fn from(rule: &domain::ApprovalRule) -> Self {
        Self {
            quorum: rule.quorum,
            approvers: (rule.approvers != domain::ApproverSet::default())
                .then(|| (&rule.approvers).into()),
            requester_may_approve: rule.requester_may_approve,
            time_to_decide: Some(duration(rule.time_to_decide)),
            time_to_use: Some(duration(rule.time_to_use)),
        }
    }
}

impl From<&domain::ApproverSet> for wire::ApproverSet {
    fn from(set: &domain::ApproverSet) -> Self {
        let roles = set.roles.iter();
        Self {
            roles: roles
                .map(|role| common::v1::Role::from(*role).into())
                .collect(),
            principals: set.principals.iter().map(ToString::to_string).collect(),
        }
    }
}
