use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runledger_testkit::eventually;
use uuid::Uuid;

use crate::{Installation, Ledger};

/// Compares the read model's tables with what was promised: every acknowledged record once, and
/// nothing in the totals that is not in the plans.
///
/// # Panics
/// When the read model is another, or has not got there in two minutes.
pub async fn assert_kept(installation: &Installation, promised: &Ledger) {
    let database = installation.database.admin();
    eventually(Duration::from_secs(120), async || {
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT record_id FROM runs.records")
            .fetch_all(&database)
            .await
            .expect("the records");
        let found: BTreeSet<Uuid> = ids.iter().copied().collect();
        assert_eq!(found.len(), ids.len(), "a record twice");
        let missing = promised.acknowledged.difference(&found).count();
        if missing == 0 {
            Ok(found)
        } else {
            Err(format!("{missing} acknowledged records are missing"))
        }
    })
    .await
    .iter()
    .for_each(|id| {
        assert!(
            promised.acknowledged.contains(id),
            "{id} was never promised"
        )
    });
    let totals: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT run_id, tool_calls, failed_tool_calls,
                coalesce((SELECT quantity FROM runs.usage_totals u
                           WHERE (u.tenant_id, u.mode, u.run_id) = (r.tenant_id, r.mode, r.run_id)), 0)
           FROM runs.runs r",
    )
    .fetch_all(&database)
    .await
    .expect("the runs");
    let found: BTreeMap<String, (i64, i64, i64)> = totals
        .into_iter()
        .map(|(run, calls, failed, tokens)| (run, (calls, failed, tokens)))
        .collect();
    let planned: BTreeMap<String, (i64, i64, i64)> = promised
        .runs
        .iter()
        .map(|(run, plan)| {
            let signed = |count: u64| i64::try_from(count).expect("a small count");
            (
                run.clone(),
                (
                    signed(plan.tool_calls),
                    signed(plan.failed_tool_calls),
                    plan.tokens,
                ),
            )
        })
        .collect();
    assert_eq!(found, planned);
}
