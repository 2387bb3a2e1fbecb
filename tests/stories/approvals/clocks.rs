//! What time and the end of a run do to an approval.

use std::time::Duration;

use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_domain::time::{Clock, SystemClock};
use runledger_proto::approval::v1 as wire;
use runledger_proto::encode;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{
    RunEnded, RunIngestServiceAppendRequest, RunOutcome, ToolCallStarted,
};
use runledger_testkit::eventually;
use runledger_tests::{Clients, Installation, Tenant, facts, seed};
use tonic::Code;

use super::desk::{Desk, call, decided, new_id, on_tool};
use super::refusal;

const SOON: Duration = Duration::from_secs(60);
const ARGUMENTS: &str = "{\"amount\":700}";

#[tokio::test(flavor = "multi_thread")]
async fn approvals_expire_lapse_and_end_with_their_run() {
    let rng = seed("clocks of approvals");
    let mut installation = Installation::start("clocks").await;
    installation.govern(1, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut admin = Desk::role(&installation, &tenant, Role::Admin);
    let mut at_least = Vec::new();
    for (tool, decide, using) in [("hurry", 2, 60), ("use", 60, 1), ("rest", 60, 60)] {
        let mut held = on_tool(tool, policy::Action::RequireApproval);
        held.approval = Some(policy::ApprovalRule {
            time_to_decide: seconds(decide),
            time_to_use: seconds(using),
            ..policy::ApprovalRule::default()
        });
        at_least.push(admin.create(tool, held).await);
    }
    let mut story = Story {
        agent: Desk::role(&installation, &tenant, Role::Agent),
        // Of the other api: what one told, the other one tells.
        reviewer: Desk::of(&installation, 1, tenant.key(Role::Reviewer)),
        clients: installation.clients(tenant.key(Role::Agent)),
        at_least,
        rng,
    };
    story.nobody_decides_in_time().await;
    story.nobody_uses_it_in_time().await;
    story.the_run_ends().await;
    installation.assert_unharmed();
}

struct Story {
    agent: Desk,
    reviewer: Desk,
    clients: Clients,
    at_least: Vec<String>,
    rng: StdRng,
}

impl Story {
    async fn nobody_decides_in_time(&mut self) {
        let (asked, held) = self.hold("unheard", 1, "hurry").await;
        let told = self.settled(&held).await;
        assert_eq!(told.status(), wire::ApprovalStatus::Expired, "{told:?}");
        // It was recorded, and not before its time.
        let kept = self.kept(&held).await;
        assert_eq!(kept, told);
        let (decided_at, decide_by) = (kept.decided_at.expect("settled"), kept.decide_by);
        let decide_by = decide_by.expect("a term");
        assert!(
            (decided_at.seconds, decided_at.nanos) >= (decide_by.seconds, decide_by.nanos),
            "{kept:?}"
        );
        let expired = (Code::FailedPrecondition, "APPROVAL_EXPIRED".into());
        let late = self.reviewer.approve(&new_id(), &held).await;
        assert_eq!(refusal(late), expired);
        let late = self.reviewer.reject(&new_id(), &held).await;
        assert_eq!(refusal(late), expired);
        let unheard = self.agent.confirm(&asked, ARGUMENTS).await;
        assert_eq!(refusal(unheard), expired);
        assert_eq!(self.kept(&held).await, told);
    }

    async fn nobody_uses_it_in_time(&mut self) {
        let (asked, held) = self.hold("unused", 1, "use").await;
        self.approve(&held).await;
        let use_by = self.kept(&held).await.use_by.expect("a term");
        eventually(SOON, || async {
            let now = encode::timestamp(SystemClock.now());
            let passed = (now.seconds, now.nanos) > (use_by.seconds, use_by.nanos);
            passed.then_some(()).ok_or("it can be used yet")
        })
        .await;
        let late = self.agent.confirm(&asked, ARGUMENTS).await;
        let lapsed = (Code::FailedPrecondition, "APPROVAL_LAPSED".into());
        assert_eq!(refusal(late), lapsed);
        let kept = self.kept(&held).await;
        assert_eq!(kept.status(), wire::ApprovalStatus::Approved);
        assert_eq!(kept.used_at, None);
    }

    /// What is pending is cancelled, and what is approved can no longer be used.
    async fn the_run_ends(&mut self) {
        let (pending, waits) = self.hold("ends", 1, "rest").await;
        let (approved, granted) = self.hold("ends", 2, "rest").await;
        self.approve(&granted).await;
        self.end("ends").await;
        let told = self.settled(&waits).await;
        assert_eq!(told.status(), wire::ApprovalStatus::Cancelled, "{told:?}");
        assert_eq!(self.kept(&waits).await, told);
        let cancelled = (Code::FailedPrecondition, "APPROVAL_CANCELLED".into());
        let late = self.reviewer.approve(&new_id(), &waits).await;
        assert_eq!(refusal(late), cancelled);
        let early = self.agent.confirm(&pending, ARGUMENTS).await;
        assert_eq!(refusal(early), cancelled);
        let late = self.agent.confirm(&approved, ARGUMENTS).await;
        let ended = (Code::FailedPrecondition, "RUN_ENDED".into());
        assert_eq!(refusal(late), ended);
        let more = self.ask(call("ends", 3, "rest", ARGUMENTS)).await;
        assert_eq!(
            (more.verdict(), &*more.reason, &*more.approval_id),
            (wire::Verdict::Blocked, "RUN_ENDED", "")
        );
    }

    /// A call that is held; its approval.
    async fn hold(&mut self, run_id: &str, number: usize, tool: &str) -> (ToolCallStarted, String) {
        let asked = call(run_id, number, tool, ARGUMENTS);
        let held = self.ask(asked.clone()).await;
        assert_eq!(held.verdict(), wire::Verdict::AwaitingApproval, "{held:?}");
        // The other api is to know of it.
        self.first_state(&held.approval_id).await;
        (asked, held.approval_id)
    }

    async fn ask(&mut self, asked: ToolCallStarted) -> wire::ToolCallDecided {
        let answer = self.agent.request(&new_id(), asked, &self.at_least).await;
        decided(answer.expect("an answer"))
    }

    async fn approve(&mut self, approval_id: &str) {
        let voted = self.reviewer.approve(&new_id(), approval_id).await;
        let voted = voted.expect("a vote").answer;
        let Some(wire::decision_answer::Answer::Voted(voted)) = voted else {
            panic!("{voted:?}")
        };
        assert_eq!(voted.status(), wire::ApprovalStatus::Approved);
    }

    async fn first_state(&mut self, approval_id: &str) {
        let known = eventually(SOON, || {
            let mut approvals = self.reviewer.approvals.clone();
            let approval_id = approval_id.to_owned();
            async move {
                let request = wire::GetApprovalRequest {
                    approval_id,
                    read: None,
                };
                approvals.get_approval(request).await.map(|_| ())
            }
        });
        known.await;
    }

    /// What whoever waits for an approval is told in the end.
    async fn settled(&mut self, approval_id: &str) -> wire::Approval {
        let request = wire::WaitForApprovalRequest {
            approval_id: approval_id.into(),
            at_least: Vec::new(),
        };
        let waiting = self.agent.approvals.wait_for_approval(request).await;
        let mut waiting = waiting.expect("a stream").into_inner();
        loop {
            let next = tokio::time::timeout(SOON, waiting.message()).await;
            let next = next.expect("in time").expect("a state");
            let approval = next.expect("more").approval.expect("an approval");
            if approval.status() != wire::ApprovalStatus::Pending {
                return approval;
            }
        }
    }

    async fn kept(&mut self, approval_id: &str) -> wire::Approval {
        let got = self.reviewer.get(approval_id).await;
        got.approval.expect("an approval")
    }

    async fn end(&mut self, run_id: &str) {
        let ended = RunEnded {
            run_id: run_id.into(),
            outcome: RunOutcome::Completed.into(),
            ..RunEnded::default()
        };
        let request = RunIngestServiceAppendRequest {
            facts: vec![facts::run_fact(&mut self.rng, Fact::RunEnded(ended))],
        };
        let appended = self.clients.runs_in.append(request).await;
        appended.expect("results");
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}
