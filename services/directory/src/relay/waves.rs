//! Rows of a batch in waves: of each tenant one row a wave, in its order. Pure.

use std::collections::{BTreeMap, VecDeque};

use runledger_domain::time::Timestamp;
use runledger_eventlog::Entry;
use uuid::Uuid;

use super::Error;
use super::fact::Row;

/// Whose changes have an order among themselves; `None`: the operators'.
type Tenant = Option<Uuid>;
/// A row on its way: whose it is, its id, and what is appended.
type Step = ((Tenant, Uuid), Entry);

/// What is still to be appended.
pub(super) struct Waves {
    waiting: BTreeMap<Tenant, VecDeque<Row>>,
}

impl Waves {
    pub(super) fn of(rows: Vec<Row>) -> Self {
        let mut waiting: BTreeMap<Tenant, VecDeque<Row>> = BTreeMap::new();
        for row in rows {
            waiting.entry(row.tenant_id).or_default().push_back(row);
        }
        Self { waiting }
    }

    /// The next row of every tenant that has one; `None`: nobody has. A row that is no fact is noted
    /// as `trouble`, and its tenant waits.
    pub(super) fn next(
        &mut self,
        now: Timestamp,
        trouble: &mut Option<Error>,
    ) -> Option<Vec<Step>> {
        let mut wave = Vec::with_capacity(self.waiting.len());
        self.waiting.retain(|tenant, rows| {
            let Some(row) = rows.pop_front() else {
                return false;
            };
            let id = row.id;
            match row.record(now) {
                Ok(record) => {
                    let entry = Entry {
                        record,
                        prev: None,
                        trace: None,
                    };
                    wave.push(((*tenant, id), entry));
                    true
                }
                Err(source) => {
                    *trouble = Some(Error::NoFact { id, source });
                    false
                }
            }
        });
        (!wave.is_empty()).then_some(wave)
    }

    /// Keeps back what a tenant has left.
    pub(super) fn leave(&mut self, tenant: Tenant) {
        self.waiting.remove(&tenant);
    }
}
