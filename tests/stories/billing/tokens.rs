//! P3 through a chain: the token of a run's usage, given to a balance, shows it charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as wire;
use runledger_proto::price::v1 as price;
use runledger_proto::run::v1::run_fact::Fact as InRun;
use runledger_proto::run::v1::{RunFact, RunStarted, Trigger, UsageRecorded};
use runledger_tests::facts::run_fact;
use runledger_tests::{Clients, Installation, Kind, Tenant, is_proof, seed};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use super::counter::{Counter, at_least, rule};
use crate::approvals::desk::new_id;

const CALLERS: usize = 16;
const GRANTED: i64 = 1_000_000_000;
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

/// Asks for the balance until the chain has come so far: never for one without what the token names.
async fn available(counter: &mut Counter, account: &str, token: &str) -> i64 {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "not read in {PATIENCE:?}");
        let request = wire::GetBalanceRequest {
            account_id: account.into(),
            read: at_least(token),
            ..Default::default()
        };
        match counter.billing.get_balance(request).await {
            Ok(answer) => {
                let balance = answer.into_inner().balance.expect("a balance");
                return balance.available_micros;
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

/// Tokens cost a micro each, and every caller's account can pay for all of them.
async fn open(installation: &Installation, tenant: &Tenant) {
    let mut admin = Counter::role(installation, tenant, Role::Admin);
    let request = price::PublishPricesRequest {
        id: new_id(),
        rules: vec![rule("tokens", "tokens_output", 1, 1)],
        ..Default::default()
    };
    let published = admin.prices.publish_prices(request).await.expect("prices");
    for caller in 0..CALLERS {
        let account = account(caller);
        let granted = admin.grant(&new_id(), &account, GRANTED).await;
        granted.expect("a grant");
    }
    admin.until_in_force(&published.into_inner().token).await;
}

fn account(caller: usize) -> String {
    format!("account-{caller}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_usage_shows_its_charge_while_everybody_is_killed() {
    let mut rng = seed("usage tokens");
    let count = if is_proof() { 10_000 } else { 500 };
    let mut installation = Installation::start("usage-tokens").await;
    installation.bill(2, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    open(&installation, &tenant).await;
    let counter = Counter::role(&installation, &tenant, Role::Viewer);
    let next = Arc::new(AtomicUsize::new(0));
    let (done, doing) = watch::channel(0_usize);
    let chance = StdRng::from_rng(&mut rng);
    let callers = (0..CALLERS).map(|caller| {
        let (mut counter, clients) = (counter.clone(), clients.clone());
        let (next, done, mut rng) = (Arc::clone(&next), &done, StdRng::from_rng(&mut rng));
        async move {
            let run = format!("run-{caller}");
            let account = account(caller);
            append(&clients, vec![started(&mut rng, &run, &account)]).await;
            let (mut lines, mut left) = (0, GRANTED);
            while next.fetch_add(1, Ordering::SeqCst) < count {
                let quantity = rng.random_range(1..100);
                let fact = used(&mut rng, &run, quantity);
                let token = append(&clients, vec![fact.clone()]).await;
                // Sent twice, it is used once.
                append(&clients, vec![fact]).await;
                lines += 1;
                left -= quantity;
                assert_eq!(available(&mut counter, &account, &token).await, left);
                done.send_modify(|done| *done += 1);
            }
            let request = wire::GetRunCostRequest {
                run_id: run,
                ..Default::default()
            };
            let cost = counter.billing.get_run_cost(request).await;
            let cost = cost.expect("what a run has cost").into_inner();
            assert_eq!((cost.total_lines, cost.unpriced_lines), (lines, 0));
            assert_eq!(cost.total_micros, GRANTED - left);
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
