use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use uuid::Uuid;

use super::*;
use crate::scope::PrincipalKind;

fn always() -> When {
    When::Conditions(vec![condition("tool", "exists", "true")])
}

fn made(id: &str, action: Action, second: i64) -> Policy {
    let by = Actor {
        principal: PrincipalId::new(Uuid::from_u128(1)),
        kind: PrincipalKind::User,
        role: Role::Admin,
    };
    let at = Timestamp::from_timestamp(second, 0).unwrap();
    Policy {
        created: Some(Change { at, by }),
        ..policy(id, spec(action, always()))
    }
}

#[test]
fn the_strictest_wins_and_removing_it_leaves_the_next() {
    let mut policies = vec![
        made("a", Action::Allow, 1),
        made("w", Action::Warn, 2),
        made("r", Action::RequireApproval, 3),
        made("b", Action::Block, 4),
    ];
    let given = Given::new("{}");
    for action in Action::ALL.iter().rev() {
        let judged = PolicySet::compile(&policies).judge(&given.subject());
        assert_eq!(judged.action, *action);
        assert_eq!(judged.matches.len(), policies.len());
        assert_eq!(judged.matches[0].action, *action);
        assert_eq!(judged.hold.is_some(), *action == Action::RequireApproval);
        assert_eq!(judged.severity, severity_of(*action));
        policies.pop();
    }
    let none = PolicySet::compile(&policies).judge(&given.subject());
    assert_eq!((none.action, none.matches), (Action::Allow, vec![]));
}

#[test]
fn of_two_alike_the_older_decides_and_then_the_lesser_id() {
    let policies = [
        made("c", Action::Warn, 5),
        made("b", Action::Warn, 9),
        made("a", Action::Warn, 9),
        policy("z", spec(Action::Warn, always())),
    ];
    let judged = PolicySet::compile(&policies).judge(&Given::new("").subject());
    let order: Vec<_> = judged
        .matches
        .iter()
        .map(|one| one.policy.as_str())
        .collect();
    assert_eq!(order, ["z", "c", "a", "b"], "a default is older than all");
}

#[test]
fn disabled_and_deleted_ones_take_no_part() {
    let mut disabled = made("d", Action::Block, 1);
    disabled.spec.disabled = true;
    let mut deleted = made("x", Action::Block, 1);
    deleted.deleted = true;
    assert!(PolicySet::compile([&disabled, &deleted]).is_empty());
}

#[test]
fn a_hold_is_the_strictest_of_each_rule() {
    let rule = |quorum, requester_may_approve, minutes, role| ApprovalRule {
        quorum,
        approvers: ApproverSet {
            roles: [role].into(),
            ..ApproverSet::default()
        },
        requester_may_approve,
        time_to_decide: Duration::from_mins(minutes),
        time_to_use: Duration::from_mins(100 - minutes),
    };
    let mut policies = [
        made("a", Action::RequireApproval, 1),
        made("b", Action::RequireApproval, 2),
        made("c", Action::RequireApproval, 3),
    ];
    policies[0].spec.approval = Some(rule(2, true, 10, Role::Admin));
    policies[1].spec.approval = Some(rule(1, false, 20, Role::Reviewer));
    policies[2].spec.approval = Some(rule(1, true, 30, Role::Admin));
    let set = PolicySet::compile(&policies);
    let hold = set.judge(&Given::new("").subject()).hold.unwrap();
    assert_eq!(hold.quorum, 2);
    assert!(!hold.requester_may_approve);
    assert_eq!(hold.time_to_decide, Duration::from_mins(10));
    assert_eq!(hold.time_to_use, Duration::from_mins(70));
    assert_eq!(hold.approvers.len(), 2, "each distinct set once");
    let usual = PolicySet::compile([&made("a", Action::RequireApproval, 1)]);
    let hold = usual.judge(&Given::new("").subject()).hold.unwrap();
    assert_eq!(
        hold.approvers[0].roles,
        [Role::Admin, Role::Reviewer].into()
    );
    assert_eq!(
        (hold.quorum, hold.time_to_decide),
        (1, Duration::from_hours(24))
    );
}

#[test]
fn limits_are_the_least_of_each_and_severity_the_highest() {
    let mut policies = [made("a", Action::Warn, 1), made("b", Action::Allow, 2)];
    policies[0].spec.limits.tool_calls = Some(9);
    policies[0].spec.limits.duration = Some(Duration::from_secs(5));
    policies[1].spec.limits.tool_calls = Some(4);
    policies[1].spec.severity = Some(Severity::Critical);
    let judged = PolicySet::compile(&policies).judge(&Given::new("").subject());
    assert_eq!(judged.limits.tool_calls, Some(4));
    assert_eq!(judged.limits.duration, Some(Duration::from_secs(5)));
    assert_eq!(judged.severity, Some(Severity::Critical));
}

#[test]
fn what_no_longer_compiles_counts_as_a_match_and_says_why() {
    for when in [
        When::Conditions(vec![condition("arguments.a", "matches", "\"(\"")]),
        When::Conditions(vec![condition("nothing", "exists", "true")]),
        When::Conditions(vec![]),
        When::Cel("arguments.".into()),
        When::Cel("nobody == 1".into()),
    ] {
        let set = PolicySet::compile([&policy("p", spec(Action::Block, when))]);
        let judged = set.judge(&Given::new("").subject());
        assert_eq!(judged.action, Action::Block);
        let error = judged.matches[0].error.as_deref().unwrap();
        assert!(
            !error.is_empty() && error.chars().count() <= ERROR_CHARS_MAX,
            "{error}"
        );
    }
}

#[test]
fn arguments_that_cannot_be_read_match_whatever_reads_them() {
    let mut given = Given::new("");
    for text in ["{", "{\"a\":}", "[1,]", "nul", "\"", "{\"a\":1}}", "\"\\"] {
        given.arguments = Some(Json::from_stored(text.into()));
        for when in [
            When::Conditions(vec![condition("arguments.a", "equals", "1")]),
            When::Cel("arguments.a == 1".into()),
        ] {
            let set = PolicySet::compile([&policy("p", spec(Action::Block, when))]);
            let judged = set.judge(&given.subject());
            assert_eq!(
                judged.matches[0].error.as_deref(),
                Some("the arguments cannot be read"),
                "{text}"
            );
        }
        let other = spec(
            Action::Block,
            When::Conditions(vec![condition("tool", "equals", "\"x\"")]),
        );
        assert!(
            PolicySet::compile([&policy("p", other)])
                .judge(&given.subject())
                .matches
                .is_empty()
        );
    }
}

#[test]
fn a_verdict_lists_so_many_matches_and_counts_them_all() {
    let mut policies: Vec<Policy> = (0..MATCHES_MAX + 1)
        .map(|n| made(&format!("w{n}"), Action::Warn, 1))
        .collect();
    policies[3].spec.action = Action::Block;
    policies[5].spec.action = Action::Allow;
    policies[5].spec.limits.tool_calls = Some(1);
    let judged = PolicySet::compile(&policies).judge(&Given::new("").subject());
    assert_eq!(judged.matches.len(), MATCHES_MAX);
    assert_eq!(judged.matches[0].policy.as_str(), "w3");
    assert_eq!(
        judged.limits.tool_calls,
        Some(1),
        "of the one that is not listed"
    );
}

#[test]
fn catastrophic_patterns_take_time_in_proportion() {
    let given = Given::new(&format!("{{\"a\":\"{}!\"}}", "a".repeat(250_000)));
    for pattern in ["(a+)+$", "^(a|a)*$", "(a|aa)+$", "(.*a){12}$", "(x+x+)+y"] {
        let conditions = vec![condition(
            "arguments.a",
            "matches",
            &format!("\"{pattern}\""),
        )];
        assert!(!matches(conditions, &given), "{pattern}");
    }
}

fn any_rule() -> impl Strategy<Value = ApprovalRule> {
    let principals = btree_set(
        (1..5_u128).prop_map(|id| PrincipalId::new(Uuid::from_u128(id))),
        0..3,
    );
    let roles = btree_set(select(vec![Role::Admin, Role::Reviewer]), 0..3);
    (
        0..17_u32,
        roles,
        principals,
        any::<bool>(),
        1..1_000_u64,
        1..1_000_u64,
    )
        .prop_map(
            |(quorum, roles, principals, own, decide, used)| ApprovalRule {
                quorum,
                approvers: ApproverSet { roles, principals },
                requester_may_approve: own,
                time_to_decide: Duration::from_secs(decide),
                time_to_use: Duration::from_secs(used),
            },
        )
}

fn any_value() -> impl Strategy<Value = Json> {
    select(vec![
        "null",
        "true",
        "1",
        "9007199254740993",
        "-0.5",
        "\"a\"",
        "\"(a|b)+$\"",
        "\"12\"",
        "[]",
        "[1,\"a\"]",
        "{\"a\":{\"b\":[1,2]}}",
        "18446744073709551617",
    ])
    .prop_map(json)
}

fn any_when() -> impl Strategy<Value = When> {
    let field = select(vec![
        "tool",
        "agent",
        "model",
        "action_hint",
        "run",
        "arguments",
        "arguments.a",
        "arguments.a.b.0",
        "labels.env",
        "labels.",
        "x",
        "arguments..a",
    ]);
    let condition =
        (field, select(Operator::ALL), any_value()).prop_map(|(field, operator, value)| {
            Condition {
                field: field.into(),
                operator,
                value,
            }
        });
    let cel = select(vec![
        "arguments.a == 1",
        "arguments.exists(k, k == 'a')",
        "1 / 0 == 1",
        "tool",
        "labels.env == 'prod'",
        "has(arguments.a)",
        "(",
        "size(arguments) > 0",
    ]);
    prop_oneof![3 => vec(condition, 0..4).prop_map(When::Conditions), 1 => cel.prop_map(|text| When::Cel(text.into()))]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (
        (0..100_u32, 0..4_i64),
        any_when(),
        select(Action::ALL),
        option::of(any_rule()),
        option::of(select(Severity::ALL)),
        option::of(0..9_u32),
        any::<bool>(),
    )
        .prop_map(
            |((id, second), when, action, approval, severity, tool_calls, disabled)| {
                let mut policy = made(&format!("p{id}"), action, second);
                policy.spec = Spec {
                    when,
                    approval,
                    severity,
                    disabled,
                    limits: run::Limits {
                        tool_calls,
                        ..Default::default()
                    },
                    ..policy.spec
                };
                policy
            },
        )
}

fn any_arguments() -> impl Strategy<Value = Json> {
    prop_oneof![
        any_value(),
        any_value().prop_map(|value| json(&format!("{{\"a\":{value}}}")))
    ]
}

proptest! {
    #[test]
    fn the_order_of_policies_does_not_show(policies in vec(any_policy(), 0..12), arguments in option::of(any_arguments()), seed in subsequence((0..12_usize).collect::<Vec<_>>(), 0..12)) {
        let mut ids = std::collections::HashSet::new();
        let policies: Vec<Policy> = policies.into_iter().filter(|one| ids.insert(one.id.clone())).collect();
        let mut other: Vec<&Policy> = policies.iter().rev().collect();
        for at in seed {
            if at < other.len() {
                let one = other.remove(at);
                other.push(one);
            }
        }
        let mut given = Given::new("");
        given.arguments = arguments;
        let judged = PolicySet::compile(&policies).judge(&given.subject());
        prop_assert_eq!(&judged, &PolicySet::compile(other).judge(&given.subject()));
        prop_assert_eq!(judged.matches.iter().map(|one| one.action).max().unwrap_or(Action::Allow), judged.action);
    }

    #[test]
    fn what_passes_the_check_compiles(policy in any_policy(), arguments in any_arguments()) {
        let mut policy = policy;
        policy.spec.disabled = false;
        if check(&policy.spec).is_empty() {
            let mut given = Given::new("");
            given.arguments = Some(arguments);
            let judged = PolicySet::compile([&policy]).judge(&given.subject());
            if matches!(policy.spec.when, When::Conditions(_)) {
                prop_assert!(judged.matches.iter().all(|one| one.error.is_none()));
            }
        } else if matches!(&policy.spec.when, When::Conditions(all) if !all.is_empty()) && policy.spec.approval.is_none() {
            // A fault in the conditions is one that they show when they are compiled.
            let judged = PolicySet::compile([&policy]).judge(&Given::new("").subject());
            prop_assert!(judged.matches[0].error.is_some());
        }
    }

    #[test]
    fn whatever_the_conditions_and_the_bytes_there_is_a_judgement(field in "[a-z.\\\\]{0,20}", operator in select(Operator::ALL), value in "\\PC{0,20}", cel in "[a-z.()\\[\\]0-9'&|=+ ]{0,60}", arguments in "\\PC{0,40}") {
        let mut given = Given::new("");
        given.arguments = Some(Json::from_stored(arguments));
        let condition = Condition { field, operator, value: Json::from_stored(value) };
        for when in [When::Conditions(vec![condition]), When::Cel(cel)] {
            let policy = policy("p", spec(Action::Warn, when));
            let _faults = check(&policy.spec);
            let _judged = PolicySet::compile([&policy]).judge(&given.subject());
        }
    }
}
