//! P1: an acknowledged record is in the read model in the end, exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_tests::{
    Installation, Kind, Ledger, Tenant, assert_kept, is_proof, keep_reporting, seed,
};

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
        keep_reporting(
            clients.clone(),
            StdRng::from_rng(&mut rng),
            Duration::ZERO,
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
