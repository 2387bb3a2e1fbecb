//! A policy as people write it, in TOML or JSON, into the message that the service takes.
//!
//! Says what only a file can get wrong: words, spans, values that JSON does not have. What a policy may
//! say is the service's to judge.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runledger_domain::policy::{Action, Operator, Severity};
use runledger_domain::scope::Role;
use runledger_proto::policy::v1 as wire;
use runledger_proto::run::v1::RunLimits;
use runledger_proto::{common, encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Longest file that is looked at.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How a policy file looks; shown by `--help`, and a test reads it.
pub(crate) const EXAMPLE: &str = r#"A policy file is TOML, or JSON with the same fields when its name ends in .json:

  name = "Large bookings"
  description = "A person looks at what costs much."    # optional
  action = "require_approval"           # allow, warn, require_approval, block; the strictest wins
  severity = "high"                     # optional: low, medium, high, critical

  # Either conditions, which must all hold ...
  conditions = [
    { field = "tool", operator = "equals", value = "book_reservation" },
    { field = "arguments.payment_methods.0.amount", operator = "gte", value = 300 },
  ]
  # ... or an expression:
  # cel = 'tool == "book_reservation" && arguments.payment_methods.exists(p, p.amount >= 300)'

  [approval]                            # optional, and only with require_approval
  quorum = 1                            # how many must approve
  roles = ["reviewer", "admin"]         # who may; the default is these two
  principals = []                       # and these, by id
  requester_may_approve = false
  time_to_decide = "24h"                # then it counts as rejected
  time_to_use = "1h"                    # how long an approval is good for

  [limits]                              # optional: of a run that makes such a call
  tool_calls = 100
  calls_of_one_tool = 20
  duration = "1h"
  blocked_calls = 3

Fields: tool, agent, action_hint, run, model, arguments.<path>, labels.<name>.
Operators: equals, not_equals, contains, matches, in, not_in, exists, gt, gte, lt, lte."#;

/// Why a file is no policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes, too large for a policy", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is not a policy in TOML; `runledger policies create --help` shows one", path.display())]
    Toml {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{} is not a policy in JSON; `runledger policies create --help` shows one", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} has faults:\n{}", path.display(), lines(faults))]
    Faults { path: PathBuf, faults: Vec<Fault> },
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    field: String,
    what: String,
}

fn lines(faults: &[Fault]) -> String {
    let lines = faults.iter();
    let lines = lines.map(|fault| format!("  {}  {}", fault.field, fault.what));
    lines.collect::<Vec<_>>().join("\n")
}

/// The value of a condition, as the file's format has it.
trait Natural: DeserializeOwned {
    /// As JSON text.
    fn json(self) -> Result<String, String>;
}

impl Natural for Box<RawValue> {
    fn json(self) -> Result<String, String> {
        Ok(self.get().to_owned())
    }
}

impl Natural for toml::Value {
    fn json(self) -> Result<String, String> {
        Ok(match self {
            Self::Array(values) => {
                let all: Result<Vec<String>, String> = values.into_iter().map(Self::json).collect();
                format!("[{}]", all?.join(","))
            }
            Self::Table(table) => {
                let all: Result<Vec<String>, String> = table
                    .into_iter()
                    .map(|(key, value)| {
                        Ok(format!(
                            "{}:{}",
                            serde_json::Value::from(key),
                            value.json()?
                        ))
                    })
                    .collect();
                format!("{{{}}}", all?.join(","))
            }
            Self::String(text) => serde_json::Value::from(text).to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(is) => is.to_string(),
            Self::Float(number) if number.is_finite() => {
                serde_json::Value::from(number).to_string()
            }
            Self::Float(_) => return Err("JSON has no such number".to_owned()),
            Self::Datetime(_) => return Err("write the moment as a text, in quotes".to_owned()),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<V> {
    name: String,
    #[serde(default)]
    description: String,
    action: String,
    conditions: Option<Vec<RawCondition<V>>>,
    cel: Option<String>,
    approval: Option<RawApproval>,
    severity: Option<String>,
    limits: Option<RawLimits>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCondition<V> {
    field: String,
    operator: String,
    value: V,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApproval {
    quorum: Option<u32>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    principals: Vec<String>,
    #[serde(default)]
    requester_may_approve: bool,
    time_to_decide: Option<String>,
    time_to_use: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    tool_calls: Option<u32>,
    calls_of_one_tool: Option<u32>,
    duration: Option<String>,
    blocked_calls: Option<u32>,
}

/// Reads a file: JSON when its name says so, TOML otherwise.
///
/// # Errors
/// When it cannot be read or is no policy; lists every word and span that is none.
pub(crate) fn read(path: &Path) -> Result<wire::PolicySpec, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let is_json = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("json"));
    let spec = if is_json {
        let raw: Raw<Box<RawValue>> =
            serde_json::from_str(&text).map_err(|source| Error::Json {
                path: path.to_owned(),
                source,
            })?;
        spec(raw)
    } else {
        let raw: Raw<toml::Value> = toml::from_str(&text).map_err(|source| Error::Toml {
            path: path.to_owned(),
            source,
        })?;
        spec(raw)
    };
    spec.map_err(|faults| Error::Faults {
        path: path.to_owned(),
        faults,
    })
}

/// Takes what is sound and notes what is not.
#[derive(Default)]
struct See(Vec<Fault>);

impl See {
    fn fault(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(Fault {
            field: field.into(),
            what: what.into(),
        });
    }

    fn word<T>(&mut self, field: impl Into<String>, text: &str, all: &[T]) -> Option<T>
    where
        T: std::str::FromStr + Copy + std::fmt::Display,
    {
        let word = text.parse().ok();
        if word.is_none() {
            let words: Vec<String> = all.iter().map(ToString::to_string).collect();
            self.fault(field, format!("must be one of {}", words.join(", ")));
        }
        word
    }

    fn span(&mut self, field: &str, text: Option<&String>) -> Option<prost_types::Duration> {
        match humantime_serde::re::humantime::parse_duration(text?) {
            // What the wire cannot say is no longer than what the service takes.
            Ok(span) => Some(encode::duration(
                span.min(Duration::from_secs(u32::MAX.into())),
            )),
            Err(error) => {
                self.fault(
                    field,
                    format!("must be a time like 90s, 10m or 24h: {error}"),
                );
                None
            }
        }
    }
}

fn spec<V: Natural>(raw: Raw<V>) -> Result<wire::PolicySpec, Vec<Fault>> {
    let mut see = See::default();
    let action = see.word("action", &raw.action, Action::ALL);
    let severity = raw
        .severity
        .and_then(|text| see.word("severity", &text, Severity::ALL));
    let when = match (raw.conditions, raw.cel) {
        (Some(all), None) => {
            let all = conditions(&mut see, all);
            Some(wire::policy_spec::When::Conditions(wire::Conditions {
                all,
            }))
        }
        (None, Some(cel)) => Some(wire::policy_spec::When::Cel(cel)),
        (Some(_), Some(_)) => {
            see.fault(
                "cel",
                "must not be there beside conditions: leave one of them out",
            );
            None
        }
        (None, None) => {
            see.fault("conditions", "must be given, or cel in their place");
            None
        }
    };
    let approval = raw.approval.map(|raw| approval(&mut see, raw));
    let limits = raw.limits.map(|raw| RunLimits {
        tool_calls: raw.tool_calls,
        calls_of_one_tool: raw.calls_of_one_tool,
        duration: see.span("limits.duration", raw.duration.as_ref()),
        blocked_calls: raw.blocked_calls,
    });
    let spec = wire::PolicySpec {
        name: raw.name,
        description: raw.description,
        when,
        action: action.map_or(0, |one| wire::Action::from(one).into()),
        approval,
        severity: severity.map_or(0, |one| wire::Severity::from(one).into()),
        limits,
        disabled: raw.disabled,
    };
    if see.0.is_empty() {
        Ok(spec)
    } else {
        Err(see.0)
    }
}

fn conditions<V: Natural>(see: &mut See, all: Vec<RawCondition<V>>) -> Vec<wire::Condition> {
    let mut conditions = Vec::with_capacity(all.len());
    for (index, raw) in all.into_iter().enumerate() {
        let at = format!("conditions[{index}]");
        let operator = see.word(format!("{at}.operator"), &raw.operator, Operator::ALL);
        let value = raw.value.json();
        let value_json = value.unwrap_or_else(|what| {
            see.fault(format!("{at}.value"), what);
            String::new()
        });
        conditions.push(wire::Condition {
            field: raw.field,
            operator: operator.map_or(0, |one| wire::Operator::from(one).into()),
            value_json,
        });
    }
    conditions
}

fn approval(see: &mut See, raw: RawApproval) -> wire::ApprovalRule {
    let mut roles = Vec::with_capacity(raw.roles.len());
    for (index, text) in raw.roles.iter().enumerate() {
        let role = see.word(format!("approval.roles[{index}]"), text, Role::ALL);
        roles.extend(role.map(|one| i32::from(common::v1::Role::from(one))));
    }
    wire::ApprovalRule {
        quorum: raw.quorum.unwrap_or_default(),
        approvers: Some(wire::ApproverSet {
            roles,
            principals: raw.principals,
        }),
        requester_may_approve: raw.requester_may_approve,
        time_to_decide: see.span("approval.time_to_decide", raw.time_to_decide.as_ref()),
        time_to_use: see.span("approval.time_to_use", raw.time_to_use.as_ref()),
    }
}

#[cfg(test)]
mod tests;
