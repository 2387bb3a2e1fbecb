//! The writing side: the fold of the log into the tables of the read model.

use async_trait::async_trait;
use metrics::counter;
use runledger_domain::log::Family;
use runledger_projection::{Applied, ApplyError, Kept, Projection, Standing};
use sqlx::PgConnection;

mod counted;
mod fold;
mod identity;
mod load;
mod rows;
mod write;

use counted::Counted;
pub(crate) use write::label_digest;

/// The projection of runs. Keeps nothing of a batch: the tables are its memory.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    counted: Counted,
}

/// What this read model reads.
pub const FAMILIES: &[Family] = &[Family::Run, Family::Schedule, Family::Message];

/// The tables it is made of, the books aside.
pub const TABLES: &[&str] = &[
    "records",
    "runs",
    "run_labels",
    "steps",
    "tool_calls",
    "usage_totals",
    "messages",
    "occurrences",
];

#[async_trait]
impl Projection for Runs {
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
        identity::keep(tx, batch).await
    }

    async fn apply(&mut self, tx: &mut PgConnection, kept: &[Kept<'_>]) -> Result<(), ApplyError> {
        let of = |standing: Standing| {
            let those = kept.iter().filter(move |one| one.standing == standing);
            those.map(|one| one.applied).collect::<Vec<&Applied>>()
        };
        let (fresh, contradicting) = (of(Standing::First), of(Standing::Conflict));
        let conflicts = identity::conflicts(tx, &contradicting).await?;
        let mut batch = fold::Batch::new(&fresh, &conflicts);
        load::states(tx, &mut batch).await?;
        batch.fold(&fresh);
        write::messages(tx, &mut batch).await?;
        write::occurrences(tx, &batch).await?;
        write::steps(tx, &batch).await?;
        write::tool_calls(tx, &batch).await?;
        write::usage(tx, &batch).await?;
        write::late(tx, &batch).await?;
        // Last, because its rows alone are shared with other processes: they stay locked from here on.
        write::runs(tx, &batch).await?;
        self.count(&contradicting, &batch);
        self.counted
            .pass(kept.iter().map(|one| &one.applied.position));
        Ok(())
    }
}

impl Runs {
    fn count(&self, contradicting: &[&Applied], batch: &fold::Batch<'_>) {
        let of = |records: &[&Applied]| {
            self.counted
                .of(records.iter().map(|applied| &applied.position))
        };
        let (misplaced, unknown): (Vec<&Applied>, Vec<&Applied>) = batch
            .unknown
            .iter()
            .partition(|applied| applied.fact.is_some());
        counter!("runledger_runs_conflicts_total").increment(of(contradicting));
        counter!("runledger_runs_late_facts_total").increment(of(&batch.late));
        counter!("runledger_runs_unknown_records_total", "type" => "misplaced")
            .increment(of(&misplaced));
        counter!("runledger_runs_unknown_records_total", "type" => "unknown")
            .increment(of(&unknown));
    }
}
