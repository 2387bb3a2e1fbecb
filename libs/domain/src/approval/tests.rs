use std::collections::BTreeSet;
use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::decision::{Rejection, RejectionKind};
use crate::ids::{PrincipalId, RecordId};
use crate::policy::{self, Action, Hold, Judgement};
use crate::run::{Ended, Limits, Outcome, Started, ToolCallStarted, Trigger};
use crate::scope::{Actor, PrincipalKind, Role};

mod split;

const HOUR: i64 = 3_600;

pub(super) fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
}

pub(super) fn user(principal: u128, role: Role) -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(principal)),
        kind: PrincipalKind::User,
        role,
    }
}

pub(super) fn agent() -> Actor {
    Actor {
        kind: PrincipalKind::Agent,
        ..user(1, Role::Agent)
    }
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

/// What policies make of a call, by the name of its tool.
pub(super) fn judge(subject: &policy::Subject<'_>) -> Judgement {
    let (action, quorum) = match subject.tool.as_str() {
        "warn" => (Action::Warn, 0),
        "block" => (Action::Block, 0),
        "hold" => (Action::RequireApproval, 1),
        "hold2" => (Action::RequireApproval, 2),
        _ => (Action::Allow, 0),
    };
    let hold = (quorum > 0).then(|| Hold {
        quorum,
        approvers: vec![
            ApproverSet::default(),
            ApproverSet {
                roles: BTreeSet::from([Role::Reviewer]),
                principals: BTreeSet::from([PrincipalId::new(Uuid::from_u128(99))]),
            },
        ],
        requester_may_approve: false,
        time_to_decide: Duration::from_secs(3_600),
        time_to_use: Duration::from_secs(3_600),
    });
    let matches = if subject.tool.as_str() == "free" {
        Vec::new()
    } else {
        vec![Match {
            policy: "p-1".parse().unwrap(),
            version: 2,
            name: "Paying".into(),
            action,
            severity: None,
            error: None,
        }]
    };
    Judgement {
        action,
        matches,
        hold,
        severity: None,
        limits: Limits::default(),
    }
}

pub(super) fn request(call: &str, tool: &str) -> Command {
    Command::RequestToolCall(Box::new(RequestToolCall {
        call: ToolCallStarted {
            run_id: "run-1".parse().unwrap(),
            tool_call_id: call.parse().unwrap(),
            step_id: None,
            tool: tool.parse().unwrap(),
            arguments: Some(json("{\"a\":1}")),
            action_hint: String::new(),
            reason: String::new(),
            agent_context: None,
        },
        agent_id: "agent-7".parse().unwrap(),
    }))
}

pub(super) fn id_of(call: u128) -> ApprovalId {
    ApprovalId::new(Uuid::from_u128(call))
}

pub(super) fn decide_approval(approval: u128, approve: bool) -> DecideApproval {
    DecideApproval {
        approval_id: id_of(approval),
        tool_call_id: "c".parse().unwrap(),
        approve,
        reason: String::new(),
        edited_arguments: None,
        arguments_digest: None,
    }
}

fn confirm(arguments: &str) -> Command {
    Command::ConfirmExecution(ConfirmExecution {
        tool_call_id: "c".parse().unwrap(),
        arguments_digest: digest_arguments(Some(&json(arguments))),
    })
}

/// One run and the one call `c` of it.
#[derive(Default)]
struct Story {
    run: Run,
    call: Option<Call>,
}

impl Story {
    /// The call was asked for by command 5, at second 0.
    fn of(tool: &str) -> Self {
        let mut story = Self::default();
        story.says(0, agent(), &request("c", tool)).unwrap();
        story
    }

    fn asks(&self, second: i64, actor: Actor, command: &Command) -> Result<Decision, Rejection> {
        let moment = Moment {
            at: at(second),
            actor,
            command: RecordId::new(Uuid::from_u128(5)),
            judge: &judge,
        };
        decide(&self.run, self.call.as_ref(), command, &moment)
    }

    fn says(
        &mut self,
        second: i64,
        actor: Actor,
        command: &Command,
    ) -> Result<Decision, Rejection> {
        let decision = self.asks(second, actor, command)?;
        assert!(
            evolve(&mut self.run, &mut self.call, &decision, at(second)),
            "{decision:?}"
        );
        Ok(decision)
    }

    fn votes(
        &mut self,
        second: i64,
        actor: Actor,
        vote: DecideApproval,
    ) -> Result<Decision, Rejection> {
        self.says(second, actor, &Command::DecideApproval(vote))
    }

    fn ends(mut self) -> Self {
        heed(&mut self.run, &ended(), at(1));
        self
    }

    fn voted(mut self, second: i64, principal: u128, approve: bool) -> Self {
        let reviewer = user(principal, Role::Reviewer);
        self.votes(second, reviewer, decide_approval(5, approve))
            .unwrap();
        self
    }

    fn closes(mut self, second: i64) -> Self {
        let call = self.call.as_ref().unwrap();
        let closed = due(&self.run, call, &"c".parse().unwrap(), at(second)).unwrap();
        let closed = Decision::ApprovalClosed(closed);
        assert!(evolve(&mut self.run, &mut self.call, &closed, at(second)));
        self
    }

    fn confirmed(mut self, second: i64) -> Self {
        self.says(second, agent(), &confirm("{\"a\":1}")).unwrap();
        self
    }
}

fn ended() -> run::Fact {
    run::Fact::Ended(Ended {
        run_id: "run-1".parse().unwrap(),
        outcome: Outcome::Completed,
        error: None,
        result: None,
        counters: std::collections::BTreeMap::new(),
    })
}

pub(super) fn started(limits: Limits) -> run::Fact {
    run::Fact::Started(Box::new(Started {
        run_id: "run-1".parse().unwrap(),
        agent_id: "agent-7".parse().unwrap(),
        agent_version: String::new(),
        parent_run_id: None,
        conversation_id: None,
        space_id: None,
        account_id: None,
        trigger: Trigger::Api,
        task: String::new(),
        reason: String::new(),
        agent_context: None,
        model: "m".into(),
        input: None,
        labels: std::collections::BTreeMap::new(),
        limits,
    }))
}

/// Judged at `second`, the command of `actor` is refused for `reason`.
fn refused(story: &Story, second: i64, actor: Actor, command: &Command, reason: &str) {
    let refused = story.asks(second, actor, command).unwrap_err();
    let kind = match reason {
        "APPROVAL_NOT_FOUND" | "TOOL_CALL_NOT_FOUND" => RejectionKind::NotFound,
        "AGENTS_DO_NOT_APPROVE" | "NOT_AN_APPROVER" | "REQUESTER_MAY_NOT_APPROVE" => {
            RejectionKind::Forbidden
        }
        "INVALID_FIELDS" => RejectionKind::Invalid,
        _ => RejectionKind::Precondition,
    };
    assert_eq!((&*refused.reason, refused.kind), (reason, kind));
    assert!(!refused.message.is_empty());
}

#[test]
fn every_vote_that_does_not_count_is_refused_with_its_reason() {
    let refused = |story: Story, second, actor, vote, reason| {
        refused(
            &story,
            second,
            actor,
            &Command::DecideApproval(vote),
            reason,
        );
    };
    let plain = || decide_approval(5, true);
    let reviewer = user(10, Role::Reviewer);
    let hold = || Story::of("hold");
    let not_found = "APPROVAL_NOT_FOUND";
    refused(Story::default(), 1, reviewer, plain(), not_found);
    refused(Story::of("free"), 1, reviewer, plain(), not_found);
    refused(hold(), 1, reviewer, decide_approval(6, true), not_found);
    let decided = "ALREADY_DECIDED";
    refused(hold().voted(1, 11, true), 2, reviewer, plain(), decided);
    refused(hold().voted(1, 11, false), 2, reviewer, plain(), decided);
    let expired = "APPROVAL_EXPIRED";
    refused(hold(), HOUR, reviewer, plain(), expired);
    refused(hold().closes(HOUR), HOUR + 1, reviewer, plain(), expired);
    let cancelled = "APPROVAL_CANCELLED";
    refused(hold().ends(), 1, reviewer, plain(), cancelled);
    refused(hold().ends().closes(2), 3, reviewer, plain(), cancelled);
    let of_an_agent = Actor {
        kind: PrincipalKind::Agent,
        ..reviewer
    };
    for actor in [agent(), of_an_agent, user(10, Role::Agent)] {
        refused(hold(), 1, actor, plain(), "AGENTS_DO_NOT_APPROVE");
    }
    // Each is in one set, but not in the other.
    for actor in [user(10, Role::Admin), user(99, Role::Viewer)] {
        refused(hold(), 1, actor, plain(), "NOT_AN_APPROVER");
    }
    let requester = user(1, Role::Reviewer);
    refused(hold(), 1, requester, plain(), "REQUESTER_MAY_NOT_APPROVE");
    let of_others = DecideApproval {
        arguments_digest: Some([7; 32]),
        ..plain()
    };
    refused(hold(), 1, reviewer, of_others, "ARGUMENTS_CHANGED");
    let rejects_edited = DecideApproval {
        edited_arguments: Some(json("1")),
        ..decide_approval(5, false)
    };
    refused(hold(), 1, reviewer, rejects_edited, "INVALID_FIELDS");
    let voted = Story::of("hold2").voted(1, 10, true);
    refused(voted, 2, reviewer, plain(), "ALREADY_VOTED");
}

#[test]
fn nobody_named_is_not_everybody() {
    let mut story = Story::of("hold");
    let held = story.call.as_mut().and_then(|call| call.held.as_mut());
    held.unwrap().terms.approvers.clear();
    let vote = Command::DecideApproval(decide_approval(5, true));
    refused(&story, 1, user(10, Role::Viewer), &vote, "NOT_AN_APPROVER");
    assert!(story.asks(1, user(10, Role::Admin), &vote).is_ok());
}

#[test]
fn every_execution_that_is_not_granted_is_refused_with_its_reason() {
    let same = || confirm("{\"a\":1}");
    let hold = || Story::of("hold");
    let approved = || hold().voted(1, 11, true);
    let cases = vec![
        (Story::default(), 1, same(), "TOOL_CALL_NOT_FOUND"),
        (Story::of("block"), 1, same(), "TOOL_CALL_BLOCKED"),
        (hold(), 1, same(), "APPROVAL_PENDING"),
        (hold().voted(1, 11, false), 2, same(), "APPROVAL_REJECTED"),
        (hold(), HOUR, same(), "APPROVAL_EXPIRED"),
        (hold().closes(HOUR), HOUR, same(), "APPROVAL_EXPIRED"),
        (hold().ends(), 2, same(), "APPROVAL_CANCELLED"),
        (approved(), 2, confirm("{\"a\":2}"), "ARGUMENTS_DIFFER"),
        (approved(), HOUR + 2, same(), "APPROVAL_LAPSED"),
        (approved().confirmed(2), 3, same(), "ALREADY_USED"),
        (approved().ends(), 3, same(), "RUN_ENDED"),
        (Story::of("free").confirmed(2), 3, same(), "ALREADY_USED"),
        (Story::of("free"), 2, confirm("{}"), "ARGUMENTS_DIFFER"),
        (Story::of("warn").ends(), 3, same(), "RUN_ENDED"),
    ];
    for (story, second, command, reason) in cases {
        refused(&story, second, agent(), &command, reason);
    }
    assert!(
        approved().asks(HOUR + 1, agent(), &same()).is_ok(),
        "until use_by"
    );
}

#[test]
fn a_call_is_judged_by_the_policies_and_opens_its_run_once() {
    let verdicts = [
        ("free", Verdict::Allowed, "NO_POLICY"),
        ("other", Verdict::Allowed, "POLICY"),
        ("warn", Verdict::Warned, "POLICY"),
        ("block", Verdict::Blocked, "POLICY"),
        ("hold", Verdict::AwaitingApproval, "POLICY"),
    ];
    for (tool, verdict, reason) in verdicts {
        let mut story = Story::default();
        let decision = story.says(0, agent(), &request("c", tool)).unwrap();
        let Decision::ToolCallDecided(decided) = decision else {
            panic!("{decision:?}")
        };
        assert_eq!((decided.verdict, &*decided.reason), (verdict, reason));
        assert_eq!(decided.message.contains("\"Paying\""), reason == "POLICY");
        assert_eq!(
            decided.held.as_ref().map(|held| held.0),
            (tool == "hold").then(|| id_of(5))
        );
        assert!(decided.opens_run && story.run.is_known());
        let blocked = u64::from(verdict == Verdict::Blocked);
        assert_eq!(
            (story.run.blocked, story.run.tool_calls),
            (blocked, 1 - blocked)
        );
        let again = story.asks(1, agent(), &request("c", tool)).unwrap_err();
        assert_eq!(again.kind, RejectionKind::AlreadyExists);
        assert_eq!(again.reason, "TOOL_CALL_EXISTS");
        story.call = None;
        let next = story.asks(1, agent(), &request("d", tool)).unwrap();
        assert!(matches!(next, Decision::ToolCallDecided(next) if !next.opens_run));
    }
}

fn verdicts(limits: Limits, of_policies: &Limits, tools: &[(i64, &str)]) -> Vec<String> {
    let mut run = Run::default();
    heed(&mut run, &started(limits), at(0));
    let judge = |subject: &policy::Subject<'_>| Judgement {
        limits: of_policies.clone(),
        ..judge(subject)
    };
    let decided = tools.iter().map(|(second, tool)| {
        let moment = Moment {
            at: at(*second),
            actor: agent(),
            command: RecordId::new(Uuid::nil()),
            judge: &judge,
        };
        let decision = decide(&run, None, &request("c", tool), &moment).unwrap();
        assert!(evolve(&mut run, &mut None, &decision, at(*second)));
        match decision {
            Decision::ToolCallDecided(decided) => decided.reason.to_string(),
            other @ (Decision::ApprovalVoted(_)
            | Decision::ApprovalClosed(_)
            | Decision::ExecutionConfirmed(_)) => panic!("{other:?}"),
        }
    });
    decided.collect()
}

#[test]
fn the_call_after_the_last_that_a_run_may_make_is_blocked() {
    let none = Limits::default();
    let calls = |most| Limits {
        tool_calls: Some(most),
        ..Limits::default()
    };
    let three = [(1, "free"), (1, "block"), (1, "free"), (1, "free")];
    let expected = ["NO_POLICY", "POLICY", "NO_POLICY", "RUN_LIMIT_TOOL_CALLS"];
    assert_eq!(verdicts(calls(2), &none, &three), expected);
    assert_eq!(verdicts(none.clone(), &calls(2), &three), expected);
    assert_eq!(verdicts(calls(9), &calls(2), &three), expected, "the least");
    assert_eq!(verdicts(calls(2), &calls(9), &three), expected, "the least");
    let of_one = Limits {
        calls_of_one_tool: Some(1),
        ..none.clone()
    };
    let two = [(1, "free"), (1, "warn"), (1, "free")];
    let expected = ["NO_POLICY", "POLICY", "RUN_LIMIT_CALLS_OF_ONE_TOOL"];
    assert_eq!(verdicts(of_one, &none, &two), expected);
    let blocked = Limits {
        blocked_calls: Some(1),
        ..none.clone()
    };
    let expected = ["NO_POLICY", "POLICY", "RUN_LIMIT_BLOCKED_CALLS"];
    let then = [(1, "free"), (1, "block"), (1, "free")];
    assert_eq!(verdicts(blocked, &none, &then), expected);
    let minute = Limits {
        duration: Some(Duration::from_secs(60)),
        ..none.clone()
    };
    let expected = ["NO_POLICY", "RUN_LIMIT_DURATION"];
    assert_eq!(
        verdicts(minute, &none, &[(59, "free"), (60, "free")]),
        expected
    );
    let ended = Story::default()
        .ends()
        .asks(2, agent(), &request("c", "free"));
    assert!(matches!(ended, Ok(Decision::ToolCallDecided(decided))
        if &*decided.reason == "RUN_ENDED" && decided.verdict == Verdict::Blocked));
}

#[test]
fn edited_arguments_are_approved_anew() {
    let reviewer = |principal| user(principal, Role::Reviewer);
    let mut story = Story::of("hold2").voted(1, 10, true);
    let edit = DecideApproval {
        edited_arguments: Some(json("{\"a\":2}")),
        ..decide_approval(5, true)
    };
    let voted = story.votes(2, reviewer(11), edit).unwrap();
    assert!(matches!(voted, Decision::ApprovalVoted(voted)
        if voted.approved == 1 && voted.status == Status::Pending));
    // Who has approved others may approve these.
    let voted = story
        .votes(3, reviewer(10), decide_approval(5, true))
        .unwrap();
    assert!(
        matches!(voted, Decision::ApprovalVoted(voted) if voted.status == Status::Approved
        && voted.approved == 2 && voted.use_by == Some(at(3 + HOUR)))
    );
    let differs = story.asks(4, agent(), &confirm("{\"a\":1}")).unwrap_err();
    assert_eq!(differs.reason, "ARGUMENTS_DIFFER");
    let confirmed = story.says(4, agent(), &confirm("{\"a\":2}")).unwrap();
    assert!(matches!(confirmed, Decision::ExecutionConfirmed(confirmed)
        if confirmed.approval_id == Some(id_of(5))));
}

#[test]
fn whoever_asked_may_reject_it() {
    let mut story = Story::of("hold");
    let voted = story
        .votes(1, user(1, Role::Reviewer), decide_approval(5, false))
        .unwrap();
    assert!(matches!(voted, Decision::ApprovalVoted(voted) if voted.status == Status::Rejected));
}

#[test]
fn a_misfit_changes_nothing_and_is_told() {
    let mut approved = Story::of("hold").voted(1, 11, true);
    let decisions = [
        Story::default()
            .asks(0, agent(), &request("c", "free"))
            .unwrap(),
        Story::of("hold")
            .asks(
                1,
                user(12, Role::Reviewer),
                &Command::DecideApproval(decide_approval(5, false)),
            )
            .unwrap(),
        Decision::ApprovalClosed(ApprovalClosed {
            approval_id: id_of(5),
            tool_call_id: "c".parse().unwrap(),
            status: Status::Expired,
        }),
        Story::of("free")
            .asks(1, agent(), &confirm("{\"a\":1}"))
            .unwrap(),
    ];
    let before = (approved.run.clone(), approved.call.clone());
    for decision in decisions {
        assert!(
            !evolve(&mut approved.run, &mut approved.call, &decision, at(2)),
            "{decision:?}"
        );
        assert_eq!((&approved.run, &approved.call), (&before.0, &before.1));
    }
}

#[test]
fn of_two_executions_in_force_the_second_fits_nothing() {
    let mut story = Story::of("hold").voted(1, 11, true);
    let granted = story.says(2, agent(), &confirm("{\"a\":1}")).unwrap();
    let before = story.call.clone();
    assert!(!evolve(&mut story.run, &mut story.call, &granted, at(3)));
    assert_eq!(story.call, before);
}

#[test]
fn what_is_due_is_due_from_its_moment_on() {
    let (story, id) = (Story::of("hold"), "c".parse().unwrap());
    let call = story.call.as_ref().unwrap();
    assert_eq!(due(&story.run, call, &id, at(HOUR - 1)), None);
    assert_eq!(
        due(&story.run, call, &id, at(HOUR)).unwrap().status,
        Status::Expired
    );
    assert_eq!(next_due(&story.run, call), Some(Due::At(at(HOUR))));
    let story = Story::of("hold").ends();
    let call = story.call.as_ref().unwrap();
    assert_eq!(
        due(&story.run, call, &id, at(HOUR)).unwrap().status,
        Status::Cancelled
    );
    assert_eq!(next_due(&story.run, call), Some(Due::Now));
    let story = Story::of("hold").voted(1, 11, true).ends();
    let call = story.call.as_ref().unwrap();
    assert_eq!(due(&story.run, call, &id, at(HOUR)), None);
    assert_eq!(next_due(&story.run, call), None);
}

proptest! {
    #[test]
    fn terms_votes_and_counts_come_back_from_json(quorum: u32, micros: u64, roles in proptest::collection::btree_set(proptest::sample::select(Role::ALL), 0..4), tool in "[!-~]{1,20}", count: u64) {
        let terms = ApprovalTerms {
            quorum,
            approvers: vec![ApproverSet { roles, principals: BTreeSet::from([PrincipalId::new(Uuid::nil())]) }],
            requester_may_approve: true,
            decide_by: at(1),
            use_within: Duration::from_micros(micros),
        };
        let text = serde_json::to_string(&terms).unwrap();
        prop_assert_eq!(serde_json::from_str::<ApprovalTerms>(&text).unwrap(), terms);
        let of_tools = std::collections::BTreeMap::from([(tool.parse::<crate::ids::Name>().unwrap(), count)]);
        let text = serde_json::to_string(&of_tools).unwrap();
        prop_assert_eq!(serde_json::from_str::<std::collections::BTreeMap<crate::ids::Name, u64>>(&text).unwrap(), of_tools);
    }
}
