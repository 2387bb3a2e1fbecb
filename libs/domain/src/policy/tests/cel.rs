use std::time::Instant;

use super::*;

fn judged(text: &str, given: &Given) -> Result<bool, String> {
    let spec = spec(Action::Block, When::Cel(text.into()));
    assert_eq!(check(&spec), [], "{text}");
    let judged = PolicySet::compile([&policy("p", spec)]).judge(&given.subject());
    match judged.matches.into_iter().next() {
        None => Ok(false),
        Some(Match { error: None, .. }) => Ok(true),
        Some(Match {
            error: Some(error), ..
        }) => Err(error),
    }
}

#[test]
fn expressions_read_the_call() {
    let given = Given::new(
        r#"{"amount":500,"big":9007199254740993,"unsigned":18446744073709551615,"huge":18446744073709551617,"rate":0.5,
            "methods":[{"id":"gift_card_1","amount":10},{"id":"card","amount":20}],"nothing":null,"path":"/srv/.env"}"#,
    );
    for (text, holds) in [
        ("arguments.amount > 400 && tool == 'book'", true),
        ("arguments.amount > 500", false),
        (
            "arguments.methods.exists(m, m.id.startsWith('gift_card'))",
            true,
        ),
        ("arguments.methods.all(m, m.amount >= 20)", false),
        (
            "arguments.methods.filter(m, m.amount > 5).size() == 2",
            true,
        ),
        ("size(arguments.methods.map(m, m.amount + 1)) == 2", true),
        ("arguments.methods.exists_one(m, m.id == 'card')", true),
        (
            "['.env', '.pem'].exists(s, arguments.path.endsWith(s))",
            true,
        ),
        ("has(arguments.missing) || arguments.nothing == null", true),
        (
            "labels.env in ['prod', 'staging'] && model == 'gpt-4o'",
            true,
        ),
        (
            "arguments['amount'] == 500 && agent == 'agent-7' && run == 'run-1'",
            true,
        ),
        ("arguments.big == 9007199254740993", true),
        ("arguments.big == 9007199254740992", false),
        ("arguments.unsigned == 18446744073709551615u", true),
        ("arguments.huge > 18446744073709540000.0", true),
        ("arguments.rate < 0.75", true),
        ("action_hint == ''", true),
        ("true", true),
        ("tool.contains('oo') ? true : false", true),
    ] {
        assert_eq!(judged(text, &given), Ok(holds), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_a_match_and_says_why() {
    let given = Given::new(&format!(
        "{{\"a\":\"{}\",\"list\":[1]}}",
        "x".repeat(100_000)
    ));
    for (text, beginning) in [
        ("arguments.missing == 1", "No such key: missing"),
        ("1 / 0 == 1", "Division by zero"),
        (
            "arguments.a",
            "the result is neither true nor false but of type string",
        ),
        ("arguments.a > 1", ""),
        ("9223372036854775807 + 1 > 0", "Overflow"),
        ("arguments.list[7] == 1", "Index out of bounds"),
        ("arguments.a - 1 == 1", ""),
    ] {
        let error = judged(text, &given).unwrap_err();
        assert!(error.starts_with(beginning), "{text}: {error}");
        assert!(error.chars().count() <= ERROR_CHARS_MAX, "{text}: {error}");
    }
    assert!(
        judged("arguments.a == 1", &Given::new("")).is_err(),
        "no arguments at all"
    );
}

/// The worst that passes the check, over the worst arguments, at the worst the library makes of it.
/// Generous, for an unoptimised build on a loaded machine: what runs away takes minutes.
#[test]
fn nothing_that_passes_the_check_runs_away() {
    let numbers = format!("{{\"a\":[{}]}}", vec!["1"; 130_000].join(","));
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(260_000));
    let many = ["arguments==arguments"; 32].join("&&");
    let body = ["x==x"; 9].join("&&");
    let joined = format!("size({}) > 0", ["arguments.a"; 7].join("+"));
    let filled = format!("[{}].size() > 0", ["arguments"; 8].join(","));
    let looped = format!("arguments.a.all(x,{body})");
    let constants = "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16].all(x,arguments.a!=x)";
    let worst = [many.as_str(), &joined, &filled, &looped, constants];
    let over = |cel| [(cel, &numbers), (cel, &text)];
    for (cel, arguments) in worst.into_iter().flat_map(over) {
        let given = Given::new(arguments);
        let from = Instant::now();
        let spec = spec(Action::Block, When::Cel(cel.into()));
        assert_eq!(check(&spec), [], "{cel}");
        let _judged = PolicySet::compile([&policy("p", spec)]).judge(&given.subject());
        assert!(
            from.elapsed() < Duration::from_secs(10),
            "{cel} took {:?}",
            from.elapsed()
        );
    }
}
