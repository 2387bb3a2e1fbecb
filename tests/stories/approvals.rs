//! Governed calls: what was asked, decided and made.

use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::policy::v1 as policy;
use runledger_service::status;
use runledger_tests::{Installation, Tenant};
use tonic::{Code, Status};

mod backup;
mod clocks;
mod contest;
pub(crate) mod desk;
mod limits;
mod once;
mod refusals;
mod simulating;
mod told;

use desk::{Desk, call, decided, new_id, on_tool};

fn refusal<T: std::fmt::Debug>(answered: Result<T, Status>) -> (Code, String) {
    let status = answered.expect_err("a refusal");
    (status.code(), status::reason(&status).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_is_approved_by_a_person_and_made_once() {
    let mut installation = Installation::start("governed-call").await;
    installation.govern(1, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut admin = Desk::role(&installation, &tenant, Role::Admin);
    let mut agent = Desk::role(&installation, &tenant, Role::Agent);
    let mut reviewer = Desk::of(&installation, 1, tenant.key(Role::Reviewer));
    let pay = on_tool("pay", policy::Action::RequireApproval);
    let token = admin.create("pay", pay).await;
    assert_quorum_can_be_reached(&mut admin).await;

    let asked = call("run-1", 1, "pay", "{\"amount\":700}");
    let id = new_id();
    let answer = agent
        .request(&id, asked.clone(), std::slice::from_ref(&token))
        .await;
    let answer = answer.expect("an answer");
    let held = decided(answer.clone());
    assert_eq!(held.verdict(), wire::Verdict::AwaitingApproval, "{held:?}");
    assert!(held.opens_run && held.message.contains("\"all of pay\""));
    // A repeat is told the same, at the other api too.
    let again = reviewer_as_agent(&installation, &tenant)
        .request(&id, asked.clone(), &[])
        .await;
    assert_eq!(again.expect("an answer"), answer);
    let other = call("run-1", 1, "pay", "{\"amount\":1}");
    let reused = agent.request(&id, other, &[]).await;
    assert_eq!(
        refusal(reused),
        (Code::AlreadyExists, "COMMAND_ID_REUSED".into())
    );

    let early = agent.confirm(&asked, "{\"amount\":700}").await;
    assert_eq!(
        refusal(early),
        (Code::FailedPrecondition, "APPROVAL_PENDING".into())
    );
    let own = agent.approve(&new_id(), &held.approval_id).await;
    assert_eq!(refusal(own).0, Code::PermissionDenied);
    let voted = reviewer
        .approve(&new_id(), &held.approval_id)
        .await
        .expect("a vote");
    let Some(wire::decision_answer::Answer::Voted(voted)) = voted.answer else {
        panic!("{voted:?}")
    };
    assert_eq!(voted.status(), wire::ApprovalStatus::Approved);
    let late = reviewer.reject(&new_id(), &held.approval_id).await;
    assert_eq!(
        refusal(late),
        (Code::FailedPrecondition, "ALREADY_DECIDED".into())
    );

    let changed = agent.confirm(&asked, "{\"amount\":7000}").await;
    assert_eq!(
        refusal(changed),
        (Code::FailedPrecondition, "ARGUMENTS_DIFFER".into())
    );
    let confirmed = agent.confirm(&asked, "{ \"amount\": 700 }").await;
    assert!(confirmed.is_ok(), "{confirmed:?}");
    let twice = agent.confirm(&asked, "{\"amount\":700}").await;
    assert_eq!(
        refusal(twice),
        (Code::FailedPrecondition, "ALREADY_USED".into())
    );

    let free = agent
        .request(&new_id(), call("run-1", 2, "think", ""), &[])
        .await;
    assert_eq!(
        decided(free.expect("an answer")).verdict(),
        wire::Verdict::Allowed
    );
    installation.assert_unharmed();
}

fn reviewer_as_agent(installation: &Installation, tenant: &Tenant) -> Desk {
    Desk::of(installation, 1, tenant.key(Role::Agent))
}

/// A policy that nobody could satisfy is refused: an admin and a reviewer are all there is.
async fn assert_quorum_can_be_reached(admin: &mut Desk) {
    let mut beyond = on_tool("pay", policy::Action::RequireApproval);
    beyond.approval = Some(policy::ApprovalRule {
        quorum: 3,
        ..Default::default()
    });
    let request = policy::CreatePolicyRequest {
        id: new_id(),
        policy_id: "beyond".into(),
        spec: Some(beyond),
    };
    let refused = admin.policies.create_policy(request).await;
    let unreachable = (Code::FailedPrecondition, "QUORUM_UNREACHABLE".into());
    assert_eq!(refusal(refused), unreachable);
}
