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
        }
    }
}

impl Planned {
    /// How many facts it is.
    pub(crate) fn len(&self) -> usize {
        self.segments.iter().map(Facts::len).sum()
    }

    fn push(&mut self, next: Facts) {
        match (self.segments.last_mut(), next) {
            (Some(Facts::Runs(last)), Facts::Runs(next)) => last.extend(next),
            (Some(Facts::ToolCalls(last)), Facts::ToolCalls(next)) => last.extend(next),
            (Some(Facts::Messages(last)), Facts::Messages(next)) => last.extend(next),
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
        let mut teller = Teller {
            plan: self,
            run: id,
            ordinal: 0,
            at: self.begin(run),
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
        Ok(planned)
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
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use runledger_domain::time::PAST_MAX;

    use super::*;
    use crate::import::source;

    fn demo() -> Vec<Run> {
        source::read(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../deploy/demo/airline-agent-runs.jsonl"),
        )
        .unwrap()
    }

    fn planned(seed: u64, prefix: &str) -> Vec<Planned> {
        let runs = demo();
        let plan = Plan::new(&runs, seed, prefix);
        runs.iter().map(|run| plan.of(run).unwrap()).collect()
    }

    /// Id and time of every fact of a run, in order.
    fn told(planned: &Planned) -> Vec<(String, (i64, i32))> {
        let at = |time: &Option<WireTime>| time.map(|time| (time.seconds, time.nanos)).unwrap();
        let of = |segment: &Facts| match segment {
            Facts::Runs(facts) => facts
                .iter()
                .map(|fact| (fact.id.clone(), at(&fact.occurred_at)))
                .collect(),
            Facts::ToolCalls(facts) => facts
                .iter()
                .map(|fact| (fact.id.clone(), at(&fact.occurred_at)))
                .collect(),
            Facts::Messages(facts) => facts
                .iter()
                .map(|fact| (fact.id.clone(), at(&fact.occurred_at)))
                .collect::<Vec<_>>(),
        };
        planned.segments.iter().flat_map(of).collect()
    }

    fn ids(planned: &[Planned]) -> BTreeSet<String> {
        planned.iter().flat_map(told).map(|(id, _)| id).collect()
    }

    #[test]
    fn the_same_file_and_seed_make_the_same_facts() {
        assert_eq!(planned(1, ""), planned(1, ""));
        let golden = &told(&planned(1, "")[0])[0];
        assert_eq!(golden.0, "16f36969-b525-847d-9d7c-bdda7217edc9");
        assert_eq!(
            golden.1,
            (1_728_284_422, 38_000_000),
            "times must never depend on the day of the import"
        );
    }

    #[test]
    fn every_fact_has_an_id_of_its_own() {
        let one = ids(&planned(1, ""));
        assert_eq!(one.len(), 200 + 2 * 1_164 + 2_870 + 200);
        assert_eq!(
            planned(1, "").iter().map(Planned::len).sum::<usize>(),
            one.len()
        );
        assert!(
            one.iter()
                .all(|id| Uuid::parse_str(id).unwrap().get_version_num() == 8)
        );
        assert!(one.is_disjoint(&ids(&planned(2, ""))), "another seed");
        assert!(
            one.is_disjoint(&ids(&planned(1, "again-"))),
            "another prefix"
        );
    }

    #[test]
    fn a_recorded_run_keeps_its_order_and_its_numbers() {
        for one in planned(7, "") {
            let calls: Vec<&str> = one
                .segments
                .iter()
                .filter_map(|segment| {
                    if let Facts::ToolCalls(facts) = segment {
                        Some(facts)
                    } else {
                        None
                    }
                })
                .flatten()
                .filter_map(|fact| match &fact.fact {
                    Some(tool_call_fact::Fact::ToolCallStarted(started)) => {
                        Some(started.tool_call_id.as_str())
                    }
                    _ => None,
                })
                .collect();
            let expected: Vec<String> = (1..=calls.len())
                .map(|number| format!("call-{number}"))
                .collect();
            assert_eq!(calls, expected);

            let times: Vec<(i64, i32)> = told(&one).into_iter().map(|(_, at)| at).collect();
            assert!(times.is_sorted());
            assert!(
                times.last().unwrap().0 - times[0].0 < 4 * 3_600,
                "plausible seconds"
            );
        }
    }

    #[test]
    fn times_lie_within_what_ingest_takes() {
        let last = BASE_SECONDS + i64::try_from(2 * SPREAD_MS / 1_000).unwrap();
        assert!(last < 1_732_000_000, "before anybody can import");
        assert!(PAST_MAX > TimeDelta::days(3_650), "and until 2034");
    }

    #[test]
    fn requests_are_bounded_in_records_and_bytes() {
        let facts = |count: usize| -> Vec<ToolCallFact> {
            let segments = planned(1, "").into_iter().flat_map(|one| one.segments);
            let calls = segments.filter_map(|one| {
                if let Facts::ToolCalls(facts) = one {
                    Some(facts)
                } else {
                    None
                }
            });
            calls.flatten().take(count).collect()
        };
        assert!(requests(facts(0), 10, 1 << 20).is_empty());
        let cut = requests(facts(25), 10, 1 << 20);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(cut.into_iter().flatten().collect::<Vec<_>>(), facts(25));
        assert!(
            requests(facts(25), 10, 1)
                .iter()
                .all(|request| request.len() == 1)
        );
    }
}
