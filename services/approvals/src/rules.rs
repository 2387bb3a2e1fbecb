//! The rules of both families, as the decider asks for them.

use std::sync::Arc;
use std::time::Duration;

use runledger_decider::{Confirmed, Moment, Ruling, StateError, View};
use runledger_domain::Fact;
use runledger_domain::approval::{self, Call, Due, Run};
use runledger_domain::decision::{Rejection, RejectionKind};
use runledger_domain::log::{Author, Family, Record, Stream};
use runledger_domain::policy::{self, Book, Change};
use runledger_domain::scope::Actor;
use runledger_domain::time::Timestamp;
use runledger_proto::{decode, encode};

use crate::policies::Policies;

/// What the decider reads, and decides in.
pub const FAMILIES: &[Family] = &[Family::Run, Family::Policy];

/// Raised with every change after which the same command might be decided otherwise.
const VERSION: u32 = 1;
/// How old what is known of policies may be.
const POLICIES_FRESH: Duration = Duration::from_millis(500);

/// How governed calls and policies are judged.
pub struct Rules {
    policies: Arc<View<Policies>>,
}

/// A command of either family.
#[derive(Clone, Debug)]
pub enum Command {
    Call(approval::Command),
    Policy(policy::Command),
}

/// A decision of either family.
#[derive(Clone, Debug)]
pub enum Decision {
    Call(approval::Decision),
    Policy(policy::Changed),
}

/// The state of a stream of either family.
#[derive(Clone, Debug)]
pub enum Held {
    Run(Box<Run>),
    Policies(Book),
    /// A kind of stream of a later version.
    Unknown,
}

impl Rules {
    pub(crate) fn new(policies: Arc<View<Policies>>) -> Self {
        Self { policies }
    }

    /// The policies, if they are known well enough for this command.
    fn policies(&self, moment: &Moment<'_>) -> Option<Confirmed<Policies>> {
        let now = self.policies.now();
        let mut named = moment.at_least.iter();
        let knows =
            named.all(|position| position.partition.family != Family::Policy || now.has(position));
        (knows && now.is_fresh(POLICIES_FRESH)).then_some(now)
    }

    fn decide_call(
        &self,
        run: &Run,
        call: Option<&Call>,
        command: &approval::Command,
        actor: Actor,
        moment: &Moment<'_>,
    ) -> Ruling<Decision> {
        let policies = match command {
            approval::Command::RequestToolCall(_) => match self.policies(moment) {
                None => return Ruling::Waits,
                known => known,
            },
            approval::Command::DecideApproval(_) | approval::Command::ConfirmExecution(_) => None,
        };
        let judge = |subject: &policy::Subject<'_>| match &policies {
            Some(known) => known.viewed.of(moment.scope).judge(subject),
            // Only requests are judged by policies.
            None => policy::PolicySet::compile([]).judge(subject),
        };
        let moment = approval::Moment {
            at: moment.at,
            actor,
            command: moment.id,
            judge: &judge,
        };
        match approval::decide(run, call, command, &moment) {
            Ok(decision) => Ruling::Decided {
                decision: Decision::Call(decision),
                views: policies
                    .and_then(|known| known.position)
                    .into_iter()
                    .collect(),
            },
            Err(rejection) => Ruling::Rejected(rejection),
        }
    }
}

impl runledger_decider::Rules for Rules {
    type Command = Command;
    type Decision = Decision;
    type Stream = Held;
    type Part = Call;

    fn version(&self) -> u32 {
        VERSION
    }

    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn command(&self, record: &Record) -> Result<Option<Command>, decode::Error> {
        let (type_name, payload) = (&record.type_name, &record.payload);
        Ok(match record.stream.family() {
            Family::Policy => {
                decode::stored_policy_command(type_name, payload)?.map(Command::Policy)
            }
            Family::Run => decode::stored_approval_command(type_name, payload)?.map(Command::Call),
            Family::Schedule
            | Family::Message
            | Family::Directory
            | Family::Price
            | Family::Billing => None,
        })
    }

    fn decision(&self, record: &Record) -> Result<Option<Decision>, decode::Error> {
        let (type_name, payload) = (&record.type_name, &record.payload);
        Ok(match record.stream.family() {
            Family::Policy => {
                decode::stored_policy_changed(type_name, payload)?.map(Decision::Policy)
            }
            Family::Run => {
                decode::stored_approval_decision(type_name, payload)?.map(Decision::Call)
            }
            Family::Schedule
            | Family::Message
            | Family::Directory
            | Family::Price
            | Family::Billing => None,
        })
    }

    fn encode(&self, decision: &Decision) -> (&'static str, Vec<u8>) {
        match decision {
            Decision::Call(decision) => encode::approval_decision(decision),
            Decision::Policy(changed) => encode::policy_changed(changed),
        }
    }

    fn part_of_command<'a>(&self, command: &'a Command) -> Option<&'a str> {
        match command {
            Command::Call(command) => Some(command.tool_call_id().as_str()),
            Command::Policy(_) => None,
        }
    }

    fn part_of_decision<'a>(&self, decision: &'a Decision) -> Option<&'a str> {
        match decision {
            Decision::Call(decision) => Some(decision.tool_call_id().as_str()),
            Decision::Policy(_) => None,
        }
    }

    fn unheard(&self, stream: &Stream) -> Held {
        match stream.family() {
            Family::Run => Held::Run(Box::default()),
            Family::Policy => Held::Policies(Book::default()),
            Family::Schedule
            | Family::Message
            | Family::Directory
            | Family::Price
            | Family::Billing => Held::Unknown,
        }
    }

    fn encode_stream(&self, state: &Held) -> Vec<u8> {
        match state {
            Held::Run(run) => run.to_bytes(),
            Held::Policies(book) => encode::policy_book(book),
            Held::Unknown => Vec::new(),
        }
    }

    fn decode_stream(&self, stream: &Stream, bytes: &[u8]) -> Result<Held, StateError> {
        match stream.family() {
            Family::Run => Run::from_bytes(bytes)
                .map(|run| Held::Run(Box::new(run)))
                .map_err(|fault| unreadable(stream, fault)),
            Family::Policy => decode::stored_policy_book(bytes)
                .map(Held::Policies)
                .map_err(|fault| unreadable(stream, fault)),
            Family::Schedule
            | Family::Message
            | Family::Directory
            | Family::Price
            | Family::Billing => Ok(Held::Unknown),
        }
    }

    fn encode_part(&self, state: &Call) -> Vec<u8> {
        state.to_bytes()
    }

    fn decode_part(&self, stream: &Stream, bytes: &[u8]) -> Result<Call, StateError> {
        Call::from_bytes(bytes).map_err(|fault| unreadable(stream, fault))
    }

    fn heeds(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Run(fact) => approval::heeds(fact),
            Fact::Schedule(_) | Fact::Message(_) | Fact::Usage(_) => false,
        }
    }

    fn heed(&self, stream: &mut Held, fact: &Fact, at: Timestamp) -> bool {
        match (stream, fact) {
            (Held::Run(run), Fact::Run(fact)) => {
                let had_ended = run.ended;
                approval::heed(run, fact, at);
                run.ended && !had_ended
            }
            _ => false,
        }
    }

    fn decide(
        &self,
        stream: &Held,
        part: Option<&Call>,
        command: &Command,
        moment: &Moment<'_>,
    ) -> Ruling<Decision> {
        let Some(actor) = actor(moment.author) else {
            let message = "the command's author is of a kind that is not known here";
            let kind = RejectionKind::Internal;
            return Ruling::Rejected(Rejection::new(kind, "UNKNOWN_ACTOR", message));
        };
        match (stream, command) {
            (Held::Run(run), Command::Call(command)) => {
                self.decide_call(run, part, command, actor, moment)
            }
            (Held::Policies(book), Command::Policy(command)) => {
                let change = Change {
                    at: moment.at,
                    by: actor,
                };
                match policy::decide(book, command, change) {
                    Ok(changed) => Ruling::Decided {
                        decision: Decision::Policy(changed),
                        views: Vec::new(),
                    },
                    Err(rejection) => Ruling::Rejected(rejection),
                }
            }
            (Held::Run(_) | Held::Policies(_) | Held::Unknown, _) => {
                let message = "this command does not belong into this stream";
                let kind = RejectionKind::Invalid;
                Ruling::Rejected(Rejection::new(kind, "WRONG_STREAM", message))
            }
        }
    }

    fn evolve(
        &self,
        stream: &mut Held,
        part: &mut Option<Call>,
        decision: &Decision,
        at: Timestamp,
    ) -> bool {
        match (stream, decision) {
            (Held::Run(run), Decision::Call(decision)) => approval::evolve(run, part, decision, at),
            (Held::Policies(book), Decision::Policy(changed)) => {
                policy::evolve(book, changed);
                true
            }
            (Held::Run(_) | Held::Policies(_) | Held::Unknown, _) => false,
        }
    }

    fn due(&self, stream: &Held, name: &str, part: &Call, at: Timestamp) -> Option<Decision> {
        let Held::Run(run) = stream else {
            return None;
        };
        let tool_call_id = name.parse().ok()?;
        let closed = approval::due(run, part, &tool_call_id, at)?;
        Some(Decision::Call(approval::Decision::ApprovalClosed(closed)))
    }

    fn due_at(&self, stream: &Held, part: &Call) -> Option<Timestamp> {
        let Held::Run(run) = stream else {
            return None;
        };
        approval::next_due(run, part).map(|due| match due {
            Due::Now => Timestamp::UNIX_EPOCH,
            Due::At(at) => at,
        })
    }

    fn refresh(&self) {
        self.policies.hurry();
    }
}

fn actor(author: &Author) -> Option<Actor> {
    Some(Actor {
        principal: author.principal,
        kind: author.kind?,
        role: author.role?,
    })
}

fn unreadable(
    stream: &Stream,
    fault: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StateError {
    StateError {
        what: stream.to_string(),
        source: fault.into(),
    }
}
