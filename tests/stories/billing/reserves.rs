//! P6 under fire: one balance, many who reserve at once, and deciders that are killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as wire;
use runledger_proto::billing::v1::account_posted::Change;
use runledger_tests::{Installation, Kind, Tenant, is_proof, seed};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use super::counter::{Counter, at_least, id_of, micros, refusal};
use crate::approvals::desk::new_id;

const CALLERS: usize = 64;
/// What each wants to hold.
const EACH: i64 = 3;
/// How long an answer may take while everything is being killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// What one caller was told: the holds that he has, and how often there was not enough.
type Told = (Vec<String>, usize);

/// Asks with one id until there is an answer.
async fn reserve(counter: &mut Counter, number: usize) -> Option<String> {
    let (id, began) = (id_of(number as u128), Instant::now());
    loop {
        assert!(began.elapsed() < PATIENCE, "no answer in {PATIENCE:?}");
        let asked = counter.reserve(&id, "hot", EACH, Duration::from_secs(3_600));
        match asked.await {
            Ok(answer) => {
                let Some(posted) = answer.posted else {
                    continue; // in the log, and not decided yet
                };
                let Some(Change::Reserved(reserved)) = posted.change else {
                    panic!("{posted:?}")
                };
                assert_eq!((&reserved.hold_id, reserved.amount_micros), (&id, EACH));
                return Some(reserved.hold_id);
            }
            Err(status) if status.code() == Code::FailedPrecondition => {
                let (_, reason) = refusal::<()>(Err(status));
                assert_eq!(reason, "INSUFFICIENT_CREDITS");
                return None;
            }
            Err(status) => assert!(
                matches!(
                    status.code(),
                    Code::Unavailable | Code::DeadlineExceeded | Code::Unknown
                ),
                "{status:?}"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reserve_at_once_and_what_is_held_is_exact() {
    let mut rng = seed("reserves");
    let (count, room) = if is_proof() {
        (10_000, 4_000)
    } else {
        (1_000, 400)
    };
    let mut installation = Installation::start("reserves").await;
    installation.bill(0, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut admin = Counter::role(&installation, &tenant, Role::Admin);
    let agent = Counter::role(&installation, &tenant, Role::Agent);
    let granted = i64::try_from(room).expect("a number") * EACH + 2;
    let answer = admin
        .grant(&new_id(), "hot", granted)
        .await
        .expect("a grant");
    assert_eq!(micros(answer.balance.as_ref()), [granted, 0, 0, 0]);
    let next = Arc::new(AtomicUsize::new(0));
    let (done, doing) = watch::channel(0_usize);
    let callers = (0..CALLERS).map(|_| {
        let (mut counter, next, done) = (agent.clone(), Arc::clone(&next), &done);
        async move {
            let mut told: Told = (Vec::new(), 0);
            while let number = next.fetch_add(1, Ordering::SeqCst)
                && number < count
            {
                match reserve(&mut counter, number).await {
                    Some(hold) => told.0.push(hold),
                    None => told.1 += 1,
                }
                done.send_modify(|done| *done += 1);
            }
            told
        }
    });
    let killer = kill(&mut installation, StdRng::from_rng(&mut rng), doing, count);
    let (told, ()) = tokio::join!(join_all(callers.collect::<Vec<_>>()), killer);
    let held: BTreeSet<&String> = told.iter().flat_map(|(holds, _)| holds).collect();
    let refused: usize = told.iter().map(|(_, refused)| refused).sum();
    assert_eq!(
        (held.len(), refused),
        (room, count - room),
        "as many as there is room for"
    );
    assert_holds(&mut admin, &held).await;
    settle_all(&agent, &held).await;
    let balance = admin.balance("hot", "").await;
    // Of each hold one is spent, and the rest has come back.
    let spent = i64::try_from(room).expect("a number");
    assert_eq!(micros(balance.balance.as_ref()), [granted - spent, 0, 0, 0]);
    assert_eq!(balance.holds, 0);
    let (verified, said) = installation
        .billing_command(1, &["verify", "billing"])
        .await;
    assert!(verified, "{said}");
    installation.assert_unharmed();
}

/// What is held is what callers were told, and nothing beside it.
async fn assert_holds(admin: &mut Counter, told: &BTreeSet<&String>) {
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = wire::ListHoldsRequest {
            account_id: "hot".into(),
            page_size: 1_000,
            page_token,
            read: at_least(""),
        };
        let page = admin.billing.list_holds(request).await.expect("holds");
        let page = page.into_inner();
        assert_eq!(page.total_holds as usize, told.len());
        listed.extend(page.holds.into_iter().map(|hold| hold.hold_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), *told);
    assert_eq!(listed.len(), told.len(), "none is listed twice");
}

async fn settle_all(agent: &Counter, holds: &BTreeSet<&String>) {
    let holds: Vec<&String> = holds.iter().copied().collect();
    let settling = holds.chunks(holds.len().div_ceil(CALLERS)).map(|holds| {
        let mut counter = agent.clone();
        async move {
            for hold in holds {
                let settled = counter.settle("hot", hold, 1).await.expect("settled");
                assert!(settled.posted.is_some());
            }
        }
    });
    join_all(settling).await;
    let Some(first) = holds.first() else { return };
    let again = agent.clone().settle("hot", first, 1).await;
    assert_eq!(
        refusal(again),
        (Code::FailedPrecondition, "HOLD_SETTLED".into())
    );
}

/// Kills and brings back deciders until all is asked.
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
        let victim = rng.random_range(0..2);
        installation.take(Kind::BillingDecider, victim).kill().await;
        installation.run(Kind::BillingDecider, victim);
        goal += step;
    }
}
