//! A role grows by processes: they share the partitions, and take over those of one that is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_testkit::eventually;
use runledger_tests::{
    Installation, Kind, Ledger, Tenant, assert_kept, is_proof, keep_reporting, seed,
};
use serde_json::Value;

const WRITERS: usize = 8;
/// Three families of four partitions each.
const PARTITIONS: usize = 12;
/// How long partitions may take to go over: a process that is killed is missed after 6 s.
const REBALANCED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_of_a_role_share_its_work_and_lose_nothing_when_one_is_killed() {
    let mut rng = seed("scale");
    let mut installation = Installation::start("scale").await;
    for number in [1, 2] {
        installation.run(Kind::Projector, number);
    }
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let stop = Arc::new(AtomicBool::new(false));
    let writers = join_all((0..WRITERS).map(|_| {
        let rng = StdRng::from_rng(&mut rng);
        keep_reporting(clients.clone(), rng, Duration::ZERO, Arc::clone(&stop))
    }));
    let scaling = async {
        for _ in 0..if is_proof() { 5 } else { 1 } {
            is_shared_by(&installation, &[0, 1, 2]).await;
            installation.take(Kind::Projector, 1).kill().await;
            is_shared_by(&installation, &[0, 2]).await;
            installation.run(Kind::Projector, 1);
        }
        is_shared_by(&installation, &[0, 1, 2]).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (ledgers, ()) = tokio::join!(writers, scaling);
    let mut promised = Ledger::default();
    for ledger in ledgers {
        promised.merge(ledger);
    }
    assert!(promised.acknowledged.len() > 100, "a story without load");
    assert_kept(&installation, &promised).await;
    let (whole, said) = installation.command(1, &["verify", "runs"]).await;
    assert!(whole, "{said}");
    installation.assert_unharmed();
}

/// Every partition is held by one of these, and each of them has its part.
async fn is_shared_by(installation: &Installation, numbers: &[u32]) {
    eventually(REBALANCED_WITHIN, async || {
        let held: Vec<BTreeSet<String>> = numbers
            .iter()
            .map(|number| held(&installation.said(Kind::Projector, *number)))
            .collect();
        let all: BTreeSet<&String> = held.iter().flatten().collect();
        let counts: Vec<usize> = held.iter().map(BTreeSet::len).collect();
        let is_split = counts.iter().all(|count| *count >= PARTITIONS / 4);
        if is_split && all.len() == PARTITIONS && counts.iter().sum::<usize>() == PARTITIONS {
            Ok(())
        } else {
            Err(format!("{numbers:?} hold {counts:?}"))
        }
    })
    .await;
}

/// The partitions that a process has taken up and not let go, by its log.
fn held(said: &str) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for line in said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let partition = line["partition"].as_str().unwrap_or_default().to_owned();
        match line["message"].as_str() {
            Some("partition taken up") => drop(held.insert(partition)),
            Some("partition let go") => drop(held.remove(&partition)),
            // A process of the same number before it.
            Some("the runs projector works") => held.clear(),
            _ => {}
        }
    }
    held
}
