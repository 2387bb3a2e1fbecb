//! Policies, and the commands and decisions about them.

use std::collections::BTreeSet;

use prost::Message;
use runledger_domain::fault::Violation;
use runledger_domain::ids::{PolicyId, PrincipalId};
use runledger_domain::json::Json;
use runledger_domain::policy::{
    self as domain, Action, ApprovalRule, ApproverSet, Book, CONDITIONS_MAX, Change, Changed,
    Command, Condition, Operator, Policy, Spec, When,
};
use runledger_domain::scope::Actor;

use super::fields::{Fields, Path, reason};
use super::run_fact::limits;
use super::stored::{Error, message};
use crate::policy::v1 as wire;
use crate::words::known;
use crate::{common, types};

/// More entries than any list of a policy may have are not looked at: their faults could outgrow any
/// answer.
const ENTRIES_MAX: usize = 64;

/// A policy as a caller writes it; `at` is where it lies in the request.
///
/// # Errors
/// Every field that is not as it must be.
pub fn policy(wire: wire::PolicySpec, at: Path<'_>) -> Result<Spec, Vec<Violation>> {
    let mut faults = Vec::new();
    let spec = spec(wire, &mut Fields::new(at, &mut faults));
    // Where the wire was at fault, the domain looks at a filler that has no fault of its own.
    let place = at.to_string();
    let checked = spec.iter().flat_map(domain::check);
    faults.extend(checked.map(|violation| {
        let inside = violation.field.trim_start_matches("spec");
        let field = format!("{place}{inside}");
        let field = field.trim_start_matches('.').to_owned();
        Violation { field, ..violation }
    }));
    match spec {
        Some(spec) if faults.is_empty() => Ok(spec),
        _ => Err(faults),
    }
}

fn spec(wire: wire::PolicySpec, see: &mut Fields<'_>) -> Option<Spec> {
    let action = see.word::<wire::Action>("action", wire.action);
    let when = see.required("when", wire.when).and_then(|when| match when {
        wire::policy_spec::When::Cel(text) => Some(When::Cel(text)),
        wire::policy_spec::When::Conditions(conditions) => see.within("conditions", |see| {
            self::conditions(conditions, see).map(When::Conditions)
        }),
    });
    let severity = match wire.severity {
        0 => None,
        severity => see.word::<wire::Severity>("severity", severity),
    };
    let approval = see.optional("approval", wire.approval, approval);
    let limits = see.optional("limits", wire.limits, limits);
    // What is at fault is noted; a filler lets the rest be looked at.
    let filler = if approval.is_some() {
        Action::RequireApproval
    } else {
        Action::Block
    };
    Some(Spec {
        name: wire.name,
        description: wire.description,
        when: when.unwrap_or_else(|| When::Cel("true".into())),
        action: action.unwrap_or(filler),
        approval,
        severity,
        limits: limits.unwrap_or_default(),
        disabled: wire.disabled,
    })
}

fn conditions(wire: wire::Conditions, see: &mut Fields<'_>) -> Option<Vec<Condition>> {
    if wire.all.len() > CONDITIONS_MAX && !see.is_stored() {
        let why = format_args!("must have at most {CONDITIONS_MAX} conditions");
        see.fault("all", reason::TOO_MANY, why);
        return None;
    }
    let all = wire.all.into_iter().enumerate();
    Some(
        all.map(|(index, wire)| see.item("all", index, |see| condition(wire, see)))
            .collect(),
    )
}

fn condition(wire: wire::Condition, see: &mut Fields<'_>) -> Condition {
    let operator = see.word::<wire::Operator>("operator", wire.operator);
    let value = if wire.value_json.is_empty() {
        let why = "must be given, as JSON text: a text has quotes of its own";
        see.fault("value_json", reason::REQUIRED, why);
        None
    } else {
        see.json("value_json", wire.value_json)
    };
    let (operator, value) = match (operator, value) {
        (Some(operator), Some(value)) => (operator, value),
        // A filler without a fault, so that the field is still looked at.
        _ => (Operator::Exists, Json::from_stored("true".into())),
    };
    Condition {
        field: wire.field,
        operator,
        value,
    }
}

fn approval(wire: wire::ApprovalRule, see: &mut Fields<'_>) -> Option<ApprovalRule> {
    let usual = ApprovalRule::default();
    let approvers = see.optional("approvers", wire.approvers, approvers);
    let time_to_decide = see.optional_duration("time_to_decide", wire.time_to_decide);
    let time_to_use = see.optional_duration("time_to_use", wire.time_to_use);
    Some(ApprovalRule {
        quorum: wire.quorum.max(1),
        approvers: approvers.unwrap_or_default(),
        requester_may_approve: wire.requester_may_approve,
        time_to_decide: time_to_decide.unwrap_or(usual.time_to_decide),
        time_to_use: time_to_use.unwrap_or(usual.time_to_use),
    })
}

/// Also of what approvals store.
pub(super) fn approvers(wire: wire::ApproverSet, see: &mut Fields<'_>) -> Option<ApproverSet> {
    for (name, count) in [
        ("roles", wire.roles.len()),
        ("principals", wire.principals.len()),
    ] {
        if count > ENTRIES_MAX && !see.is_stored() {
            let why = format_args!("must have at most {ENTRIES_MAX} entries");
            see.fault(name, reason::TOO_MANY, why);
            return None;
        }
    }
    let roles = wire
        .roles
        .into_iter()
        .filter_map(|role| see.word::<common::v1::Role>("roles", role))
        .collect();
    let principals: BTreeSet<PrincipalId> = wire
        .principals
        .iter()
        .filter_map(|principal| see.uuid("principals", principal))
        .map(PrincipalId::new)
        .collect();
    Some(ApproverSet { roles, principals })
}

/// The command about policies in a stored payload. `Ok(None)`: its type is none of those, or it says
/// what this version does not understand. It is not checked again: its decision does that.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_policy_command(type_name: &str, bytes: &[u8]) -> Result<Option<Command>, Error> {
    match type_name {
        types::CREATE_POLICY => read(type_name, bytes, |wire: wire::CreatePolicy, see| {
            let id = see.id("policy_id", wire.policy_id, PolicyId::parse)?;
            let spec = see.optional("spec", wire.spec, spec)?;
            Some(Command::Create { id, spec })
        }),
        types::UPDATE_POLICY => read(type_name, bytes, |wire: wire::UpdatePolicy, see| {
            Some(Command::Update {
                id: see.id("policy_id", wire.policy_id, PolicyId::parse)?,
                spec: see.optional("spec", wire.spec, spec)?,
                expected_version: wire.expected_version,
            })
        }),
        types::SET_POLICY_ENABLED => read(type_name, bytes, |wire: wire::SetPolicyEnabled, see| {
            Some(Command::SetEnabled {
                id: see.id("policy_id", wire.policy_id, PolicyId::parse)?,
                enabled: wire.enabled,
                expected_version: wire.expected_version,
            })
        }),
        types::DELETE_POLICY => read(type_name, bytes, |wire: wire::DeletePolicy, see| {
            Some(Command::Delete {
                id: see.id("policy_id", wire.policy_id, PolicyId::parse)?,
                expected_version: wire.expected_version,
            })
        }),
        _ => Ok(None),
    }
}

/// The change of a policy in a stored payload. `Ok(None)`: as in [`stored_policy_command`]. A policy
/// that newer rules would refuse is read as it is.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_policy_changed(type_name: &str, bytes: &[u8]) -> Result<Option<Changed>, Error> {
    if type_name != types::POLICY_CHANGED {
        return Ok(None);
    }
    read(type_name, bytes, |wire: wire::PolicyChanged, see| {
        let changing = known::<wire::PolicyChange>(wire.change)?;
        let policy = see.optional("policy", wire.policy, whole)?;
        Some(Changed { changing, policy })
    })
}

/// The policies of a scope as [`crate::encode::policy_book`] has written them.
///
/// # Errors
/// When the bytes are none of that.
pub fn stored_policy_book(mut bytes: &[u8]) -> Result<Book, Error> {
    let mut policies = Vec::new();
    while !bytes.is_empty() {
        let wire = wire::Policy::decode_length_delimited(&mut bytes);
        let wire = wire.map_err(|source| Error::Decode {
            type_name: "runledger.policy.v1.Policy".into(),
            source,
        })?;
        let mut faults = Vec::new();
        let policy = whole(wire, &mut Fields::of_stored(&mut faults));
        // Written by ourselves from what was whole.
        policies.extend(policy);
    }
    Ok(Book::of(policies))
}

fn whole(wire: wire::Policy, see: &mut Fields<'_>) -> Option<Policy> {
    Some(Policy {
        id: see.id("policy_id", wire.policy_id, PolicyId::parse)?,
        version: wire.version,
        spec: see.optional("spec", wire.spec, spec)?,
        created: see.optional("created", wire.created, change),
        updated: see.optional("updated", wire.updated, change),
        deleted: wire.deleted,
    })
}

fn change(wire: wire::Change, see: &mut Fields<'_>) -> Option<Change> {
    let at = see.time("at", wire.at);
    let by = see.required("by", wire.by)?;
    let principal = see.uuid("by", &by.principal_id).map(PrincipalId::new);
    let kind = see.word::<common::v1::PrincipalKind>("by", by.kind);
    let role = see.word::<common::v1::Role>("by", by.role);
    Some(Change {
        at: at?,
        by: Actor {
            principal: principal?,
            kind: kind?,
            role: role?,
        },
    })
}

fn read<M: Message + Default, T>(
    type_name: &str,
    bytes: &[u8],
    convert: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    let mut faults = Vec::new();
    let value = convert(
        message(type_name, bytes)?,
        &mut Fields::of_stored(&mut faults),
    );
    Ok(value.filter(|_| faults.is_empty()))
}
