//! What is refused about policies and approvals: with its code and its reason, and nothing half done.

use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::common::v1 as common;
use runledger_proto::directory::v1 as directory;
use runledger_proto::policy::v1 as policy;
use runledger_proto::policy::v1::Operator;
use runledger_proto::policy::v1::policy_spec::When;
use runledger_service::status;
use runledger_tests::{Installation, Tenant};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::desk::{Desk, call, decided, new_id, on_tool};
use super::refusal;

const KIB: usize = 1 << 10;
const ARGUMENTS: &str = "{\"amount\":9007199254740993}";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_its_reason_and_changes_nothing() {
    let mut installation = Installation::start("refusals").await;
    installation.govern(1, 1).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut story = Story {
        admin: Desk::role(&installation, &tenant, Role::Admin),
        agent: Desk::role(&installation, &tenant, Role::Agent),
        reviewer: Desk::role(&installation, &tenant, Role::Reviewer),
        at_least: Vec::new(),
    };
    story.policies_that_are_none().await;
    story.a_version_that_has_passed().await;
    story.votes_that_do_not_count(&installation, &tenant).await;
    story.a_batch_is_answered_one_by_one().await;
    story.a_batch_of_calls_too().await;
    story.arguments_at_their_bounds().await;
    story.integers_are_compared_exactly().await;
    installation.assert_unharmed();
}

struct Story {
    admin: Desk,
    agent: Desk,
    reviewer: Desk,
    at_least: Vec<String>,
}

impl Story {
    async fn policies_that_are_none(&mut self) {
        let token = self
            .admin
            .create("first", on_tool("none", policy::Action::Warn))
            .await;
        let before = self.policies(&token).await;
        for (what, when, fault) in unsound() {
            let mut spec = on_tool("think", policy::Action::Block);
            spec.when = Some(when);
            let request = policy::CreatePolicyRequest {
                id: new_id(),
                policy_id: "unsound".into(),
                spec: Some(spec.clone()),
            };
            let created = self.admin.policies.create_policy(request).await;
            assert_faults(created, &[fault], what);
            let request = policy::UpdatePolicyRequest {
                id: new_id(),
                policy_id: "first".into(),
                spec: Some(spec),
                expected_version: None,
            };
            let updated = self.admin.policies.update_policy(request).await;
            assert_faults(updated, &[fault], what);
        }
        // Whatever they had left behind would be known with what came after them.
        let last = on_tool("pay", policy::Action::RequireApproval);
        let token = self.admin.create("pay", last).await;
        let mut after = self.policies(&token).await;
        after.retain(|one| one.policy_id != "pay");
        assert_eq!(after, before);
        self.at_least = vec![token];
    }

    async fn a_version_that_has_passed(&mut self) {
        let stale = policy::UpdatePolicyRequest {
            id: new_id(),
            policy_id: "first".into(),
            spec: Some(on_tool("none", policy::Action::Block)),
            expected_version: Some(7),
        };
        let before = self.policies(&self.at_least[0].clone()).await;
        let updated = self.admin.policies.update_policy(stale.clone()).await;
        let mismatch = (Code::FailedPrecondition, "VERSION_MISMATCH".to_owned());
        assert_eq!(refusal(updated), mismatch);
        // It was decided: a repeat is told the same, whatever the version is by now.
        let updated = self.admin.policies.update_policy(stale.clone()).await;
        assert_eq!(refusal(updated), mismatch);
        let delete = policy::DeletePolicyRequest {
            id: new_id(),
            policy_id: "first".into(),
            expected_version: Some(0),
        };
        let deleted = self.admin.policies.delete_policy(delete).await;
        assert_eq!(refusal(deleted), mismatch);
        let reused = policy::UpdatePolicyRequest {
            expected_version: Some(1),
            ..stale
        };
        let reused = self.admin.policies.update_policy(reused).await;
        assert_eq!(
            refusal(reused),
            (Code::AlreadyExists, "COMMAND_ID_REUSED".into())
        );
        let after = on_tool("other", policy::Action::Warn);
        let token = self.admin.create("after", after).await;
        let mut after = self.policies(&token).await;
        after.retain(|one| one.policy_id != "after");
        assert_eq!(after, before);
        self.at_least = vec![token];
    }

    async fn votes_that_do_not_count(&mut self, installation: &Installation, tenant: &Tenant) {
        let mut asking = self.admin.clone();
        let held = self.hold(&mut asking, "votes", 1).await;
        let before = self.reviewer.get(&held).await;
        let unknown = self.reviewer.approve(&new_id(), &new_id()).await;
        let not_found = (Code::NotFound, "APPROVAL_NOT_FOUND".to_owned());
        assert_eq!(refusal(unknown), not_found);
        let foreign = Tenant::create(installation, "foreign").await;
        let mut foreigner = Desk::role(installation, &foreign, Role::Reviewer);
        let vote = foreigner.approve(&new_id(), &held).await;
        assert_eq!(refusal(vote), not_found);
        let sandbox = &tenant.sandbox_keys[&Role::Reviewer];
        let vote = Desk::of(installation, 0, sandbox)
            .reject(&new_id(), &held)
            .await;
        assert_eq!(refusal(vote), not_found);
        let own = self.admin.approve(&new_id(), &held).await;
        assert_eq!(
            refusal(own),
            (Code::PermissionDenied, "REQUESTER_MAY_NOT_APPROVE".into())
        );
        for role in [Role::Agent, Role::Viewer] {
            let vote = Desk::role(installation, tenant, role)
                .approve(&new_id(), &held)
                .await;
            assert_eq!(refusal(vote).0, Code::PermissionDenied);
        }
        let key = agent_with_the_role_of_a_reviewer(installation, tenant).await;
        let vote = Desk::of(installation, 0, &key)
            .approve(&new_id(), &held)
            .await;
        assert_eq!(
            refusal(vote),
            (Code::PermissionDenied, "AGENTS_DO_NOT_APPROVE".into())
        );
        let seen = wire::ApproveRequest {
            id: new_id(),
            approval_id: held.clone(),
            arguments_digest: vec![7; 32],
            ..wire::ApproveRequest::default()
        };
        let vote = self.reviewer.approvals.approve(seen).await;
        assert_eq!(
            refusal(vote),
            (Code::FailedPrecondition, "ARGUMENTS_CHANGED".into())
        );
        assert_eq!(self.reviewer.get(&held).await.votes, before.votes);
        assert_eq!(self.reviewer.get(&held).await.approval, before.approval);
    }

    async fn a_batch_is_answered_one_by_one(&mut self) {
        use wire::decide_approvals_request::Item;
        use wire::decide_approvals_request::item::Item as Kind;
        let mut agent = self.agent.clone();
        let first = self.hold(&mut agent, "batch", 1).await;
        let second = self.hold(&mut agent, "batch", 2).await;
        let approve = |approval_id: &str| {
            Kind::Approve(wire::ApproveRequest {
                id: new_id(),
                approval_id: approval_id.into(),
                ..wire::ApproveRequest::default()
            })
        };
        let reject = Kind::Reject(wire::RejectRequest {
            id: new_id(),
            approval_id: second.clone(),
            reason: "no".into(),
        });
        let items = [
            Some(approve(&first)),
            Some(approve("none")),
            Some(approve(&new_id())),
            None,
            Some(approve(&first)),
            Some(reject),
        ];
        let items = items.map(|item| Item { item }).into();
        let request = wire::DecideApprovalsRequest { items };
        let answered = self.reviewer.approvals.decide_approvals(request).await;
        let answers = answered.expect("answers").into_inner().answers;
        let told: Vec<String> = answers.into_iter().map(told_of_vote).collect();
        assert_eq!(
            told,
            [
                "Approved",
                "INVALID_FIELDS items[1].approve.approval_id",
                "APPROVAL_NOT_FOUND",
                "INVALID_FIELDS items[3].item",
                "ALREADY_DECIDED",
                "Rejected",
            ]
        );
    }

    async fn a_batch_of_calls_too(&mut self) {
        let one = |number: usize, agent_id: &str| wire::ToolCallRequest {
            id: new_id(),
            call: Some(call("batch-of-calls", number, "think", "{}")),
            agent_id: agent_id.into(),
        };
        let again = one(1, "agent-1");
        let no_uuid = wire::ToolCallRequest {
            id: "none".into(),
            ..one(3, "agent-1")
        };
        let requests = vec![
            again.clone(),
            one(2, ""),
            no_uuid,
            one(1, "agent-1"),
            again.clone(),
            one(4, "agent-1"),
        ];
        let ids: Vec<String> = requests.iter().map(|one| one.id.clone()).collect();
        let request = wire::RequestToolCallsRequest {
            requests,
            at_least: Vec::new(),
        };
        let answered = self.agent.approvals.request_tool_calls(request).await;
        let answers = answered.expect("answers").into_inner().answers;
        assert!(answers.iter().map(|one| &one.id).eq(&ids), "{answers:?}");
        let told: Vec<String> = answers.into_iter().map(told_of_call).collect();
        assert_eq!(
            told,
            [
                "Allowed",
                "INVALID_FIELDS requests[1].agent_id",
                "INVALID_FIELDS requests[2].id",
                "TOOL_CALL_EXISTS",
                "Allowed",
                "Allowed",
            ]
        );
    }

    async fn arguments_at_their_bounds(&mut self) {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let long = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
        let mut number = 0;
        for arguments in [deep(64), long(250 * KIB)] {
            number += 1;
            let asked = call("bounds", number, "think", &arguments);
            let answered = self.agent.request(&new_id(), asked.clone(), &[]).await;
            let answered = decided(answered.expect("an answer"));
            assert_eq!(answered.verdict(), wire::Verdict::Allowed);
            let confirmed = self.agent.confirm(&asked, &arguments).await;
            assert!(confirmed.is_ok(), "{confirmed:?}");
        }
        number += 1;
        let asked = call("bounds", number, "think", &deep(65));
        let answered = self.agent.request(&new_id(), asked.clone(), &[]).await;
        let fault = ("request.call.arguments_json", "INVALID_JSON");
        assert_faults(answered, &[fault], "too deep");
        let asked = call("bounds", number, "think", &long(256 * KIB));
        let answered = self.agent.request(&new_id(), asked.clone(), &[]).await;
        assert_eq!(
            refusal(answered),
            (Code::InvalidArgument, "COMMAND_TOO_LARGE".into())
        );
        // Neither has left a call behind.
        let confirmed = self.agent.confirm(&asked, "").await;
        assert_eq!(
            refusal(confirmed),
            (Code::NotFound, "TOOL_CALL_NOT_FOUND".into())
        );
    }

    async fn integers_are_compared_exactly(&mut self) {
        for (number, (value, alike)) in [
            ("9007199254740993", "9007199254740992"),
            ("9223372036854775807", "9223372036854775806"),
            ("-9223372036854775808", "-9223372036854775807"),
            ("9223372036854775808", "9223372036854775807"),
        ]
        .into_iter()
        .enumerate()
        {
            let tool = format!("count-{number}");
            let mut spec = on_tool(&tool, policy::Action::Block);
            let Some(When::Conditions(conditions)) = &mut spec.when else {
                panic!("{spec:?}")
            };
            conditions
                .all
                .push(condition("arguments.n", Operator::Equals, value));
            let token = self.admin.create(&tool, spec).await;
            for (place, n, verdict) in [
                (0, value, wire::Verdict::Blocked),
                (1, alike, wire::Verdict::Allowed),
            ] {
                let arguments = format!("{{\"n\":{n}}}");
                let asked = call("integers", 2 * number + place, &tool, &arguments);
                let answered = self
                    .agent
                    .request(&new_id(), asked, std::slice::from_ref(&token))
                    .await;
                let answered = decided(answered.expect("an answer"));
                assert_eq!(answered.verdict(), verdict, "{n}");
            }
        }
        // And what was approved is what runs, to the last digit.
        let mut agent = self.agent.clone();
        let held = self.hold(&mut agent, "integers", 99).await;
        let approved = self.reviewer.approve(&new_id(), &held).await;
        approved.expect("a vote");
        let asked = call("integers", 99, "pay", ARGUMENTS);
        let changed = agent.confirm(&asked, "{\"amount\":9007199254740992}").await;
        assert_eq!(
            refusal(changed),
            (Code::FailedPrecondition, "ARGUMENTS_DIFFER".into())
        );
        let confirmed = agent.confirm(&asked, ARGUMENTS).await;
        assert!(confirmed.is_ok(), "{confirmed:?}");
    }

    /// Asks for a call that is held; its approval.
    async fn hold(&self, asking: &mut Desk, run_id: &str, number: usize) -> String {
        let asked = call(run_id, number, "pay", ARGUMENTS);
        let answered = asking.request(&new_id(), asked, &self.at_least).await;
        let held = decided(answered.expect("an answer"));
        assert_eq!(held.verdict(), wire::Verdict::AwaitingApproval, "{held:?}");
        held.approval_id
    }

    async fn policies(&mut self, token: &str) -> Vec<policy::Policy> {
        let request = policy::ListPoliciesRequest {
            with_deleted: true,
            read: Some(common::ReadOptions {
                at_least: vec![token.into()],
                ..common::ReadOptions::default()
            }),
        };
        let listed = self.admin.policies.list_policies(request).await;
        listed.expect("policies").into_inner().policies
    }
}

fn condition(field: &str, operator: Operator, value_json: &str) -> policy::Condition {
    policy::Condition {
        field: field.into(),
        operator: operator.into(),
        value_json: value_json.into(),
    }
}

/// What it is, the condition or the expression, and where the fault lies and why.
fn unsound() -> Vec<(&'static str, When, (&'static str, &'static str))> {
    let all = |all| When::Conditions(policy::Conditions { all });
    let one = |field, operator, value| all(vec![condition(field, operator, value)]);
    let value = "spec.conditions.all[0].value_json";
    let unknown = policy::Condition {
        operator: 99,
        ..condition("tool", Operator::Equals, "1")
    };
    vec![
        (
            "a word where a number goes",
            one("arguments.n", Operator::Gt, "\"ten\""),
            (value, "WRONG_TYPE"),
        ),
        (
            "no list",
            one("tool", Operator::In, "\"a\""),
            (value, "WRONG_TYPE"),
        ),
        (
            "an empty list",
            one("tool", Operator::NotIn, "[]"),
            (value, "WRONG_TYPE"),
        ),
        (
            "no JSON",
            one("tool", Operator::Equals, "{"),
            (value, "INVALID_JSON"),
        ),
        (
            "an operator that is none",
            all(vec![unknown]),
            ("spec.conditions.all[0].operator", "UNKNOWN_VALUE"),
        ),
        (
            "no conditions",
            all(Vec::new()),
            ("spec.conditions.all", "REQUIRED"),
        ),
        (
            "a pattern that looks back",
            one("tool", Operator::Matches, r#""(a)\\1""#),
            (value, "INVALID_PATTERN"),
        ),
        (
            "a pattern that grows without bounds",
            one("tool", Operator::Matches, "\"((a{100}){100}){100}\""),
            (value, "PATTERN_TOO_LARGE"),
        ),
        (
            "an expression cut short",
            When::Cel("tool == 'a' &&".into()),
            ("spec.cel", "CEL_SYNTAX"),
        ),
        (
            "an expression about somebody unknown",
            When::Cel("nobody == 1".into()),
            ("spec.cel", "CEL_UNKNOWN_VARIABLE"),
        ),
    ]
}

fn told_of_vote(answer: wire::DecisionAnswer) -> String {
    match answer.answer {
        Some(wire::decision_answer::Answer::Voted(voted)) => format!("{:?}", voted.status()),
        Some(wire::decision_answer::Answer::Refused(refused)) => told_of_refusal(refused),
        other => panic!("{other:?}"),
    }
}

fn told_of_call(answer: wire::ToolCallAnswer) -> String {
    match answer.answer {
        Some(wire::tool_call_answer::Answer::Decided(decided)) => {
            format!("{:?}", decided.verdict())
        }
        Some(wire::tool_call_answer::Answer::Refused(refused)) => told_of_refusal(refused),
        other => panic!("{other:?}"),
    }
}

/// The reason, and the fields that are at fault.
fn told_of_refusal(refused: wire::Refused) -> String {
    let fields = refused.violations.into_iter().map(|one| one.field);
    let words: Vec<String> = std::iter::once(refused.reason).chain(fields).collect();
    words.join(" ")
}

/// Refused for exactly these fields and reasons.
#[track_caller]
pub(super) fn assert_faults<T: std::fmt::Debug>(
    answered: Result<T, Status>,
    faults: &[(&str, &str)],
    what: &str,
) {
    let refused = answered.expect_err(what);
    let reason = status::reason(&refused);
    assert_eq!(
        (refused.code(), reason.as_deref()),
        (Code::InvalidArgument, Some("INVALID_FIELDS")),
        "{what}: {refused:?}"
    );
    let details = refused.get_error_details();
    let request = details.bad_request().expect("violations");
    let found: Vec<(&str, &str)> = request
        .field_violations
        .iter()
        .map(|one| {
            let (reason, _) = one.description.split_once(':').expect("a reason");
            (one.field.as_str(), reason)
        })
        .collect();
    assert_eq!(found, faults, "{what}");
}

/// What kind of principal it is decides before its role does.
async fn agent_with_the_role_of_a_reviewer(installation: &Installation, tenant: &Tenant) -> String {
    let mut directory = installation.clients(&installation.operator).directory;
    let request = directory::CreatePrincipalRequest {
        tenant_id: tenant.id.clone(),
        name: "reviewing agent".into(),
        kind: common::PrincipalKind::Agent.into(),
        role: common::Role::Reviewer.into(),
    };
    let made = directory.create_principal(request).await;
    let made = made.expect("a principal").into_inner().principal;
    let request = directory::CreateKeyRequest {
        principal_id: made.expect("a principal").principal_id,
        mode: common::Mode::Live.into(),
        label: "story".into(),
        expires_at: None,
    };
    let made = directory.create_key(request).await;
    made.expect("a key").into_inner().secret
}
