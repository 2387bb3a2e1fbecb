//! P9: what a caller was told about a decision is what the log says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::get_command_outcome_response::Outcome;
use runledger_proto::policy::v1 as policy;
use runledger_tests::{Installation, Kind, Tenant, is_proof, seed};
use tokio::sync::watch;

use super::contest::insist;
use super::desk::{Desk, call, decided, new_id, on_tool};

const CALLERS: usize = 32;
const TOOLS: usize = 8;

/// A request, and what its caller was told.
struct Told {
    id: String,
    run_id: String,
    decided: wire::ToolCallDecided,
}

/// Requests with retries and lost replies, while policies change and deciders are killed.
#[tokio::test(flavor = "multi_thread")]
async fn what_callers_are_told_is_what_is_recorded() {
    let mut rng = seed("told and recorded");
    let count = if is_proof() { 100_000 } else { 5_000 };
    let mut installation = Installation::start("told").await;
    installation.govern(2, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let agents = [0, 1].map(|api| Desk::of(&installation, api, tenant.key(Role::Agent)));
    let admin = Desk::role(&installation, &tenant, Role::Admin);
    let next = Arc::new(AtomicUsize::new(0));
    let (done, doing) = watch::channel(0_usize);
    let callers = (0..CALLERS).map(|_| {
        let (agents, next, done) = (agents.clone(), Arc::clone(&next), &done);
        let mut rng = StdRng::from_rng(&mut rng);
        async move {
            let mut told = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= count {
                    return told;
                }
                told.push(ask(&agents, number, &mut rng).await);
                done.send_modify(|done| *done += 1);
            }
        }
    });
    let callers = join_all(callers.collect::<Vec<_>>());
    let changes = change_policies(admin, doing.clone(), count, StdRng::from_rng(&mut rng));
    let kills = kill(&mut installation, doing, count, StdRng::from_rng(&mut rng));
    let (told, changed, ()) = tokio::join!(callers, changes, kills);
    let told: Vec<Told> = told.into_iter().flatten().collect();
    assert_eq!(told.len(), count);
    assert!(changed > 0, "no policy changed meanwhile");
    assert_recorded(&agents, &told).await;
    installation.assert_unharmed();
}

/// Asks for one call, with one id, at either api, until there is an answer; some of the replies are
/// lost on purpose.
async fn ask(agents: &[Desk; 2], number: usize, rng: &mut StdRng) -> Told {
    let (id, run_id) = (new_id(), format!("run-{}", number / 20));
    let tool = format!("tool-{}", rng.random_range(0..TOOLS));
    let asked = call(&run_id, number, &tool, "{\"amount\":7}");
    let lost = rng.random_bool(0.2);
    let first = usize::from(rng.random_bool(0.5));
    if lost {
        // Whoever goes before the answer comes has asked all the same.
        let mut agent = agents[first].clone();
        let asking = agent.request(&id, asked.clone(), &[]);
        let patience = std::time::Duration::from_millis(rng.random_range(0..8));
        drop(tokio::time::timeout(patience, asking).await);
    }
    let decided = insist(|| {
        let (mut agent, asked, id) = (agents[1 - first].clone(), asked.clone(), id.clone());
        async move {
            let answer = agent.request(&id, asked, &[]).await?;
            Ok(match answer.answer {
                Some(wire::tool_call_answer::Answer::Pending(_)) => None,
                _ => Some(decided(answer)),
            })
        }
    })
    .await
    .expect("a decision");
    Told {
        id,
        run_id,
        decided,
    }
}

/// Every request has one outcome, the one that was told, at both apis.
async fn assert_recorded(agents: &[Desk; 2], told: &[Told]) {
    let checks = agents.iter().flat_map(|agent| {
        told.chunks(told.len().div_ceil(CALLERS)).map(move |told| {
            let mut approvals = agent.approvals.clone();
            async move {
                for one in told {
                    let request = wire::GetCommandOutcomeRequest {
                        stream: format!("run/{}", one.run_id),
                        command_id: one.id.clone(),
                    };
                    let recorded = approvals.get_command_outcome(request).await;
                    let recorded = recorded.expect("an outcome").into_inner().outcome;
                    let Some(Outcome::ToolCallDecided(recorded)) = recorded else {
                        panic!("{recorded:?}")
                    };
                    assert_eq!(recorded, one.decided);
                }
            }
        })
    });
    join_all(checks).await;
}

/// Makes, changes and takes away policies until all is answered; how many it changed.
async fn change_policies(
    admin: Desk,
    mut done: watch::Receiver<usize>,
    count: usize,
    mut rng: StdRng,
) -> usize {
    let mut changed = 0;
    while *done.borrow() < count {
        let tool = format!("tool-{}", rng.random_range(0..TOOLS));
        let action = [
            policy::Action::Warn,
            policy::Action::Block,
            policy::Action::RequireApproval,
        ][rng.random_range(0..3)];
        let name = format!("on-{tool}");
        let made = insist(|| {
            let (mut policies, id, spec) =
                (admin.policies.clone(), new_id(), on_tool(&tool, action));
            let policy_id = name.clone();
            async move {
                let update = policy::UpdatePolicyRequest {
                    id,
                    policy_id: policy_id.clone(),
                    spec: Some(spec.clone()),
                    expected_version: None,
                };
                match policies.update_policy(update).await {
                    Err(refused) if refused.code() == tonic::Code::NotFound => {
                        let create = policy::CreatePolicyRequest {
                            id: new_id(),
                            policy_id,
                            spec: Some(spec),
                        };
                        Ok(policies.create_policy(create).await?.into_inner().policy)
                    }
                    updated => Ok(updated?.into_inner().policy),
                }
            }
        });
        // What was made under another id a moment ago is there already.
        match made.await {
            Ok(_) => changed += 1,
            Err(refused) => assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused:?}"),
        }
        let until = (*done.borrow() + count / 40).min(count);
        done.wait_for(|done| *done >= until).await.expect("callers");
    }

    changed
}

/// Kills deciders until all is answered.
async fn kill(
    installation: &mut Installation,
    mut done: watch::Receiver<usize>,
    count: usize,
    mut rng: StdRng,
) {
    while *done.borrow() < count {
        let until = (*done.borrow() + count / 8).min(count);
        done.wait_for(|done| *done >= until).await.expect("callers");
        let victim = rng.random_range(0..2);
        installation.take(Kind::Decider, victim).kill().await;
        installation.run(Kind::Decider, victim);
    }
}
