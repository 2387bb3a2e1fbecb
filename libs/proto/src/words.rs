//! Enums of the wire and of the domain, each pair in one table.

use runledger_domain::{
    analytics, approval, audit, credit, decision, log, message, policy, run, schedule, scope,
};

use crate::{
    analytics as wire_analytics, approval as wire_approval, audit as wire_audit,
    billing as wire_billing, common, log as wire_log, message as wire_message,
    policy as wire_policy, run as wire_run, schedule as wire_schedule,
};

/// An enum of the wire whose values, but for "unspecified", are those of a domain enum.
pub trait Word: TryFrom<i32> + Copy {
    type Domain: Copy;

    /// `None`: unspecified.
    fn known(self) -> Option<Self::Domain>;
}

/// The domain value of a wire number; `None` when it is unspecified or unknown to this version.
pub fn known<W: Word>(number: i32) -> Option<W::Domain> {
    W::try_from(number).ok().and_then(W::known)
}

macro_rules! words {
    ($($wire:ty = $domain:ty { $($variant:ident),+ $(,)? })+) => {$(
        impl Word for $wire {
            type Domain = $domain;

            fn known(self) -> Option<$domain> {
                match self {
                    Self::Unspecified => None,
                    $(Self::$variant => Some(<$domain>::$variant)),+
                }
            }
        }

        impl From<$domain> for $wire {
            fn from(value: $domain) -> Self {
                match value {
                    $(<$domain>::$variant => Self::$variant),+
                }
            }
        }
    )+};
}

words! {
    wire_analytics::v1::Subject = analytics::Subject {
        Run, ToolCall, Approval, Usage, Cost, Counter, Message, Occurrence,
    }
    wire_analytics::v1::Dimension = analytics::Dimension {
        Agent, AgentVersion, Model, Space, Tool, Status, Verdict, Kind, Error,
    }
    wire_analytics::v1::Granularity = analytics::Granularity { Minute, Hour, Day, Week, Month }
    wire_analytics::v1::Measure = analytics::Measure { Count, Quantity, Duration }
    common::v1::Mode = scope::Mode { Live, Sandbox }
    common::v1::Role = scope::Role { Admin, Reviewer, Viewer, Agent, Operator }
    common::v1::PrincipalKind = scope::PrincipalKind { User, Agent, Service }
    wire_audit::v1::ActorType = audit::ActorType { Agent, System, User }
    wire_log::v1::Kind = log::Kind { Fact, Command, Decision, Genesis }
    wire_run::v1::Trigger = run::Trigger { Manual, Schedule, Api, Message, Run, Event }
    wire_run::v1::RunPhase = run::Phase { Queued, Starting, Running, Waiting, Exporting, Stopping }
    wire_run::v1::RunOutcome = run::Outcome { Completed, Succeeded, Failed, Stopped, Skipped, Cancelled }
    wire_run::v1::WorkStatus = run::WorkStatus { Succeeded, Failed, Skipped, Cancelled }
    wire_run::v1::RunStatus = run::Status {
        Unknown, Queued, Starting, Running, Waiting, Exporting, Stopping,
        Completed, Succeeded, Failed, Stopped, Skipped, Cancelled,
    }
    wire_schedule::v1::OccurrenceStatus = schedule::OccurrenceStatus { Completed, Skipped, Failed }
    wire_log::v1::RejectionKind = decision::RejectionKind {
        Invalid, Forbidden, NotFound, AlreadyExists, Precondition, Internal,
    }
    wire_policy::v1::Action = policy::Action { Allow, Warn, Block, RequireApproval }
    wire_policy::v1::Severity = policy::Severity { Low, Medium, High, Critical }
    wire_policy::v1::Operator = policy::Operator {
        Equals, NotEquals, Contains, Matches, In, NotIn, Exists, Gt, Gte, Lt, Lte,
    }
    wire_policy::v1::PolicyChange = policy::Changing { Created, Updated, Enabled, Disabled, Deleted }
    wire_approval::v1::Verdict = approval::Verdict { Allowed, Warned, Blocked, AwaitingApproval }
    wire_approval::v1::ApprovalStatus = approval::Status {
        Pending, Approved, Rejected, Expired, Cancelled,
    }
    wire_billing::v1::GrantKind = credit::GrantKind { Paid, Promotional, Refund, Adjustment }
    wire_billing::v1::EntryKind = credit::EntryKind {
        Initial, Credit, Debit, Refund, Expiration, Adjustment, WriteOff, Hold, Release,
    }
    wire_billing::v1::BeyondLimit = credit::Beyond { RejectHolds, Reject, Flag }
    wire_billing::v1::SpendLimit = credit::Limit { Day, Month, Agent, Run }
    wire_message::v1::SenderRole = message::SenderRole { User, Agent, System, Tool }
}
