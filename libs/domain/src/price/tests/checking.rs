//! Every line of the bad input, with its field and its reason.

use super::*;

type Found = Vec<(String, String)>;

fn faults(rules: &[Rule], meters: &[&str]) -> Found {
    let meters = meters.iter().map(|meter| name(meter)).collect();
    let list = check(rules, &meters).into_iter();
    list.map(|one| {
        assert!(!one.description.is_empty());
        (one.field, one.reason.into_owned())
    })
    .collect()
}

fn one(field: &str, reason: &str) -> Found {
    vec![(field.into(), reason.into())]
}

/// A rule after a sound one, changed.
fn of(change: impl FnOnce(&mut Rule)) -> Found {
    let mut changed = rule("changed", "messages");
    change(&mut changed);
    faults(&[rule("sound", "messages"), changed], &[])
}

#[test]
fn every_fault_of_a_rule_has_its_field_and_its_reason() {
    let range = "OUT_OF_RANGE";
    assert_eq!(of(|_| ()), []);
    for unit in [0, UNIT_MAX + 1, u64::MAX] {
        assert_eq!(of(|rule| rule.unit = unit), one("rules[1].unit", range));
    }
    assert_eq!(of(|rule| rule.unit = UNIT_MAX), []);
    let included = of(|rule| rule.included = UNITS_MAX + 1);
    assert_eq!(included, one("rules[1].included", range));
    assert_eq!(of(|rule| rule.included = UNITS_MAX), []);
    for micros in [-1, PRICE_MAX.as_micros() + 1, i64::MIN, i64::MAX] {
        let minimum = of(|rule| rule.minimum = Credits::from_micros(micros));
        assert_eq!(minimum, one("rules[1].minimum", range));
        let price = of(|rule| rule.tiers = tiers(&[(Some(1), 0), (None, micros)]));
        assert_eq!(price, one("rules[1].tiers[1].price", range));
    }
    assert_eq!(of(|rule| rule.minimum = PRICE_MAX), []);
    assert_eq!(
        of(|rule| rule.id = name("sound")),
        one("rules[1].id", "DUPLICATE")
    );
    let unknown = one("rules[1].meter", "UNKNOWN_METER");
    assert_eq!(of(|rule| rule.meter = name("message")), unknown);
}

#[test]
fn tiers_follow_each_other_without_gap_or_overlap() {
    for (ends, at, reason) in [
        (&[][..], "", "REQUIRED"),
        (&[Some(5)], "[0].up_to", "TIERS_GAP"),
        (&[Some(5), Some(9)], "[1].up_to", "TIERS_GAP"),
        (&[None, None], "[0].up_to", "TIERS_OVERLAP"),
        (&[Some(5), None, None], "[1].up_to", "TIERS_OVERLAP"),
        (&[Some(5), Some(4), None], "[1].up_to", "TIERS_OVERLAP"),
        (&[Some(5), Some(5), None], "[1].up_to", "TIER_EMPTY"),
        (&[Some(0), None], "[0].up_to", "TIER_EMPTY"),
        (&[Some(UNITS_MAX + 1), None], "[0].up_to", "OUT_OF_RANGE"),
        (&[Some(3), None, Some(3), None], "", ""),
        (&[None; 33], "", "TOO_MANY"),
    ] {
        let found = of(|rule| {
            let ends = ends.iter().map(|end| (*end, 1));
            rule.tiers = tiers(&ends.collect::<Vec<_>>());
        });
        if reason.is_empty() {
            let at = |index| format!("rules[1].tiers[{index}].up_to");
            let both = [
                (at(1), "TIERS_OVERLAP".into()),
                (at(2), "TIER_EMPTY".into()),
            ];
            assert_eq!(found, both);
        } else {
            let at = format!("rules[1].tiers{at}");
            assert_eq!(found, one(&at, reason), "{ends:?}");
        }
    }
    let most: Vec<_> = (1..32)
        .map(|end| (Some(end), 1))
        .chain([(None, 1)])
        .collect();
    assert_eq!(of(|rule| rule.tiers = tiers(&most)), []);
}

#[test]
fn dimensions_are_few_and_as_short_as_those_of_a_usage() {
    let some = |count: usize| (0..count).map(|key| (name(&format!("d{key}")), String::new()));
    assert_eq!(of(|rule| rule.dimensions = some(8).collect()), []);
    let many = of(|rule| rule.dimensions = some(9).collect());
    assert_eq!(many, one("rules[1].dimensions", "TOO_MANY"));
    let at = "rules[1].dimensions[\"model\"]";
    for (value, reason) in [
        ("ä".repeat(129), "TOO_LONG"),
        ("a\0".into(), "NUL_CHARACTER"),
    ] {
        let found = of(|rule| rule.dimensions = dimensions(&[("model", &value)]));
        assert_eq!(found, one(at, reason));
    }
    let longest = "ä".repeat(128);
    assert_eq!(
        of(|rule| rule.dimensions = dimensions(&[("model", &longest)])),
        []
    );
}

#[test]
fn a_list_prices_what_is_built_in_and_what_it_declares() {
    let all: Vec<_> = Meter::ALL
        .iter()
        .map(|meter| rule(meter.as_str(), meter.as_str()))
        .collect();
    assert_eq!((faults(&all, &[]), all.len()), (vec![], 9));
    let gpu = [rule("a", "gpu")];
    assert_eq!(faults(&gpu, &["gpu", "unused"]), []);
    assert_eq!(
        faults(&gpu, &["gpu2"]),
        one("rules[0].meter", "UNKNOWN_METER")
    );
    let again = one("meters[\"messages\"]", "BUILT_IN_METER");
    assert_eq!(faults(&[], &["messages"]), again);
    let many: Vec<_> = (0..=METERS_MAX).map(|meter| format!("m{meter}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(faults(&[], &many), one("meters", "TOO_MANY"));
    assert_eq!(faults(&[], &many[1..]), []);
}

#[test]
fn every_fault_is_listed_up_to_a_hundred() {
    let bad = Rule {
        unit: 0,
        minimum: Credits::from_micros(-1),
        ..rule("a", "unheard")
    };
    let found = faults(&[bad.clone(), bad.clone()], &[]);
    let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    let expected = [
        "rules[0].meter",
        "rules[0].unit",
        "rules[0].minimum",
        "rules[1].id",
        "rules[1].meter",
        "rules[1].unit",
        "rules[1].minimum",
    ];
    assert_eq!(fields, expected);
    assert_eq!(faults(&vec![bad; RULES_MAX], &[]).len(), VIOLATIONS_MAX);
}

#[test]
fn a_list_is_small_enough_for_a_record() {
    let numbered = |count: usize| -> Vec<_> {
        let rules = 0..count;
        rules
            .map(|index| rule(&format!("r{index}"), "messages"))
            .collect()
    };
    assert_eq!(faults(&numbered(RULES_MAX), &[]), []);
    assert_eq!(
        faults(&numbered(RULES_MAX + 1), &[]),
        one("rules", "TOO_MANY")
    );
    // All of it tiers, with numbers as long as they can be.
    let far = UNITS_MAX - 40;
    let most = (0..31).map(|end| (Some(far + end), PRICE_MAX.as_micros()));
    let most: Vec<_> = most.chain([(None, 1)]).collect();
    let full = |count: usize| -> Vec<_> {
        let rules = numbered(count).into_iter();
        rules
            .map(|rule| Rule {
                tiers: tiers(&most),
                ..rule
            })
            .collect()
    };
    let fitting = (0..RULES_MAX)
        .rev()
        .find(|count| faults(&full(*count), &[]).is_empty());
    let fitting = fitting.unwrap();
    assert!(fitting > 200, "{fitting}");
    assert_eq!(faults(&full(fitting + 1), &[]), one("rules", "TOO_LARGE"));
    let kept = serde_json::to_vec(&list(full(fitting))).unwrap().len();
    assert!(
        kept < 2 * LIST_BYTES_MAX,
        "{kept} bytes even with the name of each field"
    );
}

proptest! {
    #[test]
    fn a_list_without_faults_has_a_price_for_every_unit(rules in vec(any_rule(), 0..4), quantity in 0..1_000_u64) {
        if check(&rules, &[name("a"), name("b")].into()).is_empty() {
            for rule in &rules {
                let priced = price(rule, 0, quantity);
                prop_assert!(priced.is_ok(), "{:?}", rule);
            }
        }
    }
}
