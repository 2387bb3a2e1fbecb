//! The contract's table of operators, line by line.

use super::*;

const ARGUMENTS: &str = r#"{
    "text": "Hello World", "number": 10, "decimal": 0.1, "big": 9007199254740993, "huge": 18446744073709551617,
    "numeric": "12.5", "null": null, "yes": true, "list": ["a", 1, null, {"k": 1.0}], "object": {"a": {"b": [10, {"c": "deep"}]}},
    "a.b": "dotted", "back\\slash": 1, "1": "key", "empty": "", "far": "1e999999999"
}"#;

/// Field, operator, value, and whether it holds.
const TABLE: &[(&str, &str, &str, bool)] = &[
    // equals: case-sensitive, type-strict, numbers by value, deep
    ("arguments.text", "equals", r#""Hello World""#, true),
    ("arguments.text", "equals", r#""hello world""#, false),
    ("arguments.number", "equals", "10", true),
    ("arguments.number", "equals", "10.0", true),
    ("arguments.number", "equals", r#""10""#, false),
    ("arguments.numeric", "equals", "12.5", false),
    ("arguments.null", "equals", "null", true),
    ("arguments.missing", "equals", "null", false),
    ("arguments.yes", "equals", "true", true),
    ("arguments.yes", "equals", "1", false),
    ("arguments.big", "equals", "9007199254740993", true),
    ("arguments.big", "equals", "9007199254740992", false),
    ("arguments.huge", "equals", "18446744073709551617", true),
    ("arguments.huge", "equals", "18446744073709551616", false),
    (
        "arguments.list",
        "equals",
        r#"["a",1.0,null,{"k":1}]"#,
        true,
    ),
    ("arguments.list", "equals", r#"["a",1,null]"#, false),
    (
        "arguments.object",
        "equals",
        r#"{"a":{"b":[10,{"c":"deep"}]}}"#,
        true,
    ),
    (
        "arguments.object",
        "equals",
        r#"{"a":{"b":[10,{"d":"deep"}]}}"#,
        false,
    ),
    // not_equals: a missing field is not equal
    ("arguments.text", "not_equals", r#""Hello World""#, false),
    ("arguments.text", "not_equals", "10", true),
    ("arguments.missing", "not_equals", r#""x""#, true),
    ("labels.missing", "not_equals", r#""x""#, true),
    // contains: part of a text, element of an array, part of an object's text
    ("arguments.text", "contains", r#""lo Wo""#, true),
    ("arguments.text", "contains", r#""lo wo""#, false),
    ("arguments.list", "contains", "1", true),
    ("arguments.list", "contains", r#""1""#, false),
    ("arguments.list", "contains", r#"{"k":1}"#, true),
    ("arguments.list", "contains", "null", true),
    ("arguments.object", "contains", r#""\"c\":\"deep\"""#, true),
    ("arguments.object", "contains", r#""shallow""#, false),
    ("arguments.number", "contains", r#""1""#, false),
    ("arguments.numeric", "contains", "12", false),
    ("arguments.missing", "contains", r#""""#, false),
    ("arguments", "contains", r#""Hello""#, true),
    // matches: anywhere, case-sensitive, the text of anything else
    ("arguments.text", "matches", r#""W.rld""#, true),
    ("arguments.text", "matches", r#""^World""#, false),
    ("arguments.text", "matches", r#""world""#, false),
    ("arguments.number", "matches", r#""^10$""#, true),
    ("arguments.object", "matches", r#""deep""#, true),
    ("arguments.missing", "matches", r#"".*""#, false),
    ("arguments", "matches", r#""\"number\":10,""#, true),
    // in, not_in: a missing field is in nothing
    ("arguments.text", "in", r#"["x","Hello World"]"#, true),
    ("arguments.number", "in", r#"["10",10.0]"#, true),
    ("arguments.number", "in", r#"["10"]"#, false),
    ("arguments.missing", "in", "[null]", false),
    ("arguments.text", "not_in", r#"["x"]"#, true),
    ("arguments.text", "not_in", r#"["Hello World"]"#, false),
    ("arguments.missing", "not_in", "[null]", true),
    // exists: null counts as present; false turns it round
    ("arguments.null", "exists", "true", true),
    ("arguments.null", "exists", "false", false),
    ("arguments.missing", "exists", "true", false),
    ("arguments.missing", "exists", "false", true),
    ("action_hint", "exists", "true", false),
    ("labels.env", "exists", "true", true),
    // gt, gte, lt, lte: numbers, and texts that are numbers; all else is false
    ("arguments.number", "gt", "9.99", true),
    ("arguments.number", "gt", "10", false),
    ("arguments.number", "gte", "10", true),
    ("arguments.number", "lt", "10.5", true),
    ("arguments.number", "lt", "10", false),
    ("arguments.number", "lte", "10", true),
    ("arguments.number", "gt", r#""9""#, true),
    ("arguments.numeric", "gt", "12", true),
    ("arguments.numeric", "lt", "12", false),
    ("arguments.decimal", "lte", "0.1", true),
    ("arguments.big", "gt", "9007199254740992", true),
    ("arguments.huge", "gt", "18446744073709551616", true),
    ("arguments.text", "gt", "0", false),
    ("arguments.text", "lte", "0", false),
    ("arguments.far", "gt", "0", false),
    ("arguments.empty", "gte", "0", false),
    ("arguments.yes", "gte", "0", false),
    ("arguments.null", "lte", "0", false),
    ("arguments.missing", "lt", "1", false),
    // fields and paths
    ("tool", "equals", r#""book""#, true),
    ("agent", "equals", r#""agent-7""#, true),
    ("run", "equals", r#""run-1""#, true),
    ("model", "matches", r#""^gpt""#, true),
    ("labels.env", "equals", r#""prod""#, true),
    ("arguments.object.a.b.0", "equals", "10", true),
    ("arguments.object.a.b.00", "exists", "true", false),
    ("arguments.object.a.b.1.c", "equals", r#""deep""#, true),
    ("arguments.object.a.b.9", "exists", "true", false),
    (r"arguments.a\.b", "equals", r#""dotted""#, true),
    (r"arguments.back\\slash", "equals", "1", true),
    ("arguments.1", "equals", r#""key""#, true),
    ("arguments.text.length", "exists", "true", false),
];

#[test]
fn every_operator_is_what_the_contract_says() {
    let given = Given::new(ARGUMENTS);
    for (field, operator, value, holds) in TABLE {
        let found = matches(vec![condition(field, operator, value)], &given);
        assert_eq!(found, *holds, "{field} {operator} {value}");
    }
}

#[test]
fn the_table_has_every_operator_both_ways() {
    for operator in Operator::ALL {
        for holds in [true, false] {
            let line = (operator.as_str(), holds);
            assert!(
                TABLE.iter().any(|(_, one, _, is)| (*one, *is) == line),
                "{line:?}"
            );
        }
    }
}

#[test]
fn all_conditions_must_hold() {
    let given = Given::new(r#"{"a":1,"b":2}"#);
    let (a, b) = (
        condition("arguments.a", "equals", "1"),
        condition("arguments.b", "equals", "2"),
    );
    assert!(matches(vec![a.clone(), b], &given));
    let other = condition("arguments.b", "equals", "3");
    assert!(!matches(vec![a, other], &given));
}

#[test]
fn a_call_without_arguments_has_none_of_their_fields() {
    let given = Given::new("");
    assert!(matches(
        vec![condition("arguments.a", "exists", "false")],
        &given
    ));
    assert!(matches(
        vec![condition("arguments", "exists", "false")],
        &given
    ));
    assert!(!matches(
        vec![condition("arguments", "matches", "\"\"")],
        &given
    ));
}

#[test]
fn keys_of_a_large_object_are_found_in_their_order() {
    let keys: Vec<String> = (0..60)
        .map(|n| format!("k{n}"))
        .chain(["\u{fb33}".into(), "\u{1f600}".into()])
        .collect();
    let members: Vec<String> = keys
        .iter()
        .map(|key| format!("{key:?}:\"{key}\""))
        .collect();
    let given = Given::new(&format!("{{{}}}", members.join(",")));
    for key in &keys {
        let value = format!("\"{key}\"");
        assert!(
            matches(
                vec![condition(&format!("arguments.{key}"), "equals", &value)],
                &given
            ),
            "{key}"
        );
    }
}
