//! How runs look in a terminal.

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::Cell;
use prost::Message as _;
use runledger_domain::{message, run, scope};
use runledger_proto::approval::v1::Verdict;
use runledger_proto::common::v1::Actor;
use runledger_proto::message::v1::message_recorded::Content;
use runledger_proto::run::v1::timeline_item::Fact;
use runledger_proto::run::v1::tool_call_ended::Result as ToolResult;
use runledger_proto::run::v1::{FactError, Run, RunStatus, TimelineItem, ToolCall, WorkStatus};
use runledger_proto::types;
use runledger_proto::words::{Word, known};
use runledger_proto::{approval as wire_approval, common, message as wire_message, run as wire};

use super::moment;
use crate::say::{Columns, Tone, cell, count, short, toned};

/// What a run's state looks like.
pub(crate) fn status(number: i32) -> Cell {
    use run::Status::{Cancelled, Completed, Failed, Skipped, Stopped, Succeeded, Unknown};
    match known::<RunStatus>(number) {
        Some(status) => {
            let tone = match status {
                Completed | Succeeded => Tone::Good,
                Failed => Tone::Bad,
                Stopped | Skipped | Cancelled | Unknown => Tone::Faint,
                _ => Tone::Busy,
            };
            toned(status, tone)
        }
        None => toned("?", Tone::Faint),
    }
}

fn work(number: i32) -> (String, Tone) {
    match known::<WorkStatus>(number) {
        Some(run::WorkStatus::Succeeded) => ("succeeded".to_owned(), Tone::Good),
        Some(run::WorkStatus::Failed) => ("failed".to_owned(), Tone::Bad),
        Some(other) => (other.to_string(), Tone::Faint),
        None => ("?".to_owned(), Tone::Faint),
    }
}

/// A word of the wire as the domain spells it.
pub(crate) fn word<W: Word<Domain: ToString>>(number: i32) -> String {
    known::<W>(number).map_or_else(|| "?".to_owned(), |one| one.to_string())
}

pub(crate) fn when(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// `850 ms`, `12 s`, `3 m 20 s`, `2 h 5 m`, `29 d 23 h`.
pub(crate) fn span(span: TimeDelta) -> String {
    let (millis, seconds) = (span.num_milliseconds(), span.num_seconds());
    match seconds {
        i64::MIN..0 => String::new(),
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} m", seconds / 3_600, seconds / 60 % 60),
        172_800.. => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn took(begin: Option<&prost_types::Timestamp>, end: Option<&prost_types::Timestamp>) -> String {
    match (moment(begin), moment(end)) {
        (Some(begin), Some(end)) => span(end - begin),
        _ => String::new(),
    }
}

fn failed(number: u64) -> Cell {
    if number > 0 {
        toned(count(number), Tone::Bad)
    } else {
        cell("")
    }
}

pub(crate) fn runs(runs: &[Run]) -> Columns {
    let names = [
        "run",
        "status",
        "agent",
        "began (UTC)",
        ">took",
        ">calls",
        ">failed",
        ">messages",
        "task",
    ];
    let mut table = Columns::new(&names);
    for run in runs {
        let started = run.started.as_ref();
        let totals = run.totals.unwrap_or_default();
        table.row([
            cell(short(&run.run_id, 48)),
            status(run.status),
            cell(short(started.map_or("", |started| &started.agent_id), 24)),
            cell(when(moment(run.started_at.as_ref()))),
            cell(took(run.started_at.as_ref(), run.ended_at.as_ref())),
            cell(count(totals.tool_calls)),
            failed(totals.failed_tool_calls),
            cell(count(totals.messages)),
            cell(short(started.map_or("", |started| &started.task), 40)),
        ]);
    }
    table
}

/// One run, a property a row.
pub(crate) fn run(run: &Run, now: DateTime<Utc>) -> Columns {
    let mut table = Columns::new(&["run", &short(&run.run_id, 128)]);
    let mut say = |name: &str, value: Cell| table.row([cell(name), value]);
    say("status", status(run.status));
    if let Some(started) = &run.started {
        let by_name = [
            ("agent", &started.agent_id),
            ("agent version", &started.agent_version),
            ("model", &started.model),
            ("task", &started.task),
            ("reason", &started.reason),
            ("parent run", &started.parent_run_id),
            ("conversation", &started.conversation_id),
            ("space", &started.space_id),
            ("account", &started.account_id),
        ];
        for (name, text) in by_name.into_iter().filter(|(_, text)| !text.is_empty()) {
            say(name, cell(short(text, 100)));
        }
        say("trigger", cell(word::<wire::v1::Trigger>(started.trigger)));
        if !started.labels.is_empty() {
            let labels: Vec<String> = started
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            say("labels", cell(short(&labels.join(", "), 100)));
        }
    }
    say("began (UTC)", cell(when(moment(run.started_at.as_ref()))));
    match run.ended_at.as_ref() {
        Some(ended) => say("took", cell(took(run.started_at.as_ref(), Some(ended)))),
        None => say(
            "goes on for",
            cell(moment(run.started_at.as_ref()).map_or_else(String::new, |at| span(now - at))),
        ),
    }
    if let Some(error) = run.ended.as_ref().and_then(|ended| ended.error.as_ref()) {
        say("error", toned(fault(error), Tone::Bad));
    }
    if !run.note.is_empty() {
        say("note", cell(short(&run.note, 100)));
    }
    let totals = run.totals.unwrap_or_default();
    say(
        "tool calls",
        cell(format!(
            "{}, {} failed",
            count(totals.tool_calls),
            count(totals.failed_tool_calls)
        )),
    );
    say("messages", cell(count(totals.messages)));
    for (name, number) in [
        ("steps", totals.steps),
        ("late facts", totals.late_facts),
        ("conflicts", totals.conflicts),
    ] {
        if number > 0 {
            say(name, cell(count(number)));
        }
    }
    for usage in &run.usage {
        say(&short(&usage.meter, 40), cell(usage.quantity));
    }
    table
}

fn fault(error: &FactError) -> String {
    short(&format!("{}: {}", error.code, error.message), 100)
}

pub(crate) fn tool_calls(calls: &[ToolCall]) -> Columns {
    let mut table = Columns::new(&["call", "tool", "status", ">took", "arguments"]);
    for call in calls {
        let (tool, arguments) = call.started.as_ref().map_or(("?", ""), |started| {
            (started.tool.as_str(), started.arguments_json.as_str())
        });
        let status = call.ended.as_ref().map_or_else(
            || toned("running", Tone::Busy),
            |ended| {
                let (text, tone) = work(ended.status);
                toned(text, tone)
            },
        );
        table.row([
            cell(short(&call.tool_call_id, 24)),
            cell(short(tool, 32)),
            status,
            cell(took(call.started_at.as_ref(), call.ended_at.as_ref())),
            cell(short(arguments, 60)),
        ]);
    }
    table
}

pub(crate) fn timeline(items: &[TimelineItem]) -> Columns {
    let mut table = Columns::new(&["at (UTC)", "what", "", "by"]);
    for item in items {
        let (what, detail, tone) = tell(item);
        let late = if item.late { "  (late)" } else { "" };
        table.row([
            cell(when(moment(item.occurred_at.as_ref()))),
            toned(what, tone),
            cell(format!("{}{late}", short(&detail, 64))),
            toned(by(item.actor.as_ref()), Tone::Faint),
        ]);
    }
    table
}

/// One entry as one line.
pub(crate) fn told(item: &TimelineItem) -> String {
    let (what, detail, _) = tell(item);
    let late = if item.late { " (late)" } else { "" };
    let at = when(moment(item.occurred_at.as_ref()));
    format!(
        "{at}  {what:<20}  {}{late}  by {}",
        short(&detail, 120),
        by(item.actor.as_ref())
    )
}

/// Who did it: role, and enough of the id to tell one from another.
pub(crate) fn by(actor: Option<&Actor>) -> String {
    let Some(actor) = actor else {
        return String::new();
    };
    let role = known::<common::v1::Role>(actor.role).map_or("?", scope::Role::as_str);
    let tail = actor
        .principal_id
        .get(actor.principal_id.len().saturating_sub(6)..)
        .unwrap_or_default();
    format!("{role} …{}", short(tail, 6))
}

/// What an entry says: in a word or two, the rest, and how it went.
fn tell(item: &TimelineItem) -> (&'static str, String, Tone) {
    let Some(fact) = &item.fact else {
        return ("something newer", item.r#type.clone(), Tone::Faint);
    };
    match fact {
        Fact::RunStarted(started) => (
            "run started",
            format!("{}: {}", started.agent_id, started.task),
            Tone::Plain,
        ),
        Fact::RunProgressed(progressed) => {
            let phase = word::<wire::v1::RunPhase>(progressed.phase);
            (
                "run went on",
                format!("{phase} {}", progressed.note),
                Tone::Plain,
            )
        }
        Fact::RunEnded(ended) => run_ended(ended),
        Fact::StepStarted(step) => (
            "step began",
            format!("{} {}", step.step_id, step.name),
            Tone::Plain,
        ),
        Fact::StepEnded(step) => {
            let (text, tone) = work(step.status);
            ("step ended", format!("{} {text}", step.step_id), tone)
        }
        Fact::UsageRecorded(usage) => (
            "usage",
            format!("{} {}", usage.quantity, usage.meter),
            Tone::Plain,
        ),
        Fact::ToolCallStarted(call) => (
            "tool called",
            format!(
                "{}  {} {}",
                call.tool_call_id, call.tool, call.arguments_json
            ),
            Tone::Plain,
        ),
        Fact::ToolCallEnded(call) => {
            let (text, tone) = work(call.status);
            let result = match &call.result {
                Some(ToolResult::ResultJson(json)) => format!(": {json}"),
                Some(ToolResult::ResultChars(chars)) => format!(", {} characters", count(*chars)),
                None => String::new(),
            };
            (
                "tool answered",
                format!("{}  {text}{result}", call.tool_call_id),
                tone,
            )
        }
        Fact::MessageRecorded(message) => ("message", said(message), Tone::Plain),
        Fact::OccurrenceRecorded(occurrence) => (
            "schedule came due",
            occurrence.schedule_id.clone(),
            Tone::Plain,
        ),
        Fact::Decision(bytes) => tell_decision(&item.r#type, bytes),
    }
}

/// The same of what was decided about a run.
fn tell_decision(type_name: &str, bytes: &[u8]) -> (&'static str, String, Tone) {
    let told = match type_name {
        types::TOOL_CALL_DECIDED => {
            wire_approval::v1::ToolCallDecided::decode(bytes).map(asked_for)
        }
        types::APPROVAL_VOTED => wire_approval::v1::ApprovalVoted::decode(bytes).map(|voted| {
            let said = if voted.approve { "yes" } else { "no" };
            let text = format!("{}  {said}  {}", voted.tool_call_id, voted.reason);
            ("approver said", text.trim_end().to_owned(), Tone::Plain)
        }),
        types::APPROVAL_CLOSED => wire_approval::v1::ApprovalClosed::decode(bytes).map(|closed| {
            let status = word::<wire_approval::v1::ApprovalStatus>(closed.status);
            let text = format!("{}  {status}", closed.tool_call_id);
            ("approval closed", text, Tone::Faint)
        }),
        types::EXECUTION_CONFIRMED => wire_approval::v1::ExecutionConfirmed::decode(bytes)
            .map(|confirmed| ("call confirmed", confirmed.tool_call_id, Tone::Plain)),
        types::COMMAND_REJECTED => {
            runledger_proto::log::v1::CommandRejected::decode(bytes).map(|rejected| {
                let text = format!("{}: {}", rejected.reason, rejected.message);
                ("refused", text, Tone::Faint)
            })
        }
        other => Ok(("something newer", other.to_owned(), Tone::Faint)),
    };
    told.unwrap_or_else(|_| ("something newer", type_name.to_owned(), Tone::Faint))
}

fn asked_for(decided: wire_approval::v1::ToolCallDecided) -> (&'static str, String, Tone) {
    let tone = match decided.verdict() {
        Verdict::Blocked => Tone::Bad,
        Verdict::Warned | Verdict::AwaitingApproval => Tone::Faint,
        Verdict::Allowed | Verdict::Unspecified => Tone::Plain,
    };
    let call = decided.call.unwrap_or_default();
    let text = format!("{}  {}: {}", call.tool_call_id, call.tool, decided.message);
    ("call asked for", text, tone)
}

fn run_ended(ended: &wire::v1::RunEnded) -> (&'static str, String, Tone) {
    let outcome = known::<wire::v1::RunOutcome>(ended.outcome);
    let tone = match outcome {
        Some(run::Outcome::Succeeded | run::Outcome::Completed) => Tone::Good,
        Some(run::Outcome::Failed) => Tone::Bad,
        _ => Tone::Faint,
    };
    let error = ended
        .error
        .as_ref()
        .map_or_else(String::new, |error| format!(", {}", error.code));
    (
        "run ended",
        format!("{}{error}", word::<wire::v1::RunOutcome>(ended.outcome)),
        tone,
    )
}

fn said(message: &wire_message::v1::MessageRecorded) -> String {
    let role = known::<wire_message::v1::SenderRole>(message.role)
        .map_or("?", message::SenderRole::as_str);
    match &message.content {
        Some(Content::Text(text)) => format!("{role}: {text}"),
        Some(Content::Chars(chars)) => format!("{role}, {} characters", count(*chars)),
        None => role.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let read = [0, 850, 12_000, 200_000, 7_500_000, 2_591_999_000, -1_000]
            .map(|millis| span(TimeDelta::milliseconds(millis)));
        assert_eq!(
            read,
            [
                "0 ms",
                "850 ms",
                "12 s",
                "3 m 20 s",
                "2 h 5 m",
                "29 d 23 h",
                ""
            ]
        );
    }

    #[test]
    fn a_type_of_a_later_version_is_named() {
        let item = TimelineItem {
            r#type: "runledger.run.v9.RunBlessed".to_owned(),
            late: true,
            ..TimelineItem::default()
        };
        assert!(told(&item).contains("something newer"));
        assert!(told(&item).contains("runledger.run.v9.RunBlessed (late)"));
    }
}
