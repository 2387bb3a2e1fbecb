//! What a run may do at most holds however many ask at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{RunFact, RunIngestServiceAppendRequest, RunLimits};
use runledger_testkit::eventually;
use runledger_tests::{Clients, Installation, Tenant, facts, seed};

use super::contest::insist;
use super::desk::{Desk, call, decided, new_id, on_tool};

const AT_ONCE: usize = 40;
const HOUR_SECONDS: i64 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_makes_no_call_more_than_its_limits_say() {
    let rng = seed("run limits");
    let mut installation = Installation::start("run-limits").await;
    installation.govern(2, 2).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut admin = Desk::role(&installation, &tenant, Role::Admin);
    let mut search = on_tool("search", policy::Action::Allow);
    search.limits = Some(RunLimits {
        calls_of_one_tool: Some(5),
        ..RunLimits::default()
    });
    let mut at_least = vec![admin.create("search", search).await];
    let wipe = on_tool("wipe", policy::Action::Block);
    at_least.push(admin.create("wipe", wipe).await);
    let mut story = Story {
        agents: [0, 1].map(|api| Desk::of(&installation, api, tenant.key(Role::Agent))),
        clients: installation.clients(tenant.key(Role::Agent)),
        at_least,
        rng,
    };
    story.calls_in_all().await;
    story.calls_of_one_tool().await;
    story.blocked_calls().await;
    story.duration().await;
    story.a_start_long_ago().await;
    installation.assert_unharmed();
}

struct Story {
    agents: [Desk; 2],
    clients: Clients,
    at_least: Vec<String>,
    rng: StdRng,
}

impl Story {
    async fn calls_in_all(&mut self) {
        let limits = RunLimits {
            tool_calls: Some(10),
            ..RunLimits::default()
        };
        self.begin("calls", limits, 0).await;
        let told = self.ask_at_once("calls", &["think", "search"]).await;
        assert_eq!(count(&told, "think") + count(&told, "search"), 10);
        let over = AT_ONCE - 10;
        let blocked = count(&told, "RUN_LIMIT_TOOL_CALLS");
        assert_eq!(
            blocked + count(&told, "RUN_LIMIT_CALLS_OF_ONE_TOOL"),
            over,
            "{told:?}"
        );
        assert!(blocked > 0, "{told:?}");
    }

    /// By a policy, for a run that nobody has reported.
    async fn calls_of_one_tool(&mut self) {
        let told = self.ask_at_once("one-tool", &["search", "think"]).await;
        let expected = [
            ("RUN_LIMIT_CALLS_OF_ONE_TOOL", AT_ONCE / 2 - 5),
            ("search", 5),
            ("think", AT_ONCE / 2),
        ];
        assert_eq!(
            told,
            expected
                .map(|(what, count)| (what.to_owned(), count))
                .into()
        );
    }

    async fn blocked_calls(&mut self) {
        let limits = RunLimits {
            blocked_calls: Some(3),
            ..RunLimits::default()
        };
        self.begin("blocked", limits, 0).await;
        let told = self.ask_at_once("blocked", &["wipe"]).await;
        let expected = [("POLICY", 3), ("RUN_LIMIT_BLOCKED_CALLS", AT_ONCE - 3)];
        assert_eq!(
            told,
            expected
                .map(|(what, count)| (what.to_owned(), count))
                .into()
        );
        // And what nobody forbids stands still with it.
        let told = self.ask("blocked", AT_ONCE, "think").await;
        assert_eq!(told, "RUN_LIMIT_BLOCKED_CALLS");
    }

    async fn duration(&mut self) {
        self.begin("brief", lasting(2), 0).await;
        let asked = AtomicUsize::new(AT_ONCE);
        let over = eventually(Duration::from_secs(30), || async {
            match &*self
                .ask("brief", asked.fetch_add(1, Ordering::SeqCst), "think")
                .await
            {
                "RUN_LIMIT_DURATION" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        over.await;
        let told = self.ask_at_once("brief", &["think"]).await;
        assert_eq!(told, [("RUN_LIMIT_DURATION".to_owned(), AT_ONCE)].into());
    }

    /// A run's time runs from when its start was taken in: what its reporter's clock says ends none.
    async fn a_start_long_ago(&mut self) {
        self.begin("long-ago", lasting(600), HOUR_SECONDS).await;
        assert_eq!(self.ask("long-ago", 1, "think").await, "think");
    }

    /// Reports the start of a run, so many seconds ago by the reporter's clock.
    async fn begin(&mut self, run_id: &str, limits: RunLimits, ago: i64) {
        let mut started: RunFact = facts::run_started(&mut self.rng, run_id);
        if let Some(Fact::RunStarted(started)) = &mut started.fact {
            started.limits = Some(limits);
        }
        if let Some(at) = &mut started.occurred_at {
            at.seconds -= ago;
        }
        let request = RunIngestServiceAppendRequest {
            facts: vec![started],
        };
        let appended = self.clients.runs_in.append(request).await;
        let appended = appended.expect("results").into_inner();
        let outcome = appended.results[0].outcome.as_ref();
        assert!(matches!(outcome, Some(Outcome::Accepted(_))), "{outcome:?}");
    }

    /// Asks for many calls at once, at both apis; how many had each answer.
    async fn ask_at_once(&self, run_id: &str, tools: &[&str]) -> BTreeMap<String, usize> {
        let asking =
            (0..AT_ONCE).map(|number| self.ask(run_id, number, tools[number % tools.len()]));
        let mut told = BTreeMap::new();
        for answer in join_all(asking).await {
            *told.entry(answer).or_default() += 1;
        }
        told
    }

    /// The tool when the call is allowed, else why it is not.
    async fn ask(&self, run_id: &str, number: usize, tool: &str) -> String {
        let id = new_id();
        let asked = call(run_id, number, tool, "{}");
        let answered = insist(|| {
            let mut agent = self.agents[number % 2].clone();
            let (id, asked) = (&id, asked.clone());
            async move {
                let answer = agent.request(id, asked, &self.at_least).await?;
                Ok(match answer.answer {
                    Some(wire::tool_call_answer::Answer::Pending(_)) => None,
                    _ => Some(decided(answer)),
                })
            }
        });
        let answered = answered.await.expect("a decision");
        match answered.verdict() {
            wire::Verdict::Allowed => tool.into(),
            wire::Verdict::Blocked => answered.reason,
            other => panic!("{other:?}"),
        }
    }
}

fn lasting(seconds: i64) -> RunLimits {
    RunLimits {
        duration: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..RunLimits::default()
    }
}

fn count(told: &BTreeMap<String, usize>, what: &str) -> usize {
    told.get(what).copied().unwrap_or_default()
}
