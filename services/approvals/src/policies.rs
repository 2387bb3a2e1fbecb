//! What a decider knows of everybody's policies: the family `policy`, folded in memory.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use runledger_decider::Viewed;
use runledger_domain::log::Record;
use runledger_domain::policy::{Book, PolicySet};
use runledger_domain::scope::Scope;
use runledger_proto::decode;

/// The policies of one scope, ready to judge.
struct Compiled {
    book: Book,
    set: PolicySet,
}

impl Compiled {
    fn new(book: Book) -> Self {
        let set = book.compile();
        Self { book, set }
    }
}

/// Of scopes that have changed nothing yet.
static DEFAULTS: LazyLock<Compiled> = LazyLock::new(|| Compiled::new(Book::default()));

/// The policies of every scope that has changed any.
#[derive(Clone, Default)]
pub(crate) struct Policies(HashMap<Scope, Arc<Compiled>>);

impl Policies {
    pub(crate) fn of(&self, scope: Scope) -> &PolicySet {
        let own = self.0.get(&scope);
        own.map_or(&DEFAULTS.set, |compiled| &compiled.set)
    }
}

impl Viewed for Policies {
    fn take_in(&mut self, record: &Record) {
        // What this version cannot read, an older one has decided or a newer one will judge by: the
        // decider of this version decides nothing behind a newer one's rules.
        let changed = decode::stored_policy_changed(&record.type_name, &record.payload);
        let Ok(Some(changed)) = changed else {
            return;
        };
        let before = self.0.get(&record.scope);
        let mut book = before.map_or_else(Book::default, |compiled| compiled.book.clone());
        runledger_domain::policy::evolve(&mut book, &changed);
        self.0.insert(record.scope, Arc::new(Compiled::new(book)));
    }
}
