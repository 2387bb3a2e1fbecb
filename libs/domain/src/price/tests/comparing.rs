//! What differs between two lists.

use super::*;

#[test]
fn every_difference_is_named() {
    let dearer = Rule {
        tiers: tiers(&[(None, 2)]),
        ..rule("b", "messages")
    };
    let (a, b, c, d) = (
        rule("a", "messages"),
        rule("b", "messages"),
        rule("c", "messages"),
        rule("d", "messages"),
    );
    let before = PriceList {
        meters: [name("gpu"), name("disk")].into(),
        ..list(vec![c.clone(), a.clone(), b.clone()])
    };
    let after = PriceList {
        meters: [name("gpu"), name("net")].into(),
        ..list(vec![d.clone(), dearer.clone(), c.clone()])
    };
    assert_eq!(
        diff(&before, &after),
        [
            Difference::MeterRemoved(&name("disk")),
            Difference::MeterAdded(&name("net")),
            Difference::RuleRemoved(&a),
            Difference::RuleChanged {
                before: &b,
                after: &dearer
            },
            Difference::RuleAdded(&d),
            Difference::RulesReordered {
                before: vec![&c.id, &b.id],
                after: vec![&b.id, &c.id]
            },
        ]
    );
}

proptest! {
    /// The converse matters more: an empty list of differences means that nothing changes.
    #[test]
    fn lists_differ_exactly_when_a_difference_is_told(rules in vec(any_rule(), 0..4), others in vec(any_rule(), 0..4)) {
        let unique = |rules: Vec<Rule>| {
            let rules = rules.into_iter().enumerate();
            list(rules.map(|(index, rule)| Rule { id: name(&format!("{}{}", rule.id, index % 2)), ..rule }).collect())
        };
        let (before, after) = (unique(rules), unique(others));
        prop_assert_eq!(diff(&before, &before), []);
        let ids = |list: &PriceList| list.rules.iter().map(|rule| rule.id.clone()).collect::<BTreeSet<_>>();
        if ids(&before).len() == before.rules.len() && ids(&after).len() == after.rules.len() {
            prop_assert_eq!(diff(&before, &after).is_empty(), before.rules == after.rules);
        }
        let later = PriceList { version: 7, effective_at: second(99), ..before.clone() };
        prop_assert_eq!(diff(&before, &later), []);
        let mut turned = before.clone();
        turned.rules.reverse();
        if ids(&before).len() == before.rules.len() {
            prop_assert_eq!(diff(&before, &turned).is_empty(), before.rules == turned.rules);
        }
    }
}
