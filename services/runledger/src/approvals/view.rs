//! How held calls look in a terminal.

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::Cell;
use runledger_domain::approval::Status;
use runledger_proto::approval::v1 as wire;
use runledger_proto::policy::v1 as policy;
use runledger_proto::words::known;

use crate::policies::view::{action, approvers, severity};
use crate::runs::moment;
use crate::runs::view::{by, span, when, word};
use crate::say::{self, Columns, Tone, cell, short, toned};

/// Lines of arguments that are shown; --json shows all.
const ARGUMENT_LINES_MAX: usize = 200;

fn status_tone(number: i32) -> Tone {
    match known::<wire::ApprovalStatus>(number) {
        Some(Status::Pending) => Tone::Busy,
        Some(Status::Approved) => Tone::Good,
        Some(Status::Rejected) => Tone::Bad,
        Some(Status::Expired | Status::Cancelled) | None => Tone::Faint,
    }
}

fn status(approval: &wire::Approval) -> Cell {
    let text = word::<wire::ApprovalStatus>(approval.status);
    let used = if approval.used_at.is_some() {
        ", used"
    } else {
        ""
    };
    toned(format!("{text}{used}"), status_tone(approval.status))
}

/// How long since `at`, or until it.
fn apart(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> String {
    from.zip(to).map_or_else(String::new, |(from, to)| {
        let apart: TimeDelta = to - from;
        if apart < TimeDelta::zero() {
            "over".to_owned()
        } else {
            span(apart)
        }
    })
}

pub(crate) fn approvals(approvals: &[wire::Approval], now: DateTime<Utc>) -> Columns {
    let names = [
        "approval",
        "status",
        ">votes",
        "severity",
        "policy",
        "tool",
        "run",
        "call",
        ">asked ago",
        ">left",
    ];
    let mut table = Columns::new(&names);
    for one in approvals {
        let is_pending = one.status() == wire::ApprovalStatus::Pending;
        let left = if is_pending {
            apart(Some(now), moment(one.decide_by.as_ref()))
        } else {
            String::new()
        };
        table.row([
            cell(short(&one.approval_id, 36)),
            status(one),
            cell(format!("{}/{}", one.approved, one.quorum)),
            severity(one.severity),
            cell(short(&one.policy_name, 28)),
            cell(short(&one.tool, 28)),
            cell(short(&one.run_id, 28)),
            cell(short(&one.tool_call_id, 12)),
            cell(apart(moment(one.requested_at.as_ref()), Some(now))),
            cell(left),
        ]);
    }
    table
}

/// All that an approver needs.
pub(super) fn print(found: &wire::GetApprovalResponse, now: DateTime<Utc>) -> anyhow::Result<()> {
    let approval = found.approval.clone().unwrap_or_default();
    let held = found.held.clone().unwrap_or_default();
    properties(&approval, &held, now).print()?;
    let asked = held.call.as_ref().map_or("", |call| &call.arguments_json);
    if found.edited_arguments_json.is_empty() {
        say::heading("Arguments")?;
        say::line(pretty(asked))?;
    } else {
        say::heading("Arguments, as they were edited")?;
        say::line(pretty(&found.edited_arguments_json))?;
        say::heading("Arguments, as they were asked for")?;
        say::line(pretty(asked))?;
    }
    say::heading("Policies that match")?;
    matches(&held.matches).print()?;
    if !found.votes.is_empty() {
        say::heading("Votes")?;
        for vote in &found.votes {
            say::line(told_vote(vote))?;
        }
    }
    if !found.like_it.is_empty() {
        say::heading("Calls like it, decided before")?;
        approvals(&found.like_it, now).print()?;
    }
    Ok(())
}

fn properties(
    approval: &wire::Approval,
    held: &wire::ToolCallDecided,
    now: DateTime<Utc>,
) -> Columns {
    let mut table = Columns::new(&["approval", &approval.approval_id]);
    let mut say = |name: &str, value: Cell| table.row([cell(name), value]);
    say("status", status(approval));
    say("why", cell(short(&held.message, 200)));
    say("tool", cell(short(&approval.tool, 128)));
    say(
        "call",
        cell(short(
            &format!("{} of run {}", approval.tool_call_id, approval.run_id),
            280,
        )),
    );
    say("agent", cell(short(&approval.agent_id, 128)));
    if let Some(call) = &held.call {
        let said = call.agent_context.as_ref();
        for (name, text) in [
            ("reason", call.reason.as_str()),
            ("kind of act", call.action_hint.as_str()),
            ("goal", said.map_or("", |said| &said.goal)),
            ("reasoning", said.map_or("", |said| &said.reasoning)),
        ] {
            if !text.is_empty() {
                say(name, cell(short(text, 400)));
            }
        }
    }
    let requested_at = moment(approval.requested_at.as_ref());
    let asked = format!(
        "{} UTC, {} ago, by {}",
        when(requested_at),
        apart(requested_at, Some(now)),
        by(approval.requester.as_ref())
    );
    say("asked", cell(asked));
    say("takes", cell(terms(approval, held)));
    let by_when = [
        (
            "to decide until",
            &approval.decide_by,
            approval.status() == wire::ApprovalStatus::Pending,
        ),
        ("decided", &approval.decided_at, true),
        ("to use until", &approval.use_by, approval.used_at.is_none()),
        ("used", &approval.used_at, true),
    ];
    for (name, at, tells) in by_when {
        if let (Some(at), true) = (at, tells) {
            say(name, cell(format!("{} UTC", when(moment(Some(at))))));
        }
    }
    table
}

fn terms(approval: &wire::Approval, held: &wire::ToolCallDecided) -> String {
    let terms = held.terms.clone().unwrap_or_default();
    let sets: Vec<String> = terms
        .approvers
        .iter()
        .map(|set| approvers(Some(set)))
        .collect();
    let who = if sets.is_empty() {
        approvers(None)
    } else {
        sets.join(", and also one of ")
    };
    let not = if terms.requester_may_approve {
        ""
    } else {
        ", not whoever asked"
    };
    format!(
        "{} of {} approvals, by {who}{not}",
        approval.approved, approval.quorum
    )
}

fn matches(matches: &[wire::PolicyMatch]) -> Columns {
    let mut table = Columns::new(&["policy", ">version", "action", "severity", "name", ""]);
    for one in matches {
        table.row([
            cell(short(&one.policy_id, 40)),
            cell(one.version),
            action(one.action),
            severity(one.severity),
            cell(short(&one.name, 40)),
            toned(short(&one.error, 100), Tone::Bad),
        ]);
    }
    table
}

/// Arguments over as many lines as they need. Numbers stay as they were written: an approver must not
/// be shown a rounded amount.
fn pretty(text: &str) -> String {
    if text.is_empty() {
        return "none".to_owned();
    }
    let spread = spread(text);
    let mut lines: Vec<String> = spread
        .lines()
        .take(ARGUMENT_LINES_MAX)
        .map(|line| short(line, 400))
        .collect();
    if spread.lines().nth(ARGUMENT_LINES_MAX).is_some() {
        lines.push("and so on; --json shows all".to_owned());
    }
    lines.join("\n")
}

/// Canonical JSON with line ends and indents, by its own characters: nothing is parsed, so nothing is
/// lost.
fn spread(text: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::new(), 0_usize, false, false);
    let mut chars = text.chars().peekable();
    while let Some(one) = chars.next() {
        if in_text {
            out.push(one);
            in_text = escaped || one != '"';
            escaped = !escaped && one == '\\';
            continue;
        }
        match one {
            '{' | '[' => {
                out.push(one);
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    indent(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                indent(&mut out, depth);
                out.push(one);
            }
            ',' => {
                out.push(one);
                indent(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_text = one == '"';
                out.push(one);
            }
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

/// A vote in a line.
pub(super) fn told_vote(vote: &wire::ApprovalVoted) -> String {
    let did = match (vote.approve, vote.edited_arguments_json.is_empty()) {
        (true, true) => "approved",
        (true, false) => "approved with other arguments",
        (false, _) => "rejected",
    };
    let reason = if vote.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", short(&vote.reason, 200))
    };
    let status = word::<wire::ApprovalStatus>(vote.status);
    let use_by = moment(vote.use_by.as_ref()).map_or_else(String::new, |at| {
        format!(", to use until {} UTC", when(Some(at)))
    });
    format!(
        "{} {did}{reason}; the call is {status} now{use_by}",
        by(vote.voter.as_ref())
    )
}

/// A change of the queue in a line.
pub(super) fn told(approval: &wire::Approval) -> String {
    let at = moment(approval.used_at.as_ref())
        .or_else(|| moment(approval.decided_at.as_ref()))
        .or_else(|| moment(approval.requested_at.as_ref()));
    let used = if approval.used_at.is_some() {
        ", used"
    } else {
        ""
    };
    let status = format!("{}{used}", word::<wire::ApprovalStatus>(approval.status));
    format!(
        "{}  {status:<15}  {}/{}  {:<8}  {}  {} of {}  {}",
        when(at),
        approval.approved,
        approval.quorum,
        known::<policy::Severity>(approval.severity).map_or("", |one| one.as_str()),
        short(&approval.tool, 32),
        short(&approval.tool_call_id, 24),
        short(&approval.run_id, 48),
        short(&approval.approval_id, 36),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_spread_and_nothing_is_lost() {
        let text = r#"{"a":[{"b":123456789012345678901234567890},[]],"c":"x:{\",}\\","d":{}}"#;
        let expected = r#"{
  "a": [
    {
      "b": 123456789012345678901234567890
    },
    []
  ],
  "c": "x:{\",}\\",
  "d": {}
}"#;
        assert_eq!(pretty(text), expected);
        assert_eq!(pretty(""), "none");
        assert_eq!(pretty("5"), "5");
    }

    #[test]
    fn what_moves_a_cursor_is_not_shown_and_long_arguments_end() {
        assert!(!pretty("{\"a\":\"\u{1b}[2J\u{7f}\"}").contains('\u{1b}'));
        let many = format!("[{}1]", "1,".repeat(1_000));
        let shown = pretty(&many);
        assert_eq!(shown.lines().count(), ARGUMENT_LINES_MAX + 1);
        assert!(shown.ends_with("--json shows all"));
    }

    #[test]
    fn a_change_is_one_line() {
        let approval = wire::Approval {
            run_id: "r\n1".to_owned(),
            status: wire::ApprovalStatus::Approved.into(),
            used_at: Some(prost_types::Timestamp::default()),
            ..wire::Approval::default()
        };
        let told = told(&approval);
        assert_eq!(told.lines().count(), 1);
        assert!(told.contains("approved, used"), "{told}");
    }

    #[test]
    fn a_moment_that_is_past_says_so() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(apart(Some(now), Some(now - TimeDelta::seconds(1))), "over");
        assert_eq!(
            apart(Some(now), Some(now + TimeDelta::seconds(90))),
            "1 m 30 s"
        );
        assert_eq!(apart(None, Some(now)), "");
    }
}
