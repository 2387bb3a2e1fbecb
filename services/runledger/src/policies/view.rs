//! How policies look in a terminal.

use std::collections::BTreeMap;

use comfy_table::Cell;
use runledger_domain::policy;
use runledger_proto::approval::v1::verdict_cause::MatchedAs;
use runledger_proto::approval::v1::{SimulatedCall, VerdictCause};
use runledger_proto::common;
use runledger_proto::policy::v1 as wire;
use runledger_proto::policy::v1::list_policy_versions_response::Version;
use runledger_proto::policy::v1::policy_spec::When;
use runledger_proto::words::known;

use super::simulate::verdict;
use crate::runs::moment;
use crate::runs::view::{by, span, when, word};
use crate::say::{Columns, Tone, cell, count, short, toned};

pub(crate) fn action(number: i32) -> Cell {
    let tone = match known::<wire::Action>(number) {
        Some(policy::Action::Block) => Tone::Bad,
        Some(policy::Action::RequireApproval | policy::Action::Warn) => Tone::Busy,
        Some(policy::Action::Allow) => Tone::Good,
        None => Tone::Faint,
    };
    toned(word::<wire::Action>(number), tone)
}

/// Nothing where none was said: the action tells then.
pub(crate) fn severity(number: i32) -> Cell {
    let tone = match known::<wire::Severity>(number) {
        Some(policy::Severity::Critical) => Tone::Bad,
        Some(policy::Severity::High) => Tone::Busy,
        Some(policy::Severity::Medium | policy::Severity::Low) => Tone::Plain,
        None => return cell(""),
    };
    toned(word::<wire::Severity>(number), tone)
}

fn state(policy: &wire::Policy) -> Cell {
    let disabled = policy.spec.as_ref().is_some_and(|spec| spec.disabled);
    match (policy.deleted, disabled) {
        (true, _) => toned("deleted", Tone::Faint),
        (false, true) => toned("disabled", Tone::Faint),
        (false, false) => toned("enabled", Tone::Good),
    }
}

/// When a policy matches, in a line.
fn test(spec: &wire::PolicySpec) -> String {
    match &spec.when {
        Some(When::Cel(text)) => text.clone(),
        Some(When::Conditions(conditions)) => {
            let all: Vec<String> = conditions.all.iter().map(condition).collect();
            all.join(" and ")
        }
        None => String::new(),
    }
}

fn condition(one: &wire::Condition) -> String {
    let operator = word::<wire::Operator>(one.operator);
    format!("{} {operator} {}", one.field, one.value_json)
}

pub(super) fn policies(policies: &[wire::Policy]) -> Columns {
    let names = [
        "policy",
        ">version",
        "state",
        "action",
        "severity",
        "name",
        "matches when",
    ];
    let mut table = Columns::new(&names);
    for policy in policies {
        let spec = policy.spec.clone().unwrap_or_default();
        table.row([
            cell(short(&policy.policy_id, 40)),
            cell(policy.version),
            state(policy),
            action(spec.action),
            severity(spec.severity),
            cell(short(&spec.name, 32)),
            cell(short(&test(&spec), 64)),
        ]);
    }
    table
}

/// One policy, a property a row.
pub(super) fn policy(policy: &wire::Policy) -> Columns {
    let mut table = Columns::new(&["policy", &short(&policy.policy_id, 128)]);
    let mut say = |name: &str, value: Cell| table.row([cell(name), value]);
    let spec = policy.spec.clone().unwrap_or_default();
    say("name", cell(short(&spec.name, 128)));
    if !spec.description.is_empty() {
        say("description", cell(short(&spec.description, 400)));
    }
    say("version", cell(policy.version));
    say("state", state(policy));
    say("action", action(spec.action));
    if spec.severity != 0 {
        say("severity", severity(spec.severity));
    }
    match &spec.when {
        Some(When::Cel(text)) => say("matches when", cell(short(text, 1_024))),
        Some(When::Conditions(conditions)) => {
            for (index, one) in conditions.all.iter().enumerate() {
                let name = if index == 0 { "matches when" } else { "and" };
                say(name, cell(short(&condition(one), 400)));
            }
        }
        None => {}
    }
    if let Some(rule) = &spec.approval {
        say("approval", cell(terms(rule)));
    }
    if let Some(limits) = &spec.limits {
        say("limits of a run", cell(bounds(limits)));
    }
    let updated = policy.updated.clone().filter(|_| policy.version > 1);
    for (name, change) in [("made", &policy.created), ("changed", &updated)] {
        if let Some(change) = change {
            let at = when(moment(change.at.as_ref()));
            say(
                name,
                cell(format!("{at} UTC by {}", by(change.by.as_ref()))),
            );
        }
    }
    table
}

fn terms(rule: &wire::ApprovalRule) -> String {
    let mut parts = vec![format!("{} of", rule.quorum.max(1))];
    parts.push(approvers(rule.approvers.as_ref()));
    if rule.requester_may_approve {
        parts.push("or whoever asked".to_owned());
    }
    for (what, time) in [
        ("to decide within", &rule.time_to_decide),
        ("to use within", &rule.time_to_use),
    ] {
        if let Some(time) = time {
            parts.push(format!("{what} {}", seconds(time)));
        }
    }
    parts.join(" ")
}

/// Who may approve: `admin, reviewer`, principals by their ids.
pub(crate) fn approvers(set: Option<&wire::ApproverSet>) -> String {
    let named: Vec<String> = set
        .map(|set| {
            let roles = set.roles.iter().map(|role| word::<common::v1::Role>(*role));
            roles.chain(set.principals.iter().cloned()).collect()
        })
        .unwrap_or_default();
    if named.is_empty() {
        "admin, reviewer".to_owned()
    } else {
        short(&named.join(", "), 200)
    }
}

fn seconds(time: &prost_types::Duration) -> String {
    span(chrono::TimeDelta::try_seconds(time.seconds).unwrap_or(chrono::TimeDelta::MAX))
}

fn bounds(limits: &runledger_proto::run::v1::RunLimits) -> String {
    let mut parts = Vec::new();
    for (what, number) in [
        ("calls", limits.tool_calls),
        ("calls of one tool", limits.calls_of_one_tool),
        ("blocked calls", limits.blocked_calls),
    ] {
        parts.extend(number.map(|number| format!("{number} {what}")));
    }
    parts.extend(limits.duration.as_ref().map(seconds));
    parts.join(", ")
}

pub(super) fn versions(versions: &[Version]) -> Columns {
    let names = [
        ">version",
        "superseded (UTC)",
        "by",
        "action",
        "name",
        "matched when",
    ];
    let mut table = Columns::new(&names);
    for version in versions {
        let policy = version.policy.clone().unwrap_or_default();
        let spec = policy.spec.clone().unwrap_or_default();
        table.row([
            cell(policy.version),
            cell(when(moment(version.archived_at.as_ref()))),
            cell(by(version.archived_by.as_ref())),
            action(spec.action),
            cell(short(&spec.name, 32)),
            cell(short(&test(&spec), 64)),
        ]);
    }
    table
}

/// How many calls had which verdict, and would have which.
pub(super) fn verdicts(counts: &BTreeMap<(i32, i32), u64>) -> Columns {
    let mut table = Columns::new(&["verdict", "would be", ">calls"]);
    for ((before, after), calls) in counts {
        let tone = if before == after {
            Tone::Faint
        } else {
            Tone::Busy
        };
        table.row([
            toned(verdict(*before), tone),
            toned(verdict(*after), tone),
            cell(count(*calls)),
        ]);
    }
    table
}

/// Calls whose verdicts would be others, and why.
pub(super) fn changes(calls: &[SimulatedCall]) -> Columns {
    let names = [
        "decided (UTC)",
        "run",
        "call",
        "tool",
        "verdict",
        "would be",
        "because",
        ">fields",
    ];
    let mut table = Columns::new(&names);
    for call in calls {
        let because: Vec<String> = call.causes.iter().map(cause).collect();
        table.row([
            cell(when(moment(call.decided_at.as_ref()))),
            cell(short(&call.run_id, 40)),
            cell(short(&call.tool_call_id, 40)),
            cell(short(&call.tool, 40)),
            cell(verdict(call.before)),
            cell(verdict(call.after)),
            cell(short(&because.join("; "), 200)),
            cell(format!("{}/{}", call.fields_present, call.fields_read)),
        ]);
    }
    table
}

/// `p 3 would not match`, `p 4 would match`.
fn cause(one: &VerdictCause) -> String {
    let policy = short(&one.policy_id, 64);
    let action = |of: &MatchedAs| word::<wire::Action>(of.action);
    match (&one.before, &one.after) {
        (Some(before), None) => format!("{policy} ({}) would not match", action(before)),
        (None, Some(after)) => format!("{policy} ({}) would match", action(after)),
        (Some(before), Some(after)) => {
            format!(
                "{policy} would {} instead of {}",
                action(after),
                action(before)
            )
        }
        (None, None) => policy,
    }
}

/// A call that nobody has asked for: what it would get, and from which policies.
pub(super) fn described(calls: &[SimulatedCall]) -> Columns {
    let mut table = Columns::new(&["verdict now", "would be", "because", "policies that match"]);
    for call in calls {
        let because: Vec<String> = call.causes.iter().map(cause).collect();
        let matches = call.matches.iter().map(|one| {
            let error = match one.error.as_str() {
                "" => String::new(),
                error => format!(": {error}"),
            };
            let action = word::<wire::Action>(one.action);
            format!("{} {} ({action}){error}", one.policy_id, one.version)
        });
        table.row([
            cell(verdict(call.before)),
            cell(verdict(call.after)),
            cell(short(&because.join("; "), 400)),
            cell(short(&matches.collect::<Vec<_>>().join("; "), 400)),
        ]);
    }
    table
}
