//! An approval is good for one execution, however many want it.

use futures::future::join_all;
use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::confirm_execution_response::Answer;
use runledger_proto::approval::v1::get_command_outcome_response::Outcome;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::ToolCallStarted;
use runledger_service::status;
use runledger_tests::{Installation, Kind, Tenant};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::contest::insist;
use super::desk::{Desk, call, decided, new_id, on_tool};

const CALLERS: usize = 100;

/// What one of them was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Confirmed(wire::ExecutionConfirmed),
    /// With the message.
    Used(String),
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_who_confirm_at_once_one_executes() {
    let mut installation = Installation::start("confirmed-once").await;
    installation.govern(2, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut admin = Desk::role(&installation, &tenant, Role::Admin);
    let mut reviewer = Desk::role(&installation, &tenant, Role::Reviewer);
    let mut agents = [0, 1].map(|api| Desk::of(&installation, api, tenant.key(Role::Agent)));
    let pay = on_tool("pay", policy::Action::RequireApproval);
    let token = admin.create("pay", pay).await;
    // Each decider is killed before anybody has an answer, and after somebody has.
    for (number, (victim, answered)) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().enumerate() {
        let asked = call(&format!("run-{number}"), 1, "pay", "{\"amount\":700}");
        let held = agents[0]
            .request(&new_id(), asked.clone(), std::slice::from_ref(&token))
            .await;
        let held = decided(held.expect("an answer"));
        let approved = insist(|| {
            let (mut reviewer, id) = (reviewer.clone(), held.approval_id.clone());
            async move { reviewer.approve(&new_id(), &id).await.map(Some) }
        });
        approved.await.expect("a vote");
        let ids: Vec<String> = (0..CALLERS).map(|_| new_id()).collect();
        let (done, mut doing) = watch::channel(0_usize);
        let callers = ids.iter().enumerate().map(|(caller, id)| {
            let (agent, asked, done) = (agents[caller % 2].clone(), &asked, &done);
            async move {
                let told = confirm(&agent, id, asked).await;
                done.send_modify(|done| *done += 1);
                told
            }
        });
        let killing = async {
            doing
                .wait_for(|done| *done >= answered)
                .await
                .expect("callers");
            installation.take(Kind::Decider, victim).kill().await;
            installation.run(Kind::Decider, victim);
        };
        let (told, ()) = tokio::join!(join_all(callers), killing);
        assert_one_executes(&told);
        assert_recorded(&mut agents, &asked.run_id, &ids, &told).await;
        let used = reviewer.get(&held.approval_id).await.approval;
        assert!(used.expect("an approval").used_at.is_some());
    }
    installation.assert_unharmed();
}

/// Confirms with one id until it is answered.
async fn confirm(agent: &Desk, id: &str, asked: &ToolCallStarted) -> Told {
    let answered: Result<wire::ExecutionConfirmed, Status> = insist(|| {
        let mut approvals = agent.approvals.clone();
        let request = wire::ConfirmExecutionRequest {
            id: id.into(),
            run_id: asked.run_id.clone(),
            tool_call_id: asked.tool_call_id.clone(),
            arguments_json: asked.arguments_json.clone(),
        };
        async move {
            let answer = approvals.confirm_execution(request).await?.into_inner();
            Ok(match answer.answer {
                Some(Answer::Confirmed(confirmed)) => Some(confirmed),
                _ => None,
            })
        }
    })
    .await;
    match answered {
        Ok(confirmed) => Told::Confirmed(confirmed),
        Err(refused) => {
            assert_eq!(
                (refused.code(), status::reason(&refused).as_deref()),
                (Code::FailedPrecondition, Some("ALREADY_USED")),
                "{refused:?}"
            );
            Told::Used(refused.message().into())
        }
    }
}

/// One may, and all others hear of the same execution.
fn assert_one_executes(told: &[Told]) {
    let mut refused: Vec<&Told> = told
        .iter()
        .filter(|told| matches!(told, Told::Used(_)))
        .collect();
    assert_eq!((told.len(), refused.len()), (CALLERS, CALLERS - 1));
    refused.dedup();
    assert_eq!(refused.len(), 1, "{refused:?}");
}

/// Both apis tell everybody again what he was told.
async fn assert_recorded(agents: &mut [Desk; 2], run_id: &str, ids: &[String], told: &[Told]) {
    for agent in agents {
        for (id, told) in ids.iter().zip(told) {
            let request = wire::GetCommandOutcomeRequest {
                stream: format!("run/{run_id}"),
                command_id: id.clone(),
            };
            let outcome = agent.approvals.get_command_outcome(request).await;
            let recorded = match outcome.expect("an outcome").into_inner().outcome {
                Some(Outcome::ExecutionConfirmed(confirmed)) => Told::Confirmed(confirmed),
                Some(Outcome::Refused(refused)) => {
                    assert_eq!(refused.reason, "ALREADY_USED");
                    Told::Used(refused.message)
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(recorded, *told);
        }
    }
}
