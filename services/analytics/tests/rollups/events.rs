//! What can happen, drawn at random, and the records that tell of it.

use std::collections::BTreeMap;

use chrono::DateTime;
use proptest::collection::vec;
use proptest::prelude::*;
use runledger_domain::Fact;
use runledger_domain::approval::{
    ApprovalClosed, ApprovalTerms, ApprovalVoted, Decision, Status, ToolCallDecided, Verdict,
};
use runledger_domain::credit::{Balance, Change, Line, Posted, Pricing, Spender};
use runledger_domain::ids::{ApprovalId, Incarnation, PrincipalId, RecordId, TenantId};
use runledger_domain::log::{Kind, Partition, Position, Record, Stream};
use runledger_domain::message::{self, Content, MessageRecorded, SenderRole};
use runledger_domain::money::Credits;
use runledger_domain::policy::{Action, Match};
use runledger_domain::run::{
    self, Ended, Limits, Outcome, Phase, Progressed, Started, ToolCallEnded, ToolCallStarted,
    Trigger, UsageRecorded, WorkStatus,
};
use runledger_domain::schedule::{self, OccurrenceRecorded, OccurrenceStatus};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::Applied;
use runledger_proto::{decode, encode};
use uuid::Uuid;

/// How many partitions each family has.
pub(crate) const PARTITIONS: u32 = 2;

#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Few: records come again, and ids with another content.
    pub(crate) id: u128,
    /// Seconds since some day.
    pub(crate) at: i64,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Start {
        run: u8,
        agent: u8,
        model: u8,
        space: Option<u8>,
    },
    Progress {
        run: u8,
        waits: bool,
    },
    End {
        run: u8,
        outcome: Outcome,
        counter: i64,
    },
    CallStart {
        run: u8,
        call: u8,
        tool: u8,
    },
    CallEnd {
        run: u8,
        call: u8,
        status: WorkStatus,
    },
    Usage {
        run: u8,
        meter: u8,
        quantity: i64,
        model: Option<u8>,
    },
    Decided {
        run: u8,
        call: u8,
        tool: u8,
        agent: u8,
        verdict: Verdict,
        covered: bool,
    },
    Voted {
        run: u8,
        call: u8,
        status: Status,
    },
    Closed {
        run: u8,
        call: u8,
        status: Status,
    },
    Message {
        conversation: u8,
        message: u8,
        run: Option<u8>,
        chars: u64,
        role: SenderRole,
    },
    Occurrence {
        status: OccurrenceStatus,
    },
    Charged {
        run: Option<u8>,
        agent: Option<u8>,
        meter: u8,
        micros: i64,
        priced: bool,
    },
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    // Within two days, and now and then in the same minute.
    let at = prop_oneof![0..172_800_i64, 600..660_i64];
    vec(
        (0..40_u128, at, what()).prop_map(|(id, at, what)| Event { id, at, what }),
        1..60,
    )
}

#[expect(clippy::too_many_lines, reason = "a table of all that can happen")]
fn what() -> impl Strategy<Value = What> {
    let (run, call, few) = (0..3_u8, 0..3_u8, 0..2_u8);
    let some = |range: std::ops::Range<u8>| proptest::option::of(range);
    prop_oneof![
        (run.clone(), few.clone(), few.clone(), some(0..2)).prop_map(
            |(run, agent, model, space)| What::Start {
                run,
                agent,
                model,
                space
            }
        ),
        (run.clone(), any::<bool>()).prop_map(|(run, waits)| What::Progress { run, waits }),
        (run.clone(), one_of(Outcome::ALL), -5..5_i64).prop_map(|(run, outcome, counter)| {
            What::End {
                run,
                outcome,
                counter,
            }
        }),
        (run.clone(), call.clone(), few.clone()).prop_map(|(run, call, tool)| What::CallStart {
            run,
            call,
            tool
        }),
        (run.clone(), call.clone(), one_of(WorkStatus::ALL))
            .prop_map(|(run, call, status)| What::CallEnd { run, call, status }),
        (
            run.clone(),
            few.clone(),
            prop_oneof![0..9_i64, Just(i64::MAX)],
            some(0..2)
        )
            .prop_map(|(run, meter, quantity, model)| What::Usage {
                run,
                meter,
                quantity,
                model
            }),
        (
            run.clone(),
            call.clone(),
            few.clone(),
            few.clone(),
            one_of(Verdict::ALL),
            any::<bool>()
        )
            .prop_map(|(run, call, tool, agent, verdict, covered)| What::Decided {
                run,
                call,
                tool,
                agent,
                verdict,
                covered
            }),
        (
            run.clone(),
            call.clone(),
            one_of(&[Status::Pending, Status::Approved, Status::Rejected])
        )
            .prop_map(|(run, call, status)| What::Voted { run, call, status }),
        (run, call, one_of(&[Status::Expired, Status::Cancelled]))
            .prop_map(|(run, call, status)| What::Closed { run, call, status }),
        (
            0..2_u8,
            0..4_u8,
            some(0..3),
            0..9_u64,
            one_of(SenderRole::ALL)
        )
            .prop_map(|(conversation, message, run, chars, role)| What::Message {
                conversation,
                message,
                run,
                chars,
                role
            }),
        one_of(OccurrenceStatus::ALL).prop_map(|status| What::Occurrence { status }),
        (some(0..3), some(0..2), few, 0..9_i64, any::<bool>()).prop_map(
            |(run, agent, meter, micros, priced)| What::Charged {
                run,
                agent,
                meter,
                micros,
                priced
            }
        ),
    ]
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

pub(crate) fn scope(tenant: u128) -> Scope {
    Scope {
        tenant: TenantId::new(Uuid::from_u128(tenant)),
        mode: Mode::Live,
    }
}

pub(crate) fn moment(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, number: u8) -> T {
    format!("{prefix}{number}").parse().unwrap()
}

enum Told {
    Fact(Fact),
    Decision(Stream, (&'static str, Vec<u8>)),
}

impl Event {
    /// The stream it lies in.
    pub(crate) fn stream(&self) -> Stream {
        match self.told() {
            Told::Fact(fact) => fact.stream(),
            Told::Decision(stream, _) => stream,
        }
    }

    pub(crate) fn is_decision(&self) -> bool {
        matches!(self.told(), Told::Decision(..))
    }

    /// As the loop hands it over, at this place of its partition.
    pub(crate) fn applied(&self, scope: Scope, offset: u64) -> Applied {
        let stream = self.stream();
        let (kind, type_name, payload) = match self.told() {
            Told::Fact(fact) => {
                let (type_name, payload) = encode::payload(&fact);
                (Kind::Fact, type_name, payload)
            }
            Told::Decision(_, (type_name, payload)) => (Kind::Decision, type_name, payload),
        };
        let position = Position {
            partition: self.partition(scope),
            incarnation: Incarnation::new(Uuid::from_u128(1)),
            offset,
        };
        applied(
            scope,
            stream,
            kind,
            type_name,
            payload,
            self.id,
            moment(self.at),
            position,
        )
    }

    pub(crate) fn partition(&self, scope: Scope) -> Partition {
        let stream = self.stream();
        Partition {
            family: stream.family(),
            number: runledger_domain::log::partition_of(&stream.key(scope), PARTITIONS),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table of all that can happen")]
    fn told(&self) -> Told {
        let run = |number: u8| name("r", number);
        match &self.what {
            What::Start {
                run: number,
                agent,
                model,
                space,
            } => Told::Fact(Fact::Run(run::Fact::Started(Box::new(Started {
                run_id: run(*number),
                agent_id: name("a", *agent),
                agent_version: format!("v{model}"),
                parent_run_id: None,
                conversation_id: None,
                space_id: space.map(|space| name("s", space)),
                account_id: None,
                trigger: Trigger::Api,
                task: String::new(),
                reason: String::new(),
                agent_context: None,
                model: format!("m{model}"),
                input: None,
                labels: BTreeMap::new(),
                limits: Limits::default(),
            })))),
            What::Progress { run: number, waits } => {
                Told::Fact(Fact::Run(run::Fact::Progressed(Progressed {
                    run_id: run(*number),
                    phase: if *waits {
                        Phase::Waiting
                    } else {
                        Phase::Running
                    },
                    note: String::new(),
                })))
            }
            What::End {
                run: number,
                outcome,
                counter,
            } => Told::Fact(Fact::Run(run::Fact::Ended(Ended {
                run_id: run(*number),
                outcome: *outcome,
                error: (*outcome == Outcome::Failed).then(|| run::Error {
                    code: "BROKEN".parse().unwrap(),
                    message: "it broke".into(),
                }),
                result: None,
                counters: BTreeMap::from([("errors".parse().unwrap(), *counter)]),
            }))),
            What::CallStart {
                run: number,
                call,
                tool,
            } => Told::Fact(Fact::Run(run::Fact::ToolCallStarted(call_start(
                *number, *call, *tool,
            )))),
            What::CallEnd {
                run: number,
                call,
                status,
            } => Told::Fact(Fact::Run(run::Fact::ToolCallEnded(ToolCallEnded {
                run_id: run(*number),
                tool_call_id: name("c", *call),
                status: *status,
                result: None,
                error: (*status == WorkStatus::Failed).then(|| run::Error {
                    code: "REFUSED".parse().unwrap(),
                    message: String::new(),
                }),
            }))),
            What::Usage {
                run: number,
                meter,
                quantity,
                model,
            } => {
                let model = model.map(|model| ("model".parse().unwrap(), format!("m{model}")));
                Told::Fact(Fact::Run(run::Fact::UsageRecorded(UsageRecorded {
                    run_id: run(*number),
                    meter: name("meter", *meter),
                    quantity: *quantity,
                    tool_call_id: None,
                    dimensions: model.into_iter().collect(),
                })))
            }
            What::Message {
                conversation,
                message,
                run: number,
                chars,
                role,
            } => Told::Fact(Fact::Message(message::Fact::MessageRecorded(
                MessageRecorded {
                    conversation_id: name("k", *conversation),
                    message_id: name("m", *message),
                    sender_id: String::new(),
                    role: *role,
                    kind: "text".parse().unwrap(),
                    content: Content::Chars(*chars),
                    in_reply_to: None,
                    run_id: number.map(run),
                },
            ))),
            What::Occurrence { status } => Told::Fact(Fact::Schedule(
                schedule::Fact::OccurrenceRecorded(OccurrenceRecorded {
                    owner_id: "o".parse().unwrap(),
                    schedule_id: "daily".parse().unwrap(),
                    scheduled_at: moment(self.at),
                    status: *status,
                    result: String::new(),
                    run_id: None,
                    next_occurrence_at: None,
                }),
            )),
            What::Decided { .. }
            | What::Voted { .. }
            | What::Closed { .. }
            | What::Charged { .. } => self.decision(),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table of all that can happen")]
    fn decision(&self) -> Told {
        let approval = ApprovalId::new(Uuid::from_u128(9));
        let of = |run: u8, decision: Decision| {
            Told::Decision(
                Stream::run(&name("r", run)),
                encode::approval_decision(&decision),
            )
        };
        match &self.what {
            What::Decided {
                run,
                call,
                tool,
                agent,
                verdict,
                covered,
            } => {
                let held = *verdict == Verdict::AwaitingApproval;
                of(
                    *run,
                    Decision::ToolCallDecided(Box::new(ToolCallDecided {
                        call: call_start(*run, *call, *tool),
                        agent_id: name("a", *agent),
                        requester: actor(),
                        verdict: *verdict,
                        reason: "POLICY".into(),
                        message: String::new(),
                        matches: covered.then(matched).into_iter().collect(),
                        arguments_digest: [0; 32],
                        held: held.then(|| (approval, terms())),
                        opens_run: false,
                        severity: None,
                        run_reported: false,
                    })),
                )
            }
            What::Voted { run, call, status } => of(
                *run,
                Decision::ApprovalVoted(ApprovalVoted {
                    approval_id: approval,
                    tool_call_id: name("c", *call),
                    voter: actor(),
                    approve: *status != Status::Rejected,
                    reason: String::new(),
                    edited_arguments: None,
                    arguments_digest: [0; 32],
                    approved: 1,
                    status: *status,
                    use_by: None,
                }),
            ),
            What::Closed { run, call, status } => of(
                *run,
                Decision::ApprovalClosed(ApprovalClosed {
                    approval_id: approval,
                    tool_call_id: name("c", *call),
                    status: *status,
                }),
            ),
            What::Charged {
                run,
                agent,
                meter,
                micros,
                priced,
            } => {
                let by = Pricing::By {
                    version: 1,
                    rule: "rule".parse().unwrap(),
                    free: 0,
                    billable: 1,
                };
                let line = Line {
                    source: RecordId::new(Uuid::from_u128(self.id + 1)),
                    meter: name("meter", *meter),
                    quantity: 1,
                    spender: Spender {
                        agent: agent.map(|agent| name("a", agent)),
                        run: run.map(|run| name("r", run)),
                    },
                    used_at: moment(self.at),
                    pricing: if *priced { by } else { Pricing::Unpriced },
                    amount: Credits::from_micros(if *priced { *micros } else { 0 }),
                    late: false,
                    over: Vec::new(),
                };
                let posted = Posted {
                    before: Balance::default(),
                    opened: Vec::new(),
                    transactions: Vec::new(),
                    change: Change::Charged(vec![line]),
                    crossed: Vec::new(),
                    by: None,
                    reason: String::new(),
                };
                Told::Decision(
                    Stream::account(&"acc".parse().unwrap()),
                    encode::account_posted(&posted),
                )
            }
            other => panic!("no decision: {other:?}"),
        }
    }
}

fn call_start(run: u8, call: u8, tool: u8) -> ToolCallStarted {
    ToolCallStarted {
        run_id: name("r", run),
        tool_call_id: name("c", call),
        step_id: None,
        tool: name("t", tool),
        arguments: None,
        action_hint: String::new(),
        reason: String::new(),
        agent_context: None,
    }
}

fn actor() -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(7)),
        kind: PrincipalKind::Service,
        role: Role::Agent,
    }
}

fn matched() -> Match {
    Match {
        policy: "p-1".parse().unwrap(),
        version: 1,
        name: "Pay".into(),
        action: Action::RequireApproval,
        severity: None,
        error: None,
    }
}

fn terms() -> ApprovalTerms {
    ApprovalTerms {
        quorum: 1,
        approvers: Vec::new(),
        requester_may_approve: false,
        decide_by: moment(0),
        use_within: std::time::Duration::from_secs(1),
    }
}

/// A record as the loop hands it over.
#[expect(
    clippy::too_many_arguments,
    reason = "all that tells one record of a test from another"
)]
pub(crate) fn applied(
    scope: Scope,
    stream: Stream,
    kind: Kind,
    type_name: &str,
    payload: Vec<u8>,
    id: u128,
    at: Timestamp,
    position: Position,
) -> Applied {
    let record = Record {
        id: RecordId::new(Uuid::from_u128(id)),
        scope,
        stream,
        kind,
        type_name: type_name.into(),
        occurred_at: at,
        recorded_at: at,
        author: actor().into(),
        cause: None,
        request_digest: Record::digest_request(type_name, at, None, &payload),
        key: None,
        payload,
        terms: None,
    };
    let fact = decode::fact(&record).unwrap();
    Applied {
        position,
        record,
        fact,
    }
}
