//! What one scope has, and every way to ask for it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::common::v1::{self as common, ReadOptions};
use runledger_proto::directory::v1 as directory;
use runledger_proto::directory::v1::set_kill_switch_request::Target;
use runledger_proto::log::v1::SkipRequest;
use runledger_proto::message::v1::MessageIngestServiceAppendRequest;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{
    self as run, RunFact, RunIngestServiceAppendRequest, RunPhase, RunProgressed, RunStarted,
    ToolCallIngestServiceAppendRequest, Trigger,
};
use runledger_proto::schedule::v1::ScheduleIngestServiceAppendRequest;
use runledger_tests::{Clients, Installation, Tenant, facts, patiently};

use super::key_id;
use billed::Billed;
use counted::Counted;
use governed::Governed;

macro_rules! ask {
    ($service:literal, $($request:ident => $message:expr),+ $(,)?) => {
        vec![$((concat!("/runledger.", $service, "/", stringify!($request)), Message::encode_to_vec(&$message))),+]
    };
}

mod billed;
mod counted;
mod governed;

/// A request: the rpc's path and the message.
pub(super) type Ask = (&'static str, Vec<u8>);

/// What one scope has. The marker stands in every text and every id of it.
pub(super) struct Goods {
    marker: String,
    run_id: String,
    conversation_id: String,
    schedule_id: String,
    tenant_id: String,
    principal_id: String,
    key_id: String,
    tokens: Vec<String>,
    /// A token of a second page, by the rpc's path; of `TailRun` its resume token.
    pages: BTreeMap<&'static str, String>,
    record_ids: BTreeSet<String>,
    /// Where the last of its records lies.
    position: Option<common::Position>,
    governed: Option<Governed>,
    billed: Option<Billed>,
    counted: Option<Counted>,
}

impl Goods {
    /// Reports a run with all that can belong to one, by `clients`.
    pub(super) async fn report(
        installation: &Installation,
        tenant: &Tenant,
        clients: &Clients,
        rng: &mut StdRng,
    ) -> Self {
        let admin = installation.clients(tenant.key(Role::Admin));
        let principal_id = tenant.principals[&Role::Reviewer].clone();
        let marker = format!("mark{:016x}", rng.random::<u64>());
        let mut goods = Self {
            run_id: format!("run-{marker}"),
            conversation_id: format!("conversation-{marker}"),
            schedule_id: format!("schedule-{marker}"),
            tenant_id: tenant.id.clone(),
            key_id: key_id(&admin, &principal_id, "rl_live_").await,
            principal_id,
            tokens: Vec::new(),
            pages: BTreeMap::new(),
            record_ids: BTreeSet::new(),
            position: None,
            governed: None,
            billed: None,
            counted: None,
            marker,
        };
        let started = goods.started(rng);
        goods.append(clients, vec![started]).await;
        goods.append_about_it(clients, rng).await;
        goods.turn_pages(clients).await;
        goods
    }

    /// Holds calls of it, as an agent with this key.
    pub(super) async fn govern(&mut self, installation: &Installation, tenant: &Tenant, key: &str) {
        let governed = Governed::ask(installation, tenant, key, &self.marker).await;
        self.governed = Some(governed);
    }

    /// Gives it an account, prices and usage; `key` and `clients` are an agent's.
    pub(super) async fn bill(
        &mut self,
        installation: &Installation,
        tenant: &Tenant,
        key: &str,
        clients: &Clients,
    ) {
        let billed = Billed::bill(installation, tenant, key, clients, &self.marker).await;
        self.billed = Some(billed);
    }

    /// Gives it a run that fails.
    pub(super) async fn count(&mut self, clients: &Clients) {
        self.counted = Some(Counted::report(clients, &self.marker).await);
    }

    /// Every read of the services that decide or count that leads its owner to them.
    pub(super) fn decided_reads(&self) -> Vec<Ask> {
        let governed = self.governed.iter().flat_map(Governed::reads);
        let billed = self.billed.iter().flat_map(Billed::reads);
        let counted = self.counted.iter().flat_map(Counted::reads);
        governed.chain(billed).chain(counted).collect()
    }

    /// Every command of theirs that would touch them, or has their ids.
    pub(super) fn decided_commands(&self) -> Vec<Ask> {
        let governed = self.governed.iter().flat_map(Governed::commands);
        let billed = self.billed.iter().flat_map(Billed::commands);
        let counted = self.counted.iter().flat_map(Counted::commands);
        governed.chain(billed).chain(counted).collect()
    }

    /// Texts that nobody else may be shown.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let ids = self.record_ids.iter().map(String::as_str);
        ids.chain([self.marker.as_str()])
    }

    /// Those of the tenant, which both of its worlds may be shown.
    pub(super) fn secrets_of_tenant(&self) -> impl Iterator<Item = &str> {
        [&self.tenant_id, &self.principal_id, &self.key_id]
            .into_iter()
            .map(String::as_str)
    }

    pub(super) fn marker(&self) -> &str {
        &self.marker
    }

    pub(super) fn read(&self) -> Option<ReadOptions> {
        Some(ReadOptions {
            at_least: self.tokens.clone(),
            max_wait: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        })
    }

    fn started(&self, rng: &mut StdRng) -> RunFact {
        let marker = &self.marker;
        let started = RunStarted {
            run_id: self.run_id.clone(),
            agent_id: format!("agent-{marker}"),
            space_id: format!("space-{marker}"),
            trigger: Trigger::Api.into(),
            task: format!("the task of {marker}"),
            input_json: format!("{{\"of\":\"{marker}\"}}"),
            labels: BTreeMap::from([("owner".to_owned(), marker.clone())]),
            ..RunStarted::default()
        };
        facts::run_fact(rng, Fact::RunStarted(started))
    }

    /// A late word of the run.
    pub(super) async fn go_on(&mut self, clients: &Clients, rng: &mut StdRng) {
        let progressed = RunProgressed {
            run_id: self.run_id.clone(),
            phase: RunPhase::Running.into(),
            note: format!("more of {}", self.marker),
        };
        let fact = facts::run_fact(rng, Fact::RunProgressed(progressed));
        self.append(clients, vec![fact]).await;
    }

    async fn append(&mut self, clients: &Clients, facts: Vec<RunFact>) {
        let request = RunIngestServiceAppendRequest { facts };
        let answer =
            patiently(async || clients.runs_in.clone().append(request.clone()).await).await;
        self.keep(answer.token, answer.results);
    }

    /// Tool calls, messages and occurrences: two of each, so that there is a second page.
    async fn append_about_it(&mut self, clients: &Clients, rng: &mut StdRng) {
        let (run, marker) = (self.run_id.clone(), self.marker.clone());
        let facts = [1, 2].map(|number| {
            facts::tool_call_started(
                rng,
                &run,
                &format!("call-{marker}-{number}"),
                &format!("tool-{marker}"),
            )
        });
        let request = ToolCallIngestServiceAppendRequest {
            facts: facts.into(),
        };
        let answer =
            patiently(async || clients.tool_calls_in.clone().append(request.clone()).await).await;
        self.keep(answer.token, answer.results);
        let facts = [1, 2].map(|number| {
            let message_id = format!("message-{marker}-{number}");
            facts::message(rng, &run, &self.conversation_id, &message_id, &marker)
        });
        let request = MessageIngestServiceAppendRequest {
            facts: facts.into(),
        };
        let answer =
            patiently(async || clients.messages_in.clone().append(request.clone()).await).await;
        self.keep(answer.token, answer.results);
        let facts = [1, 2].map(|_| facts::occurrence(rng, &run, &self.schedule_id, &marker));
        let request = ScheduleIngestServiceAppendRequest {
            facts: facts.into(),
        };
        let answer =
            patiently(async || clients.schedules_in.clone().append(request.clone()).await).await;
        self.keep(answer.token, answer.results);
    }

    fn keep(&mut self, token: String, results: Vec<common::AppendResult>) {
        self.tokens.push(token);
        for result in results {
            let Some(Outcome::Accepted(accepted)) = result.outcome else {
                panic!("{result:?}")
            };
            self.position = accepted.position;
            self.record_ids.insert(result.id);
        }
    }

    /// Learns the tokens of second pages, as their owner does.
    async fn turn_pages(&mut self, clients: &Clients) {
        let (run_id, read, page_size) = (self.run_id.clone(), self.read(), 1);
        let mut runs = clients.runs.clone();
        let request = run::ListToolCallsRequest {
            run_id: run_id.clone(),
            page_size,
            read: read.clone(),
            ..Default::default()
        };
        let page = runs
            .list_tool_calls(request)
            .await
            .expect("a page")
            .into_inner();
        self.pages.insert("ListToolCalls", page.next_page_token);
        let conversation_id = self.conversation_id.clone();
        let request = run::ListMessagesRequest {
            conversation_id,
            page_size,
            read: read.clone(),
            ..Default::default()
        };
        let page = runs
            .list_messages(request)
            .await
            .expect("a page")
            .into_inner();
        self.pages.insert("ListMessages", page.next_page_token);
        let schedule_id = self.schedule_id.clone();
        let request = run::ListOccurrencesRequest {
            schedule_id,
            page_size,
            read: read.clone(),
            ..Default::default()
        };
        let page = runs
            .list_occurrences(request)
            .await
            .expect("a page")
            .into_inner();
        self.pages.insert("ListOccurrences", page.next_page_token);
        let request = run::GetTimelineRequest {
            run_id: run_id.clone(),
            page_size,
            read,
            ..Default::default()
        };
        let page = runs
            .get_timeline(request)
            .await
            .expect("a page")
            .into_inner();
        self.pages.insert("GetTimeline", page.next_page_token);
        let request = run::TailRunRequest {
            run_id,
            ..Default::default()
        };
        let mut tail = runs.tail_run(request).await.expect("a tail").into_inner();
        let first = tail.message().await.expect("an item").expect("an item");
        self.pages.insert("TailRun", first.resume_token);
        assert!(self.pages.values().all(|token| !token.is_empty()));
    }

    /// Every read of `RunsService` that leads its owner to them.
    pub(super) fn reads(&self) -> Vec<Ask> {
        let (run_id, read) = (self.run_id.clone(), self.read());
        let runs = run::ListRunsRequest {
            read: read.clone(),
            ..Default::default()
        };
        let labels = BTreeMap::from([("owner".to_owned(), self.marker.clone())]);
        ask!["run.v1.RunsService",
            GetRun => run::GetRunRequest { run_id: run_id.clone(), read: read.clone() },
            ListRuns => runs,
            ListRuns => run::ListRunsRequest { task_contains: self.marker.clone(), ..runs.clone() },
            ListRuns => run::ListRunsRequest { agent_id: format!("agent-{}", self.marker), ..runs.clone() },
            ListRuns => run::ListRunsRequest { space_id: format!("space-{}", self.marker), ..runs.clone() },
            ListRuns => run::ListRunsRequest { tool: format!("tool-{}", self.marker), ..runs.clone() },
            ListRuns => run::ListRunsRequest { labels, ..runs },
            ListToolCalls => run::ListToolCallsRequest { run_id: run_id.clone(), read: read.clone(), ..Default::default() },
            ListMessages => run::ListMessagesRequest {
                conversation_id: self.conversation_id.clone(), read: read.clone(), ..Default::default()
            },
            ListOccurrences => run::ListOccurrencesRequest {
                schedule_id: self.schedule_id.clone(), read: read.clone(), ..Default::default()
            },
            GetTimeline => run::GetTimelineRequest { run_id: run_id.clone(), read, ..Default::default() },
            TailRun => self.tail(""),
        ]
    }

    /// The same with tokens of pages that were handed out to their owner.
    pub(super) fn reads_on(&self) -> Vec<Ask> {
        let page = |of: &str| self.pages[of].clone();
        let (run_id, read) = (self.run_id.clone(), self.read());
        ask!["run.v1.RunsService",
            ListToolCalls => run::ListToolCallsRequest {
                run_id: run_id.clone(), page_token: page("ListToolCalls"), page_size: 1, read: read.clone(), ..Default::default()
            },
            ListMessages => run::ListMessagesRequest {
                conversation_id: self.conversation_id.clone(), page_token: page("ListMessages"), page_size: 1, read: read.clone()
            },
            ListOccurrences => run::ListOccurrencesRequest {
                schedule_id: self.schedule_id.clone(), page_token: page("ListOccurrences"), page_size: 1, read: read.clone(),
                ..Default::default()
            },
            GetTimeline => run::GetTimelineRequest { run_id, page_token: page("GetTimeline"), page_size: 1, read },
            TailRun => self.tail(&page("TailRun")),
        ]
    }

    /// Ends by itself or says within a second that nothing is new.
    pub(super) fn tail(&self, resume_token: &str) -> run::TailRunRequest {
        run::TailRunRequest {
            run_id: self.run_id.clone(),
            resume_token: resume_token.into(),
            heartbeat: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            until_ended: false,
        }
    }

    /// Every read of the directory that leads its tenant's admin to them.
    pub(super) fn directory_reads(&self) -> Vec<Ask> {
        let (tenant_id, principal_id) = (self.tenant_id.clone(), self.principal_id.clone());
        ask!["directory.v1.DirectoryService",
            WhoAmI => directory::WhoAmIRequest {},
            GetTenant => directory::GetTenantRequest { tenant_id: tenant_id.clone() },
            ListPrincipals => directory::ListPrincipalsRequest { tenant_id: tenant_id.clone(), ..Default::default() },
            ListKeys => directory::ListKeysRequest { tenant_id, ..Default::default() },
            ListKeys => directory::ListKeysRequest { principal_id, ..Default::default() },
        ]
    }

    /// Every change of the directory that would touch them. Their own admin must not try these.
    pub(super) fn directory_changes(&self) -> Vec<Ask> {
        let (tenant_id, principal_id, key_id) = (
            self.tenant_id.clone(),
            self.principal_id.clone(),
            self.key_id.clone(),
        );
        let role = common::Role::Admin.into();
        let limits = directory::Limits {
            records_per_second: 1,
            bytes_per_second: 1_024,
            commands_per_second: 1,
        };
        ask!["directory.v1.DirectoryService",
            CreateTenant => directory::CreateTenantRequest { name: "mine".into(), limits: None },
            ListTenants => directory::ListTenantsRequest::default(),
            SetLimits => directory::SetLimitsRequest { tenant_id: tenant_id.clone(), limits: Some(limits) },
            CreatePrincipal => directory::CreatePrincipalRequest {
                tenant_id: tenant_id.clone(), name: "intruder".into(), kind: common::PrincipalKind::User.into(), role,
            },
            SetRole => directory::SetRoleRequest { principal_id: principal_id.clone(), role },
            DisablePrincipal => directory::DisablePrincipalRequest { principal_id: principal_id.clone() },
            CreateKey => directory::CreateKeyRequest { principal_id, mode: common::Mode::Sandbox.into(), ..Default::default() },
            RotateKey => directory::RotateKeyRequest { key_id: key_id.clone(), overlap: None },
            RevokeKey => directory::RevokeKeyRequest { key_id },
            ListKillSwitches => directory::ListKillSwitchesRequest { tenant_id: tenant_id.clone() },
            SetKillSwitch => directory::SetKillSwitchRequest {
                target: Some(Target::TenantId(tenant_id)), on: true, reason: "mine".into(),
            },
        ]
    }

    /// The decision that one of its records be left out.
    pub(super) fn skips(&self) -> Vec<Ask> {
        ask!["log.v1.DeadLetterService",
            Skip => SkipRequest {
                id: "0198f0c2-5f1e-7b9a-8c55-3f2f6f0e8d11".into(),
                projection: "runledger.runs".into(),
                position: self.position.clone(),
                reason: "mine".into(),
            },
        ]
    }

    /// Everything that its owner reads of the run, to be compared.
    pub(super) async fn seen(
        &self,
        clients: &Clients,
    ) -> (Option<run::Run>, Vec<run::TimelineItem>) {
        let mut runs = clients.runs.clone();
        let request = run::GetRunRequest {
            run_id: self.run_id.clone(),
            read: self.read(),
        };
        let run = runs
            .get_run(request)
            .await
            .expect("the run")
            .into_inner()
            .run;
        let request = run::GetTimelineRequest {
            run_id: self.run_id.clone(),
            read: self.read(),
            ..Default::default()
        };
        let timeline = runs
            .get_timeline(request)
            .await
            .expect("the timeline")
            .into_inner();
        (run, timeline.items)
    }

    /// The first fact of the run as somebody else would tell it: the same ids, other words.
    pub(super) async fn retell(&mut self, clients: &Clients, rng: &mut StdRng) {
        let mut fact = self.started(rng);
        if let Some(Fact::RunStarted(started)) = &mut fact.fact {
            started.task = "another story".into();
        }
        for id in self.record_ids.clone() {
            let fact = RunFact { id, ..fact.clone() };
            self.append(clients, vec![fact]).await;
        }
    }
}
