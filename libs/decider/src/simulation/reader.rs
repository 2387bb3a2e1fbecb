//! A reader: folds facts and decisions in force, and nothing else.

use std::collections::BTreeMap;

use runledger_domain::Fact;
use runledger_domain::approval::{Call, Command, Decision, Run, Status, evolve, heed};
use runledger_domain::digest::Digest;
use runledger_domain::ids::{RecordId, RunId, ToolCallId};
use runledger_domain::log::{Kind, Record};
use runledger_domain::scope::Actor;
use runledger_domain::time::Timestamp;
use runledger_projection::{Cursor, Diverged, Verdict, decision_hash};
use runledger_proto::{decode, types};

use super::Without;
use super::log::{Log, PARTITION};

/// One run and its governed calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) run: Run,
    pub(super) calls: BTreeMap<ToolCallId, Call>,
}

impl Stream {
    /// Whether the decision fits.
    pub(super) fn evolve(&mut self, decision: &Decision, at: Timestamp) -> bool {
        let id = decision.tool_call_id();
        let mut call = self.calls.remove(id);
        let fits = evolve(&mut self.run, &mut call, decision, at);
        self.calls.extend(call.map(|call| (id.clone(), call)));
        fits
    }
}

/// A command that no decision in force names yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Undecided {
    pub(super) id: RecordId,
    pub(super) run: RunId,
    pub(super) command: Command,
    pub(super) actor: Actor,
}

/// A decision or refusal: type and payload.
pub(super) type Outcome = (Box<str>, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) cursor: Cursor,
    pub(super) streams: BTreeMap<RunId, Stream>,
    /// In the order of the log.
    pub(super) undecided: Vec<Undecided>,
    pub(super) outcomes: BTreeMap<RecordId, Vec<Outcome>>,
    /// How many votes have settled an approval, and how many executions a call was granted.
    pub(super) settled: BTreeMap<ToolCallId, (u32, u32)>,
    pub(super) misfits: u32,
    /// Why it reads no further.
    pub(super) diverged: Option<Diverged>,
    pub(super) last_at: Timestamp,
    without: Option<Without>,
}

/// What was read: of a decision its hash, whether it is in force, and the command that it answers.
pub(super) type Decided = Option<(Digest, bool, Option<RecordId>)>;

impl Reader {
    pub(super) fn new(without: Option<Without>) -> Self {
        Self {
            cursor: Cursor::new(PARTITION),
            streams: BTreeMap::new(),
            undecided: Vec::new(),
            outcomes: BTreeMap::new(),
            settled: BTreeMap::new(),
            misfits: 0,
            diverged: None,
            last_at: Timestamp::UNIX_EPOCH,
            without,
        }
    }

    /// Reads the next record; `None`: there is none.
    pub(super) fn read(&mut self, log: &Log) -> Option<(u64, Decided)> {
        let offset = self.cursor.next_offset;
        let stored = log.at(offset)?;
        let verdict = match self.cursor.advance(stored) {
            Ok(verdict) => verdict,
            Err(diverged) => {
                self.diverged = Some(diverged);
                return None;
            }
        };
        let headers = stored.headers.as_ref().expect("headers");
        let record = match decode::record(PARTITION.family, &stored.value).expect("a record") {
            decode::Stored::Genesis(_) => return Some((offset, None)),
            decode::Stored::Record(record) => record,
        };
        let run = record.stream.as_str().trim_start_matches("run/");
        let run: RunId = run.parse().expect("a run");
        match headers.kind {
            Kind::Decision => {
                let in_force = verdict == Verdict::Applies || self.without == Some(Without::Chain);
                let prev = headers.prev.expect("a decision names one");
                let hash = decision_hash(&prev, &stored.key, &stored.value);
                let cause = record.cause.as_ref().map(|cause| cause.id);
                if in_force {
                    self.take_in(run, record);
                }
                return Some((offset, Some((hash, in_force, cause))));
            }
            Kind::Command => self.take_note(run, &record),
            Kind::Fact => {
                if let Some(Fact::Run(fact)) = decode::fact(&record).expect("a fact") {
                    let stream = self.streams.entry(run).or_default();
                    heed(&mut stream.run, &fact, crate::books::moment(&record));
                }
            }
            Kind::Genesis => {}
        }
        Some((offset, None))
    }

    fn take_note(&mut self, run: RunId, record: &Record) {
        let known = self.undecided.iter().any(|one| one.id == record.id);
        if known || self.outcomes.contains_key(&record.id) {
            return;
        }
        let command = decode::stored_approval_command(&record.type_name, &record.payload);
        self.undecided.push(Undecided {
            id: record.id,
            run,
            command: command.expect("a message").expect("a command"),
            actor: Actor {
                principal: record.author.principal,
                kind: record.author.kind.expect("a kind"),
                role: record.author.role.expect("a role"),
            },
        });
    }

    fn take_in(&mut self, run: RunId, record: Record) {
        self.last_at = self.last_at.max(record.occurred_at);
        if &*record.type_name != types::COMMAND_REJECTED {
            let decision = decode::stored_approval_decision(&record.type_name, &record.payload);
            let decision = decision.expect("a message").expect("a decision");
            let stream = self.streams.entry(run).or_default();
            self.misfits += u32::from(!stream.evolve(&decision, record.occurred_at));
            self.count(&decision);
        }
        if let Some(cause) = record.cause {
            self.undecided.retain(|one| one.id != cause.id);
            let outcomes = self.outcomes.entry(cause.id).or_default();
            outcomes.push((record.type_name, record.payload));
        }
    }

    fn count(&mut self, decision: &Decision) {
        match decision {
            Decision::ApprovalVoted(voted) if voted.status != Status::Pending => {
                self.settled
                    .entry(voted.tool_call_id.clone())
                    .or_default()
                    .0 += 1;
            }
            Decision::ApprovalClosed(closed) => {
                self.settled
                    .entry(closed.tool_call_id.clone())
                    .or_default()
                    .0 += 1;
            }
            Decision::ExecutionConfirmed(done) => {
                self.settled.entry(done.tool_call_id.clone()).or_default().1 += 1;
            }
            Decision::ToolCallDecided(_) | Decision::ApprovalVoted(_) => {}
        }
    }
}
