//! What quantities cost.

use super::*;
use crate::money::Overflow;

/// 10 units free, then 100 at 5 micros a unit of 2, 100 at 3, the rest at 1.
fn graduated() -> Rule {
    Rule {
        unit: 2,
        included: 10,
        tiers: tiers(&[(Some(100), 5), (Some(200), 3), (None, 1)]),
        ..rule("r", "messages")
    }
}

fn micros(rule: &Rule, used_before: u64, quantity: u64) -> Result<i64, Overflow> {
    price(rule, used_before, quantity).map(|priced| priced.amount.as_micros())
}

#[test]
fn quantities_go_through_what_is_included_and_then_tier_by_tier() {
    let rule = graduated();
    // Used before, quantity; amount, free, billable, portions as tier and quantity.
    type Row = ((u64, u64), (i64, u64, u64), &'static [(u32, u64)]);
    let rows: &[Row] = &[
        ((0, 0), (0, 0, 0), &[]),
        ((0, 10), (0, 10, 0), &[]),
        ((0, 12), (5, 10, 2), &[(0, 2)]),
        ((10, 100), (250, 0, 100), &[(0, 100)]),
        ((10, 102), (253, 0, 102), &[(0, 100), (1, 2)]),
        ((4, 306), (450, 6, 300), &[(0, 100), (1, 100), (2, 100)]),
        // It would be 250 at the start of the month: what was used before counts.
        ((110, 100), (150, 0, 100), &[(1, 100)]),
        ((210, 7), (4, 0, 7), &[(2, 7)]),
        ((u64::MAX - 2, 2), (1, 0, 2), &[(2, 2)]),
    ];
    for ((used_before, quantity), (amount, free, billable), portions) in rows {
        let priced = price(&rule, *used_before, *quantity).unwrap();
        let at = format!("{quantity} after {used_before}");
        assert_eq!(priced.amount.as_micros(), *amount, "{at}");
        assert_eq!((priced.free, priced.billable), (*free, *billable), "{at}");
        let found: Vec<_> = priced
            .portions
            .iter()
            .map(|p| (p.tier, p.quantity))
            .collect();
        assert_eq!(found, *portions, "{at}");
        for portion in &priced.portions {
            let tier = rule.tiers[usize::try_from(portion.tier).unwrap()];
            assert_eq!((portion.price, portion.unit), (tier.price, 2), "{at}");
        }
    }
}

#[test]
fn halves_go_to_the_even_neighbour_once_for_all_tiers() {
    let rule = Rule {
        unit: 2,
        tiers: tiers(&[(Some(1), 1), (None, 1)]),
        ..rule("r", "messages")
    };
    // Halves of 1, 2, 3, 4, 5: rounded tier by tier 2 would cost nothing.
    let found = [1, 2, 3, 4, 5].map(|quantity| micros(&rule, 0, quantity).unwrap());
    assert_eq!(found, [0, 1, 2, 2, 2]);
}

#[test]
fn the_minimum_holds_for_what_has_a_billable_unit() {
    let rule = Rule {
        minimum: Credits::from_micros(40),
        ..graduated()
    };
    for (quantity, amount) in [(0, 0), (10, 0), (11, 40), (26, 40), (28, 45)] {
        assert_eq!(micros(&rule, 0, quantity), Ok(amount), "{quantity}");
    }
    let gratis = Rule {
        tiers: tiers(&[(None, 0)]),
        ..rule
    };
    assert_eq!(micros(&gratis, 0, 11), Ok(40), "free of charge is billable");
}

#[test]
fn what_has_no_place_is_an_error() {
    let dear = Rule {
        tiers: tiers(&[(None, PRICE_MAX.as_micros())]),
        ..rule("r", "messages")
    };
    assert_eq!(micros(&dear, 0, 9_223), Ok(9_223_000_000_000_000_000));
    assert_eq!(micros(&dear, 0, 9_224), Err(Overflow));
    assert_eq!(micros(&dear, 0, u64::MAX), Err(Overflow));
    let cheap = Rule {
        unit: UNIT_MAX,
        ..dear
    };
    let all = i64::try_from(u128::from(u64::MAX) * 1_000).map_err(|_| Overflow);
    assert_eq!(micros(&cheap, 0, u64::MAX), all);
    assert_eq!(
        micros(&cheap, 1, u64::MAX),
        Err(Overflow),
        "the month's count"
    );
    // What a check refuses is never charged at a guess.
    for broken in [
        Rule {
            unit: 0,
            ..graduated()
        },
        Rule {
            tiers: vec![],
            ..graduated()
        },
        Rule {
            tiers: tiers(&[(Some(5), 1)]),
            ..graduated()
        },
    ] {
        assert_eq!(micros(&broken, 0, 16), Err(Overflow), "{broken:?}");
    }
}

/// The price as one would reckon it by hand: each unit a fraction, and the nearest whole number.
fn by_hand(rule: &Rule, used_before: u64, quantity: u64) -> i128 {
    let (mut numerator, mut billable) = (0_i128, false);
    for unit in used_before..used_before + quantity {
        if unit >= rule.included {
            let unit = unit - rule.included;
            let mut tiers = rule.tiers.iter();
            let tier = tiers.find(|tier| tier.up_to.is_none_or(|up_to| unit < up_to));
            numerator += i128::from(tier.unwrap().price.as_micros());
            billable = true;
        }
    }
    let unit = i128::from(rule.unit);
    let below = numerator / unit;
    let nearest = [below, below + 1].into_iter();
    let nearest = nearest.min_by_key(|one| ((one * unit - numerator).abs(), one % 2));
    let minimum = if billable {
        rule.minimum.as_micros()
    } else {
        0
    };
    nearest.unwrap().max(minimum.into())
}

/// Units by tier.
fn by_tier<'a>(all: impl IntoIterator<Item = &'a Priced>) -> BTreeMap<u32, u64> {
    let mut sums = BTreeMap::new();
    for portion in all.into_iter().flat_map(|priced| &priced.portions) {
        *sums.entry(portion.tier).or_default() += portion.quantity;
    }
    sums
}

fn quantities() -> impl Strategy<Value = u64> {
    prop_oneof![0..60_u64, 0..=UNITS_MAX]
}

proptest! {
    #[test]
    fn a_price_is_what_one_reckons_by_hand(rule in sound(), used_before in 0..60_u64, quantity in 0..60_u64) {
        let reckoned = i64::try_from(by_hand(&rule, used_before, quantity)).map_err(|_| Overflow);
        prop_assert_eq!(micros(&rule, used_before, quantity), reckoned);
    }

    /// Each rounding is at most half a micro off: one for each of the pieces and one for the whole. So two
    /// pieces and the whole are less than two micros apart, which between whole numbers is one.
    #[test]
    fn pieces_cost_what_the_whole_costs_but_for_rounding(
        rule in sound(), used_before in quantities(), pieces in vec(quantities(), 1..6),
    ) {
        let rule = Rule { minimum: Credits::ZERO, ..rule };
        let quantity = pieces.iter().sum();
        let Ok(whole) = price(&rule, used_before, quantity) else { return Ok(()); };
        let (mut used, mut priced) = (used_before, Vec::new());
        for piece in &pieces {
            priced.push(price(&rule, used, *piece).unwrap());
            used += piece;
        }
        prop_assert_eq!(by_tier(&priced), by_tier([&whole]));
        prop_assert_eq!(priced.iter().map(|one| one.free).sum::<u64>(), whole.free);
        prop_assert_eq!(priced.iter().map(|one| one.billable).sum::<u64>(), whole.billable);
        let sum: i128 = priced.iter().map(|one| i128::from(one.amount.as_micros())).sum();
        let apart = (sum - i128::from(whole.amount.as_micros())).unsigned_abs();
        prop_assert!(apart <= (pieces.len() as u128).div_ceil(2), "{} micros apart", apart);
    }

    #[test]
    fn more_never_costs_less(rule in sound(), used_before in quantities(), less in quantities(), more in quantities()) {
        let (less, more) = (less.min(more), less.max(more));
        if let Ok(dearer) = micros(&rule, used_before, more) {
            prop_assert!(micros(&rule, used_before, less).unwrap() <= dearer);
        }
    }

    #[test]
    fn whatever_the_rule_units_add_up_and_nothing_wraps(rule in any_rule(), used_before: u64, quantity: u64) {
        let Ok(priced) = price(&rule, used_before, quantity) else { return Ok(()); };
        prop_assert!(used_before.checked_add(quantity).is_some());
        prop_assert_eq!(priced.free + priced.billable, quantity);
        prop_assert_eq!(priced.portions.iter().map(|one| one.quantity).sum::<u64>(), priced.billable);
        let costs = priced.portions.iter();
        let sum: i128 = costs.map(|one| i128::from(one.quantity) * i128::from(one.price.as_micros())).sum();
        let exact = Credits::of_fraction(sum, rule.unit.into()).unwrap();
        let least = if priced.billable > 0 { rule.minimum } else { exact };
        prop_assert_eq!(priced.amount, exact.max(least));
    }
}
