//! The people's commands.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use runledger_domain::audit::ActorType;
use runledger_domain::run::Status;
use runledger_domain::scope::{Mode, PrincipalKind, Role};
use secrecy::SecretString;
use uuid::Uuid;

/// Where the services are and who asks: a flag, else its variable, else the credentials file.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where and as whom")]
pub(crate) struct Server {
    /// API key; better by the variable than by the flag, which others on this machine can see
    #[arg(
        long,
        env = "RUNLEDGER_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub(crate) key: Option<SecretString>,
    /// Credentials file, as `runledger dev` writes it [default: .runledger/credentials.toml, here or above]
    #[arg(long, env = "RUNLEDGER_CREDENTIALS", value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// Address of ingest, for example http://127.0.0.1:7101
    #[arg(long, env = "RUNLEDGER_INGEST_URL", value_name = "URL")]
    pub(crate) ingest_url: Option<String>,
    /// Address of the directory
    #[arg(long, env = "RUNLEDGER_DIRECTORY_URL", value_name = "URL")]
    pub(crate) directory_url: Option<String>,
    /// Address of the runs api
    #[arg(long, env = "RUNLEDGER_RUNS_URL", value_name = "URL")]
    pub(crate) runs_url: Option<String>,
    /// Address of the approvals api
    #[arg(long, env = "RUNLEDGER_APPROVALS_URL", value_name = "URL")]
    pub(crate) approvals_url: Option<String>,
    /// Address of the audit api
    #[arg(long, env = "RUNLEDGER_AUDIT_URL", value_name = "URL")]
    pub(crate) audit_url: Option<String>,
    /// Address of the billing api
    #[arg(long, env = "RUNLEDGER_BILLING_URL", value_name = "URL")]
    pub(crate) billing_url: Option<String>,
    /// Address of the analytics api
    #[arg(long, env = "RUNLEDGER_ANALYTICS_URL", value_name = "URL")]
    pub(crate) analytics_url: Option<String>,
    /// PEM certificates that an https server's must descend from
    #[arg(long, env = "RUNLEDGER_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Act in the sandbox with a live key
    #[arg(long)]
    pub(crate) sandbox: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Demo {
    /// The runs to show
    #[arg(
        long,
        value_name = "FILE",
        default_value = "deploy/demo/airline-agent-runs.jsonl"
    )]
    pub(crate) file: PathBuf,
    /// Go on serving afterwards, until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Import {
    /// The file
    pub(crate) file: PathBuf,
    /// What times and record ids are derived from
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Put before every run id, to import a file once more beside itself
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// How to read and to show.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reading {
    /// See at least what this token of a write covers; may be given again
    #[arg(long, value_name = "TOKEN")]
    pub(crate) wait_for: Vec<String>,
    /// How long to wait for that [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "wait_for")]
    pub(crate) max_wait: Option<Duration>,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunsList {
    /// In any of these states
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    pub(crate) statuses: Vec<Status>,
    /// Of this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Of this space
    #[arg(long, value_name = "ID")]
    pub(crate) space: Option<String>,
    /// With this label; may be given again, all must hold
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// That called this tool
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: Option<String>,
    /// In which a tool call failed
    #[arg(long)]
    pub(crate) failed_calls: bool,
    /// In which no tool call failed
    #[arg(long, conflicts_with = "failed_calls")]
    pub(crate) no_failed_calls: bool,
    /// Begun at or after this moment: 2024-09-01 or 2024-09-01T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Begun before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// Whose task contains this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) task: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunsShow {
    /// Id of the run
    pub(crate) run: String,
    /// At most so many entries of the timeline
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunsTail {
    /// Id of the run; it need not be known yet
    pub(crate) run: String,
    /// Go on behind this entry: the resume token of an earlier tail (--json shows them)
    #[arg(long, value_name = "TOKEN")]
    pub(crate) resume: Option<String>,
    /// Go on after the run has ended
    #[arg(long)]
    pub(crate) follow: bool,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AuditList {
    /// About this run
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Done to one of these: policy, tool_call, approval, command, run, key, principal, tenant, and so on
    #[arg(long, value_name = "TYPE")]
    pub(crate) entity_type: Option<String>,
    /// What was done: matched, blocked, requested, approved, revoked, and so on
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// By an agent, the system or a user
    #[arg(long, value_name = "TYPE", value_parser = actor_type)]
    pub(crate) actor_type: Option<ActorType>,
    /// At or after this moment: 2024-09-01 or 2024-09-01T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// With all these words in them
    #[arg(long, value_name = "WORDS")]
    pub(crate) search: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

fn actor_type(text: &str) -> Result<ActorType, String> {
    let known = || ActorType::ALL.iter().map(|one| one.as_str());
    let unknown = |_| format!("one of {}", known().collect::<Vec<_>>().join(", "));
    text.parse().map_err(unknown)
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AuditShow {
    /// Id of the entry, for example run.3.4711.0
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// An operator names the tenant it means; anybody else means its own.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WhichTenant {
    /// Id of the tenant, for operators
    #[arg(long, value_name = "UUID")]
    pub(crate) tenant: Option<Uuid>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List the keys of a tenant, masked
    List {
        #[command(flatten)]
        which: WhichTenant,
        #[command(flatten)]
        server: Server,
    },
    /// Make a key and show it, this once
    Create {
        /// Name of the principal it identifies; made if there is none
        principal: String,
        /// Role of a principal that must be made
        #[arg(long, default_value = "agent", value_name = "ROLE", value_parser = role)]
        role: Role,
        /// Kind of a principal that must be made
        #[arg(long, default_value = "service", value_name = "KIND", value_parser = kind)]
        kind: PrincipalKind,
        /// Which world it opens
        #[arg(long, default_value = "live", value_name = "MODE", value_parser = mode)]
        mode: Mode,
        /// What it is for
        #[arg(
            long,
            default_value = "",
            hide_default_value = true,
            value_name = "TEXT"
        )]
        label: String,
        #[command(flatten)]
        which: WhichTenant,
        #[command(flatten)]
        server: Server,
    },
    /// Make a key in the place of another
    Rotate {
        /// Id of the key to replace
        key_id: Uuid,
        /// How long the old one still opens [default: 24h]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        overlap: Option<Duration>,
        #[command(flatten)]
        server: Server,
    },
    /// End a key: within a second it opens nothing
    Revoke {
        /// Id of the key
        key_id: Uuid,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Tenants {
    #[command(subcommand)]
    pub(crate) command: TenantsCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// List all tenants
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Make a tenant
    Create {
        /// Its name, unlike any other's
        name: String,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KillSwitch {
    /// `on` stops writes, `off` allows them, `status` tells
    pub(crate) turn: Turn,
    /// Why; needed to turn it on
    #[arg(long, value_name = "TEXT", required_if_eq("turn", "on"))]
    pub(crate) reason: Option<String>,
    /// All tenants; operators only
    #[arg(long, conflicts_with = "tenant")]
    pub(crate) everyone: bool,
    #[command(flatten)]
    pub(crate) which: WhichTenant,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Turn {
    On,
    Off,
    Status,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Lag {
    #[command(flatten)]
    pub(crate) role: super::Role,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// A read model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    Runs,
    Approvals,
    Audit,
    /// Accounts and prices
    Billing,
    /// What the forwarder of usage has to know
    Usage,
    /// What is counted
    Analytics,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runs => "runs",
            Self::Approvals => "approvals",
            Self::Audit => "audit",
            Self::Billing => "billing",
            Self::Usage => "usage",
            Self::Analytics => "analytics",
        })
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Verify {
    /// Which read model
    #[arg(value_enum, default_value_t = Model::Runs)]
    pub(crate) model: Model,
    /// Tasks that build at the same time; fewer leave more to those who are served
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// One JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) role: super::Role,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Rebuild {
    /// Which read model
    #[arg(value_enum)]
    pub(crate) model: Model,
    /// Tasks that build at the same time; fewer leave more to those who are served
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// Begin at the first record, whatever an earlier rebuild has left
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Go back to what was served before, once it has caught up
    #[arg(long, conflicts_with_all = ["fresh", "finish"])]
    pub(crate) rollback: bool,
    /// Drop what is not served: the way back, or an unfinished rebuild
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) finish: bool,
    #[command(flatten)]
    pub(crate) role: super::Role,
}

/// A time span: `500ms`, `10s`, `5m`, `24h`, `2d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|one: char| !one.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write a number and ms, s, m, h or d, for example 10s".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| "write a number and ms, s, m, h or d, for example 10s".to_owned())
}

/// A moment in UTC, or the beginning of a day.
pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|moment| moment.to_utc())
        .map_err(|_| "write a day, 2024-09-01, or a moment, 2024-09-01T10:00:00Z".to_owned())
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Parses one of the words of an enum, and lists them when it is none.
pub(super) fn word<T: std::str::FromStr + Copy + fmt::Display + 'static>(
    text: &str,
    all: &'static [T],
) -> Result<T, String> {
    text.parse().map_err(|_| {
        let words: Vec<String> = all.iter().map(ToString::to_string).collect();
        format!("must be one of {}", words.join(", "))
    })
}

fn status(text: &str) -> Result<Status, String> {
    word(text, Status::ALL)
}

fn role(text: &str) -> Result<Role, String> {
    word(text, Role::ALL)
}

fn kind(text: &str) -> Result<PrincipalKind, String> {
    word(text, PrincipalKind::ALL)
}

pub(super) fn mode(text: &str) -> Result<Mode, String> {
    word(text, Mode::ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            moment("2024-09-01").map(|at| at.to_rfc3339()),
            Ok("2024-09-01T00:00:00+00:00".to_owned())
        );
        assert_eq!(
            moment("2024-09-01T12:00:00+02:00").map(|at| at.to_rfc3339()),
            Ok("2024-09-01T10:00:00+00:00".to_owned())
        );
    }
}
