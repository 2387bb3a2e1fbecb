//! Rows of a batch by their key, and values as Postgres takes them.

use runledger_domain::log::{Partition, Record};
use runledger_domain::scope::Scope;
pub(super) use runledger_postgres::values::{Scopes, signed, some_text, text, time};
use uuid::Uuid;

/// Scope and up to two ids of it: (run, ""), (run, step), (conversation, message) …
pub(super) type Key<'a> = (Scope, &'a str, &'a str);

/// One row a key, sorted by key: every process writes in the same order, so that two of them wait
/// for each other in turn and never in a circle.
#[derive(Debug)]
pub(super) struct Rows<'a, V>(Vec<(Key<'a>, V)>);

impl<'a, V: Default> Rows<'a, V> {
    /// An empty row for each different key.
    pub(super) fn new(mut keys: Vec<Key<'a>>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        Self(keys.into_iter().map(|key| (key, V::default())).collect())
    }
}

impl<'a, V> Rows<'a, V> {
    pub(super) fn get_mut(&mut self, key: Key<'_>) -> Option<&mut V> {
        let at = self.0.binary_search_by(|(found, _)| found.cmp(&key)).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Key<'a>, V)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key<'a>, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keys of rows as columns: scope and up to two ids.
#[derive(Default)]
pub(super) struct Keys<'a> {
    pub(super) scopes: Scopes,
    pub(super) firsts: Vec<&'a str>,
    pub(super) seconds: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(keys: impl IntoIterator<Item = Key<'a>>) -> Self {
        let mut columns = Self::default();
        for (scope, first, second) in keys {
            columns.scopes.push(scope);
            columns.firsts.push(first);
            columns.seconds.push(second);
        }
        columns
    }
}

/// Columns of records' identities.
#[derive(Debug, Default)]
pub(super) struct Identities<'a> {
    pub(super) scopes: Scopes,
    pub(super) streams: Vec<&'a str>,
    pub(super) ids: Vec<Uuid>,
}

impl<'a> Identities<'a> {
    pub(super) fn of(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut identities = Self::default();
        for record in records {
            identities.push(record);
        }
        identities
    }

    pub(super) fn push(&mut self, record: &'a Record) {
        self.scopes.push(record.scope);
        self.streams.push(record.stream.as_str());
        self.ids.push(record.id.as_uuid());
    }
}

pub(super) fn number(partition: Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}
