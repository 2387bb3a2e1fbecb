//! P1: an acknowledged record is in the read model in the end, exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_testkit::eventually;
use runledger_tests::{Clients, Installation, Kind, Ledger, RunPlan, Tenant, is_proof, seed};
use uuid::Uuid;

const WRITERS: usize = 8;

/// kill -9 of the projector at random moments under load: nothing lost, nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_counted_twice_when_the_projector_is_killed() {
    let mut rng = seed("exactly once");
    let kills = if is_proof() { 10 } else { 2 };
    let mut installation = Installation::start("exactly-once").await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let stop = Arc::new(AtomicBool::new(false));
    let writers = join_all((0..WRITERS).map(|_| {
        write(
            clients.clone(),
            StdRng::from_rng(&mut rng),
            Arc::clone(&stop),
        )
    }));
    let killer = async {
        for _ in 0..kills {
            // A random moment of the load is what this story is about.
            tokio::time::sleep(Duration::from_millis(rng.random_range(300..3_000))).await;
            installation.take(Kind::Projector, 0).kill().await;
            installation.run(Kind::Projector, 0);
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (ledgers, ()) = tokio::join!(writers, killer);
    let mut promised = Ledger::default();
    ledgers
        .into_iter()
        .for_each(|ledger| promised.merge(ledger));
    assert!(
        promised.acknowledged.len() > 100,
        "a story without load: {}",
        promised.acknowledged.len()
    );
    assert_kept(&installation, &promised).await;
}

async fn write(clients: Clients, mut rng: StdRng, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    while !stop.load(Ordering::SeqCst) {
        RunPlan::random(&mut rng)
            .report(&clients, &mut rng, &mut ledger)
            .await;
    }
    ledger
}

/// Compares the read model's tables with what was promised: every acknowledged record once, and
/// nothing in the totals that is not in the plans.
async fn assert_kept(installation: &Installation, promised: &Ledger) {
    let database = installation.database.admin();
    eventually(Duration::from_secs(120), async || {
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT record_id FROM runs.records")
            .fetch_all(&database)
            .await
            .unwrap();
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
    .unwrap();
    let found: BTreeMap<String, (i64, i64, i64)> = totals
        .into_iter()
        .map(|(run, calls, failed, tokens)| (run, (calls, failed, tokens)))
        .collect();
    let planned: BTreeMap<String, (i64, i64, i64)> = promised
        .runs
        .iter()
        .map(|(run, plan)| {
            let signed = |count: u64| i64::try_from(count).unwrap();
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
