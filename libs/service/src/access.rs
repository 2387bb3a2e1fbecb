//! Who may call what: the one table. An rpc that is not in it is refused, and fails a test.

use std::collections::HashMap;
use std::sync::LazyLock;

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::scope::Role;

/// Who may call an rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a key.
    Public,
    /// Whoever has a key and one of these roles.
    Roles(&'static [Role]),
}

/// How an rpc is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One request, one answer, soon.
    Unary,
    /// At least one side sends many messages, for as long as it likes.
    Stream,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As in the request: `/package.Service/Method`.
    pub path: &'static str,
    pub shape: Shape,
    pub access: Access,
}

const PUBLIC: Access = Access::Public;
const WRITERS: Access = Access::Roles(&[Role::Admin, Role::Agent]);
const READERS: Access = Access::Roles(&[Role::Admin, Role::Reviewer, Role::Viewer, Role::Agent]);
const ANYBODY: Access = Access::Roles(Role::ALL);
const OPERATORS: Access = Access::Roles(&[Role::Operator]);
const APPROVERS: Access = Access::Roles(&[Role::Admin, Role::Reviewer]);
/// An agent must not try out what would pass.
const PEOPLE: Access = Access::Roles(&[Role::Admin, Role::Reviewer, Role::Viewer]);
/// An agent must not learn how it is watched.
const AUDITORS: Access =
    Access::Roles(&[Role::Admin, Role::Reviewer, Role::Viewer, Role::Operator]);
const TENANT_ADMINS: Access = Access::Roles(&[Role::Admin]);
const ADMINS: Access = Access::Roles(&[Role::Operator, Role::Admin]);

const fn unary(path: &'static str, access: Access) -> Rule {
    Rule {
        path,
        shape: Shape::Unary,
        access,
    }
}

const fn stream(path: &'static str, access: Access) -> Rule {
    Rule {
        path,
        shape: Shape::Stream,
        access,
    }
}

/// Every rpc there is.
pub const TABLE: &[Rule] = &[
    unary("/runledger.run.v1.RunIngestService/Append", WRITERS),
    stream("/runledger.run.v1.RunIngestService/AppendStream", WRITERS),
    unary("/runledger.run.v1.ToolCallIngestService/Append", WRITERS),
    stream(
        "/runledger.run.v1.ToolCallIngestService/AppendStream",
        WRITERS,
    ),
    unary(
        "/runledger.schedule.v1.ScheduleIngestService/Append",
        WRITERS,
    ),
    stream(
        "/runledger.schedule.v1.ScheduleIngestService/AppendStream",
        WRITERS,
    ),
    unary("/runledger.message.v1.MessageIngestService/Append", WRITERS),
    stream(
        "/runledger.message.v1.MessageIngestService/AppendStream",
        WRITERS,
    ),
    unary("/runledger.log.v1.DeadLetterService/Skip", ADMINS),
    unary("/runledger.run.v1.RunsService/GetRun", READERS),
    unary("/runledger.run.v1.RunsService/ListRuns", READERS),
    unary("/runledger.run.v1.RunsService/ListToolCalls", READERS),
    unary("/runledger.run.v1.RunsService/ListMessages", READERS),
    unary("/runledger.run.v1.RunsService/ListOccurrences", READERS),
    unary("/runledger.run.v1.RunsService/GetTimeline", READERS),
    stream("/runledger.run.v1.RunsService/TailRun", READERS),
    unary(
        "/runledger.approval.v1.ApprovalService/RequestToolCall",
        WRITERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/RequestToolCalls",
        WRITERS,
    ),
    stream(
        "/runledger.approval.v1.ApprovalService/WaitForApproval",
        READERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/ConfirmExecution",
        WRITERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/CompleteToolCall",
        WRITERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/GetCommandOutcome",
        READERS,
    ),
    unary("/runledger.approval.v1.ApprovalService/Approve", APPROVERS),
    unary("/runledger.approval.v1.ApprovalService/Reject", APPROVERS),
    unary(
        "/runledger.approval.v1.ApprovalService/DecideApprovals",
        APPROVERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/GetApproval",
        READERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/ListApprovals",
        READERS,
    ),
    unary(
        "/runledger.approval.v1.ApprovalService/CountApprovals",
        READERS,
    ),
    stream("/runledger.approval.v1.ApprovalService/WatchQueue", READERS),
    unary("/runledger.approval.v1.SimulationService/Simulate", PEOPLE),
    unary(
        "/runledger.policy.v1.PolicyService/CreatePolicy",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.policy.v1.PolicyService/UpdatePolicy",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.policy.v1.PolicyService/EnablePolicy",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.policy.v1.PolicyService/DisablePolicy",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.policy.v1.PolicyService/DeletePolicy",
        TENANT_ADMINS,
    ),
    unary("/runledger.policy.v1.PolicyService/GetPolicy", READERS),
    unary("/runledger.policy.v1.PolicyService/ListPolicies", READERS),
    unary(
        "/runledger.policy.v1.PolicyService/ListPolicyVersions",
        READERS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/GrantCredits",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/GrantRecurringCredits",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/VoidGrant",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/AdjustCredits",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/RefundCredits",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/WriteOffCredits",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/SetSpendLimits",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/SetTimeZone",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/SetThresholds",
        TENANT_ADMINS,
    ),
    unary(
        "/runledger.billing.v1.BillingService/ReserveCredits",
        WRITERS,
    ),
    unary("/runledger.billing.v1.BillingService/ExtendHold", WRITERS),
    unary("/runledger.billing.v1.BillingService/SettleHold", WRITERS),
    unary("/runledger.billing.v1.BillingService/ReleaseHold", WRITERS),
    unary(
        "/runledger.billing.v1.BillingService/GetCommandOutcome",
        READERS,
    ),
    unary("/runledger.billing.v1.BillingService/GetBalance", READERS),
    unary(
        "/runledger.billing.v1.BillingService/ExplainBalance",
        READERS,
    ),
    unary("/runledger.billing.v1.BillingService/ListEntries", READERS),
    unary("/runledger.billing.v1.BillingService/GetSpending", READERS),
    unary("/runledger.billing.v1.BillingService/GetRunCost", READERS),
    unary("/runledger.billing.v1.BillingService/ListCharges", READERS),
    unary("/runledger.billing.v1.BillingService/ListHolds", READERS),
    unary("/runledger.billing.v1.BillingService/ListAccounts", READERS),
    unary("/runledger.billing.v1.BillingService/GetAccount", READERS),
    unary(
        "/runledger.billing.v1.BillingService/ListCrossings",
        READERS,
    ),
    unary("/runledger.billing.v1.BillingService/Quote", READERS),
    unary(
        "/runledger.billing.v1.BillingService/ListWaitingUsage",
        READERS,
    ),
    unary(
        "/runledger.price.v1.PriceService/PublishPrices",
        TENANT_ADMINS,
    ),
    unary("/runledger.price.v1.PriceService/GetPrices", READERS),
    unary("/runledger.price.v1.PriceService/ListPrices", READERS),
    unary("/runledger.price.v1.PriceService/DiffPrices", READERS),
    unary("/runledger.analytics.v1.AnalyticsService/Query", READERS),
    unary("/runledger.analytics.v1.AnalyticsService/Compare", READERS),
    unary(
        "/runledger.analytics.v1.AnalyticsService/GetRunSummary",
        READERS,
    ),
    unary(
        "/runledger.analytics.v1.AnalyticsService/GetRecordsSummary",
        READERS,
    ),
    unary(
        "/runledger.analytics.v1.AnalyticsService/GetFunnel",
        READERS,
    ),
    unary(
        "/runledger.analytics.v1.AnalyticsService/GetCoverage",
        READERS,
    ),
    unary(
        "/runledger.analytics.v1.AnalyticsService/GetInsights",
        READERS,
    ),
    unary(
        "/runledger.analytics.v1.AnalyticsService/DiagnoseRun",
        READERS,
    ),
    stream(
        "/runledger.analytics.v1.AnalyticsService/ExportQuery",
        READERS,
    ),
    unary("/runledger.audit.v1.AuditService/ListEntries", AUDITORS),
    unary("/runledger.audit.v1.AuditService/GetEntry", AUDITORS),
    unary("/runledger.directory.v1.DirectoryService/WhoAmI", ANYBODY),
    unary(
        "/runledger.directory.v1.DirectoryService/CreateTenant",
        OPERATORS,
    ),
    unary("/runledger.directory.v1.DirectoryService/GetTenant", ADMINS),
    unary(
        "/runledger.directory.v1.DirectoryService/ListTenants",
        OPERATORS,
    ),
    unary(
        "/runledger.directory.v1.DirectoryService/SetLimits",
        OPERATORS,
    ),
    unary(
        "/runledger.directory.v1.DirectoryService/CreatePrincipal",
        ADMINS,
    ),
    unary(
        "/runledger.directory.v1.DirectoryService/ListPrincipals",
        ADMINS,
    ),
    unary("/runledger.directory.v1.DirectoryService/SetRole", ADMINS),
    unary(
        "/runledger.directory.v1.DirectoryService/DisablePrincipal",
        ADMINS,
    ),
    unary("/runledger.directory.v1.DirectoryService/CreateKey", ADMINS),
    unary("/runledger.directory.v1.DirectoryService/ListKeys", ADMINS),
    unary("/runledger.directory.v1.DirectoryService/RotateKey", ADMINS),
    unary("/runledger.directory.v1.DirectoryService/RevokeKey", ADMINS),
    unary(
        "/runledger.directory.v1.DirectoryService/SetKillSwitch",
        ADMINS,
    ),
    unary(
        "/runledger.directory.v1.DirectoryService/ListKillSwitches",
        ADMINS,
    ),
    unary("/grpc.health.v1.Health/Check", PUBLIC),
    unary("/grpc.health.v1.Health/List", PUBLIC),
    stream("/grpc.health.v1.Health/Watch", PUBLIC),
    stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        PUBLIC,
    ),
    stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        PUBLIC,
    ),
];

static ROWS: LazyLock<HashMap<&'static str, &'static Rule>> =
    LazyLock::new(|| TABLE.iter().map(|rule| (rule.path, rule)).collect());

/// The row of `path`; none: no such rpc.
pub fn rule(path: &str) -> Option<&'static Rule> {
    ROWS.get(path).copied()
}

impl Rule {
    /// Whether `role` may call this rpc.
    ///
    /// # Errors
    /// Forbidden, `ROLE_NOT_ALLOWED`, naming the roles that may.
    pub fn check(&self, role: Role) -> Result<(), Fault> {
        let roles = match self.access {
            Access::Public => return Ok(()),
            Access::Roles(roles) => roles,
        };
        if roles.contains(&role) {
            return Ok(());
        }
        let may: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        Err(Fault::new(
            Kind::Forbidden,
            "ROLE_NOT_ALLOWED",
            format!(
                "a principal with the role {role} may not call this; these roles may: {}",
                may.join(", ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every rpc of the descriptors with its shape.
    fn described() -> BTreeMap<String, Shape> {
        let files = FileDescriptorSet::decode(runledger_proto::DESCRIPTORS)
            .unwrap()
            .file;
        let mut rpcs = BTreeMap::new();
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    rpcs.insert(path, if streams { Shape::Stream } else { Shape::Unary });
                }
            }
        }
        rpcs
    }

    #[test]
    fn every_rpc_has_its_row_and_every_row_its_rpc() {
        let described = described();
        assert!(described.len() >= 30);
        for (path, shape) in &described {
            let rule = rule(path).unwrap_or_else(|| panic!("{path} is missing in access::TABLE"));
            assert_eq!(rule.shape, *shape, "{path}");
            assert!(
                matches!(rule.access, Access::Roles(roles) if !roles.is_empty()),
                "{path} must name roles"
            );
        }
        for rule in TABLE {
            let ours = described.contains_key(rule.path);
            let public = rule.path.starts_with("/grpc.") && rule.access == Access::Public;
            assert!(
                ours || public,
                "{} is in access::TABLE but in no proto",
                rule.path
            );
        }
        assert_eq!(ROWS.len(), TABLE.len(), "a row twice");
    }

    #[test]
    fn a_refusal_names_the_roles_that_may() {
        let rule = rule("/runledger.run.v1.RunIngestService/Append").unwrap();
        assert!(rule.check(Role::Agent).is_ok());
        let fault = rule.check(Role::Viewer).unwrap_err();
        assert_eq!(
            (fault.kind, fault.reason),
            (Kind::Forbidden, "ROLE_NOT_ALLOWED".into())
        );
        assert!(fault.message.contains("admin, agent"), "{}", fault.message);
    }
}
