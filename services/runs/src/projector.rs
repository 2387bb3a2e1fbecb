//! The writing side: the fold of the log into the tables of the read model.

use async_trait::async_trait;
use runledger_domain::log::Family;
use runledger_projection::{Applied, ApplyError, Projection};
use sqlx::PgConnection;

mod fold;
mod identity;
mod load;
mod rows;
mod write;

pub(crate) use write::label_digest;

/// The projection of runs. Keeps nothing between batches: the tables are its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs;

/// What this read model reads.
pub const FAMILIES: &[Family] = &[Family::Run, Family::Schedule, Family::Message];

#[async_trait]
impl Projection for Runs {
    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Applied]) -> Result<(), ApplyError> {
        let settled = identity::settle(tx, batch).await?;
        let mut batch = fold::Batch::new(&settled.fresh, &settled.conflicts);
        load::states(tx, &mut batch).await?;
        batch.fold(&settled.fresh);
        write::messages(tx, &mut batch).await?;
        write::occurrences(tx, &batch).await?;
        write::steps(tx, &batch).await?;
        write::tool_calls(tx, &batch).await?;
        write::usage(tx, &batch).await?;
        write::late(tx, &batch).await?;
        // Last, because its rows alone are shared with other processes: they stay locked from here on.
        write::runs(tx, &batch).await
    }
}
