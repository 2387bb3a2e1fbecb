//! The price lists of a scope, and how a command adds one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use chrono::TimeDelta;

use serde::{Deserialize, Serialize};

use super::check::bytes;
use super::{PriceList, Publish, Published, check};
use crate::decision::{Rejection, RejectionKind};
use crate::policy::Change;
use crate::time::Timestamp;

/// Most versions of a scope's prices.
pub const VERSIONS_MAX: u64 = 1_000;
/// Most bytes that all lists of a scope take together.
pub const BOOK_BYTES_MAX: usize = 32 << 20;
/// How long before it takes effect a list is recorded, at least: whoever has read the log up to so long
/// ago knows every price that is in force.
pub const NOTICE: TimeDelta = TimeDelta::seconds(60);
/// How far ahead a list may take effect.
pub const AHEAD_MAX: TimeDelta = TimeDelta::days(3_653);

/// The price lists of a scope as its decisions have left them, all versions. At first there is none,
/// and nothing has a price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceBook {
    lists: BTreeMap<u64, Arc<PriceList>>,
    /// The highest version that takes effect at each moment.
    by_effect: BTreeMap<Timestamp, u64>,
}

impl PriceBook {
    /// One that was kept; the order does not matter.
    pub fn of(lists: impl IntoIterator<Item = PriceList>) -> Self {
        let mut book = Self::default();
        for list in lists {
            book.take(list);
        }
        book
    }

    /// A version that is known already stays as it is.
    fn take(&mut self, list: PriceList) {
        if let Entry::Vacant(vacant) = self.lists.entry(list.version) {
            let highest = self.by_effect.entry(list.effective_at).or_default();
            *highest = list.version.max(*highest);
            vacant.insert(Arc::new(list));
        }
    }

    /// All of them, by version.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<PriceList>> {
        self.lists.values()
    }

    pub fn get(&self, version: u64) -> Option<&Arc<PriceList>> {
        self.lists.get(&version)
    }

    /// The list in force at a moment: the one that took effect last, of several the highest version.
    /// `None`: nothing has a price yet.
    pub fn at(&self, moment: Timestamp) -> Option<&Arc<PriceList>> {
        let (_, version) = self.by_effect.range(..=moment).next_back()?;
        self.get(*version)
    }

    /// The list that was published last, which need not be in force yet.
    pub fn latest(&self) -> Option<&Arc<PriceList>> {
        self.lists.last_key_value().map(|(_, list)| list)
    }

    /// The version of [`Self::latest`]; 0: there is none.
    pub fn version(&self) -> u64 {
        self.latest().map_or(0, |list| list.version)
    }

    /// What is known of the list that was published last.
    pub fn edition(&self) -> Edition {
        let bytes = self
            .lists
            .values()
            .map(|list| bytes(&list.rules, &list.meters));
        Edition {
            version: self.version(),
            effective_at: self.latest().map(|list| list.effective_at),
            bytes: bytes.fold(0, usize::saturating_add),
        }
    }
}

/// All that has to be known of the lists of a scope to add one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    /// Of the list that was published last; 0: there is none.
    pub version: u64,
    /// When that one takes effect.
    pub effective_at: Option<Timestamp>,
    /// How much all lists take: whoever prices holds them all.
    pub bytes: usize,
}

impl Edition {
    /// Takes a decision in force in. Total: `false` when it does not fit.
    pub fn take_in(&mut self, published: &Published) -> bool {
        let list = &published.list;
        let is_next = self.version.checked_add(1) == Some(list.version);
        if list.version > self.version {
            self.version = list.version;
            self.effective_at = Some(list.effective_at);
            self.bytes = self.bytes.saturating_add(bytes(&list.rules, &list.meters));
        }
        is_next
    }

    fn next_version(&self, expected: Option<u64>) -> Result<u64, Rejection> {
        let version = self.version;
        match expected {
            Some(expected) if expected != version => {
                let message = format!(
                    "the prices have version {version}, not {expected}; read them again and decide \
                     anew"
                );
                return Err(precondition("VERSION_MISMATCH", message));
            }
            _ => {}
        }
        if version >= VERSIONS_MAX {
            let message =
                format!("there are {VERSIONS_MAX} versions of the prices, as many as may be");
            return Err(precondition("TOO_MANY_VERSIONS", message));
        }
        Ok(version.saturating_add(1))
    }

    /// When a list that is recorded at `at` takes effect.
    fn takes_effect_at(
        &self,
        wanted: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<Timestamp, Rejection> {
        let soonest = at.checked_add_signed(NOTICE);
        let effective_at = wanted.or(soonest).unwrap_or(Timestamp::MAX_UTC);
        let ahead = effective_at.signed_duration_since(at);
        if ahead < NOTICE {
            let message = format!(
                "prices take effect {} s after they are published at the earliest; name a later \
                 moment, or none for the earliest",
                NOTICE.num_seconds()
            );
            return Err(precondition("PRICE_EFFECTIVE_TOO_SOON", message));
        }
        if ahead > AHEAD_MAX {
            let message = "prices take effect within ten years; name an earlier moment";
            return Err(precondition("PRICE_EFFECTIVE_TOO_FAR", message));
        }
        match self.effective_at {
            Some(latest) if effective_at < latest => {
                let message = format!(
                    "version {} takes effect at {latest}, and what follows it not before; name that \
                     moment to replace it, or a later one",
                    self.version
                );
                Err(precondition("EFFECTIVE_OUT_OF_ORDER", message))
            }
            _ => Ok(effective_at),
        }
    }
}

fn precondition(reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(RejectionKind::Precondition, reason, message)
}

/// What becomes of a command. Whatever it adds, what is in force until a minute from now stays.
///
/// # Errors
/// Why it is refused.
pub fn decide(
    edition: &Edition,
    command: &Publish,
    change: Change,
) -> Result<Published, Rejection> {
    let faults = check(&command.rules, &command.meters);
    if !faults.is_empty() {
        return Err(Rejection::invalid(faults));
    }
    let version = edition.next_version(command.expected_version)?;
    let effective_at = edition.takes_effect_at(command.effective_at, change.at)?;
    let more = bytes(&command.rules, &command.meters);
    if edition.bytes.saturating_add(more) > BOOK_BYTES_MAX {
        let message = format!(
            "all versions of the prices together take at most {BOOK_BYTES_MAX} bytes, and this one is too much for that"
        );
        return Err(precondition("TOO_MANY_VERSIONS", message));
    }
    Ok(Published {
        list: PriceList {
            version,
            effective_at,
            recorded: change,
            rules: command.rules.clone(),
            meters: command.meters.clone(),
        },
    })
}

/// Takes a decision in force in. Total: `false` when it does not fit (it is not the next version), and
/// is taken all the same if it is a later one.
pub fn evolve(book: &mut PriceBook, published: &Published) -> bool {
    let (known, version) = (book.version(), published.list.version);
    if version > known {
        book.take(published.list.clone());
    }
    known.checked_add(1) == Some(version)
}

#[cfg(test)]
mod tests;
