//! Rows of a batch by their key, and values as Postgres takes them.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveTime};
use runledger_domain::log::{Partition, Record};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
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

/// The columns that every key begins with.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    pub(super) tenants: Vec<Uuid>,
    pub(super) modes: Vec<&'static str>,
}

impl Scopes {
    pub(super) fn push(&mut self, scope: Scope) {
        self.tenants.push(scope.tenant.as_uuid());
        self.modes.push(scope.mode.as_str());
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

/// `text` without the one character that Postgres cannot keep. Ingestion refuses it; a record in
/// the log cannot be refused any more.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// `None` for an empty text.
pub(super) fn some_text(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then(|| self::text(text))
}

/// `at`, brought into the years 1 to 9999: beyond them lies what Postgres or its users cannot read.
pub(super) fn time(at: Timestamp) -> Timestamp {
    const fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        match NaiveDate::from_ymd_opt(year, month, day) {
            Some(date) => date,
            None => NaiveDate::MIN,
        }
    }
    let least =
        DateTime::from_naive_utc_and_offset(day(1, 1, 1).and_time(NaiveTime::MIN), chrono::Utc);
    let greatest = DateTime::from_naive_utc_and_offset(
        day(9999, 12, 31).and_time(NaiveTime::MIN),
        chrono::Utc,
    );
    at.clamp(least, greatest)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(partition: Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_cannot_keep_is_bent_not_refused() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        assert_eq!(some_text(""), None);
        assert_eq!(signed(u64::MAX), i64::MAX);
        for far in [Timestamp::MIN_UTC, Timestamp::MAX_UTC] {
            assert!((1..=9999).contains(&chrono::Datelike::year(&time(far))));
        }
        assert_eq!(time(DateTime::UNIX_EPOCH), DateTime::UNIX_EPOCH);
    }
}
