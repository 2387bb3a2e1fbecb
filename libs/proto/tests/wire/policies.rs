//! Policies on the wire: as callers send them, and as they lie in logs.

use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;
use runledger_domain::decision::{Rejection, RejectionKind};
use runledger_domain::fault::Violation;
use runledger_domain::ids::PrincipalId;
use runledger_domain::policy::{
    Action, ApprovalRule, ApproverSet, Command, Condition, Operator, Severity, Spec, When,
};
use runledger_domain::run::Limits;
use runledger_domain::scope::Role;
use runledger_proto::decode::fields::Path;
use runledger_proto::policy::v1 as wire;
use runledger_proto::{decode, encode, types};
use uuid::Uuid;

use crate::any::any_json;
use crate::samples::{id, policy_changed, policy_spec};

fn sent(spec: &Spec) -> wire::PolicySpec {
    spec.into()
}

fn faults(wire: wire::PolicySpec) -> Vec<(String, String)> {
    let list = decode::policy(wire, Path::ROOT.field("spec")).expect_err("faults");
    list.into_iter()
        .map(|one| (one.field, one.reason.into_owned()))
        .collect()
}

#[test]
fn a_policy_comes_in_as_it_was_sent() {
    let spec = policy_spec();
    assert_eq!(decode::policy(sent(&spec), Path::ROOT), Ok(spec));
}

#[test]
fn what_is_left_out_takes_its_default() {
    let mut wire = sent(&policy_spec());
    wire.approval = Some(wire::ApprovalRule::default());
    wire.severity = 0;
    wire.limits = None;
    let spec = decode::policy(wire, Path::ROOT).unwrap();
    assert_eq!(spec.approval, Some(ApprovalRule::default()));
    assert_eq!((spec.severity, spec.limits), (None, Limits::default()));
}

#[test]
fn every_fault_of_a_policy_is_told_at_once() {
    let mut wire = sent(&policy_spec());
    wire.name.clear();
    wire.action = 99;
    wire.severity = 99;
    let rule = wire.approval.as_mut().unwrap();
    rule.quorum = 17;
    rule.approvers.as_mut().unwrap().principals = vec!["x".into()];
    rule.time_to_use.as_mut().unwrap().seconds = -1;
    let condition = |field: &str, operator, value_json: &str| wire::Condition {
        field: field.into(),
        operator,
        value_json: value_json.into(),
    };
    wire.when = Some(wire::policy_spec::When::Conditions(wire::Conditions {
        all: vec![
            condition("tool", 1, "not JSON"),
            condition("toolName", 99, "1"),
            condition("tool", 4, r#""(""#),
            condition("tool", 0, ""),
        ],
    }));
    let found = faults(wire);
    for (field, reason) in [
        ("spec.name", "REQUIRED"),
        ("spec.action", "UNKNOWN_VALUE"),
        ("spec.severity", "UNKNOWN_VALUE"),
        ("spec.approval.quorum", "OUT_OF_RANGE"),
        ("spec.approval.approvers.principals", "INVALID_UUID"),
        ("spec.approval.time_to_use", "OUT_OF_RANGE"),
        ("spec.conditions.all[0].value_json", "INVALID_JSON"),
        ("spec.conditions.all[1].operator", "UNKNOWN_VALUE"),
        ("spec.conditions.all[1].field", "UNKNOWN_FIELD"),
        ("spec.conditions.all[2].value_json", "INVALID_PATTERN"),
        ("spec.conditions.all[3].operator", "REQUIRED"),
        ("spec.conditions.all[3].value_json", "REQUIRED"),
    ] {
        let fault = (field.to_owned(), reason.to_owned());
        assert!(found.contains(&fault), "{fault:?} of {found:?}");
    }
    assert_eq!(found.len(), 12, "{found:?}");
}

#[test]
fn a_policy_without_a_condition_or_an_expression_is_refused() {
    let mut wire = sent(&policy_spec());
    wire.when = None;
    assert_eq!(
        faults(wire.clone()),
        [("spec.when".into(), "REQUIRED".into())]
    );
    wire.when = Some(wire::policy_spec::When::Conditions(
        wire::Conditions::default(),
    ));
    assert_eq!(
        faults(wire),
        [("spec.conditions.all".into(), "REQUIRED".into())]
    );
}

#[test]
fn a_stored_policy_that_newer_rules_refuse_is_read_as_it_is() {
    let mut changed = policy_changed();
    changed.policy.spec.name.clear();
    let broken = Condition {
        field: "gone".into(),
        operator: Operator::Matches,
        value: crate::samples::json("\"(\""),
    };
    changed.policy.spec.when = When::Conditions(vec![broken; 40]);
    let (type_name, bytes) = encode::policy_changed(&changed);
    let read = decode::stored_policy_changed(type_name, &bytes).unwrap();
    assert_eq!(read, Some(changed));
}

#[test]
fn what_a_later_version_says_of_policies_is_not_understood_but_no_error() {
    let (type_name, bytes) = encode::policy_changed(&policy_changed());
    let later = |change: fn(&mut wire::PolicyChanged)| {
        let mut wire = wire::PolicyChanged::decode(bytes.as_slice()).unwrap();
        change(&mut wire);
        decode::stored_policy_changed(type_name, &wire.encode_to_vec()).unwrap()
    };
    assert!(later(|_| ()).is_some());
    assert_eq!(later(|wire| wire.change = 99), None);
    assert_eq!(
        later(|wire| {
            let spec = wire.policy.as_mut().unwrap().spec.as_mut().unwrap();
            spec.action = 99;
        }),
        None
    );
}

fn any_when() -> impl Strategy<Value = When> {
    let operator = select(Operator::ALL);
    let condition =
        ("[^\0]{0,20}", operator, any_json()).prop_map(|(field, operator, value)| Condition {
            field,
            operator,
            value,
        });
    prop_oneof![
        vec(condition, 0..5).prop_map(When::Conditions),
        "[^\0]{0,60}".prop_map(When::Cel)
    ]
}

fn any_rule() -> impl Strategy<Value = ApprovalRule> {
    let principal = (1..u128::MAX).prop_map(|id| PrincipalId::new(Uuid::from_u128(id)));
    let roles = btree_set(select(Role::ALL), 0..4);
    let micros = 0..1_000_000_000_000_u64;
    (
        1..17_u32,
        roles,
        btree_set(principal, 0..4),
        any::<bool>(),
        micros.clone(),
        micros,
    )
        .prop_map(
            |(quorum, roles, principals, own, decide, used)| ApprovalRule {
                quorum,
                approvers: ApproverSet { roles, principals },
                requester_may_approve: own,
                time_to_decide: Duration::from_micros(decide),
                time_to_use: Duration::from_micros(used),
            },
        )
}

fn any_spec() -> impl Strategy<Value = Spec> {
    (
        ("[^\0]{0,30}", "[^\0]{0,30}", any_when()),
        select(Action::ALL),
        option::of(any_rule()),
        option::of(select(Severity::ALL)),
        option::of(any::<u32>()),
        any::<bool>(),
    )
        .prop_map(
            |((name, description, when), action, approval, severity, tool_calls, disabled)| Spec {
                name,
                description,
                when,
                action,
                approval,
                severity,
                limits: Limits {
                    tool_calls,
                    ..Limits::default()
                },
                disabled,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_policy_comes_back_as_it_was_stored(spec in any_spec(), version: u64, deleted: bool, expected_version: Option<u64>) {
        let mut changed = policy_changed();
        changed.policy.spec = spec.clone();
        changed.policy.version = version;
        changed.policy.deleted = deleted;
        changed.policy.created = None;
        let (type_name, bytes) = encode::policy_changed(&changed);
        prop_assert_eq!(decode::stored_policy_changed(type_name, &bytes).unwrap(), Some(changed));
        let command = Command::Update { id: id("p"), spec, expected_version };
        let (type_name, bytes) = encode::policy_command(&command);
        prop_assert_eq!(decode::stored_policy_command(type_name, &bytes).unwrap(), Some(command));
    }

    #[test]
    fn any_refusal_comes_back_as_it_was_stored(kind in select(RejectionKind::ALL), reason in "[A-Z_]{1,20}", message in ".{0,40}", field in ".{0,20}") {
        let violation = Violation { field, reason: reason.clone().into(), description: message.clone() };
        let rejection = Rejection { violations: vec![violation], ..Rejection::new(kind, reason, message) };
        let (type_name, bytes) = encode::rejected(&rejection, types::DELETE_POLICY);
        let read = decode::stored_rejection(type_name, &bytes).unwrap();
        prop_assert_eq!(read, Some((rejection, types::DELETE_POLICY.to_owned())));
    }

    #[test]
    fn bytes_that_say_anything_of_policies_are_a_value_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        for type_name in types::ALL {
            let _either = decode::stored_policy_command(type_name, &bytes);
            let _either = decode::stored_policy_changed(type_name, &bytes);
            let _either = decode::stored_rejection(type_name, &bytes);
        }
        if let Ok(wire) = wire::PolicySpec::decode(bytes.as_slice()) {
            let _either = decode::policy(wire, Path::ROOT);
        }
    }
}
