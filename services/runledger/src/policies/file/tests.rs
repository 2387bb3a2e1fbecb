use runledger_proto::decode;
use runledger_proto::decode::fields::Path as Field;
use runledger_service::status::chain;

use super::*;

fn read_text(name: &str, text: &str) -> Result<wire::PolicySpec, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    read(&path)
}

/// What is wrong with a TOML file, without its path.
fn said(text: &str) -> String {
    let error = read_text("p.toml", text).unwrap_err();
    let text = chain(&error);
    text.split_once("p.toml ").unwrap().1.to_owned()
}

#[test]
fn the_example_of_the_help_is_a_policy() {
    let text: Vec<&str> = EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect();
    let spec = read_text("p.toml", &text.join("\n")).unwrap();
    assert!(decode::policy(spec.clone(), Field::ROOT.field("spec")).is_ok());
    assert_eq!(spec.name, "Large bookings");
    let Some(wire::policy_spec::When::Conditions(conditions)) = &spec.when else {
        panic!("{spec:?}")
    };
    let values: Vec<&str> = conditions.all.iter().map(|one| &*one.value_json).collect();
    assert_eq!(values, [r#""book_reservation""#, "300"]);
    let rule = spec.approval.clone().unwrap();
    assert_eq!(rule.approvers.unwrap().roles.len(), 2);
    assert_eq!(rule.time_to_decide.unwrap().seconds, 86_400);
    assert_eq!(spec.limits.unwrap().duration.unwrap().seconds, 3_600);
    // The expression beside it is one too.
    let cel = text
        .iter()
        .find_map(|line| line.strip_prefix("# cel = "))
        .unwrap();
    let text = format!("name = 'n'\naction = 'block'\ncel = {cel}");
    let spec = read_text("p.toml", &text).unwrap();
    assert!(decode::policy(spec, Field::ROOT).is_ok());
}

#[test]
fn values_are_natural_in_either_format() {
    let values = |spec: wire::PolicySpec| match spec.when {
        Some(wire::policy_spec::When::Conditions(all)) => all
            .all
            .into_iter()
            .map(|one| one.value_json)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let toml = r#"
        name = "n"
        action = "warn"
        conditions = [
            { field = "tool", operator = "in", value = ["a", "b\"c"] },
            { field = "arguments.x", operator = "equals", value = { k = 1, l = 2.5 } },
            { field = "arguments.y", operator = "exists", value = false },
            { field = "arguments.z", operator = "gt", value = 9007199254740993 },
        ]
    "#;
    let expected = [
        r#"["a","b\"c"]"#,
        r#"{"k":1,"l":2.5}"#,
        "false",
        "9007199254740993",
    ];
    assert_eq!(values(read_text("p.toml", toml).unwrap()), expected);
    // JSON may say what TOML cannot: null, and integers of any length. It is handed on as it stands.
    let json = r#"{"name":"n","action":"warn","conditions":[
        {"field":"arguments.x","operator":"equals","value":null},
        {"field":"arguments.y","operator":"lt","value":123456789012345678901234567890}]}"#;
    let expected = ["null", "123456789012345678901234567890"];
    assert_eq!(values(read_text("p.JSON", json).unwrap()), expected);
}

#[test]
fn every_fault_is_listed_with_its_field() {
    let text = r#"
        name = "n"
        action = "shout"
        severity = "grave"
        cel = "true"
        conditions = []
        [approval]
        roles = ["admin", "boss"]
        time_to_decide = "soon"
        time_to_use = "-1s"
        [limits]
        duration = "5"
    "#;
    let said = said(text);
    let fields: Vec<&str> = said
        .lines()
        .skip(1)
        .map(|line| line.trim().split("  ").next().unwrap())
        .collect();
    let expected = [
        "action",
        "severity",
        "cel",
        "approval.roles[1]",
        "approval.time_to_decide",
        "approval.time_to_use",
        "limits.duration",
    ];
    assert_eq!(fields, expected, "{said}");
    assert!(said.starts_with("has faults:\n"));
    assert!(said.contains("must be one of allow, warn, require_approval, block"));
}

#[test]
fn conditions_are_looked_at_one_by_one() {
    let text = r#"
        name = "n"
        action = "warn"
        conditions = [
            { field = "tool", operator = "is", value = 1979-05-27 },
            { field = "tool", operator = "equals", value = [nan] },
        ]
    "#;
    let said = said(text);
    for part in [
        "conditions[0].operator  must be one of equals,",
        "conditions[0].value  write the moment as a text",
        "conditions[1].value  JSON has no such number",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn what_is_nested_without_end_is_refused() {
    for (name, open) in [
        ("p.toml", "name = 'n'\nx = "),
        ("p.json", r#"{"name":"n","x":"#),
    ] {
        for nest in ["[", "{a="] {
            let text = format!("{open}{}", nest.repeat(200_000));
            assert!(read_text(name, &text).is_err(), "{name} {nest}");
        }
    }
    // A value is handed on unread, however deep: the service says how deep it may be.
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let json = format!(
        r#"{{"name":"n","action":"warn","conditions":[{{"field":"tool","operator":"in","value":{deep}}}]}}"#
    );
    let spec = read_text("p.json", &json).unwrap();
    assert!(decode::policy(spec, Field::ROOT).is_err());
}

#[test]
fn what_is_no_policy_is_refused_by_name() {
    assert!(said("name = 'n'\naction = 'warn'").contains("conditions  must be given, or cel"));
    assert!(said("name = 'n'\nacton = 'warn'").contains("unknown field `acton`"));
    assert!(said("action = 'warn'\ncel = 'true'").contains("missing field `name`"));
    assert!(said("name = 5").contains("invalid type"));
    assert!(said("name =").starts_with("is not a policy in TOML"));
    let json = |text| chain(&read_text("p.json", text).unwrap_err());
    assert!(json("{").contains("is not a policy in JSON"));
    assert!(json(r#"{"name":"n","name":"m"}"#).contains("duplicate field `name`"));
    let missing = read(Path::new("nowhere/p.toml")).unwrap_err();
    assert!(matches!(missing, Error::Read { .. }));
    let long = format!("name = '{}'", "x".repeat(1 << 20));
    assert!(matches!(
        read_text("p.toml", &long),
        Err(Error::TooLarge { .. })
    ));
}
