//! Who did what: the entries that a decision in force, or a change of the directory, stands for.
//!
//! Pure, so that entries are the same whenever they are derived anew. Arguments of calls are not copied:
//! their digest is, and every text has a bound.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::approval::{
    ApprovalClosed, ApprovalVoted, Decision, ExecutionConfirmed, Status, ToolCallDecided,
};
use crate::decision::Rejection;
use crate::digest::Digest;
use crate::ids::{AgentId, PolicyId, PrincipalId, RecordId};
use crate::json::Json;
use crate::log::{Author, Record};
use crate::policy;
use crate::scope::{Actor, PrincipalKind, Role, worded};
use crate::{directory, policy::Match};

/// Longest text of people or rules in the details, in characters; the rest is cut off.
pub const TEXT_CHARS_MAX: usize = 1_000;
/// Longest details, in bytes; longer ones are left out.
pub const DETAILS_BYTES_MAX: usize = 16_384;

worded! {
    /// What kind of actor it was.
    ActorType { Agent = "agent", System = "system", User = "user" }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doer {
    Agent(AgentId),
    Policy(PolicyId),
    /// The rules of a decider.
    Decider,
    /// By its id; whoever reads the entry may know its name.
    Principal(PrincipalId, Option<PrincipalKind>),
}

impl Doer {
    pub const fn kind(&self) -> ActorType {
        match self {
            Self::Agent(_) | Self::Principal(_, Some(PrincipalKind::Agent)) => ActorType::Agent,
            Self::Principal(_, Some(PrincipalKind::User)) => ActorType::User,
            Self::Policy(_)
            | Self::Decider
            | Self::Principal(_, Some(PrincipalKind::Service) | None) => ActorType::System,
        }
    }

    /// As people read it. Of a principal it ends in the id, which its name may take the place of.
    pub fn text(&self) -> String {
        match self {
            Self::Agent(id) => format!("agent:{id}"),
            Self::Policy(id) => format!("system:policy:{id}"),
            Self::Decider => "system:decider".into(),
            Self::Principal(id, Some(PrincipalKind::User)) => format!("user:{id}"),
            Self::Principal(id, Some(PrincipalKind::Agent)) => format!("agent:{id}"),
            Self::Principal(id, Some(PrincipalKind::Service) | None) => {
                format!("system:service:{id}")
            }
        }
    }

    pub const fn principal(&self) -> Option<PrincipalId> {
        match self {
            Self::Principal(id, _) => Some(*id),
            Self::Agent(_) | Self::Policy(_) | Self::Decider => None,
        }
    }
}

/// One thing that was done. When, where and in which scope is the record's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub by: Doer,
    pub role: Option<Role>,
    pub entity_type: &'static str,
    pub entity_id: String,
    pub action: String,
    /// A canonical object.
    pub details: Json,
}

/// What a record says, of those that entries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Call(Decision),
    Policy(policy::Changed),
    /// And the full name of the command's message.
    Rejected(Rejection, String),
    Directory(directory::Changed),
}

/// The entries of a record, in their order: an entry's place in it is a part of its id.
pub fn entries(record: &Record, said: &Said) -> Vec<Entry> {
    match said {
        Said::Call(Decision::ToolCallDecided(decided)) => of_call(decided),
        Said::Call(Decision::ApprovalVoted(voted)) => of_vote(voted),
        Said::Call(Decision::ApprovalClosed(closed)) => vec![of_closing(closed)],
        Said::Call(Decision::ExecutionConfirmed(confirmed)) => of_use(confirmed),
        Said::Policy(changed) => vec![of_policy(changed)],
        Said::Rejected(rejection, command_type) => {
            let command = record.cause.as_ref().map(|cause| cause.id);
            vec![of_rejection(rejection, command_type, command)]
        }
        Said::Directory(changed) => vec![of_directory(&record.author, changed)],
    }
}

/// The run that a record is about.
pub fn run_of(record: &Record) -> Option<&str> {
    record.stream.as_str().strip_prefix("run/")
}

/// The principal that a change of the directory names, and its name.
pub fn named(changed: &directory::Changed) -> Option<(PrincipalId, String)> {
    if !changed.change.as_str().starts_with("Principal") {
        return None;
    }
    let detail: Value = serde_json::from_str(changed.detail.as_str()).ok()?;
    let name = detail.get("name")?.as_str()?;
    Some((PrincipalId::new(changed.subject?), cut(name)))
}

fn of_call(decided: &ToolCallDecided) -> Vec<Entry> {
    let call = &decided.call;
    let tool_call = call.tool_call_id.to_string();
    let first = decided.matches.first();
    let judge = match first {
        Some(first) if &*decided.reason == "POLICY" => Doer::Policy(first.policy.clone()),
        _ => Doer::Decider,
    };
    let mut all = vec![Entry {
        role: Some(decided.requester.role),
        ..Entry::of(
            Doer::Agent(decided.agent_id.clone()),
            ("tool_call", tool_call.clone(), "requested"),
            json!({
                "tool": call.tool.as_str(),
                "requester": decided.requester.principal.to_string(),
                "arguments_digest": hex(&decided.arguments_digest),
            }),
        )
    }];
    let matched = decided.matches.iter();
    all.extend(matched.map(|one| of_match(one, &tool_call)));
    let why = json!({ "reason": &*decided.reason, "message": cut(&decided.message), "tool_call_id": tool_call });
    if decided.reason.starts_with("RUN_LIMIT_") {
        let run = call.run_id.to_string();
        all.push(Entry::of(Doer::Decider, ("run", run, "limit_hit"), why));
    }
    all.push(Entry::of(
        judge.clone(),
        ("tool_call", tool_call.clone(), decided.verdict.as_str()),
        json!({
            "tool": call.tool.as_str(),
            "reason": &*decided.reason,
            "message": cut(&decided.message),
            "severity": decided.severity.map(|one| one.as_str()),
            "arguments_digest": hex(&decided.arguments_digest),
        }),
    ));
    if let Some((approval, terms)) = &decided.held {
        all.push(Entry::of(
            judge,
            ("approval", approval.to_string(), "requested"),
            json!({
                "tool_call_id": tool_call,
                "tool": call.tool.as_str(),
                "quorum": terms.quorum,
                "decide_by": terms.decide_by.to_rfc3339(),
            }),
        ));
    }
    all
}

fn of_match(matched: &Match, tool_call: &str) -> Entry {
    Entry::of(
        Doer::Policy(matched.policy.clone()),
        ("policy", matched.policy.to_string(), "matched"),
        json!({
            "version": matched.version,
            "name": cut(&matched.name),
            "action": matched.action.as_str(),
            "severity": matched.severity.map(|one| one.as_str()),
            "error": matched.error.as_deref().map(cut),
            "tool_call_id": tool_call,
        }),
    )
}

fn of_vote(voted: &ApprovalVoted) -> Vec<Entry> {
    let entry = |action| {
        Entry::by(
            voted.voter,
            ("approval", voted.approval_id.to_string(), action),
            json!({
                "tool_call_id": voted.tool_call_id.as_str(),
                "approve": voted.approve,
                "reason": cut(&voted.reason),
                "approved": voted.approved,
                "edited_arguments": voted.edited_arguments.is_some(),
                "arguments_digest": hex(&voted.arguments_digest),
            }),
        )
    };
    let mut all = vec![entry("voted")];
    if voted.status != Status::Pending {
        all.push(entry(voted.status.as_str()));
    }
    all
}

fn of_closing(closed: &ApprovalClosed) -> Entry {
    Entry::of(
        Doer::Decider,
        (
            "approval",
            closed.approval_id.to_string(),
            closed.status.as_str(),
        ),
        json!({ "tool_call_id": closed.tool_call_id.as_str() }),
    )
}

fn of_use(confirmed: &ExecutionConfirmed) -> Vec<Entry> {
    let call = confirmed.tool_call_id.to_string();
    let details = json!({
        "tool_call_id": call,
        "arguments_digest": hex(&confirmed.arguments_digest),
    });
    let entry = |entity_type, id, action| {
        Entry::by(confirmed.actor, (entity_type, id, action), details.clone())
    };
    let mut all = vec![entry("tool_call", call.clone(), "confirmed")];
    if let Some(approval) = confirmed.approval_id {
        all.push(entry("approval", approval.to_string(), "used"));
    }
    all
}

fn of_policy(changed: &policy::Changed) -> Entry {
    let policy = &changed.policy;
    let entity = ("policy", policy.id.to_string(), changed.changing.as_str());
    let details = json!({
        "version": policy.version,
        "name": cut(&policy.spec.name),
        "action": policy.spec.action.as_str(),
        "disabled": policy.spec.disabled,
    });
    match policy.updated.or(policy.created) {
        Some(change) => Entry::by(change.by, entity, details),
        None => Entry::of(Doer::Decider, entity, details),
    }
}

/// The decider refused; who had asked is in the command, which the entry names.
fn of_rejection(rejection: &Rejection, command_type: &str, command: Option<RecordId>) -> Entry {
    let is_use = command_type.ends_with(".ConfirmExecution");
    let action = if is_use { "use_refused" } else { "rejected" };
    let command = command.map(|id| id.to_string()).unwrap_or_default();
    Entry::of(
        Doer::Decider,
        ("command", command, action),
        json!({
            "command_type": cut(command_type),
            "kind": rejection.kind.as_str(),
            "reason": cut(&rejection.reason),
            "message": cut(&rejection.message),
        }),
    )
}

fn of_directory(author: &Author, changed: &directory::Changed) -> Entry {
    let (entity_type, action) = done(changed.change.as_str());
    let subject = changed
        .subject
        .as_ref()
        .map_or_else(|| "all".into(), Uuid::to_string);
    let detail = serde_json::from_str(changed.detail.as_str());
    let mut detail: Map<String, Value> = detail.unwrap_or_default();
    let key = changed.key.map(|key| key.to_string().into());
    detail.extend(key.map(|key: Value| ("by_key".to_owned(), key)));
    Entry {
        role: author.role,
        ..Entry::of(
            Doer::Principal(author.principal, author.kind),
            (entity_type, subject, &action),
            Value::Object(detail),
        )
    }
}

/// What a change of the directory was done to, and what was done. One of a later version: `directory`,
/// by its own name.
fn done(change: &str) -> (&'static str, String) {
    let entities = [
        ("Tenant", "tenant"),
        ("Limits", "limits"),
        ("Principal", "principal"),
        ("Role", "role"),
        ("KillSwitch", "kill_switch"),
        ("Key", "key"),
    ];
    let found = entities.iter().find_map(|(prefix, entity)| {
        let rest = change.strip_prefix(prefix)?;
        (!rest.is_empty()).then_some((*entity, rest))
    });
    let (entity, verb) = found.unwrap_or(("directory", change));
    let mut action = String::new();
    for letter in verb.chars() {
        if letter.is_ascii_uppercase() && !action.is_empty() {
            action.push('_');
        }
        action.push(letter.to_ascii_lowercase());
    }
    (entity, action)
}

impl Entry {
    fn of(by: Doer, entity: (&'static str, String, &str), details: Value) -> Self {
        let (entity_type, entity_id, action) = entity;
        Self {
            by,
            role: None,
            entity_type,
            entity_id,
            action: action.to_owned(),
            details: bounded(&details),
        }
    }

    fn by(actor: Actor, entity: (&'static str, String, &str), details: Value) -> Self {
        let by = Doer::Principal(actor.principal, Some(actor.kind));
        Self {
            role: Some(actor.role),
            ..Self::of(by, entity, details)
        }
    }
}

/// What has no value is left out.
fn bounded(details: &Value) -> Json {
    let mut kept = details.clone();
    if let Some(fields) = kept.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let json = Json::parse(&kept.to_string());
    json.ok()
        .filter(|json| json.as_str().len() <= DETAILS_BYTES_MAX)
        .unwrap_or_else(|| Json::from_stored(r#"{"left_out":true}"#.into()))
}

/// Postgres keeps no NUL.
fn cut(text: &str) -> String {
    let letters = text.chars().filter(|letter| *letter != '\0');
    letters.take(TEXT_CHARS_MAX).collect()
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
