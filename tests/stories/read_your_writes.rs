//! P3: a read with a token is never older than the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::{GetRunRequest, RunStatus};
use runledger_tests::{Clients, Installation, Kind, Ledger, RunPlan, Tenant, is_proof, seed};
use tokio::sync::watch;
use tonic::Code;

const CALLERS: usize = 16;
/// How long a read may be told to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Random write → read pairs with tokens while projectors are killed and partitions move.
#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_older_than_its_token_while_partitions_move() {
    let mut rng = seed("read your writes");
    let pairs: u64 = if is_proof() { 10_000 } else { 1_000 };
    let mut installation = Installation::start("read-your-writes").await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let left = Arc::new(AtomicU64::new(pairs));
    let (progress, mut seen) = watch::channel(vec![Some(0); CALLERS]);
    let callers = (0..CALLERS).map(|number| {
        let caller = Caller {
            number,
            clients: clients.clone(),
            rng: StdRng::from_rng(&mut rng),
            left: Arc::clone(&left),
            progress: &progress,
        };
        caller.call()
    });
    let callers = join_all(callers.collect::<Vec<_>>());
    let mover = async {
        let mut chance = StdRng::from_rng(&mut rand::rng());
        let is_done = |progress: &Progress| progress.iter().all(Option::is_none);
        while !is_done(&seen.borrow()) {
            installation.run(Kind::Projector, 1);
            pause(&mut chance).await;
            let victim = chance.random_range(0..2);
            installation.take(Kind::Projector, victim).kill().await;
            pause(&mut chance).await;
            if victim == 0 {
                installation.run(Kind::Projector, 0);
                installation.take(Kind::Projector, 1).stop().await;
            }
            // Moved without pause for ever, a slow machine would be given no time to read at all.
            everyone_has_read(&mut seen).await;
        }
    };
    let (read, ()) = tokio::join!(callers, mover);
    assert_eq!(read.into_iter().sum::<u64>(), pairs);
}

/// What each caller has read; `None` for those who are through.
type Progress = Vec<Option<u64>>;

/// Waits until every caller has begun and ended a pair.
async fn everyone_has_read(progress: &mut watch::Receiver<Progress>) {
    let before = progress.borrow().clone();
    let later = |(before, now): (&Option<u64>, &Option<u64>)| match (before, now) {
        (Some(before), Some(now)) => *now >= before + 2,
        (_, None) | (None, _) => true,
    };
    progress
        .wait_for(|now| before.iter().zip(now).all(later))
        .await
        .expect("callers");
}

/// A random moment between one move and the next is what this story is about.
async fn pause(rng: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(200..1_500))).await;
}

struct Caller<'a> {
    number: usize,
    clients: Clients,
    rng: StdRng,
    /// Pairs that nobody has begun yet.
    left: Arc<AtomicU64>,
    progress: &'a watch::Sender<Progress>,
}

impl Caller<'_> {
    /// Writes and reads until no pair is left; says how many it has read.
    async fn call(mut self) -> u64 {
        let (mut read, mut ledger) = (0, Ledger::default());
        let one_less = |left: u64| left.checked_sub(1);
        while self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
        {
            let plan = RunPlan::random(&mut self.rng);
            let token = plan.report(&self.clients, &mut self.rng, &mut ledger).await;
            assert_fresh(&self.clients, &plan, &token).await;
            read += 1;
            self.progress
                .send_modify(|progress| progress[self.number] = Some(read));
        }
        self.progress
            .send_modify(|progress| progress[self.number] = None);
        read
    }
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
    let given_up = Instant::now() + PATIENCE;
    let run = loop {
        match clients.runs.clone().get_run(request.clone()).await {
            Ok(answer) => break answer.into_inner().run.expect("a run"),
            Err(status) if status.code() == Code::Unavailable && Instant::now() < given_up => {}
            Err(status) => panic!("a read with a token of its own write: {status:?}"),
        }
    };
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
