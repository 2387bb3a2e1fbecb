//! A price list, ready to find the rule of a usage.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{PriceList, Rule};
use crate::ids::Name;

/// A price list, indexed. Cheap to put to many usages.
#[derive(Clone, Debug)]
pub struct PriceSet {
    list: Arc<PriceList>,
    /// Where the rules of a meter are, those with the most dimensions first, then as in the list.
    by_meter: HashMap<Name, Vec<usize>>,
}

impl PriceSet {
    pub fn compile(list: Arc<PriceList>) -> Self {
        let mut by_meter: HashMap<Name, Vec<usize>> = HashMap::new();
        for (index, rule) in list.rules.iter().enumerate() {
            by_meter.entry(rule.meter.clone()).or_default().push(index);
        }
        for places in by_meter.values_mut() {
            // Stable: of equals the first in the list stays the first.
            places.sort_by_key(|place| {
                let rule = list.rules.get(*place);
                Reverse(rule.map_or(0, |rule| rule.dimensions.len()))
            });
        }
        Self { list, by_meter }
    }

    pub fn list(&self) -> &Arc<PriceList> {
        &self.list
    }

    /// The rule that prices a usage: of those that fit the one with the most dimensions, of equals the
    /// first. `None`: the list has no price for it.
    pub fn find(&self, meter: &Name, dimensions: &BTreeMap<Name, String>) -> Option<&Rule> {
        let places = self.by_meter.get(meter)?.iter();
        places
            .filter_map(|place| self.list.rules.get(*place))
            .find(|rule| rule.fits(dimensions))
    }
}

impl Rule {
    fn fits(&self, dimensions: &BTreeMap<Name, String>) -> bool {
        let mut wanted = self.dimensions.iter();
        wanted.all(|(key, value)| dimensions.get(key) == Some(value))
    }
}
