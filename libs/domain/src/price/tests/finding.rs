//! Which rule prices a usage.

use std::sync::Arc;

use super::*;

fn of(id: &str, meter: &str, texts: &[(&str, &str)]) -> Rule {
    Rule {
        dimensions: dimensions(texts),
        ..rule(id, meter)
    }
}

#[test]
fn the_most_particular_rule_prices_a_usage_and_of_equals_the_first() {
    let set = PriceSet::compile(Arc::new(list(vec![
        of("any", "messages", &[]),
        of("mini", "messages", &[("model", "mini")]),
        of("space", "messages", &[("space", "s")]),
        of("both", "messages", &[("model", "mini"), ("space", "t")]),
        of("any-again", "messages", &[]),
        of("calls", "tool_calls", &[("tool", "search")]),
    ])));
    for (meter, texts, found) in [
        ("messages", &[][..], Some("any")),
        ("messages", &[("model", "large")], Some("any")),
        ("messages", &[("model", "mini")], Some("mini")),
        (
            "messages",
            &[("model", "mini"), ("space", "s")],
            Some("mini"),
        ),
        (
            "messages",
            &[("model", "mini"), ("space", "t")],
            Some("both"),
        ),
        ("messages", &[("agent", "a"), ("space", "s")], Some("space")),
        ("tool_calls", &[("tool", "search")], Some("calls")),
        ("tool_calls", &[("tool", "Search")], None),
        ("tool_calls", &[], None),
        ("run_seconds", &[], None),
    ] {
        let rule = set.find(&name(meter), &dimensions(texts));
        assert_eq!(
            rule.map(|rule| rule.id.as_str()),
            found,
            "{meter} {texts:?}"
        );
    }
    assert_eq!(set.list().version, 1);
}

/// Dimensions of up to three keys, each of two values.
fn few() -> impl Strategy<Value = BTreeMap<Name, String>> {
    let value = || option::of(select(vec!["x", "y"]));
    (value(), value(), value()).prop_map(|(model, tool, agent)| {
        let values = [("model", model), ("tool", tool), ("agent", agent)].into_iter();
        let given = values.filter_map(|(key, value)| Some((name(key), value?.to_owned())));
        given.collect()
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_reading_the_list_finds(
        rules in vec((select(vec!["messages", "tool_calls"]), few()), 0..24), usage in few(),
    ) {
        let rules = rules.into_iter().enumerate();
        let rules = rules.map(|(index, (meter, dimensions))| Rule { dimensions, ..rule(&format!("r{index}"), meter) });
        let list = Arc::new(list(rules.collect()));
        let set = PriceSet::compile(list.clone());
        for meter in ["messages", "tool_calls", "export_bytes"] {
            let mut best: Option<&Rule> = None;
            for rule in list.rules.iter().filter(|rule| rule.meter.as_str() == meter) {
                let fits = rule.dimensions.iter().all(|pair| usage.iter().any(|given| given == pair));
                if fits && best.is_none_or(|best| rule.dimensions.len() > best.dimensions.len()) {
                    best = Some(rule);
                }
            }
            prop_assert_eq!(set.find(&name(meter), &usage), best);
        }
    }
}
