//! Those who ask and those who decide, over the apis of an installation.

use runledger_domain::scope::Role;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::approval_service_client::ApprovalServiceClient;
use runledger_proto::policy::v1 as policy;
use runledger_proto::policy::v1::policy_service_client::PolicyServiceClient;
use runledger_proto::run::v1::ToolCallStarted;
use runledger_service::client::Connection;
use runledger_tests::{Installation, Kind, Tenant};
use tonic::Status;
use uuid::Uuid;

/// One caller at one api.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) approvals: ApprovalServiceClient<Connection>,
    pub(crate) policies: PolicyServiceClient<Connection>,
}

impl Desk {
    pub(crate) fn of(installation: &Installation, api: u32, key: &str) -> Self {
        let connection = installation.connection(Kind::Approvals, api, key);
        Self {
            approvals: ApprovalServiceClient::new(connection.clone()),
            policies: PolicyServiceClient::new(connection),
        }
    }

    pub(crate) fn role(installation: &Installation, tenant: &Tenant, role: Role) -> Self {
        Self::of(installation, 0, tenant.key(role))
    }

    /// Makes a policy; its token.
    pub(crate) async fn create(&mut self, id: &str, spec: policy::PolicySpec) -> String {
        let request = policy::CreatePolicyRequest {
            id: new_id(),
            policy_id: id.into(),
            spec: Some(spec),
        };
        let created = self.policies.create_policy(request).await;
        let created = created.expect("a policy").into_inner();
        assert_eq!(created.policy.expect("decided").version, 1);
        created.token
    }

    /// Asks for one call.
    pub(crate) async fn request(
        &mut self,
        id: &str,
        call: ToolCallStarted,
        at_least: &[String],
    ) -> Result<wire::ToolCallAnswer, Status> {
        let request = wire::RequestToolCallRequest {
            request: Some(wire::ToolCallRequest {
                id: id.into(),
                call: Some(call),
                agent_id: "agent-1".into(),
            }),
            at_least: at_least.to_vec(),
        };
        let answered = self.approvals.request_tool_call(request).await?;
        Ok(answered.into_inner().answer.expect("an answer"))
    }

    pub(crate) async fn approve(
        &mut self,
        id: &str,
        approval_id: &str,
    ) -> Result<wire::DecisionAnswer, Status> {
        let request = wire::ApproveRequest {
            id: id.into(),
            approval_id: approval_id.into(),
            ..Default::default()
        };
        let answered = self.approvals.approve(request).await?;
        Ok(answered.into_inner().answer.expect("an answer"))
    }

    pub(crate) async fn reject(
        &mut self,
        id: &str,
        approval_id: &str,
    ) -> Result<wire::DecisionAnswer, Status> {
        let request = wire::RejectRequest {
            id: id.into(),
            approval_id: approval_id.into(),
            reason: "no".into(),
        };
        let answered = self.approvals.reject(request).await?;
        Ok(answered.into_inner().answer.expect("an answer"))
    }

    pub(crate) async fn confirm(
        &mut self,
        call: &ToolCallStarted,
        arguments: &str,
    ) -> Result<wire::ConfirmExecutionResponse, Status> {
        let request = wire::ConfirmExecutionRequest {
            id: new_id(),
            run_id: call.run_id.clone(),
            tool_call_id: call.tool_call_id.clone(),
            arguments_json: arguments.into(),
        };
        let answered = self.approvals.confirm_execution(request).await?;
        Ok(answered.into_inner())
    }

    /// All that the queue keeps of an approval.
    pub(super) async fn get(&mut self, approval_id: &str) -> wire::GetApprovalResponse {
        let request = wire::GetApprovalRequest {
            approval_id: approval_id.into(),
            read: None,
        };
        let got = self.approvals.get_approval(request).await;
        got.expect("an approval").into_inner()
    }
}

pub(crate) fn new_id() -> String {
    Uuid::from_u128(rand::random()).to_string()
}

pub(crate) fn call(run: &str, number: usize, tool: &str, arguments: &str) -> ToolCallStarted {
    ToolCallStarted {
        run_id: run.into(),
        tool_call_id: format!("call-{number}"),
        tool: tool.into(),
        arguments_json: arguments.into(),
        ..Default::default()
    }
}

/// A policy on one tool.
pub(crate) fn on_tool(tool: &str, action: policy::Action) -> policy::PolicySpec {
    policy::PolicySpec {
        name: format!("all of {tool}"),
        when: Some(policy::policy_spec::When::Conditions(policy::Conditions {
            all: vec![policy::Condition {
                field: "tool".into(),
                operator: policy::Operator::Equals.into(),
                value_json: format!("\"{tool}\""),
            }],
        })),
        action: action.into(),
        ..Default::default()
    }
}

pub(crate) fn decided(answer: wire::ToolCallAnswer) -> wire::ToolCallDecided {
    match answer.answer {
        Some(wire::tool_call_answer::Answer::Decided(decided)) => decided,
        other => panic!("not decided: {other:?}"),
    }
}
