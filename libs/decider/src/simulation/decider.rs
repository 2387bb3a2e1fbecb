//! A decider: a reader that also writes, and believes only what it reads back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use runledger_domain::approval::{Decision, Moment, decide, due};
use runledger_domain::digest::Digest;
use runledger_domain::ids::{RecordId, RunId};
use runledger_domain::log::Kind;
use runledger_domain::policy::{Action, ApproverSet, Hold, Judgement, Match, Subject};
use runledger_domain::run::Limits;
use runledger_domain::scope::{Actor, Role};
use runledger_projection::decision_hash;
use runledger_proto::{encode, types};

use super::Without;
use super::log::{Body, Log, Written, agent, at, written};
use super::reader::{Outcome, Reader, Stream};
use crate::Rounds;
use crate::rounds::Read;

const COMMANDS_A_ROUND_MAX: usize = 8;

/// What callers were told: the outcomes of commands.
pub(super) type Told = BTreeMap<RecordId, BTreeSet<Outcome>>;

pub(super) struct Decider {
    pub(super) reader: Reader,
    rounds: Rounds,
    /// Handed to the producer, not yet in the log.
    pub(super) sending: VecDeque<Written>,
    pub(super) voids: u64,
    without: Option<Without>,
}

/// What policies make of a call, by the name of its tool.
fn judge(subject: &Subject<'_>) -> Judgement {
    let (action, quorum) = match subject.tool.as_str() {
        "block" => (Action::Block, 0),
        "hold" => (Action::RequireApproval, 1),
        "hold2" => (Action::RequireApproval, 2),
        _ => (Action::Allow, 0),
    };
    Judgement {
        action,
        matches: vec![Match {
            policy: "p".parse().expect("an id"),
            version: 1,
            name: "p".into(),
            action,
            severity: None,
            error: None,
        }],
        hold: (quorum > 0).then(|| Hold {
            quorum,
            approvers: vec![ApproverSet {
                roles: BTreeSet::from([Role::Reviewer]),
                principals: BTreeSet::new(),
            }],
            requester_may_approve: false,
            time_to_decide: Duration::from_secs(150),
            time_to_use: Duration::from_secs(200),
        }),
        severity: None,
        limits: Limits::default(),
    }
}

/// A round as it is put together.
struct Round<'a> {
    streams: BTreeMap<RunId, Stream>,
    reader: &'a Reader,
    head: Digest,
    hashes: Vec<Digest>,
    written: Vec<Written>,
    second: i64,
    next_id: &'a mut u64,
}

impl Round<'_> {
    fn stream(&mut self, run: &RunId) -> &mut Stream {
        let read = self.reader.streams.get(run);
        let streams = &mut self.streams;
        streams
            .entry(run.clone())
            .or_insert_with(|| read.cloned().unwrap_or_default())
    }

    fn write(&mut self, run: &RunId, cause: Option<RecordId>, actor: Actor, payload: Outcome) {
        *self.next_id += 1;
        let body = Body {
            kind: Kind::Decision,
            actor,
            payload,
            prev: Some(self.head),
            cause,
        };
        let written = written(*self.next_id, run, self.second, body);
        self.head = decision_hash(&self.head, written.key.as_bytes(), &written.value);
        self.hashes.push(self.head);
        self.written.push(written);
    }
}

fn outcome((type_name, payload): (&'static str, Vec<u8>)) -> Outcome {
    (type_name.into(), payload)
}

impl Decider {
    pub(super) fn new(reader: Reader, log: &Log, without: Option<Without>) -> Self {
        let cursor = &reader.cursor;
        // Without its Genesis a partition has no head; it is below the watermark.
        let head = cursor.chain_head.unwrap_or_default();
        let rounds = Rounds::new(head, cursor.next_offset, log.end());
        Self {
            reader,
            rounds,
            sending: VecDeque::new(),
            voids: 0,
            without,
        }
    }

    /// Reads one record; whether there was one, and what it did to the round.
    pub(super) fn read_one(&mut self, log: &Log, told: &mut Told) -> Option<Read> {
        let (offset, decided) = self.reader.read(log)?;
        if offset == 0 {
            let head = self.reader.cursor.chain_head.unwrap_or_default();
            self.rounds = Rounds::new(head, 1, log.end());
            return Some(Read::Nothing);
        }
        self.voids += u64::from(decided.is_some_and(|(_, in_force, _)| !in_force));
        let decision = decided.map(|(hash, in_force, _)| (hash, in_force));
        let read = self.rounds.read(offset, decision);
        match read {
            Read::Nothing => {}
            Read::Confirmed => {
                let cause = decided.and_then(|(_, _, cause)| cause);
                if let Some(cause) = cause
                    && let Some(outcome) = self.reader.outcomes[&cause].last()
                {
                    told.entry(cause).or_default().insert(outcome.clone());
                }
            }
            Read::Dropped => self.rounds.dropped(log.end()),
        }
        Some(read)
    }

    fn may_decide(&self) -> bool {
        let begun = self.reader.cursor.chain_head.is_some();
        begun
            && match self.without {
                Some(Without::Watermark) => self.rounds.outstanding() == 0,
                Some(Without::OneRound) => self.rounds.is_ready() || self.rounds.outstanding() > 0,
                Some(Without::Chain | Without::Due | Without::ReadBack) | None => {
                    self.rounds.is_ready()
                }
            }
    }

    /// Decides a round, if there is anything to decide.
    pub(super) fn decide(
        &mut self,
        second: i64,
        next_id: &mut u64,
        rng: &mut Rng,
        told: &mut Told,
    ) -> bool {
        if !self.may_decide() {
            return false;
        }
        let mut round = Round {
            streams: BTreeMap::new(),
            reader: &self.reader,
            head: self.rounds.head(),
            hashes: Vec::new(),
            written: Vec::new(),
            second,
            next_id,
        };
        let most = rng.usize(1..=COMMANDS_A_ROUND_MAX);
        for undecided in self.reader.undecided.iter().take(most) {
            let moment = Moment {
                at: at(second),
                actor: undecided.actor,
                command: undecided.id,
                judge: &judge,
            };
            let stream = round.stream(&undecided.run);
            let call = stream.calls.get(undecided.command.tool_call_id());
            let payload = match decide(&stream.run, call, &undecided.command, &moment) {
                Ok(decision) => {
                    assert!(stream.evolve(&decision, at(second)), "{decision:?}");
                    outcome(encode::approval_decision(&decision))
                }
                // Of a refusal nothing but its reason matters here.
                Err(refused) => (
                    types::COMMAND_REJECTED.into(),
                    refused.reason.as_bytes().to_vec(),
                ),
            };
            if self.without == Some(Without::ReadBack) {
                told.entry(undecided.id)
                    .or_default()
                    .insert(payload.clone());
            }
            round.write(&undecided.run, Some(undecided.id), undecided.actor, payload);
        }
        if self.without != Some(Without::Due) {
            decide_due(&mut round);
        }
        let (hashes, written) = (round.hashes, round.written);
        let any = !hashes.is_empty();
        self.rounds.sent(hashes);
        self.sending.extend(written);
        any
    }

    /// What was on its way may land later, or never.
    pub(super) fn producer_failed(&mut self, log: &Log) -> VecDeque<Written> {
        self.rounds.dropped(log.end());
        std::mem::take(&mut self.sending)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.rounds.outstanding() > 0
    }
}

fn decide_due(round: &mut Round<'_>) {
    let runs: Vec<RunId> = round.reader.streams.keys().cloned().collect();
    for run in runs {
        let second = round.second;
        let stream = round.stream(&run);
        let calls = stream.calls.iter();
        let closed: Vec<_> = calls
            .filter_map(|(id, call)| due(&stream.run, call, id, at(second)))
            .map(Decision::ApprovalClosed)
            .collect();
        for closed in closed {
            assert!(round.stream(&run).evolve(&closed, at(second)));
            round.write(
                &run,
                None,
                agent(),
                outcome(encode::approval_decision(&closed)),
            );
        }
    }
}
