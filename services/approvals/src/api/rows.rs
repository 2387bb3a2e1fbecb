//! Rows of the queue, as the wire has them.

use runledger_domain::approval::Status;
use runledger_domain::policy::Severity;
use runledger_domain::scope::{PrincipalKind, Role};
use runledger_domain::time::Timestamp;
use runledger_proto::{approval::v1 as wire, common::v1 as common, encode, policy::v1 as policy};
use sqlx::FromRow;
use uuid::Uuid;

#[derive(FromRow)]
pub(super) struct ApprovalRow {
    pub(super) approval_id: Uuid,
    pub(super) run_id: String,
    tool_call_id: String,
    pub(super) agent_id: String,
    pub(super) tool: String,
    policy_id: String,
    policy_version: i64,
    policy_name: String,
    severity: Option<String>,
    pub(super) status: String,
    quorum: i32,
    approved: i32,
    pub(super) requested_at: Timestamp,
    requester_id: Uuid,
    requester_kind: String,
    requester_role: String,
    decide_by: Timestamp,
    decided_at: Option<Timestamp>,
    use_by: Option<Timestamp>,
    used_at: Option<Timestamp>,
    arguments_digest: Vec<u8>,
    pub(super) edited_arguments: Option<String>,
}

impl ApprovalRow {
    pub(super) fn to_wire(&self) -> wire::Approval {
        let status = self.status.parse::<Status>().ok();
        let severity = self
            .severity
            .as_ref()
            .and_then(|one| one.parse::<Severity>().ok());
        wire::Approval {
            approval_id: self.approval_id.to_string(),
            run_id: self.run_id.clone(),
            tool_call_id: self.tool_call_id.clone(),
            agent_id: self.agent_id.clone(),
            tool: self.tool.clone(),
            policy_id: self.policy_id.clone(),
            policy_version: u64::try_from(self.policy_version).unwrap_or_default(),
            policy_name: self.policy_name.clone(),
            severity: severity.map_or(0, |one| policy::Severity::from(one).into()),
            status: status.map_or(0, |one| wire::ApprovalStatus::from(one).into()),
            quorum: u32::try_from(self.quorum).unwrap_or_default(),
            approved: u32::try_from(self.approved).unwrap_or_default(),
            requested_at: Some(encode::timestamp(self.requested_at)),
            requester: Some(self.requester()),
            decide_by: Some(encode::timestamp(self.decide_by)),
            decided_at: self.decided_at.map(encode::timestamp),
            use_by: self.use_by.map(encode::timestamp),
            used_at: self.used_at.map(encode::timestamp),
            arguments_digest: self.arguments_digest.clone(),
        }
    }

    fn requester(&self) -> common::Actor {
        let kind = self.requester_kind.parse::<PrincipalKind>().ok();
        let role = self.requester_role.parse::<Role>().ok();
        common::Actor {
            principal_id: self.requester_id.to_string(),
            kind: kind.map_or(0, |one| common::PrincipalKind::from(one).into()),
            role: role.map_or(0, |one| common::Role::from(one).into()),
        }
    }
}
