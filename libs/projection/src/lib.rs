//! The one loop that turns the log into tables, and the reads that wait for it.
//!
//! For: [`Projection`], a fold of the log into tables that one service owns; [`run`], which feeds
//! it; [`Reader`], which answers from those tables no older than the caller's tokens; [`rebuild`],
//! which builds them anew beside those that are served; [`dead_letters`], the records that could
//! not be applied.
//! Must never: move a cursor outside the transaction that writes the rows, apply a record twice,
//! leave one out without a trace or out of order in its stream, apply a decision that is not in
//! force, or cause an effect: a projection only writes its tables.

mod apply;
mod cursor;
pub mod dead_letters;
mod halving;
mod identities;
mod item;
mod lag;
mod looping;
mod parking;
mod patience;
mod pools;
mod reader;
pub mod rebuild;
#[cfg(test)]
mod simulation;
mod store;
mod trace;

pub use apply::{Applied, ApplyError, Kept, Projection, Standing};
pub use cursor::{Cursor, Diverged, Verdict, decision_hash};
pub use identities::keep_identities;
pub use looping::{Attendant, Error, Health, Options, Running, Seen, run, run_with};
pub use patience::goes_on;
pub use pools::{BY_INDEX, BY_KEY, reader_pool, upkeep_pool, writer_pool};
pub use reader::{AsOf, Cursors, ReadOptions, Reader, Snapshot, database_fault};
