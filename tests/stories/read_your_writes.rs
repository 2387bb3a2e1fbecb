//! P3: a read with a token is never older than the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::{GetRunRequest, RunStatus};
use runledger_tests::{Clients, Installation, Kind, Ledger, RunPlan, Tenant, is_proof, seed};
use tonic::Code;

const CALLERS: u64 = 16;

/// Random write → read pairs with tokens while projectors are killed and partitions move.
#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_older_than_its_token_while_partitions_move() {
    let mut rng = seed("read your writes");
    let pairs: u64 = if is_proof() { 10_000 } else { 1_000 };
    let mut installation = Installation::start("read-your-writes").await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let (left, done) = (
        Arc::new(AtomicU64::new(pairs)),
        Arc::new(AtomicBool::new(false)),
    );
    let callers = async {
        let calls = (0..CALLERS).map(|_| {
            call(
                clients.clone(),
                StdRng::from_rng(&mut rng),
                Arc::clone(&left),
            )
        });
        let read: u64 = join_all(calls).await.into_iter().sum();
        done.store(true, Ordering::SeqCst);
        read
    };
    let mover = async {
        let mut chance = StdRng::from_rng(&mut rand::rng());
        while !done.load(Ordering::SeqCst) {
            installation.run(Kind::Projector, 1);
            pause(&mut chance).await;
            let victim = chance.random_range(0..2);
            installation.take(Kind::Projector, victim).kill().await;
            pause(&mut chance).await;
            if victim == 0 {
                installation.run(Kind::Projector, 0);
            }
            if victim == 0 && !done.load(Ordering::SeqCst) {
                installation.take(Kind::Projector, 1).stop().await;
            }
        }
    };
    let (read, ()) = tokio::join!(callers, mover);
    assert_eq!(read, pairs);
}

/// A random moment between one move and the next is what this story is about.
async fn pause(rng: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(200..1_500))).await;
}

async fn call(clients: Clients, mut rng: StdRng, left: Arc<AtomicU64>) -> u64 {
    let (mut read, mut ledger) = (0, Ledger::default());
    while left
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    {
        let plan = RunPlan::random(&mut rng);
        let token = plan.report(&clients, &mut rng, &mut ledger).await;
        assert_fresh(&clients, &plan, &token).await;
        read += 1;
    }
    read
}

/// Reads until the read model is there; whatever it answers must hold the write.
async fn assert_fresh(clients: &Clients, plan: &RunPlan, token: &str) {
    let request = GetRunRequest {
        run_id: plan.run_id.clone(),
        read: Some(ReadOptions {
            at_least: vec![token.into()],
            max_wait: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        }),
    };
    let reading = async {
        loop {
            match clients.runs.clone().get_run(request.clone()).await {
                Ok(answer) => return answer.into_inner().run.expect("a run"),
                Err(status) if status.code() == Code::Unavailable => {}
                Err(status) => panic!("a read with a token of its own write: {status:?}"),
            }
        }
    };
    let run = tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .expect("an answer in time");
    let totals = run.totals.expect("totals");
    let tokens = run.usage.iter().map(|usage| usage.quantity).sum::<i64>();
    assert_eq!(
        run.status,
        i32::from(RunStatus::Completed),
        "{}",
        plan.run_id
    );
    assert_eq!(
        (totals.tool_calls, totals.failed_tool_calls, tokens),
        (plan.tool_calls, plan.failed_tool_calls, plan.tokens),
        "{}",
        plan.run_id
    );
}
