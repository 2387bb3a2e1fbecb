//! What other policies would have made of recorded calls, and that the same policies make the same of
//! them.

use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::Verdict::{Allowed, Blocked, Warned};
use runledger_proto::approval::v1::simulate_request::Calls;
use runledger_proto::approval::v1::simulation_service_client::SimulationServiceClient;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{RunEnded, RunFact, RunIngestServiceAppendRequest, RunOutcome};
use runledger_service::client::Connection;
use runledger_tests::{Clients, Installation, Kind, Tenant, facts, seed};
use tonic::Code;

use super::desk::{Desk, call, decided, new_id, on_tool};
use super::refusal;
use super::refusals::assert_faults;

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_shows_what_it_would_change_and_the_same_policies_change_nothing() {
    let mut rng = seed("simulation");
    let mut installation = Installation::start("simulation").await;
    installation.govern(1, 1).await;
    let tenant = Tenant::create(&installation, "story").await;
    let reviewer = installation.connection(Kind::Approvals, 0, tenant.key(Role::Reviewer));
    let mut story = Story {
        admin: Desk::role(&installation, &tenant, Role::Admin),
        agent: Desk::role(&installation, &tenant, Role::Agent),
        reviewer: SimulationServiceClient::new(reviewer),
        clients: installation.clients(tenant.key(Role::Agent)),
        token: String::new(),
    };
    story.calls(&mut rng).await;
    story.the_same_policies().await;
    story.other_policies().await;
    story.page_by_page().await;
    story.a_call_that_nobody_asked_for().await;
    story.refusals(&installation, &tenant).await;
    story.changed_policies().await;
    installation.assert_unharmed();
}

struct Story {
    admin: Desk,
    agent: Desk,
    reviewer: SimulationServiceClient<Connection>,
    clients: Clients,
    token: String,
}

impl Story {
    /// Four calls of one run: before its start is reported, after it, over a limit, and after its end.
    async fn calls(&mut self, rng: &mut rand::rngs::StdRng) {
        let labelled = when("labels.env", policy::Operator::Equals, "\"prod\"");
        self.admin
            .create("prod", spec(labelled, policy::Action::Warn))
            .await;
        self.token = self.admin.create("amount", over(100)).await;
        assert_eq!(self.ask(1, 50).await, Allowed);
        let mut started = facts::run_started(rng, "run");
        if let Some(Fact::RunStarted(started)) = &mut started.fact {
            started.labels.insert("env".into(), "prod".into());
        }
        self.report(started).await;
        assert_eq!(self.ask(2, 50).await, Warned);
        assert_eq!(self.ask(3, 200).await, Blocked);
        let mut ended = facts::run_started(rng, "run");
        ended.fact = Some(Fact::RunEnded(RunEnded {
            run_id: "run".into(),
            outcome: RunOutcome::Completed.into(),
            ..Default::default()
        }));
        self.report(ended).await;
        assert_eq!(self.ask(4, 200).await, Blocked);
    }

    async fn the_same_policies(&mut self) {
        let same = self.simulate(wire::Draft::default()).await;
        assert_eq!(
            counts(&same),
            [
                (Allowed, Allowed, 1),
                (Warned, Warned, 1),
                (Blocked, Blocked, 2)
            ]
        );
        assert_eq!((same.calls, same.with_every_field), (4, 4));
        assert_eq!(same.simulated, []);
        // The whole set by hand is the same set.
        let request = policy::ListPoliciesRequest::default();
        let listed = self.admin.policies.list_policies(request).await;
        let listed = listed.expect("policies").into_inner().policies;
        let by_hand = wire::Draft {
            from_nothing: true,
            policies: listed
                .into_iter()
                .map(|one| wire::DraftPolicy {
                    policy_id: one.policy_id,
                    spec: one.spec,
                })
                .collect(),
            without: Vec::new(),
        };
        let again = self.simulate(by_hand).await;
        assert_eq!(counts(&again), counts(&same));
    }

    async fn other_policies(&mut self) {
        let milder = self.simulate(draft("amount", over(300))).await;
        assert_eq!(
            counts(&milder),
            [
                (Allowed, Allowed, 1),
                (Warned, Warned, 1),
                (Blocked, Warned, 1),
                // The run had ended, whatever the policies.
                (Blocked, Blocked, 1)
            ]
        );
        let [changed] = milder.simulated.as_slice() else {
            panic!("{:?}", milder.simulated)
        };
        assert_eq!(
            (&*changed.run_id, &*changed.tool_call_id),
            ("run", "call-3")
        );
        assert!(changed.decided_at.is_some());
        let block = wire::verdict_cause::MatchedAs {
            version: 1,
            action: policy::Action::Block.into(),
        };
        let cause = wire::VerdictCause {
            policy_id: "amount".into(),
            before: Some(block),
            after: None,
        };
        assert_eq!(changed.causes, [cause]);
        let matches = changed.matches.iter();
        let matches: Vec<&str> = matches.map(|one| &*one.policy_id).collect();
        assert_eq!(matches, ["prod"]);
        let labelled = when("labels.env", policy::Operator::Equals, "\"test\"");
        let labelled = self
            .simulate(draft("new", spec(labelled, policy::Action::Warn)))
            .await;
        // The first call was made before anybody had told its run's labels.
        assert_eq!((labelled.calls, labelled.with_every_field), (4, 3));
        assert_eq!(
            counts(&labelled),
            counts(&self.simulate(wire::Draft::default()).await)
        );
        let nothing = wire::Draft {
            without: vec!["amount".into(), "prod".into()],
            ..Default::default()
        };
        let free = self.simulate(nothing).await;
        assert_eq!(
            counts(&free),
            [
                (Allowed, Allowed, 1),
                (Warned, Allowed, 1),
                (Blocked, Allowed, 1),
                (Blocked, Blocked, 1)
            ]
        );
    }

    async fn page_by_page(&mut self) {
        let whole = self.simulate(draft("amount", over(300))).await;
        let mut request = self.request(draft("amount", over(300)));
        request.page_size = 1;
        let mut parts = Vec::new();
        loop {
            let page = self.reviewer.simulate(request.clone()).await;
            let page = page.expect("a page").into_inner();
            assert!(page.calls <= 1);
            request.page_token.clone_from(&page.next_page_token);
            parts.push(page);
            if request.page_token.is_empty() {
                break;
            }
        }
        let calls: u64 = parts.iter().map(|page| page.calls).sum();
        assert_eq!(calls, 4);
        let simulated = parts.into_iter().flat_map(|page| page.simulated);
        assert_eq!(simulated.collect::<Vec<_>>(), whole.simulated);
        for (recorded, expected) in [
            (of(|one| one.tool = "pay".into()), 4),
            (of(|one| one.tool = "other".into()), 0),
            (of(|one| one.agent_id = "agent-1".into()), 4),
            (of(|one| one.agent_id = "agent-2".into()), 0),
            (of(|one| one.run_id = "run".into()), 4),
            (of(|one| one.run_id = "other".into()), 0),
            (of(|one| one.from = whole.simulated[0].decided_at), 2),
            (of(|one| one.to = whole.simulated[0].decided_at), 2),
        ] {
            let mut request = self.request(wire::Draft::default());
            request.calls = Some(Calls::Recorded(recorded.clone()));
            let found = self.reviewer.simulate(request).await.expect("an answer");
            assert_eq!(found.into_inner().calls, expected, "{recorded:?}");
        }
    }

    async fn a_call_that_nobody_asked_for(&mut self) {
        let mut request = self.request(draft("amount", over(300)));
        request.calls = Some(Calls::Described(wire::DescribedCall {
            call: Some(call("any", 1, "pay", "{\"amount\":200}")),
            agent_id: "agent-1".into(),
            model: String::new(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
        }));
        let found = self.reviewer.simulate(request).await.expect("an answer");
        let found = found.into_inner();
        assert_eq!(counts(&found), [(Blocked, Warned, 1)]);
        assert_eq!(found.simulated[0].causes.len(), 1);
        assert_eq!((found.with_every_field, &*found.next_page_token), (1, ""));
    }

    async fn refusals(&mut self, installation: &Installation, tenant: &Tenant) {
        let unsound = when("arguments.amount", policy::Operator::Gt, "\"much\"");
        let mut request = self.request(draft("amount", spec(unsound, policy::Action::Block)));
        let refused = self.reviewer.simulate(request.clone()).await;
        let field = "draft.policies[0].spec.conditions.all[0].value_json";
        assert_faults(
            refused,
            &[(field, "WRONG_TYPE")],
            "a value of the wrong type",
        );
        request.draft = Some(wire::Draft {
            without: vec!["none".into()],
            ..Default::default()
        });
        let refused = self.reviewer.simulate(request.clone()).await;
        assert_faults(
            refused,
            &[("draft.without", "POLICY_NOT_FOUND")],
            "a policy that is not there",
        );
        let moment = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        request = self.request(wire::Draft::default());
        request.calls = Some(Calls::Recorded(of(|one| {
            (one.from, one.to) = (moment(2), moment(1));
        })));
        let refused = self.reviewer.simulate(request.clone()).await;
        assert_faults(
            refused,
            &[("recorded.to", "OUT_OF_RANGE")],
            "a range upside down",
        );
        request.calls = None;
        let refused = self.reviewer.simulate(request).await;
        assert_faults(refused, &[("recorded", "REQUIRED")], "no calls");
        let mut request = self.request(wire::Draft::default());
        request.page_size = 1;
        let page = self.reviewer.simulate(request.clone()).await;
        request.page_token = page.expect("a page").into_inner().next_page_token;
        request.draft = Some(draft("amount", over(1)));
        let invalid = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
        assert_eq!(refusal(self.reviewer.simulate(request).await), invalid);
        let connection = installation.connection(Kind::Approvals, 0, tenant.key(Role::Agent));
        let mut agent = SimulationServiceClient::new(connection);
        let request = self.request(wire::Draft::default());
        let denied = (Code::PermissionDenied, "ROLE_NOT_ALLOWED".to_owned());
        assert_eq!(refusal(agent.simulate(request).await), denied);
    }

    /// Calls that a version has judged which is no longer in force are the only ones that differ.
    async fn changed_policies(&mut self) {
        let mut request = self.request(wire::Draft::default());
        request.page_size = 1;
        let page = self.reviewer.simulate(request.clone()).await;
        request.page_token = page.expect("a page").into_inner().next_page_token;
        let update = policy::UpdatePolicyRequest {
            id: new_id(),
            policy_id: "amount".into(),
            spec: Some(over(300)),
            expected_version: Some(1),
        };
        let updated = self.admin.policies.update_policy(update).await;
        self.token = updated.expect("an update").into_inner().token;
        request.read = self.request(wire::Draft::default()).read;
        let changed = (Code::FailedPrecondition, "POLICIES_CHANGED".to_owned());
        assert_eq!(refusal(self.reviewer.simulate(request).await), changed);
        let now = self.simulate(wire::Draft::default()).await;
        let differing: Vec<&str> = now.simulated.iter().map(|one| &*one.tool_call_id).collect();
        assert_eq!(differing, ["call-3"]);
    }

    async fn ask(&mut self, number: usize, amount: u32) -> wire::Verdict {
        let arguments = format!("{{\"amount\":{amount}}}");
        let asked = call("run", number, "pay", &arguments);
        let at_least = [self.token.clone()];
        let answer = self.agent.request(&new_id(), asked, &at_least).await;
        let answer = answer.expect("an answer");
        self.token.clone_from(&answer.token);
        decided(answer).verdict()
    }

    async fn report(&mut self, fact: RunFact) {
        let request = RunIngestServiceAppendRequest { facts: vec![fact] };
        let appended = self.clients.runs_in.append(request).await;
        self.token = appended.expect("results").into_inner().token;
    }

    fn request(&self, draft: wire::Draft) -> wire::SimulateRequest {
        wire::SimulateRequest {
            draft: Some(draft),
            calls: Some(Calls::Recorded(wire::RecordedCalls::default())),
            read: Some(ReadOptions {
                at_least: vec![self.token.clone()],
                max_wait: None,
            }),
            ..Default::default()
        }
    }

    async fn simulate(&mut self, draft: wire::Draft) -> wire::SimulateResponse {
        let request = self.request(draft);
        let answered = self.reviewer.simulate(request).await;
        let answered = answered.expect("an answer").into_inner();
        assert_eq!(answered.next_page_token, "");
        answered
    }
}

fn counts(answered: &wire::SimulateResponse) -> Vec<(wire::Verdict, wire::Verdict, u64)> {
    let counts = answered.counts.iter();
    counts
        .map(|one| (one.before(), one.after(), one.calls))
        .collect()
}

fn of(fill: impl FnOnce(&mut wire::RecordedCalls)) -> wire::RecordedCalls {
    let mut recorded = wire::RecordedCalls::default();
    fill(&mut recorded);
    recorded
}

fn draft(id: &str, spec: policy::PolicySpec) -> wire::Draft {
    wire::Draft {
        policies: vec![wire::DraftPolicy {
            policy_id: id.into(),
            spec: Some(spec),
        }],
        ..Default::default()
    }
}

fn over(amount: u32) -> policy::PolicySpec {
    let condition = when(
        "arguments.amount",
        policy::Operator::Gt,
        &amount.to_string(),
    );
    spec(condition, policy::Action::Block)
}

fn when(field: &str, operator: policy::Operator, value: &str) -> policy::Condition {
    policy::Condition {
        field: field.into(),
        operator: operator.into(),
        value_json: value.into(),
    }
}

fn spec(condition: policy::Condition, action: policy::Action) -> policy::PolicySpec {
    policy::PolicySpec {
        when: Some(policy::policy_spec::When::Conditions(policy::Conditions {
            all: vec![condition],
        })),
        ..on_tool("", action)
    }
}
