//! From recorded runs to facts. Pure: what comes out depends on the file, the seed and the prefix alone,
//! so that importing twice appends the same records twice, and the second time changes nothing.

use chrono::{DateTime, TimeDelta};
use prost_types::Timestamp as WireTime;
use runledger_domain::digest;
use runledger_domain::ids::{InvalidId, RunId};
use runledger_domain::json::Json;
use runledger_domain::time::Timestamp;
use runledger_proto::encode;
use runledger_proto::message::v1::{
    MessageFact, MessageRecorded, SenderRole, message_fact, message_recorded,
};
use runledger_proto::run::v1::{
    FactError, RunEnded, RunFact, RunOutcome, RunStarted, ToolCallEnded, ToolCallFact,
    ToolCallStarted, Trigger, WorkStatus, run_fact, tool_call_ended, tool_call_fact,
};
use runledger_proto::schedule::v1::ScheduleFact;
use uuid::Uuid;

use super::source::{Event, Run, Speaker, ToolCall};

/// Names this way of deriving: another one must not be taken for it.
const MAKER: &[u8] = b"runledger.import.v1";
/// The label that all runs of one import carry, and no other's.
pub(crate) const LABEL: &str = "import";
/// Seconds since 1970 of 2024-09-01. Fixed: were it taken from the clock, a second import would say
/// other times under the same ids. Runs may be imported until ten years after it.
const BASE_SECONDS: i64 = 1_725_148_800;
/// Runs begin within four weeks of the base, and the base within four weeks by the seed.
const SPREAD_MS: u64 = 28 * 24 * 3_600 * 1_000;

/// Facts for one of the services.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Facts {
    Runs(Vec<RunFact>),
    ToolCalls(Vec<ToolCallFact>),
    Messages(Vec<MessageFact>),
    Schedules(Vec<ScheduleFact>),
}

/// What one run becomes: its facts in the order in which they happened, cut where the service changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Planned {
    pub(crate) segments: Vec<Facts>,
}

impl Facts {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Runs(facts) => facts.len(),
            Self::ToolCalls(facts) => facts.len(),
            Self::Messages(facts) => facts.len(),
            Self::Schedules(facts) => facts.len(),
        }
    }
}

impl Planned {
    /// How many facts it is.
    pub(crate) fn len(&self) -> usize {
        self.segments.iter().map(Facts::len).sum()
    }

    pub(crate) fn push(&mut self, next: Facts) {
        match (self.segments.last_mut(), next) {
            (Some(Facts::Runs(last)), Facts::Runs(next)) => last.extend(next),
            (Some(Facts::ToolCalls(last)), Facts::ToolCalls(next)) => last.extend(next),
            (Some(Facts::Messages(last)), Facts::Messages(next)) => last.extend(next),
            (Some(Facts::Schedules(last)), Facts::Schedules(next)) => last.extend(next),
            (_, next) => self.segments.push(next),
        }
    }
}

/// What everything is derived from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    seed: u64,
    prefix: String,
    /// Value of [`LABEL`].
    pub(crate) label: String,
}

impl Plan {
    /// The plan for a file. The runs of a file imported with another seed or prefix carry another label.
    pub(crate) fn new(runs: &[Run], seed: u64, prefix: &str) -> Self {
        let seed_bytes = seed.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![MAKER, &seed_bytes, prefix.as_bytes()];
        let mut ids: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
        ids.sort_unstable();
        parts.extend(ids.into_iter().map(str::as_bytes));
        let label = hex(&digest::of_parts(&parts)[..6]);
        Self {
            seed,
            prefix: prefix.to_owned(),
            label,
        }
    }

    /// The id that a recorded run is imported under.
    pub(crate) fn run_id(&self, run: &Run) -> Result<RunId, InvalidId> {
        RunId::parse(format!("{}{}", self.prefix, run.run))
    }

    /// The facts of one run.
    ///
    /// # Errors
    /// When the prefix makes its id too long.
    pub(crate) fn of(&self, run: &Run) -> Result<Planned, InvalidId> {
        let id = self.run_id(run)?.to_string();
        let (planned, _) = self.tell(run, id, self.begin(run));
        Ok(planned)
    }

    /// The facts of one run under another id, the last of them at `end`.
    pub(crate) fn ending(&self, run: &Run, id: &str, end: Timestamp) -> Planned {
        // What follows what, and how long after, does not hang on when it begins.
        let (_, later) = self.tell(run, id.to_owned(), end);
        self.tell(run, id.to_owned(), end - (later - end)).0
    }

    /// The facts of one run that begins then, and when the last of them is.
    fn tell(&self, run: &Run, id: String, begin: Timestamp) -> (Planned, Timestamp) {
        let mut teller = Teller {
            plan: self,
            run: id,
            ordinal: 0,
            at: begin,
        };
        let mut planned = Planned::default();
        planned.push(Facts::Runs(vec![teller.started(run)]));
        let (mut calls, mut messages) = (0, 0);
        for event in &run.events {
            planned.push(match event {
                Event::Message { role, chars } => {
                    messages += 1;
                    Facts::Messages(vec![teller.message(run, *role, *chars, messages)])
                }
                Event::ToolCall(call) => {
                    calls += 1;
                    Facts::ToolCalls(teller.tool_call(call, calls).into())
                }
            });
        }
        planned.push(Facts::Runs(vec![teller.ended(run)]));
        (planned, teller.at)
    }

    fn begin(&self, run: &Run) -> Timestamp {
        let base = draw(&[MAKER, b"base", &self.seed.to_be_bytes()], SPREAD_MS);
        let begin = draw(
            &[
                MAKER,
                b"begin",
                &self.seed.to_be_bytes(),
                run.run.as_str().as_bytes(),
            ],
            SPREAD_MS,
        );
        DateTime::UNIX_EPOCH + TimeDelta::seconds(BASE_SECONDS) + millis(base + begin)
    }
}

/// Tells one run, fact by fact, on a clock of its own.
struct Teller<'a> {
    plan: &'a Plan,
    run: String,
    ordinal: u64,
    at: Timestamp,
}

impl Teller<'_> {
    /// Derives from what this fact is: 16 bytes of a hash over run, place and seed.
    fn hash(&self, what: &[u8]) -> digest::Digest {
        let (seed, ordinal) = (self.plan.seed.to_be_bytes(), self.ordinal.to_be_bytes());
        digest::of_parts(&[MAKER, what, &seed, self.run.as_bytes(), &ordinal])
    }

    /// Moves the clock on by `least` to `most` milliseconds and gives the next fact its id and time.
    fn next(&mut self, least: u64, most: u64) -> (String, Option<WireTime>) {
        let moved = least + number(&self.hash(b"pause")) % (most - least + 1);
        self.at += millis(moved);
        let mut id = [0; 16];
        id.copy_from_slice(&self.hash(b"id")[..16]);
        self.ordinal += 1;
        (
            Uuid::new_v8(id).to_string(),
            Some(encode::timestamp(self.at)),
        )
    }

    fn started(&mut self, run: &Run) -> RunFact {
        let (id, occurred_at) = self.next(0, 0);
        let labels = [
            ("task", run.task.to_string()),
            ("trial", run.trial.to_string()),
            (LABEL, self.plan.label.clone()),
        ];
        let started = RunStarted {
            run_id: self.run.clone(),
            agent_id: run.agent.to_string(),
            conversation_id: self.run.clone(),
            trigger: Trigger::Message.into(),
            task: format!("task {}, trial {}", run.task, run.trial),
            model: run.model.clone(),
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
            ..RunStarted::default()
        };
        RunFact {
            id,
            occurred_at,
            cause_id: String::new(),
            cause_stream: String::new(),
            fact: Some(run_fact::Fact::RunStarted(started)),
        }
    }

    /// People take their time; an agent writes some 60 characters a second.
    fn message(&mut self, run: &Run, role: Speaker, chars: u64, number: u64) -> MessageFact {
        let ((id, occurred_at), role, sender_id) = match role {
            Speaker::User => (
                self.next(4_000, 40_000),
                SenderRole::User,
                "customer".to_owned(),
            ),
            Speaker::Agent => {
                let writing = chars.saturating_mul(16).min(60_000);
                (
                    self.next(800 + writing, 2_500 + writing),
                    SenderRole::Agent,
                    run.agent.to_string(),
                )
            }
        };
        let recorded = MessageRecorded {
            conversation_id: self.run.clone(),
            message_id: format!("message-{number}"),
            sender_id,
            role: role.into(),
            kind: "text".to_owned(),
            content: Some(message_recorded::Content::Chars(chars)),
            in_reply_to: String::new(),
            run_id: self.run.clone(),
        };
        let fact = Some(message_fact::Fact::MessageRecorded(recorded));
        MessageFact {
            id,
            occurred_at,
            cause_id: String::new(),
            cause_stream: String::new(),
            fact,
        }
    }

    fn tool_call(&mut self, call: &ToolCall, number: u64) -> [ToolCallFact; 2] {
        let tool_call_id = format!("call-{number}");
        let (started_id, started_at) = self.next(600, 2_400);
        let started = ToolCallStarted {
            run_id: self.run.clone(),
            tool_call_id: tool_call_id.clone(),
            tool: call.tool.to_string(),
            arguments_json: String::from(call.arguments.clone()),
            ..ToolCallStarted::default()
        };
        let (ended_id, ended_at) = self.next(80, 1_800);
        let (status, error) = if call.failed {
            let message = format!(
                "the tool answered with an error of {} characters",
                call.result_chars
            );
            (
                WorkStatus::Failed,
                Some(FactError {
                    code: "TOOL_FAILED".to_owned(),
                    message,
                }),
            )
        } else {
            (WorkStatus::Succeeded, None)
        };
        let result = match &call.result {
            Some(json) => tool_call_ended::Result::ResultJson(Json::clone(json).into()),
            None => tool_call_ended::Result::ResultChars(call.result_chars),
        };
        let ended = ToolCallEnded {
            run_id: self.run.clone(),
            tool_call_id,
            status: status.into(),
            result: Some(result),
            error,
        };
        let fact = |id, occurred_at, cause_id, fact| ToolCallFact {
            id,
            occurred_at,
            cause_id,
            cause_stream: String::new(),
            fact: Some(fact),
        };
        [
            fact(
                started_id.clone(),
                started_at,
                String::new(),
                tool_call_fact::Fact::ToolCallStarted(started),
            ),
            fact(
                ended_id,
                ended_at,
                started_id,
                tool_call_fact::Fact::ToolCallEnded(ended),
            ),
        ]
    }

    fn ended(&mut self, run: &Run) -> RunFact {
        let (id, occurred_at) = self.next(300, 1_500);
        let (outcome, error) = if run.succeeded {
            (RunOutcome::Succeeded, None)
        } else {
            let message = "the run ended without reaching the goal of its task".to_owned();
            (
                RunOutcome::Failed,
                Some(FactError {
                    code: "GOAL_NOT_REACHED".to_owned(),
                    message,
                }),
            )
        };
        let ended = RunEnded {
            run_id: self.run.clone(),
            outcome: outcome.into(),
            error,
            ..RunEnded::default()
        };
        RunFact {
            id,
            occurred_at,
            cause_id: String::new(),
            cause_stream: String::new(),
            fact: Some(run_fact::Fact::RunEnded(ended)),
        }
    }
}

/// Cuts facts into requests of at most `records_max` facts and `bytes_max` bytes; a fact larger than
/// that goes alone, for the service to refuse by name.
pub(crate) fn requests<T: prost::Message>(
    facts: Vec<T>,
    records_max: usize,
    bytes_max: usize,
) -> Vec<Vec<T>> {
    let mut requests: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for fact in facts {
        // The fact, its tag and the longest length prefix.
        let size = fact.encoded_len() + 6;
        match requests.last_mut() {
            Some(last) if last.len() < records_max && bytes + size <= bytes_max => {
                bytes += size;
                last.push(fact);
            }
            _ => {
                bytes = size;
                requests.push(vec![fact]);
            }
        }
    }
    requests
}

fn millis(number: u64) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(number).unwrap_or(i64::MAX / 2_000_000))
}

/// The first 8 bytes of a hash as a number.
fn number(hash: &digest::Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// A number below `below`, derived from `parts`.
fn draw(parts: &[&[u8]], below: u64) -> u64 {
    number(&digest::of_parts(parts)) % below
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
