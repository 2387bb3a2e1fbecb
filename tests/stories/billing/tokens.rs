//! P3 through a chain: the token of a run's usage, given to a balance, shows it charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as wire;
use runledger_proto::run::v1::run_fact::Fact as InRun;
use runledger_proto::run::v1::{RunFact, RunStarted, Trigger, UsageRecorded};
use runledger_tests::facts::run_fact;
use runledger_tests::{Clients, Installation, Kind, Tenant, is_proof, seed};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use super::counter::{Counter, at_least};

const CALLERS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(90);

fn started(rng: &mut StdRng, run: &str, account: &str) -> RunFact {
    let started = RunStarted {
        run_id: run.into(),
        agent_id: "agent-1".into(),
        account_id: account.into(),
        trigger: Trigger::Api.into(),
        ..RunStarted::default()
    };
    run_fact(rng, InRun::RunStarted(started))
}

fn used(rng: &mut StdRng, run: &str, quantity: i64) -> RunFact {
    let used = UsageRecorded {
        run_id: run.into(),
        meter: "tokens_output".into(),
        quantity,
        ..UsageRecorded::default()
    };
    run_fact(rng, InRun::UsageRecorded(used))
}

/// Appends until it is acknowledged; the token.
async fn append(clients: &Clients, facts: Vec<RunFact>) -> String {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "not appended in {PATIENCE:?}");
        let request = runledger_proto::run::v1::RunIngestServiceAppendRequest {
            facts: facts.clone(),
        };
        match clients.runs_in.clone().append(request).await {
            Ok(answer) => return answer.into_inner().token,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

/// Asks for what a run has cost until the chain has come so far: never for less than the token.
async fn charged(counter: &mut Counter, run: &str, token: &str) -> wire::GetRunCostResponse {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "not read in {PATIENCE:?}");
        let request = wire::GetRunCostRequest {
            run_id: run.into(),
            read: at_least(token),
            ..Default::default()
        };
        match counter.billing.get_run_cost(request).await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_usage_shows_its_charge_while_everybody_is_killed() {
    let mut rng = seed("usage tokens");
    let count = if is_proof() { 10_000 } else { 500 };
    let mut installation = Installation::start("usage-tokens").await;
    installation.bill(2, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let counter = Counter::role(&installation, &tenant, Role::Viewer);
    let next = Arc::new(AtomicUsize::new(0));
    let (done, doing) = watch::channel(0_usize);
    let chance = StdRng::from_rng(&mut rng);
    let callers = (0..CALLERS).map(|caller| {
        let (mut counter, clients) = (counter.clone(), clients.clone());
        let (next, done, mut rng) = (Arc::clone(&next), &done, StdRng::from_rng(&mut rng));
        async move {
            let run = format!("run-{caller}");
            let account = format!("account-{}", caller % 3);
            append(&clients, vec![started(&mut rng, &run, &account)]).await;
            let mut lines = 0;
            while next.fetch_add(1, Ordering::SeqCst) < count {
                let quantity = rng.random_range(1..100);
                let fact = used(&mut rng, &run, quantity);
                let token = append(&clients, vec![fact.clone()]).await;
                // Sent twice, it is used once.
                append(&clients, vec![fact]).await;
                lines += 1;
                let cost = charged(&mut counter, &run, &token).await;
                assert_eq!(cost.total_lines, lines, "{run}: {cost:?}");
                assert_eq!(cost.unpriced_lines, lines, "nothing has a price here");
                done.send_modify(|done| *done += 1);
            }
            lines
        }
    });
    let killer = kill(&mut installation, chance, doing, count);
    let (lines, ()) = tokio::join!(join_all(callers.collect::<Vec<_>>()), killer);
    assert_eq!(lines.iter().sum::<u64>(), count as u64);
    for model in ["billing", "usage"] {
        let (verified, said) = installation.billing_command(1, &["verify", model]).await;
        assert!(verified, "{said}");
    }
    installation.assert_unharmed();
}

/// Kills and brings back forwarders and deciders until all is asked.
async fn kill(
    installation: &mut Installation,
    mut rng: StdRng,
    mut doing: watch::Receiver<usize>,
    count: usize,
) {
    let step = (count / 8).max(1);
    let mut goal = step;
    while goal < count {
        let reached = doing.wait_for(|done| *done >= goal).await;
        reached.expect("callers that go on");
        let kind = if rng.random() {
            Kind::Forwarder
        } else {
            Kind::BillingDecider
        };
        let victim = rng.random_range(0..2);
        installation.take(kind, victim).kill().await;
        installation.run(kind, victim);
        goal += step;
    }
}
