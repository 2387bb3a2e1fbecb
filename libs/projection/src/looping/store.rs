//! What the loop asks of the database.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::log::Partition;

use super::batch::Batch;
use crate::apply::ApplyError;
use crate::cursor::Cursor;
use crate::parking::Notice;
use crate::store::Generation;
use crate::store::parked::Totals;

/// One generation of a read model and its cursors. Whatever is asked may fail for the weather, and
/// then it may have been done or not.
pub(crate) trait Store: Send + Sync + 'static {
    /// What an attendant reads.
    type Database: Sync;

    /// The database, as the generation at hand sees it.
    fn database(&self) -> &Self::Database;

    /// Whether commands are among the records.
    fn reads_commands(&self) -> bool;

    /// The generation that is served now.
    fn served(&self) -> impl Future<Output = Result<Generation, sqlx::Error>> + Send;

    /// From now on, everything is about this generation.
    fn turn_to(&mut self, generation: &Generation);

    /// Whether its cursors may not move.
    fn is_frozen(&self) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Whether another generation is served. Frozen cursors do not tell for long: those of a
    /// generation that is gone back to move again, and dropped ones are no more.
    fn is_retired(&self) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// All its cursors.
    fn standing(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<Partition, Cursor>, sqlx::Error>> + Send;

    /// The cursors of some partitions; makes those that are missing.
    fn load(
        &self,
        partitions: &[Partition],
    ) -> impl Future<Output = Result<Vec<Cursor>, sqlx::Error>> + Send;

    /// The records that facts say to leave out of what these cursors have yet to read.
    fn skipped(
        &self,
        cursors: &[Cursor],
    ) -> impl Future<Output = Result<BTreeSet<(Partition, u64)>, sqlx::Error>> + Send;

    /// One transaction, all or nothing: moves the cursors, each only from where the batch says it
    /// stands and none that is frozen, and applies the records. `sifting`: they were refused whole
    /// before.
    fn attempt(
        &mut self,
        batch: &Batch,
        sifting: bool,
    ) -> impl Future<Output = Result<Attempted, ApplyError>> + Send;

    /// Writes down where cursors stand.
    fn checkpoint(
        &self,
        cursors: &[&Cursor],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// What is parked, by partition.
    fn parked(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<Partition, Totals>, sqlx::Error>> + Send;
}

/// What one transaction came to.
pub(crate) struct Attempted {
    /// Partitions that another process has moved on; nothing was committed then.
    pub(crate) lost: Vec<Partition>,
    /// How many records of the others are parked now, where any are.
    pub(crate) parked: BTreeMap<Partition, u64>,
    pub(crate) notices: Vec<Notice>,
}
