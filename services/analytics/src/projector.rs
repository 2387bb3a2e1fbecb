//! The writing side: the fold of the log into rollups, and the states that they follow from.

use async_trait::async_trait;
use runledger_domain::log::{Family, Kind};
use runledger_projection::{Applied, ApplyError, Kept, Projection, Standing, keep_identities};
use sqlx::PgConnection;

mod attribute;
mod fold;
mod load;
mod said;
mod write;

/// The projection. Keeps nothing in memory: the tables are its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Analytics;

/// What it reads.
pub const FAMILIES: &[Family] = &[
    Family::Run,
    Family::Schedule,
    Family::Message,
    Family::Billing,
];

/// The tables it is made of, the books aside.
pub const TABLES: &[&str] = &[
    "identities",
    "messages",
    "runs",
    "tool_calls",
    "unreported",
    "rollups",
];

#[async_trait]
impl Projection for Analytics {
    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    async fn keep(
        &mut self,
        tx: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        keep_identities(tx, batch, is_counted).await
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError> {
        let fresh = batch.iter().filter(|one| one.standing == Standing::First);
        let mut said = Vec::new();
        for one in fresh {
            said::read(one.applied, &mut said)?;
        }
        if said.is_empty() {
            return Ok(());
        }
        write::messages(tx, &mut said).await?;
        let mut fold = fold::Fold::of(&said);
        load::states(tx, &mut fold).await?;
        fold.take_in(&said);
        // Cells come last: they are shared with every other process, and stay locked from there on.
        let unreported = load::unreported(tx, &fold).await?;
        let changes = attribute::changes(&fold, unreported);
        write::states(tx, &fold).await?;
        write::unreported(tx, &changes).await?;
        write::rollups(tx, &changes).await
    }
}

/// Facts that are counted. The chain has judged decisions; usage that was forwarded is counted where it
/// was reported.
fn is_counted(applied: &Applied) -> bool {
    let family = applied.record.stream.family();
    applied.record.kind == Kind::Fact && family != Family::Billing
}
