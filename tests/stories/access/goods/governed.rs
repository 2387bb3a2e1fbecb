//! What one scope has of policies and held calls, and every way to ask for it.

use prost::Message;
use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as approval;
use runledger_proto::approval::v1::approval_service_client::ApprovalServiceClient;
use runledger_proto::approval::v1::simulate_request::Calls;
use runledger_proto::audit::v1 as audit;
use runledger_proto::audit::v1::audit_service_client::AuditServiceClient;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::policy::v1 as policy;
use runledger_proto::policy::v1::policy_service_client::PolicyServiceClient;
use runledger_proto::run::v1::ToolCallStarted;
use runledger_service::client::Connection;
use runledger_tests::{Installation, Kind, Tenant};

use super::Ask;

/// A policy, and two calls that it holds.
pub(super) struct Governed {
    run_id: String,
    policy_id: String,
    tool: String,
    /// The command that asked for the first call, and the approval of it.
    approval_id: String,
    token: String,
    /// An entry of the audit about the run.
    audit_id: String,
    /// Of the queue, behind the first call.
    resume: String,
}

impl Governed {
    /// `key`: an agent's, of the world in which it is to be.
    pub(super) async fn ask(
        installation: &Installation,
        tenant: &Tenant,
        key: &str,
        marker: &str,
    ) -> Self {
        let is_sandbox = tenant.sandbox_keys.values().any(|one| one == key);
        let admin = if is_sandbox {
            tenant.sandbox_keys[&Role::Admin].as_str()
        } else {
            tenant.key(Role::Admin)
        };
        let (policy_id, tool) = (format!("policy-{marker}"), format!("tool-{marker}"));
        let mut policies =
            PolicyServiceClient::new(installation.connection(Kind::Approvals, 0, admin));
        let request = policy::CreatePolicyRequest {
            id: id(),
            policy_id: policy_id.clone(),
            spec: Some(spec(marker, &tool)),
        };
        let made = policies.create_policy(request).await.expect("a policy");
        let mut governed = Self {
            run_id: format!("run-{marker}"),
            policy_id,
            tool,
            approval_id: String::new(),
            token: made.into_inner().token,
            audit_id: String::new(),
            resume: String::new(),
        };
        let mut client =
            ApprovalServiceClient::new(installation.connection(Kind::Approvals, 0, key));
        let watch = client.watch_queue(approval::WatchQueueRequest::default());
        let mut watch = watch.await.expect("a watch").into_inner();
        governed.approval_id = governed.hold(&mut client, 1, marker).await;
        let change = watch.message().await.expect("a change").expect("a change");
        governed.resume = change.resume;
        governed.hold(&mut client, 2, marker).await;
        let mut audit = AuditServiceClient::new(installation.connection(Kind::Audit, 0, admin));
        let listed = audit.list_entries(governed.entries()).await;
        let entries = listed.expect("entries").into_inner().entries;
        governed.audit_id = entries.first().expect("an entry").audit_id.clone();
        governed
    }

    fn entries(&self) -> audit::ListEntriesRequest {
        audit::ListEntriesRequest {
            run_id: self.run_id.clone(),
            read: self.read(),
            ..Default::default()
        }
    }

    /// Asks for a call that the policy holds; the approval's id.
    async fn hold(
        &mut self,
        client: &mut ApprovalServiceClient<Connection>,
        number: usize,
        marker: &str,
    ) -> String {
        let request = approval::RequestToolCallRequest {
            request: Some(approval::ToolCallRequest {
                id: id(),
                call: Some(ToolCallStarted {
                    run_id: self.run_id.clone(),
                    tool_call_id: format!("held-{marker}-{number}"),
                    tool: self.tool.clone(),
                    arguments_json: format!("{{\"of\":\"{marker}\"}}"),
                    ..Default::default()
                }),
                agent_id: format!("agent-{marker}"),
            }),
            at_least: vec![self.token.clone()],
        };
        let answered = client.request_tool_call(request).await;
        let answer = answered.expect("an answer").into_inner().answer;
        let answer = answer.expect("an answer");
        self.token = answer.token;
        match answer.answer {
            Some(approval::tool_call_answer::Answer::Decided(decided)) => decided.approval_id,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self) -> Option<ReadOptions> {
        Some(ReadOptions {
            at_least: vec![self.token.clone()],
            max_wait: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        })
    }

    /// Every read that leads its owner to them.
    pub(super) fn reads(&self) -> Vec<Ask> {
        let (approval_id, policy_id) = (self.approval_id.clone(), self.policy_id.clone());
        let list = approval::ListApprovalsRequest {
            read: self.read(),
            ..Default::default()
        };
        let mut asks = ask!["audit.v1.AuditService",
            ListEntries => self.entries(),
            GetEntry => audit::GetEntryRequest { audit_id: self.audit_id.clone(), read: self.read() },
        ];
        asks.extend(ask!["approval.v1.ApprovalService",
            GetApproval => approval::GetApprovalRequest { approval_id: approval_id.clone(), read: self.read() },
            ListApprovals => list.clone(),
            ListApprovals => approval::ListApprovalsRequest { tool: self.tool.clone(), ..list.clone() },
            ListApprovals => approval::ListApprovalsRequest { run_id: self.run_id.clone(), ..list.clone() },
            ListApprovals => approval::ListApprovalsRequest { policy_id: policy_id.clone(), ..list },
            CountApprovals => approval::CountApprovalsRequest { read: self.read() },
            GetCommandOutcome => approval::GetCommandOutcomeRequest {
                stream: format!("run/{}", self.run_id), command_id: approval_id.clone(),
            },
            WaitForApproval => approval::WaitForApprovalRequest { approval_id, at_least: Vec::new() },
            WatchQueue => approval::WatchQueueRequest { resume: self.resume.clone() },
        ]);
        asks.extend(ask!["policy.v1.PolicyService",
            GetPolicy => policy::GetPolicyRequest { policy_id: policy_id.clone(), read: self.read() },
            ListPolicies => policy::ListPoliciesRequest { with_deleted: true, read: self.read() },
            ListPolicyVersions => policy::ListPolicyVersionsRequest { policy_id, read: self.read(), ..Default::default() },
        ]);
        let recorded = approval::RecordedCalls {
            run_id: self.run_id.clone(),
            ..Default::default()
        };
        // Without any policy the held call changes, and is shown.
        let all = approval::SimulateRequest {
            draft: Some(approval::Draft {
                from_nothing: true,
                ..Default::default()
            }),
            calls: Some(Calls::Recorded(approval::RecordedCalls::default())),
            read: self.read(),
            ..Default::default()
        };
        asks.extend(ask!["approval.v1.SimulationService",
            Simulate => all.clone(),
            Simulate => approval::SimulateRequest { calls: Some(Calls::Recorded(recorded)), ..all },
        ]);
        asks
    }

    /// Every command that would touch them, or has their ids.
    pub(super) fn commands(&self) -> Vec<Ask> {
        let (approval_id, policy_id) = (self.approval_id.clone(), self.policy_id.clone());
        let approve = approval::ApproveRequest {
            id: id(),
            approval_id: approval_id.clone(),
            ..Default::default()
        };
        let reject = approval::RejectRequest {
            id: id(),
            approval_id: approval_id.clone(),
            reason: "mine".into(),
        };
        let request = approval::ToolCallRequest {
            id: approval_id.clone(),
            call: Some(ToolCallStarted {
                run_id: "mine".into(),
                tool_call_id: approval_id,
                tool: "mine".into(),
                ..Default::default()
            }),
            agent_id: "mine".into(),
        };
        let item = approval::decide_approvals_request::item::Item::Approve(approve.clone());
        // Of a tool that nobody calls: a call that it held would be a stranger's own approval, by our id.
        let spec = spec("mine", "uncalled");
        let mut asks = ask!["approval.v1.ApprovalService",
            RequestToolCall => approval::RequestToolCallRequest { request: Some(request.clone()), at_least: Vec::new() },
            RequestToolCalls => approval::RequestToolCallsRequest { requests: vec![request], at_least: Vec::new() },
            ConfirmExecution => approval::ConfirmExecutionRequest {
                id: id(), run_id: "mine".into(), tool_call_id: "mine".into(), arguments_json: String::new(),
            },
            CompleteToolCall => approval::CompleteToolCallRequest { id: id(), ..Default::default() },
            Approve => approve,
            Reject => reject,
            DecideApprovals => approval::DecideApprovalsRequest {
                items: vec![approval::decide_approvals_request::Item { item: Some(item) }],
            },
        ];
        asks.extend(ask!["policy.v1.PolicyService",
            CreatePolicy => policy::CreatePolicyRequest { id: id(), policy_id: id(), spec: Some(spec.clone()) },
            UpdatePolicy => policy::UpdatePolicyRequest {
                id: id(), policy_id: policy_id.clone(), spec: Some(spec), expected_version: None,
            },
            EnablePolicy => policy::EnablePolicyRequest { id: id(), policy_id: policy_id.clone(), expected_version: None },
            DisablePolicy => policy::DisablePolicyRequest { id: id(), policy_id: policy_id.clone(), expected_version: None },
            DeletePolicy => policy::DeletePolicyRequest { id: id(), policy_id, expected_version: None },
        ]);
        asks
    }
}

fn id() -> String {
    uuid::Uuid::from_u128(rand::random()).to_string()
}

fn spec(marker: &str, tool: &str) -> policy::PolicySpec {
    policy::PolicySpec {
        name: format!("of {marker}"),
        when: Some(policy::policy_spec::When::Conditions(policy::Conditions {
            all: vec![policy::Condition {
                field: "tool".into(),
                operator: policy::Operator::Equals.into(),
                value_json: format!("\"{tool}\""),
            }],
        })),
        action: policy::Action::RequireApproval.into(),
        ..Default::default()
    }
}
