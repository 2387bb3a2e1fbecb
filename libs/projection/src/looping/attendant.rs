//! Who goes along with a loop.

use runledger_domain::digest::Digest;
use runledger_domain::log::{Kind, Partition, Position};
use tokio::time::Instant;

use crate::cursor::Cursor;

/// A record that a loop has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub position: Position,
    pub kind: Kind,
    /// Of a decision: its hash, and whether it is in force.
    pub decision: Option<(Digest, bool)>,
}

/// Is told what a loop has committed, and acts between two batches: a decider, which writes the next
/// decisions. Nothing it does touches the tables; nothing it is told is taken back.
///
/// `D` is the database of the generation that is served.
pub trait Attendant<D>: Send + 'static {
    /// These partitions are this process's from now on. Of one that was let go meanwhile nothing is
    /// remembered.
    fn taken_up(&mut self, cursors: &[Cursor]);

    fn let_go(&mut self, partitions: &[Partition]);

    /// A batch was committed: where the cursors stand now, and its records in the order of the log of
    /// each partition.
    fn committed(&mut self, after: &[Cursor], seen: &[Seen]);

    /// How many decisions of its own are on their way here, and until when it pays to let a batch wait
    /// for them. `None`: none are.
    fn expects(&self) -> Option<(usize, Instant)> {
        None
    }

    /// Resolves when there is something to do although nothing was committed. Cancel safe.
    fn awaited(&mut self) -> impl Future<Output = ()> + Send;

    /// The loop has ended without trouble, or goes on with another generation: says good-bye. Best
    /// effort, once.
    fn leave(&mut self, database: &D) -> impl Future<Output = ()> + Send;

    /// Does what there is to do; told between two batches. Weather is for it to come back to.
    fn act(&mut self, database: &D) -> impl Future<Output = ()> + Send;
}

/// Nobody goes along.
impl<D: Sync> Attendant<D> for () {
    fn taken_up(&mut self, _: &[Cursor]) {}

    fn let_go(&mut self, _: &[Partition]) {}

    fn committed(&mut self, _: &[Cursor], _: &[Seen]) {}

    async fn awaited(&mut self) {
        std::future::pending().await
    }

    async fn leave(&mut self, _: &D) {}

    async fn act(&mut self, _: &D) {}
}
