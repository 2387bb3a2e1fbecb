//! What `runledger approvals` says of itself.

use std::time::Duration;

use clap::{Args, Subcommand};
use runledger_domain::approval::Status;
use runledger_domain::json::Json;
use runledger_domain::policy::Severity;
use uuid::Uuid;

use super::people::{duration, word};
use super::{Reading, Role, Server};

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List held calls, the newest first; those that wait, unless told otherwise
    List(ApprovalsList),
    /// Show one with all that an approver needs: arguments, policies, terms, votes, calls like it
    Show(ApprovalsShow),
    /// Approve one, or give one of the approvals that it takes
    ///
    /// Shows it first, and approves exactly the arguments that were shown: when somebody edits them
    /// meanwhile, nothing is approved. Needs the key of a reviewer or an admin.
    Approve(ApprovalsApprove),
    /// Reject one
    ///
    /// Needs the key of a reviewer or an admin.
    Reject(ApprovalsReject),
    /// Follow the queue: every change from now on
    Watch(ApprovalsWatch),
    /// Role: answer every command once, in the order of the log
    Decider(Role),
    /// Role: take commands in, and answer from what was decided
    Api(Role),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApprovalsList {
    /// In any of these states: pending, approved, rejected, expired, cancelled
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',', default_value = "pending", value_parser = status)]
    pub(crate) statuses: Vec<Status>,
    /// In whatever state
    #[arg(long, conflicts_with = "statuses")]
    pub(crate) all: bool,
    /// Held by this policy
    #[arg(long, value_name = "ID")]
    pub(crate) policy: Option<String>,
    /// Asked for by this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Calls of this tool
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: Option<String>,
    /// Of this run
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// At least as grave: low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub(crate) severity: Option<Severity>,
    /// Asked for at least so long ago, for example 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) older_than: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApprovalsShow {
    /// Id of the approval
    pub(crate) approval: Uuid,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApprovalsApprove {
    /// Id of the approval
    pub(crate) approval: Uuid,
    /// Why
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    pub(crate) reason: String,
    /// Approve these arguments in the place of those asked for
    #[arg(long, value_name = "JSON", value_parser = arguments)]
    pub(crate) arguments: Option<Json>,
    /// The answer as one JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApprovalsReject {
    /// Id of the approval
    pub(crate) approval: Uuid,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The answer as one JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApprovalsWatch {
    /// Go on behind this change: the `resume` of an earlier watch (--json shows them)
    #[arg(long, value_name = "TOKEN")]
    pub(crate) resume: Option<String>,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

fn status(text: &str) -> Result<Status, String> {
    word(text, Status::ALL)
}

fn severity(text: &str) -> Result<Severity, String> {
    word(text, Severity::ALL)
}

fn arguments(text: &str) -> Result<Json, String> {
    Json::parse(text).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    const ID: &str = "0198f0c2-5f1e-7b9a-8c55-3f2f6f0e8d11";

    fn parse(line: &str) -> Result<Approvals, clap::Error> {
        let line = format!("runledger approvals {line}").replace("ID", ID);
        match Cli::try_parse_from(line.split_whitespace())?.command {
            Command::Approvals(approvals) => Ok(approvals),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_queue_is_what_waits_unless_told_otherwise() {
        let listed = |line| match parse(line) {
            Ok(Approvals::List(list)) => list,
            other => panic!("{other:?}"),
        };
        assert_eq!(listed("list").statuses, [Status::Pending]);
        assert!(listed("list --all").all);
        let list = listed(
            "list --status expired,cancelled --policy p --agent a --tool t --run r --severity high --older-than 1h --limit 5 --json",
        );
        assert_eq!(list.statuses, [Status::Expired, Status::Cancelled]);
        assert_eq!(list.severity, Some(Severity::High));
        assert_eq!(list.older_than, Some(Duration::from_secs(3_600)));
        for wrong in [
            "--all --status pending",
            "--status open",
            "--severity grave",
            "--limit 0",
        ] {
            assert!(parse(&format!("list {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_decided_by_half() {
        assert!(parse("approve ID").is_ok());
        assert!(parse(r#"approve ID --reason fine --arguments {"amount":5}"#).is_ok());
        assert!(parse("reject ID --reason no").is_ok());
        assert!(parse("watch --resume x --json").is_ok());
        for wrong in [
            "approve",
            "approve 5",
            "approve ID --arguments {",
            r#"approve ID --arguments {"a":1,"a":2}"#,
            "reject ID",
            "reject ID --reason no --arguments {}",
            "show",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
