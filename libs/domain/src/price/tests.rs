//! What price lists make of usage, from outside.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::*;
use crate::ids::PrincipalId;
use crate::scope::{Actor, PrincipalKind, Role};

mod charging;
mod checking;
mod comparing;
mod finding;

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn second(second: i64) -> Timestamp {
    Timestamp::from_timestamp(second, 0).unwrap()
}

pub(super) fn change(at: Timestamp) -> Change {
    Change {
        at,
        by: Actor {
            principal: PrincipalId::new(Uuid::from_u128(1)),
            kind: PrincipalKind::User,
            role: Role::Admin,
        },
    }
}

/// Ends and prices in micros.
pub(super) fn tiers(tiers: &[(Option<u64>, i64)]) -> Vec<Tier> {
    let tiers = tiers.iter();
    tiers
        .map(|&(up_to, micros)| Tier {
            up_to,
            price: Credits::from_micros(micros),
        })
        .collect()
}

/// One micro each.
pub(super) fn rule(id: &str, meter: &str) -> Rule {
    Rule {
        id: name(id),
        meter: name(meter),
        dimensions: BTreeMap::new(),
        unit: 1,
        included: 0,
        tiers: tiers(&[(None, 1)]),
        minimum: Credits::ZERO,
    }
}

pub(super) fn dimensions(texts: &[(&str, &str)]) -> BTreeMap<Name, String> {
    let texts = texts.iter();
    texts
        .map(|(key, value)| (name(key), (*value).to_owned()))
        .collect()
}

pub(super) fn list(rules: Vec<Rule>) -> PriceList {
    PriceList {
        version: 1,
        effective_at: second(60),
        recorded: change(second(0)),
        rules,
        meters: BTreeSet::new(),
    }
}

/// A rule without a fault, with ends near 0 as often as far away.
fn sound() -> impl Strategy<Value = Rule> {
    let ends = prop_oneof![1..40_u64, 1..UNITS_MAX];
    let price = prop_oneof![0..20_i64, 0..=PRICE_MAX.as_micros()];
    let parts = (btree_set(ends, 0..5), vec(price.clone(), 5));
    let unit = prop_oneof![1..12_u64, 1..=UNIT_MAX];
    let included = prop_oneof![Just(0), 0..40_u64, 0..=UNITS_MAX];
    (parts, unit, included, price).prop_map(|((ends, prices), unit, included, minimum)| {
        let ends = ends.into_iter().map(Some).chain([None]);
        let rule = Rule {
            unit,
            included,
            tiers: tiers(&ends.zip(prices).collect::<Vec<_>>()),
            minimum: Credits::from_micros(minimum),
            ..rule("r", "messages")
        };
        assert_eq!(check(std::slice::from_ref(&rule), &BTreeSet::new()), []);
        rule
    })
}

/// Any rule that can be written down, sound or not.
fn any_rule() -> impl Strategy<Value = Rule> {
    let id = select(vec!["a", "b", "messages", "tokens_input"]);
    let texts = vec(select(vec!["model", "tool"]), 0..3);
    // Small ones too, or hardly a rule would be sound.
    let units = || prop_oneof![0..9_u64, any::<u64>()];
    let micros = || prop_oneof![-1..9_i64, any::<i64>()];
    let tier = (option::of(units()), micros());
    let numbers = (units(), units(), micros());
    (id.clone(), id, texts, vec(tier, 0..5), numbers).prop_map(
        |(id, meter, texts, of, (unit, included, minimum))| Rule {
            dimensions: texts.iter().map(|key| (name(key), "x".into())).collect(),
            unit,
            included,
            tiers: tiers(&of),
            minimum: Credits::from_micros(minimum),
            ..rule(id, meter)
        },
    )
}

#[test]
fn what_is_built_in_is_a_name() {
    for meter in Meter::ALL {
        assert_eq!(Name::from(*meter), name(meter.as_str()));
    }
}

proptest! {
    #[test]
    fn a_list_and_a_charge_are_read_as_they_were_kept(rules in vec(any_rule(), 0..4), quantity: u64) {
        let kept = Published { list: PriceList { meters: [name("gpu")].into(), ..list(rules) } };
        let bytes = serde_json::to_vec(&kept).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Published>(&bytes).unwrap(), &kept);
        for priced in kept.list.rules.iter().filter_map(|rule| price(rule, 0, quantity).ok()) {
            let bytes = serde_json::to_vec(&priced).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Priced>(&bytes).unwrap(), priced);
        }
    }
}
