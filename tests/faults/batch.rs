//! Facts about a run, as they are sent.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use runledger_proto::common::v1::AppendResult;
use runledger_proto::message::v1::{MessageFact, MessageIngestServiceAppendRequest};
use runledger_proto::run::v1::run_fact::Fact as InRun;
use runledger_proto::run::v1::{
    RunEnded, RunFact, RunIngestServiceAppendRequest, RunOutcome, RunPhase, RunProgressed,
    ToolCallFact, ToolCallIngestServiceAppendRequest, UsageRecorded, WorkStatus,
};
use runledger_proto::schedule::v1::schedule_fact::Fact as InSchedule;
use runledger_proto::schedule::v1::{ScheduleFact, ScheduleIngestServiceAppendRequest};
use runledger_tests::{Clients, facts};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::history::{Kind, RunKey, fails, part_id, quantity};
use crate::reading::Planned;

/// How long a caller waits for one answer.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
const METER: &str = "tokens.output";

/// What is sent at once: records of a run, by kind and part.
pub(crate) type Content = Vec<(Kind, u16)>;

/// Which service takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Runs,
    Calls,
    Messages,
    Occurrences,
}

/// A run that is to be reported: batches of a hundred, and a few facts sent alone.
pub(crate) fn plan(rng: &mut StdRng) -> (Planned, Vec<(Service, Content)>) {
    let calls = |from: u16, to: u16| -> Content {
        let both = |part| [(Kind::CallStarted, part), (Kind::CallEnded, part)];
        (from..to).flat_map(both).collect()
    };
    let parts =
        |kind, from: u16, to: u16| -> Content { (from..to).map(|part| (kind, part)).collect() };
    let mut planned = Planned {
        calls: 51,
        messages: 101,
        occurrences: 100,
        uses: 100,
    };
    let mut middle = vec![
        (Service::Calls, calls(0, 50)),
        (Service::Messages, parts(Kind::Message, 0, 100)),
        (Service::Messages, parts(Kind::Message, 100, 101)),
        (Service::Occurrences, parts(Kind::Occurrence, 0, 100)),
        (Service::Runs, parts(Kind::Used, 0, 100)),
        (Service::Runs, parts(Kind::Progressed, 0, 1)),
        (Service::Calls, calls(50, 51)),
    ];
    for _ in 0..rng.random_range(0..3) {
        middle.push((Service::Calls, calls(planned.calls, planned.calls + 50)));
        planned.calls += 50;
        middle.push((
            Service::Messages,
            parts(Kind::Message, planned.messages, planned.messages + 100),
        ));
        planned.messages += 100;
    }
    middle.shuffle(rng);
    let mut batches = vec![(Service::Runs, vec![(Kind::Started, 0)])];
    batches.append(&mut middle);
    batches.push((Service::Runs, vec![(Kind::Ended, 0)]));
    (planned, batches)
}

/// Facts that are sent again with the same ids and the same content until something is known.
#[derive(Clone)]
pub(crate) enum Batch {
    Runs(Vec<RunFact>),
    Calls(Vec<ToolCallFact>),
    Messages(Vec<MessageFact>),
    Occurrences(Vec<ScheduleFact>),
}

impl Batch {
    /// The facts of `content`, with these ids.
    pub(crate) fn new(
        rng: &mut StdRng,
        run: RunKey,
        service: Service,
        content: &Content,
        ids: &[Uuid],
    ) -> Self {
        let each = content.iter().copied().zip(ids);
        match service {
            Service::Runs => Self::Runs(
                each.map(|((kind, part), id)| run_fact(rng, run, kind, part, *id))
                    .collect(),
            ),
            Service::Calls => Self::Calls(
                each.map(|((kind, part), id)| call(rng, run, kind, part, *id))
                    .collect(),
            ),
            Service::Messages => Self::Messages(
                each.map(|((_, part), id)| message(rng, run, part, *id))
                    .collect(),
            ),
            Service::Occurrences => Self::Occurrences(
                each.map(|((_, part), id)| occurrence(rng, run, part, *id))
                    .collect(),
            ),
        }
    }

    /// Sends them once.
    pub(crate) async fn send(
        &self,
        clients: &Clients,
    ) -> Result<(Vec<AppendResult>, String), Status> {
        macro_rules! send {
            ($client:expr, $request:ident, $facts:expr) => {{
                let mut request = Request::new($request {
                    facts: $facts.clone(),
                });
                request.set_timeout(DEADLINE);
                let answer = $client.clone().append(request).await?.into_inner();
                Ok((answer.results, answer.token))
            }};
        }
        match self {
            Self::Runs(facts) => send!(clients.runs_in, RunIngestServiceAppendRequest, facts),
            Self::Calls(facts) => {
                send!(
                    clients.tool_calls_in,
                    ToolCallIngestServiceAppendRequest,
                    facts
                )
            }
            Self::Messages(facts) => {
                send!(
                    clients.messages_in,
                    MessageIngestServiceAppendRequest,
                    facts
                )
            }
            Self::Occurrences(facts) => {
                send!(
                    clients.schedules_in,
                    ScheduleIngestServiceAppendRequest,
                    facts
                )
            }
        }
    }
}

fn run_fact(rng: &mut StdRng, run: RunKey, kind: Kind, part: u16, id: Uuid) -> RunFact {
    let run_id = run.to_string();
    let fact = match kind {
        Kind::Started => facts::run_started(rng, &run_id),
        Kind::Used => {
            let used = UsageRecorded {
                run_id,
                meter: METER.into(),
                quantity: quantity(part),
                ..UsageRecorded::default()
            };
            facts::run_fact(rng, InRun::UsageRecorded(used))
        }
        Kind::Ended => {
            let ended = RunEnded {
                run_id,
                outcome: RunOutcome::Completed.into(),
                ..RunEnded::default()
            };
            facts::run_fact(rng, InRun::RunEnded(ended))
        }
        _ => {
            let progressed = RunProgressed {
                run_id,
                phase: RunPhase::Waiting.into(),
                note: part_id(part),
            };
            facts::run_fact(rng, InRun::RunProgressed(progressed))
        }
    };
    RunFact {
        id: id.to_string(),
        ..fact
    }
}

fn call(rng: &mut StdRng, run: RunKey, kind: Kind, part: u16, id: Uuid) -> ToolCallFact {
    let (run, call) = (run.to_string(), part_id(part));
    let fact = if kind == Kind::CallStarted {
        facts::tool_call_started(rng, &run, &call, "tool")
    } else {
        let status = if fails(part) {
            WorkStatus::Failed
        } else {
            WorkStatus::Succeeded
        };
        facts::tool_call_ended(rng, &run, &call, status)
    };
    ToolCallFact {
        id: id.to_string(),
        ..fact
    }
}

fn message(rng: &mut StdRng, run: RunKey, part: u16, id: Uuid) -> MessageFact {
    let fact = facts::message(
        rng,
        &run.to_string(),
        &run.conversation(),
        &part_id(part),
        "a word",
    );
    MessageFact {
        id: id.to_string(),
        ..fact
    }
}

/// Its part stands in its result: the occurrences of a schedule have no ids.
fn occurrence(rng: &mut StdRng, run: RunKey, part: u16, id: Uuid) -> ScheduleFact {
    let mut fact = facts::occurrence(rng, &run.to_string(), &run.schedule(), &part_id(part));
    if let Some(InSchedule::OccurrenceRecorded(recorded)) = &mut fact.fact {
        recorded.owner_id = run.owner();
    }
    ScheduleFact {
        id: id.to_string(),
        ..fact
    }
}
