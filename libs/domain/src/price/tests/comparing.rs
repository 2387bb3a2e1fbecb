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

/// Two lists of the same few rules, each of which may be left out, dearer, or in another place.
fn any_lists() -> impl Strategy<Value = (PriceList, PriceList)> {
    const IDS: [&str; 4] = ["a", "b", "c", "d"];
    let prices = || {
        vec(
            option::weighted(0.9, prop_oneof![9 => Just(1), 1 => Just(2)]),
            4,
        )
    };
    let places = || Just(IDS.to_vec());
    let order = || prop_oneof![places().boxed(), places().prop_shuffle().boxed()];
    let list = |(ids, prices): (Vec<&str>, Vec<Option<i64>>)| {
        let prices: BTreeMap<_, _> = IDS.into_iter().zip(prices).collect();
        let rules = ids.into_iter().filter_map(|id| {
            let tiers = tiers(&[(None, prices[id]?)]);
            Some(Rule {
                tiers,
                ..rule(id, "messages")
            })
        });
        list(rules.collect())
    };
    ((order(), prices()), (order(), prices()))
        .prop_map(move |(one, other)| (list(one), list(other)))
}

proptest! {
    #[test]
    fn lists_are_alike_exactly_when_no_difference_is_told((before, after) in any_lists()) {
        let is_alike = before.rules == after.rules;
        prop_assert_eq!(diff(&before, &after).is_empty(), is_alike);
        prop_assert_eq!(diff(&after, &before).len(), diff(&before, &after).len());
    }

    #[test]
    fn equal_lists_do_not_differ(rules in vec(any_rule(), 0..4)) {
        let before = list(rules);
        prop_assert_eq!(diff(&before, &before), []);
        let later = PriceList { version: 7, effective_at: second(99), ..before.clone() };
        prop_assert_eq!(diff(&before, &later), []);
    }
}
