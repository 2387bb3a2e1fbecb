//! What `runledger policies` says of itself.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, Subcommand};
use runledger_domain::json::Json;
use runledger_domain::policy::{Action, Operator, Severity};
use runledger_domain::scope::Role;

use crate::policies::EXAMPLE;

use super::people::{label, moment, word};
use super::{Reading, Server};

#[derive(Debug, Subcommand)]
pub(crate) enum Policies {
    /// List policies, those that every tenant begins with too
    List(PolicyList),
    /// Show one as it is now
    Show(PolicyShow),
    /// Show what one was before, the newest first
    Versions(PolicyShow),
    /// Make one, from a file or from flags; needs the key of an admin
    Create(PolicyCreate),
    /// Give one the content of a file; needs the key of an admin
    ///
    /// Its version is one more then; what it said before stays, see `policies versions`.
    Update(PolicyUpdate),
    /// Let one take part; needs the key of an admin
    Enable(PolicyChange),
    /// Let one take no part; needs the key of an admin
    Disable(PolicyChange),
    /// Take one away for good, its history stays; needs the key of an admin
    Delete(PolicyChange),
    /// See what changes would make of calls, without making them
    ///
    /// Judges the calls that agents have asked for, or one that --call describes, by the policies as
    /// they are with the changes of --with and --without. Nothing is stored.
    ///
    ///   runledger policies simulate --with large-bookings=draft.toml --from 2024-09-01
    ///
    ///   runledger policies simulate --without large-bookings --call book_reservation --arguments '{"amount": 500}'
    #[command(verbatim_doc_comment)]
    Simulate(PolicySimulate),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyList {
    /// Deleted ones too
    #[arg(long)]
    pub(crate) deleted: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyShow {
    /// Id of the policy
    pub(crate) policy: String,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
#[command(
    after_long_help = EXAMPLE,
    group(ArgGroup::new("what").required(true).args(["file", "name"])),
    group(ArgGroup::new("test").args(["when", "cel"]))
)]
pub(crate) struct PolicyCreate {
    /// File with the policy; --help shows one
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["description", "action", "when", "cel", "severity", "quorum", "roles"]
    )]
    pub(crate) file: Option<PathBuf>,
    /// Id to give it, unique for ever [default: one is made]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// The answer as one JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) new: NewPolicy,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// A policy in a line; what is not here, a file can say.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Instead of a file")]
pub(crate) struct NewPolicy {
    /// Name
    #[arg(long, value_name = "TEXT", requires = "action", requires = "test")]
    pub(crate) name: Option<String>,
    /// Why there is this policy
    #[arg(long, value_name = "TEXT", requires = "name")]
    pub(crate) description: Option<String>,
    /// What to do with a call that it matches: allow, warn, require_approval, block
    #[arg(long, value_name = "ACTION", value_parser = action, requires = "name")]
    pub(crate) action: Option<Action>,
    /// A condition, for example 'arguments.amount gte 300'; may be given again, all must hold
    #[arg(long, value_name = "FIELD OPERATOR VALUE", value_parser = condition, requires = "name")]
    pub(crate) when: Vec<(String, Operator, Json)>,
    /// An expression, for example 'tool == "pay" && arguments.amount > 300'
    #[arg(long, value_name = "EXPRESSION", requires = "name")]
    pub(crate) cel: Option<String>,
    /// How grave a match is: low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity, requires = "name")]
    pub(crate) severity: Option<Severity>,
    /// How many must approve
    #[arg(long, value_name = "COUNT", requires = "name")]
    pub(crate) quorum: Option<u32>,
    /// Who may approve; may be given again
    #[arg(long = "role", value_name = "ROLE", value_parser = role, requires = "name")]
    pub(crate) roles: Vec<Role>,
}

#[derive(Clone, Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct PolicyUpdate {
    /// Id of the policy
    pub(crate) policy: String,
    /// File with the policy; --help shows one
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only if this is its version now
    #[arg(long, value_name = "N")]
    pub(crate) expected_version: Option<u64>,
    /// The answer as one JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyChange {
    /// Id of the policy
    pub(crate) policy: String,
    /// Only if this is its version now
    #[arg(long, value_name = "N")]
    pub(crate) expected_version: Option<u64>,
    /// The answer as one JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PolicySimulate {
    /// Add the policy of a file, or put it in the place of the one with this id; may be given again
    #[arg(long, value_name = "ID=FILE", value_parser = drafted)]
    pub(crate) with: Vec<(String, PathBuf)>,
    /// Leave this policy out; may be given again
    #[arg(long, value_name = "ID")]
    pub(crate) without: Vec<String>,
    /// Begin with no policies instead of those there are
    #[arg(long)]
    pub(crate) from_nothing: bool,
    /// Only calls of this agent; of --call, the agent that asks
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Only calls of this run; of --call, the run
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) recorded: RecordedCalls,
    #[command(flatten)]
    pub(crate) described: DescribedCall,
    /// How many calls to show whose verdict would be another
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// Which calls that were asked for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Calls that were asked for")]
pub(crate) struct RecordedCalls {
    /// Decided at or after this moment: 2024-09-01 or 2024-09-01T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Decided before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// Only calls of this tool
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: Option<String>,
}

/// A call that nobody has asked for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "A call that nobody has asked for")]
pub(crate) struct DescribedCall {
    /// Judge a call of this tool instead of those that were asked for
    #[arg(long, value_name = "TOOL", conflicts_with_all = ["from", "to", "tool"])]
    pub(crate) call: Option<String>,
    /// Its arguments, as JSON
    #[arg(long, value_name = "JSON", requires = "call")]
    pub(crate) arguments: Option<String>,
    /// What it says it is about to do
    #[arg(long, value_name = "TEXT", requires = "call")]
    pub(crate) action_hint: Option<String>,
    /// The model of its run
    #[arg(long, value_name = "NAME", requires = "call")]
    pub(crate) model: Option<String>,
    /// A label of its run; may be given again
    #[arg(long = "label", value_name = "NAME=VALUE", requires = "call", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

/// `ID=FILE`.
fn drafted(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((id, file)) if !id.is_empty() && !file.is_empty() => Ok((id.into(), file.into())),
        _ => Err("write ID=FILE, for example large-bookings=draft.toml".to_owned()),
    }
}

fn action(text: &str) -> Result<Action, String> {
    word(text, Action::ALL)
}

fn severity(text: &str) -> Result<Severity, String> {
    word(text, Severity::ALL)
}

fn role(text: &str) -> Result<Role, String> {
    word(text, Role::ALL)
}

/// `FIELD OPERATOR VALUE`; a value that is no JSON is taken for a text.
fn condition(text: &str) -> Result<(String, Operator, Json), String> {
    let mut parts = text.trim().splitn(3, char::is_whitespace);
    let (Some(field), Some(operator), Some(value)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(
            "write FIELD OPERATOR VALUE, for example 'arguments.amount gte 300'".to_owned(),
        );
    };
    let value = value.trim();
    let json = Json::parse(value).or_else(|_| {
        let quoted = serde_json::Value::from(value).to_string();
        Json::parse(&quoted).map_err(|fault| fault.to_string())
    })?;
    Ok((field.to_owned(), word(operator, Operator::ALL)?, json))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn parse(words: &[&str]) -> Result<Policies, clap::Error> {
        let words = ["runledger", "policies"].iter().chain(words);
        match Cli::try_parse_from(words)?.command {
            Command::Policies(policies) => Ok(policies),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_policy_is_made_from_a_file_or_from_flags() {
        let by_flags = [
            "create",
            "--name",
            "n",
            "--action",
            "require_approval",
            "--when",
            "tool equals pay",
            "--when",
            "arguments.amount gte 300",
            "--quorum",
            "2",
            "--role",
            "admin",
            "--severity",
            "high",
            "--id",
            "p",
        ];
        let Ok(Policies::Create(create)) = parse(&by_flags) else {
            panic!("not parsed")
        };
        let when: Vec<(&str, Operator, &str)> = create
            .new
            .when
            .iter()
            .map(|(field, operator, value)| (field.as_str(), *operator, value.as_str()))
            .collect();
        assert_eq!(
            when,
            [
                ("tool", Operator::Equals, r#""pay""#),
                ("arguments.amount", Operator::Gte, "300"),
            ]
        );
        let short = ["create", "--name", "n", "--action", "warn", "--cel", "true"];
        assert!(parse(&short).is_ok());
        for line in [
            "create --file f.toml",
            "create --file f.toml --id p --json",
            "update p --file f.json --expected-version 3",
            "enable p",
            "disable p --expected-version 0",
            "delete p --json",
            "list --deleted --json",
            "show p",
            "versions p --wait-for t",
            "simulate",
            "simulate --with p=f.toml --without q --from 2024-09-01 --tool pay --json",
            "simulate --from-nothing --call pay --arguments {} --label a=b --agent a",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(parse(&words).is_ok(), "{line}");
        }
    }

    #[test]
    fn half_a_policy_is_refused() {
        for line in [
            "create",
            "create --name n",
            "create --name n --action warn",
            "create --name n --cel true",
            "create --name n --action warn --cel true --when a",
            "create --name n --action shout --cel true",
            "create --file f --name n --action warn --cel true",
            "create --file f --cel true",
            "create --action warn --cel true",
            "update p",
            "update --file f",
            "delete",
            "disable p --expected-version x",
            "simulate --with f.toml",
            "simulate --call pay --tool pay",
            "simulate --arguments {}",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(parse(&words).is_err(), "{line}");
        }
    }

    #[test]
    fn a_condition_has_three_parts() {
        assert!(condition("tool equals").is_err());
        assert!(condition("tool is x").is_err());
        let parsed = condition("arguments.city equals New York");
        assert_eq!(
            parsed.map(|(_, _, value)| value.as_str().to_owned()),
            Ok(r#""New York""#.to_owned())
        );
        let listed = condition(r#"tool in ["a", "b"]"#);
        assert_eq!(
            listed.map(|(_, _, value)| value.as_str().to_owned()),
            Ok(r#"["a","b"]"#.to_owned())
        );
    }
}
