//! One page of a list.

use runledger_domain::fault::Fault;
use runledger_service::page::List;
use serde::Serialize;

#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    /// Empty on the last page.
    pub(crate) next: String,
}

/// Which page is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    size: u32,
    pub(crate) token: String,
}

impl Wanted {
    pub(crate) fn new(size: u32, token: String) -> Self {
        Self {
            size: runledger_service::page::size(size),
            token,
        }
    }

    /// How many rows to ask for: one more than will be shown, which tells whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The page out of `rows`; `place` is what the next one begins after.
    pub(crate) fn cut<T, P: Serialize>(
        &self,
        mut rows: Vec<T>,
        list: List,
        place: impl FnOnce(&T) -> P,
    ) -> Result<Page<T>, Fault> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next = match rows.last() {
            Some(last) if more => list.token(&place(last))?,
            _ => String::new(),
        };
        Ok(Page {
            entries: rows,
            next,
        })
    }
}
