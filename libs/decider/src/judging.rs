//! One round of one partition: from what is undecided and owed to the decisions to be appended. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics::{counter, histogram};
use runledger_domain::decision::{Rejection, RejectionKind};
use runledger_domain::digest::{self, Digest};
use runledger_domain::ids::{PrincipalId, RecordId};
use runledger_domain::log::{
    Asked, Author, Cause, Decided, Kind, Partition, Position, Record, Terms,
};
use runledger_domain::scope::PrincipalKind;
use runledger_domain::time::Timestamp;
use runledger_eventlog::Entry;
use runledger_projection::decision_hash;
use runledger_proto::encode;
use tracing::error;
use uuid::Uuid;

use crate::rules::{Moment, Rules, Ruling};
use crate::states::{States, StreamId};

mod facts;

pub(crate) use facts::OwedFact;

/// Largest decision, in bytes as stored; a topic takes 1 MiB.
pub const DECISION_BYTES_MAX: usize = 960 << 10;
/// How often a command is tried after unclean ends.
const ATTEMPTS_MAX: u32 = 3;

/// A command without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Undecided {
    pub(crate) position: Position,
    pub(crate) record: Record,
    /// How often it was tried before somebody ended without a word.
    pub(crate) attempts: u32,
}

/// A part that is owed a decision nobody asked for.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) id: StreamId,
    /// Empty: the stream itself.
    pub(crate) part: String,
}

/// A partition, as its decider has read it.
#[derive(Clone, Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) partition: Partition,
    /// The first offset that was not read.
    pub(crate) read_to: u64,
    /// Hash of the last decision in force.
    pub(crate) head: Digest,
    /// The moment of this round: never before that of the last decision in force.
    pub(crate) at: Timestamp,
    /// When it is appended, by this machine's clock.
    pub(crate) now: Timestamp,
    /// Streams whose records cannot be applied, and since which offset.
    pub(crate) suspended: &'a BTreeMap<StreamId, i64>,
}

/// What one partition's round came to.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) entries: Vec<Entry>,
    /// Hashes of the decisions, in order.
    pub(crate) hashes: Vec<Digest>,
    /// Something waits for what is known of another family.
    pub(crate) waits: bool,
}

/// All that one round judges in one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    /// By offset, as the facts are.
    pub(crate) commands: Vec<Undecided>,
    pub(crate) facts: Vec<OwedFact>,
    pub(crate) owed: Vec<Owed>,
}

impl Work {
    /// Leaves out what lies behind an offset: something before it was not read.
    pub(crate) fn cut_behind(&mut self, last: u64) {
        self.commands.retain(|one| one.position.offset <= last);
        self.facts.retain(|one| one.position.offset <= last);
    }

    /// Where the first lies.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        let command = self.commands.first().map(|one| one.position.offset);
        let fact = self.facts.first().map(|one| one.position.offset);
        command.into_iter().chain(fact).min()
    }

    fn in_order(&self) -> Vec<Item<'_>> {
        let commands = self.commands.iter().map(Item::Command);
        let mut items: Vec<Item<'_>> = commands.chain(self.facts.iter().map(Item::Fact)).collect();
        items.sort_by_key(|item| item.offset());
        items
    }
}

#[derive(Clone, Copy)]
enum Item<'a> {
    Command(&'a Undecided),
    Fact(&'a OwedFact),
}

impl Item<'_> {
    fn offset(self) -> u64 {
        match self {
            Self::Command(one) => one.position.offset,
            Self::Fact(one) => one.position.offset,
        }
    }
}

struct Judging<'a, R: Rules> {
    rules: &'a R,
    desk: Desk<'a>,
    states: &'a mut States<R>,
    judged: Judged,
    /// Facts that are answered before the next command of their stream, or at the end.
    gathered: BTreeMap<StreamId, Vec<&'a OwedFact>>,
    /// Nothing more of these streams is decided in this round.
    waiting: BTreeSet<StreamId>,
}

/// Judges what is owed, then commands and facts in the order of the log, each against what was read
/// and against the round's own decisions.
pub(crate) fn judge<R: Rules>(
    rules: &R,
    desk: Desk<'_>,
    states: &mut States<R>,
    work: &Work,
) -> Judged {
    let mut judging = Judging {
        rules,
        desk,
        states,
        judged: Judged::default(),
        gathered: BTreeMap::new(),
        waiting: BTreeSet::new(),
    };
    for owed in &work.owed {
        judging.settle(owed);
    }
    for item in work.in_order() {
        match item {
            Item::Fact(fact) => {
                let id = (fact.record.scope, fact.record.stream.clone());
                judging.gather(&id, fact);
            }
            Item::Command(command) => judging.take(command),
        }
    }
    judging.answer_all_gathered();
    judging.judged
}

impl<R: Rules> Judging<'_, R> {
    /// A command, behind the facts of its stream that lie before it.
    fn take(&mut self, command: &Undecided) {
        let id = (command.record.scope, command.record.stream.clone());
        self.answer_gathered(&id);
        if self.waiting.contains(&id) {
            return;
        }
        if self.answer(&id, command) {
            let waited = self.desk.now - command.record.recorded_at;
            histogram!("runledger_decider_command_age_seconds")
                .record(waited.to_std().unwrap_or_default());
        } else {
            self.wait(&id);
        }
    }

    fn wait(&mut self, id: &StreamId) {
        self.waiting.insert(id.clone());
        self.judged.waits = true;
    }

    fn settle(&mut self, owed: &Owed) {
        if self.desk.suspended.contains_key(&owed.id) {
            return; // what it is owed is decided when it can be read again
        }
        let Some(held) = self.states.get(&owed.id) else {
            return;
        };
        let due = || {
            if owed.part.is_empty() {
                return self.rules.lapse(&held.state, self.desk.at);
            }
            let part = held.parts.get(&*owed.part)?.as_ref()?;
            self.rules.due(&held.state, &owed.part, part, self.desk.at)
        };
        let Ok(due) = catch_unwind(AssertUnwindSafe(due)) else {
            alarm(&owed.id, "what time owes could not be judged");
            return;
        };
        if let Some(decision) = due {
            let (type_name, payload) = self.rules.encode(&decision);
            let taken = Taken {
                id: &owed.id,
                cause: None,
                type_name,
                payload,
                views: Vec::new(),
            };
            if let Err(fault) = self.write(taken, Some(&decision)) {
                alarm(&owed.id, "a decision that is owed cannot be written");
                error!(stream = %owed.id.1, scope = %owed.id.0, %fault);
            }
        }
    }

    /// False: not now.
    fn answer(&mut self, id: &StreamId, command: &Undecided) -> bool {
        match self.ruling(id, command) {
            Ruling::Waits => false,
            Ruling::Rejected(rejection) => {
                self.reject(id, command, &rejection);
                true
            }
            Ruling::Decided { decision, views } => {
                let (type_name, payload) = self.rules.encode(&decision);
                let taken = Taken {
                    id,
                    cause: Some(command.record.id),
                    type_name,
                    payload,
                    views,
                };
                if let Err(fault) = self.write(taken, Some(&decision)) {
                    alarm(id, "a decision cannot be written");
                    self.reject(id, command, &fault.into());
                }
                true
            }
        }
    }

    fn ruling(&self, id: &StreamId, command: &Undecided) -> Ruling<R::Decision> {
        let asked = match &command.record.terms {
            Some(Terms::Asked(asked)) => Some(asked),
            Some(Terms::Decided(_)) | None => None,
        };
        if let Some(refused) = self.refuse(id, command, asked) {
            return Ruling::Rejected(refused);
        }
        let decoded = match self.rules.command(&command.record) {
            Ok(Some(decoded)) => decoded,
            // A later version will know it; until then nothing of the stream is decided.
            Ok(None) => return Ruling::Waits,
            Err(fault) => {
                alarm(id, "a command cannot be decoded");
                let message = format!("the command cannot be decoded: {fault}");
                return Ruling::Rejected(Rejection::new(
                    RejectionKind::Invalid,
                    "UNDECODABLE",
                    message,
                ));
            }
        };
        let Some(held) = self.states.get(id) else {
            return Ruling::Waits;
        };
        let name = self.rules.part_of_command(&decoded);
        let part = name.and_then(|name| held.parts.get(name)?.as_ref());
        let moment = Moment {
            at: self.desk.at,
            scope: id.0,
            stream: &id.1,
            author: &command.record.author,
            id: command.record.id,
            at_least: asked.map_or(&[], |asked| asked.at_least.as_slice()),
        };
        let decide = || self.rules.decide(&held.state, part, &decoded, &moment);
        catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|_| {
            alarm(id, "deciding a command failed");
            Ruling::Rejected(undecidable())
        })
    }

    /// What is refused whatever the command says.
    fn refuse(
        &self,
        id: &StreamId,
        command: &Undecided,
        asked: Option<&Asked>,
    ) -> Option<Rejection> {
        let precondition =
            |reason, message| Some(Rejection::new(RejectionKind::Precondition, reason, message));
        if command.attempts > ATTEMPTS_MAX {
            alarm(id, "a command was tried too often");
            return Some(undecidable());
        }
        if let Some(since) = self.desk.suspended.get(id) {
            let message = format!(
                "the record at offset {since} of {} cannot be applied, so nothing of stream {} is decided; \
                 once it is redriven or skipped, ask again with a new id",
                self.desk.partition, id.1
            );
            return precondition("STREAM_SUSPENDED", message);
        }
        let deadline = asked.map(|asked| asked.deadline);
        if let Some(deadline) = deadline.filter(|deadline| *deadline < self.desk.at) {
            let message = format!(
                "it was to be decided by {deadline} and was not; nothing has changed, ask again with a new id"
            );
            return precondition("DEADLINE_PASSED", message);
        }
        let expected = asked.and_then(|asked| asked.expected_version)?;
        let version = self.states.get(id).map_or(0, |held| held.version);
        (expected != version).then(|| {
            let message = format!(
                "stream {} has {version} decisions, not {expected}: read it again, and decide anew",
                id.1
            );
            Rejection::new(RejectionKind::Precondition, "STREAM_CHANGED", message)
        })
    }

    fn reject(&mut self, id: &StreamId, command: &Undecided, rejection: &Rejection) {
        let (type_name, payload) = encode::rejected(rejection, &command.record.type_name);
        let taken = Taken {
            id,
            cause: Some(command.record.id),
            type_name,
            payload,
            views: Vec::new(),
        };
        if let Err(fault) = self.write(taken, None) {
            error!(stream = %id.1, %fault, "a rejection cannot be written");
        }
    }

    /// Adds a decision to the round. `decision`: `None` where it changes nothing.
    fn write(
        &mut self,
        taken: Taken<'_>,
        decision: Option<&R::Decision>,
    ) -> Result<(), Unwritable> {
        let (scope, stream) = taken.id;
        let prev = self.desk.head;
        let part = decision.and_then(|one| self.rules.part_of_decision(one));
        let version = self.states.get(taken.id).map_or(0, |held| held.version);
        let record = Record {
            id: decision_id(&prev, taken.cause, part),
            scope: *scope,
            stream: stream.clone(),
            kind: Kind::Decision,
            type_name: taken.type_name.into(),
            occurred_at: self.desk.at,
            recorded_at: self.desk.now,
            author: decider(),
            cause: taken.cause.map(|id| Cause { stream: None, id }),
            request_digest: Record::digest_request(
                taken.type_name,
                self.desk.at,
                None,
                &taken.payload,
            ),
            key: None,
            payload: taken.payload,
            terms: Some(Terms::Decided(Decided {
                read_to: self.desk.read_to,
                rules_version: self.rules.version(),
                stream_version: version + 1,
                views: taken.views,
            })),
        };
        let value = encode::record(record.clone());
        if value.len() > DECISION_BYTES_MAX {
            return Err(Unwritable::TooLarge(value.len()));
        }
        // In the log it would change nothing, and yet be an answer.
        let fits = self
            .states
            .take_on(self.rules, taken.id, decision, self.desk.at);
        if !fits && decision.is_some() {
            return Err(Unwritable::Misfit);
        }
        let hash = decision_hash(&prev, stream.key(*scope).as_bytes(), &value);
        self.desk.head = hash;
        self.judged.hashes.push(hash);
        self.judged.entries.push(Entry {
            record,
            prev: Some(prev),
            trace: None,
        });
        Ok(())
    }
}

/// Why a decision may not be written. Nothing has changed then.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unwritable {
    #[error(
        "the decision would take {0} bytes, more than the {DECISION_BYTES_MAX} that the log takes; ask for less at once"
    )]
    TooLarge(usize),
    #[error("the decision would not fit what it was made from; report its command")]
    Misfit,
}

impl From<Unwritable> for Rejection {
    fn from(fault: Unwritable) -> Self {
        let (kind, reason) = match fault {
            Unwritable::TooLarge(_) => (RejectionKind::Invalid, "DECISION_TOO_LARGE"),
            Unwritable::Misfit => (RejectionKind::Internal, "UNDECIDABLE"),
        };
        Self::new(kind, reason, fault.to_string())
    }
}

/// What is to be written into the log.
struct Taken<'a> {
    id: &'a StreamId,
    cause: Option<RecordId>,
    type_name: &'static str,
    payload: Vec<u8>,
    views: Vec<Position>,
}

/// Nobody outside can know `prev`, so nobody can take the id before.
fn decision_id(prev: &Digest, cause: Option<RecordId>, part: Option<&str>) -> RecordId {
    let cause = cause.map(|id| id.as_uuid().into_bytes());
    let from = digest::of_parts(&[
        b"runledger.decider",
        prev,
        cause.as_ref().map_or(&[], |id| id.as_slice()),
        part.unwrap_or_default().as_bytes(),
    ]);
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = from;
    RecordId::new(Uuid::new_v8(bytes))
}

/// Deciders are nobody's principal.
pub(crate) fn decider() -> Author {
    Author {
        principal: PrincipalId::new(Uuid::nil()),
        kind: Some(PrincipalKind::Service),
        role: None,
    }
}

fn undecidable() -> Rejection {
    let message = "this command cannot be decided: it stops whoever tries; report it with its id";
    Rejection::new(RejectionKind::Internal, "UNDECIDABLE", message)
}

fn alarm(id: &StreamId, what: &'static str) {
    counter!("runledger_decider_alarms_total").increment(1);
    error!(scope = %id.0, stream = %id.1, "{what}");
}
