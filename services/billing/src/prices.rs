//! What a decider knows of everybody's prices: the family `price`, folded in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use runledger_decider::Viewed;
use runledger_domain::log::Record;
use runledger_domain::price::{PriceBook, PriceSet, evolve};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::decode;

/// The price lists of one scope, ready to price.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    book: PriceBook,
    sets: BTreeMap<u64, PriceSet>,
}

impl Lists {
    /// The prices in force at a moment.
    pub(crate) fn at(&self, moment: Timestamp) -> Option<&PriceSet> {
        self.sets.get(&self.book.at(moment)?.version)
    }
}

/// The prices of every scope that has any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices(HashMap<Scope, Arc<Lists>>);

impl Prices {
    pub(crate) fn of(&self, scope: Scope) -> Option<&Lists> {
        self.0.get(&scope).map(Arc::as_ref)
    }
}

impl Viewed for Prices {
    fn take_in(&mut self, record: &Record) {
        // What this version cannot read, a newer one prices by: its decider decides, not this one.
        let published = decode::stored_prices_published(&record.type_name, &record.payload);
        let Ok(Some(published)) = published else {
            return;
        };
        let lists = Arc::make_mut(self.0.entry(record.scope).or_default());
        evolve(&mut lists.book, &published);
        let version = published.list.version;
        if let Some(list) = lists.book.get(version) {
            let list = Arc::clone(list);
            lists
                .sets
                .entry(version)
                .or_insert_with(|| PriceSet::compile(list));
        }
    }
}
