//! Every line of the bad input, with its field and its reason.

use uuid::Uuid;

use super::*;

fn faults(spec: &Spec) -> Vec<(String, String)> {
    let list = check(spec).into_iter();
    list.map(|one| {
        assert!(!one.description.is_empty());
        (one.field, one.reason.into_owned())
    })
    .collect()
}

fn of_conditions(conditions: Vec<Condition>) -> Vec<(String, String)> {
    faults(&spec(Action::Warn, When::Conditions(conditions)))
}

fn one(field: &str, reason: &str) -> Vec<(String, String)> {
    vec![(field.into(), reason.into())]
}

#[test]
fn every_fault_of_a_condition_has_its_field_and_its_reason() {
    let long = format!("\"{}\"", "a".repeat(PATTERN_BYTES_MAX + 1));
    let longer = format!("\"{}\"", "a".repeat(VALUE_BYTES_MAX));
    let deep = format!("arguments{}", ".a".repeat(65));
    let wide = format!("arguments.{}", "a".repeat(FIELD_BYTES_MAX));
    for (field, operator, value, at, reason) in [
        ("tool", "matches", "1", "value_json", "WRONG_TYPE"),
        ("tool", "in", "\"a\"", "value_json", "WRONG_TYPE"),
        ("tool", "not_in", "[]", "value_json", "WRONG_TYPE"),
        ("tool", "exists", "\"true\"", "value_json", "WRONG_TYPE"),
        ("arguments.a", "gt", "\"ten\"", "value_json", "WRONG_TYPE"),
        ("arguments.a", "lte", "null", "value_json", "WRONG_TYPE"),
        (
            "arguments.a",
            "gt",
            "\"1e999999999\"",
            "value_json",
            "WRONG_TYPE",
        ),
        ("labels.a", "contains", "1", "value_json", "WRONG_TYPE"),
        ("tool", "matches", "\"(\"", "value_json", "INVALID_PATTERN"),
        (
            "tool",
            "matches",
            "\"(?=a)\"",
            "value_json",
            "INVALID_PATTERN",
        ),
        (
            "tool",
            "matches",
            r#""(a)\\1""#,
            "value_json",
            "INVALID_PATTERN",
        ),
        (
            "tool",
            "matches",
            "\"((a{100}){100}){100}\"",
            "value_json",
            "PATTERN_TOO_LARGE",
        ),
        ("tool", "matches", &long, "value_json", "TOO_LONG"),
        ("tool", "equals", &longer, "value_json", "TOO_LONG"),
        ("toolName", "exists", "true", "field", "UNKNOWN_FIELD"),
        ("", "exists", "true", "field", "UNKNOWN_FIELD"),
        ("labels", "exists", "true", "field", "UNKNOWN_FIELD"),
        ("arguments.", "exists", "true", "field", "INVALID_PATH"),
        ("arguments.a..b", "exists", "true", "field", "INVALID_PATH"),
        (r"arguments.a\b", "exists", "true", "field", "INVALID_PATH"),
        (r"arguments.a\", "exists", "true", "field", "INVALID_PATH"),
        ("labels.", "exists", "true", "field", "INVALID_PATH"),
        (&deep, "exists", "true", "field", "TOO_DEEP"),
        (&wide, "exists", "true", "field", "TOO_LONG"),
    ] {
        let found = of_conditions(vec![
            condition("tool", "exists", "true"),
            condition(field, operator, value),
        ]);
        let at = format!("spec.conditions.all[1].{at}");
        assert_eq!(found, one(&at, reason), "{field} {operator} {value}");
    }
}

#[test]
fn what_is_wrong_with_a_pattern_is_said() {
    let spec = spec(
        Action::Warn,
        When::Conditions(vec![condition("tool", "matches", "\"a(b\"")]),
    );
    assert_eq!(
        check(&spec)[0].description,
        "the pattern is no regular expression: unclosed group"
    );
}

#[test]
fn conditions_are_1_to_32_and_patterns_at_most_8() {
    assert_eq!(
        of_conditions(vec![]),
        one("spec.conditions.all", "REQUIRED")
    );
    let sound = condition("tool", "exists", "true");
    assert_eq!(of_conditions(vec![sound.clone(); 32]), []);
    assert_eq!(
        of_conditions(vec![sound; 33]),
        one("spec.conditions.all", "TOO_MANY")
    );
    let pattern = condition("tool", "matches", "\"a\"");
    assert_eq!(of_conditions(vec![pattern.clone(); 8]), []);
    assert_eq!(
        of_conditions(vec![pattern; 9]),
        one("spec.conditions.all", "TOO_MANY")
    );
}

#[test]
fn a_rule_goes_with_its_action_and_has_bounds() {
    let with = |action, change: fn(&mut ApprovalRule)| {
        let mut spec = spec(action, When::Cel("true".into()));
        let mut rule = ApprovalRule::default();
        change(&mut rule);
        spec.approval = Some(rule);
        faults(&spec)
    };
    let holds = Action::RequireApproval;
    assert_eq!(
        with(Action::Warn, |_| ()),
        one("spec.approval", "NOT_ALLOWED")
    );
    assert_eq!(with(holds, |_| ()), []);
    assert_eq!(with(holds, |rule| rule.quorum = 16), []);
    assert_eq!(
        with(holds, |rule| rule.quorum = 17),
        one("spec.approval.quorum", "OUT_OF_RANGE")
    );
    let zero = |rule: &mut ApprovalRule| rule.time_to_use = Duration::ZERO;
    assert_eq!(
        with(holds, zero),
        one("spec.approval.time_to_use", "OUT_OF_RANGE")
    );
    let long = |rule: &mut ApprovalRule| {
        rule.time_to_decide = APPROVAL_TIME_MAX + Duration::from_micros(1)
    };
    assert_eq!(
        with(holds, long),
        one("spec.approval.time_to_decide", "OUT_OF_RANGE")
    );
    let agents = |rule: &mut ApprovalRule| rule.approvers.roles = [Role::Agent].into();
    assert_eq!(
        with(holds, agents),
        one("spec.approval.approvers.roles", "NOT_ALLOWED")
    );
    let principals = |count: u128| {
        (1..=count)
            .map(|id| PrincipalId::new(Uuid::from_u128(id)))
            .collect()
    };
    let mut spec = spec(holds, When::Cel("true".into()));
    let mut rule = ApprovalRule::default();
    rule.approvers.principals = principals(65);
    spec.approval = Some(rule.clone());
    assert_eq!(
        faults(&spec),
        one("spec.approval.approvers.principals", "TOO_MANY")
    );
    rule.approvers.principals = principals(2);
    rule.quorum = 3;
    spec.approval = Some(rule);
    assert_eq!(faults(&spec), one("spec.approval.quorum", "OUT_OF_RANGE"));
}

#[test]
fn every_fault_is_listed_at_once() {
    let mut spec = spec(
        Action::Block,
        When::Conditions(vec![
            condition("x", "matches", "1"),
            condition("tool", "gt", "true"),
        ]),
    );
    spec.name = " ".into();
    spec.description = "d".repeat(4_097);
    spec.approval = Some(ApprovalRule::default());
    let fields: Vec<_> = faults(&spec).into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [
            "spec.name",
            "spec.description",
            "spec.conditions.all[0].field",
            "spec.conditions.all[0].value_json",
            "spec.conditions.all[1].value_json",
            "spec.approval"
        ]
    );
    spec.name = "n".repeat(129);
    assert!(faults(&spec).contains(&("spec.name".into(), "TOO_LONG".into())));
    spec.name = "\0".into();
    assert!(faults(&spec).contains(&("spec.name".into(), "NUL_CHARACTER".into())));
}

#[test]
fn expressions_that_must_not_be_are_refused_with_their_reason() {
    let long = format!("tool == '{}'", "a".repeat(EXPRESSION_BYTES_MAX));
    let brackets = format!("{}true{}", "(".repeat(300), ")".repeat(300));
    let copies = format!("[{}] == [1]", ["arguments"; 9].join(","));
    let joins = ["arguments.a"; 20].join(" + ") + " == ''";
    let fields = ["arguments.a"; 70].join("==");
    for (text, reason) in [
        ("", "REQUIRED"),
        (" ", "REQUIRED"),
        (&long, "TOO_LONG"),
        ("arguments.", "CEL_SYNTAX"),
        ("a b", "CEL_SYNTAX"),
        ("tool == 'a' &&", "CEL_SYNTAX"),
        (&brackets, "CEL_TOO_COMPLEX"),
        ("nobody == 1", "CEL_UNKNOWN_VARIABLE"),
        ("__result__ == 1", "CEL_UNKNOWN_VARIABLE"),
        ("timestamp('x') == 1", "CEL_UNKNOWN_FUNCTION"),
        ("tool.matches('a')", "CEL_UNKNOWN_FUNCTION"),
        ("arguments.a.all(x, x.all(y, y))", "CEL_NESTED_LOOP"),
        (
            "arguments.a.map(x, [x, x]).all(x, x == x)",
            "CEL_NESTED_LOOP",
        ),
        ("arguments.a.all(x, x == arguments)", "CEL_TOO_COMPLEX"),
        ("[arguments, arguments].all(x, x == x)", "CEL_TOO_COMPLEX"),
        (
            "(arguments.a + arguments.a).all(x, x == 1)",
            "CEL_TOO_COMPLEX",
        ),
        ("arguments.a.map(x, [x, x]).size() > 0", "CEL_TOO_COMPLEX"),
        (
            "arguments.a.map(x, x == 1 ? [x] : []).size() > 0",
            "CEL_TOO_COMPLEX",
        ),
        (
            "[1,2,3,4,5,6,7,8,9].map(x, arguments).size() > 0",
            "CEL_TOO_COMPLEX",
        ),
        (&copies, "CEL_TOO_COMPLEX"),
        (&joins, "CEL_TOO_COMPLEX"),
        (&fields, "CEL_TOO_COMPLEX"),
        ("size(tool)", "CEL_NOT_BOOL"),
        ("1 + 1", "CEL_NOT_BOOL"),
        ("'true'", "CEL_NOT_BOOL"),
        ("tool", "CEL_NOT_BOOL"),
        ("[true]", "CEL_NOT_BOOL"),
    ] {
        let found = faults(&spec(Action::Warn, When::Cel(text.into())));
        assert_eq!(found, one("spec.cel", reason), "{text}");
    }
}

/// What the parser and the evaluation go down on the stack, as deep as the length allows, on a stack
/// a quarter of what threads usually have.
#[test]
fn no_nesting_overflows_the_stack() {
    let texts = [
        format!("{}true", "!".repeat(1_020)),
        format!("{}1 == 1", "-".repeat(1_010)),
        format!("{}true", "true?true:".repeat(101)),
        format!("arguments{} == 1", ".a".repeat(500)),
        format!("arguments{} == 1", "[0]".repeat(330)),
        format!("{}true{}", "(".repeat(500), ")".repeat(500)),
        format!("{}{} == 1", "[".repeat(500), "]".repeat(500)),
        format!("1{} == 1", "+1".repeat(500)),
        format!("1{}", "<1".repeat(500)),
        format!("true{}", "&&true".repeat(169)),
        "(".repeat(1_024),
        "{1:".repeat(340),
        "has(".repeat(250),
        "tool.all(x,".repeat(90),
    ];
    let thread = std::thread::Builder::new().stack_size(512 * 1024);
    let tried = thread.spawn(move || {
        for text in texts {
            let policy = policy("p", spec(Action::Warn, When::Cel(text)));
            let _faults = check(&policy.spec);
            let _judged = PolicySet::compile([&policy]).judge(&Given::new("{}").subject());
        }
    });
    tried.unwrap().join().unwrap();
}
