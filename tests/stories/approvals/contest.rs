//! P2: one command, one outcome; two contestants, one winner; the same for every observer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::get_command_outcome_response::Outcome;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::policy::v1 as policy;
use runledger_service::status;
use runledger_tests::{Installation, Kind, Tenant, is_proof, seed};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::backup;
use super::desk::{Desk, call, decided, new_id, on_tool};

const REVIEWERS: usize = 4;
const CALLERS: usize = 24;
/// How long an answer may take while everything is being killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// What one reviewer was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// His vote counts, and made the approval this.
    Counted(wire::ApprovalStatus),
    /// It was decided before.
    TooLate,
}

/// One approval: the id, the run, and what each reviewer was told under which command's id.
#[derive(Clone, Debug)]
struct Contested {
    approval_id: String,
    run_id: String,
    told: Vec<(String, Told)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn four_reviewers_of_one_approval_are_told_one_outcome() {
    let mut rng = seed("contested approvals");
    let count = if is_proof() { 10_000 } else { 1_000 };
    let mut installation = Installation::start("contested").await;
    installation.govern(2, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut admin = Desk::role(&installation, &tenant, Role::Admin);
    let pay = on_tool("pay", policy::Action::RequireApproval);
    let token = admin.create("pay", pay).await;
    // Voters must not be the one who asks; one principal may ask and four decide.
    let reviewers = tenant.reviewers(&installation, REVIEWERS).await;
    let agents = [0, 1].map(|api| Desk::of(&installation, api, tenant.key(Role::Agent)));
    let apis = [0, 1].into_iter().cycle();
    let desks: Vec<Desk> = apis
        .zip(&reviewers)
        .map(|(api, key)| Desk::of(&installation, api, key))
        .collect();
    let next = Arc::new(AtomicUsize::new(0));
    let (done, doing) = watch::channel(0_usize);
    let callers = (0..CALLERS).map(|caller| {
        let mut story = Story {
            agent: agents[caller % 2].clone(),
            reviewers: desks.clone(),
            token: token.clone(),
            rng: StdRng::from_rng(&mut rng),
        };
        let (next, done) = (Arc::clone(&next), &done);
        async move {
            let mut told = Vec::new();
            while let number = next.fetch_add(1, Ordering::SeqCst)
                && number < count
            {
                told.push(story.contest(number).await);
                done.send_modify(|done| *done += 1);
            }
            told
        }
    });
    let callers = join_all(callers.collect::<Vec<_>>());
    let trouble = trouble(&mut installation, doing, count, StdRng::from_rng(&mut rng));
    let (told, ()) = tokio::join!(callers, trouble);
    let told: Vec<Contested> = told.into_iter().flatten().collect();
    assert_eq!(told.len(), count);
    for contested in &told {
        assert_one_winner(contested);
    }
    for number in 0..2 {
        installation.serves(Kind::Approvals, number).await;
    }
    assert_recorded(&installation, &tenant, &told).await;
    let (rebuilt, said) = installation
        .decider_command(1, &["rebuild", "approvals"])
        .await;
    assert!(rebuilt, "{said}");
    assert_recorded(&installation, &tenant, &told).await;
    let (rolled_back, said) = installation
        .decider_command(2, &["rebuild", "approvals", "--rollback"])
        .await;
    assert!(rolled_back, "{said}");
    backup::restore(&mut installation).await;
    assert_recorded(&installation, &tenant, &told).await;
    let (verified, said) = installation
        .decider_command(3, &["verify", "approvals"])
        .await;
    assert!(verified, "{said}");
    installation.assert_unharmed();
}

/// One caller's part.
struct Story {
    agent: Desk,
    reviewers: Vec<Desk>,
    token: String,
    rng: StdRng,
}

impl Story {
    async fn contest(&mut self, number: usize) -> Contested {
        let run_id = format!("run-{number}");
        let asked = call(&run_id, 1, "pay", "{\"amount\":700}");
        let id = new_id();
        let agent = &self.agent;
        let token = self.token.clone();
        let held = insist(|| {
            let (mut agent, asked, id, token) =
                (agent.clone(), asked.clone(), id.clone(), token.clone());
            async move {
                let answer = agent.request(&id, asked, &[token]).await?;
                Ok(match answer.answer {
                    Some(wire::tool_call_answer::Answer::Pending(_)) => None,
                    _ => Some(decided(answer)),
                })
            }
        })
        .await
        .expect("a decision");
        assert_eq!(held.verdict(), wire::Verdict::AwaitingApproval);
        let votes = self.reviewers.iter().map(|reviewer| {
            let approve = self.rng.random_bool(0.5);
            vote(reviewer.clone(), held.approval_id.clone(), approve)
        });
        let told = join_all(votes.collect::<Vec<_>>()).await;
        Contested {
            approval_id: held.approval_id,
            run_id,
            told,
        }
    }
}

/// One reviewer's vote, told until it is answered.
async fn vote(reviewer: Desk, approval_id: String, approve: bool) -> (String, Told) {
    let id = new_id();
    let answered = insist(|| {
        let (mut reviewer, id, approval_id) = (reviewer.clone(), id.clone(), approval_id.clone());
        async move {
            let answer = if approve {
                reviewer.approve(&id, &approval_id).await?
            } else {
                reviewer.reject(&id, &approval_id).await?
            };
            Ok(match answer.answer {
                Some(wire::decision_answer::Answer::Voted(voted)) => Some(voted),
                Some(wire::decision_answer::Answer::Pending(_)) => None,
                other => panic!("{other:?}"),
            })
        }
    })
    .await;
    let told = match answered {
        Ok(voted) => Told::Counted(voted.status()),
        Err(refused) => {
            assert_eq!(
                (refused.code(), status::reason(&refused).as_deref()),
                (Code::FailedPrecondition, Some("ALREADY_DECIDED")),
                "{refused:?}"
            );
            Told::TooLate
        }
    };
    (id, told)
}

/// Asks with one id until there is an answer that stays.
pub(super) async fn insist<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Option<T>, Status>>,
{
    let given_up = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if Instant::now() < given_up => {}
            // What was just held may not have reached the api yet that is asked to decide it.
            Err(refused)
                if matches!(
                    refused.code(),
                    Code::Unavailable
                        | Code::DeadlineExceeded
                        | Code::ResourceExhausted
                        | Code::NotFound
                ) && Instant::now() < given_up => {}
            Ok(None) => panic!("not decided in {PATIENCE:?}"),
            Err(refused) => return Err(refused),
        }
    }
}

fn assert_one_winner(contested: &Contested) {
    let counted = contested
        .told
        .iter()
        .filter(|(_, told)| matches!(told, Told::Counted(_)))
        .count();
    assert_eq!(counted, 1, "{contested:?}");
}

/// Everybody is told the same again, and the queue says so too.
async fn assert_recorded(installation: &Installation, tenant: &Tenant, told: &[Contested]) {
    let mut desks =
        [0, 1].map(|api| Desk::of(installation, api, tenant.key(Role::Admin)).approvals);
    for (number, contested) in told.iter().enumerate() {
        let api = number % 2;
        let mut won = BTreeMap::new();
        for (id, told) in &contested.told {
            let request = wire::GetCommandOutcomeRequest {
                stream: format!("run/{}", contested.run_id),
                command_id: id.clone(),
            };
            let outcome = desks[api].get_command_outcome(request).await;
            let outcome = outcome.expect("an outcome").into_inner().outcome;
            match (told, outcome.expect("an outcome")) {
                (Told::Counted(status), Outcome::ApprovalVoted(voted)) => {
                    assert_eq!(*status, voted.status());
                    won.insert(id, voted);
                }
                (Told::TooLate, Outcome::Refused(refused)) => {
                    assert_eq!(refused.reason, "ALREADY_DECIDED");
                }
                (told, outcome) => panic!("told {told:?}, recorded {outcome:?}"),
            }
        }
        let request = wire::GetApprovalRequest {
            approval_id: contested.approval_id.clone(),
            read: Some(ReadOptions::default()),
        };
        let got = desks[1 - api].get_approval(request).await;
        let got = got.expect("an approval").into_inner();
        let votes: Vec<_> = won.into_values().collect();
        assert_eq!(got.votes, votes);
        assert_eq!(
            got.approval.expect("an approval").status(),
            votes[0].status()
        );
    }
}

/// Kills, stops, doubles and moves deciders until all is answered.
async fn trouble(
    installation: &mut Installation,
    mut done: watch::Receiver<usize>,
    count: usize,
    mut rng: StdRng,
) {
    progress(&mut done, count / 4, count).await;
    backup::take(installation).await;
    while *done.borrow() < count {
        let victim = rng.random_range(0..2);
        match rng.random_range(0..4) {
            0 => {
                installation.take(Kind::Decider, victim).kill().await;
                installation.run(Kind::Decider, victim);
            }
            1 => {
                installation.take(Kind::Decider, victim).stop().await;
                installation.run(Kind::Decider, victim);
            }
            // Stopped for longer than its session: its partitions go to the other, and when it goes
            // on it believes that they are still its own.
            2 => {
                installation.signal(Kind::Decider, victim, "STOP").await;
                tokio::time::sleep(Duration::from_secs(8)).await;
                installation.signal(Kind::Decider, victim, "CONT").await;
            }
            // A third one of another group: two deciders own every partition at once.
            _ => {
                installation.extra.push((
                    "RUNLEDGER_BOOKS__NAME".into(),
                    format!("{}.doubled", installation.prefix()),
                ));
                installation.run(Kind::Decider, 9);
                installation.extra.pop();
                progress(&mut done, 20, count).await;
                installation.take(Kind::Decider, 9).kill().await;
            }
        }
        progress(&mut done, 20, count).await;
    }
}

/// Waits until so many more are answered, or all.
async fn progress(done: &mut watch::Receiver<usize>, more: usize, count: usize) {
    let until = (*done.borrow() + more).min(count);
    done.wait_for(|done| *done >= until).await.expect("callers");
}
