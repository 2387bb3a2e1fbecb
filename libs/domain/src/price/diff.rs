//! What differs between two price lists.

use std::collections::BTreeMap;

use super::{PriceList, Rule};
use crate::ids::Name;

/// One thing that differs between two price lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference<'a> {
    MeterAdded(&'a Name),
    MeterRemoved(&'a Name),
    RuleAdded(&'a Rule),
    RuleRemoved(&'a Rule),
    RuleChanged {
        before: &'a Rule,
        after: &'a Rule,
    },
    /// The rules that both have stand in another order, which can change who prices a usage.
    RulesReordered {
        before: Vec<&'a Name>,
        after: Vec<&'a Name>,
    },
}

/// What `after` has otherwise than `before`: meters by name, rules by id, then their order. Empty: they
/// price everything alike, whatever their versions.
pub fn diff<'a>(before: &'a PriceList, after: &'a PriceList) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    for meter in before.meters.symmetric_difference(&after.meters) {
        found.push(if after.meters.contains(meter) {
            Difference::MeterAdded(meter)
        } else {
            Difference::MeterRemoved(meter)
        });
    }
    let (old, new) = (by_id(before), by_id(after));
    let mut ids: Vec<&Name> = old.keys().chain(new.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        match (old.get(id).copied(), new.get(id).copied()) {
            (None, Some(rule)) => found.push(Difference::RuleAdded(rule)),
            (Some(rule), None) => found.push(Difference::RuleRemoved(rule)),
            (Some(before), Some(after)) if before != after => {
                found.push(Difference::RuleChanged { before, after });
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    let (before, after) = (order(before, &new), order(after, &old));
    if before != after {
        found.push(Difference::RulesReordered { before, after });
    }
    found
}

fn by_id(list: &PriceList) -> BTreeMap<&Name, &Rule> {
    list.rules.iter().map(|rule| (&rule.id, rule)).collect()
}

/// The ids of `list` that the other one has too, as they stand.
fn order<'a>(list: &'a PriceList, other: &BTreeMap<&Name, &Rule>) -> Vec<&'a Name> {
    let ids = list.rules.iter().map(|rule| &rule.id);
    ids.filter(|id| other.contains_key(id)).collect()
}
