//! One story, from its seed.

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;
use runledger_domain::Fact;
use runledger_domain::approval::{
    Command, ConfirmExecution, DecideApproval, RequestToolCall, Status, digest_arguments,
};
use runledger_domain::ids::{ApprovalId, RecordId, RunId, ToolCallId};
use runledger_domain::log::Kind;
use runledger_domain::run::{self, Ended, Limits, Outcome, Started, ToolCallStarted, Trigger};
use runledger_domain::scope::Actor;
use runledger_proto::encode;

use super::decider::{Decider, Told};
use super::log::{Body, Log, Written, agent, record_id, reviewer, written};
use super::reader::Reader;
use super::{Counts, Fault, Without};
use crate::rounds::Read;

const STEPS: i64 = 500;
const RUNS: usize = 3;
const CALLS_MAX: u32 = 6;
const TOOLS: [&str; 4] = ["free", "block", "hold", "hold2"];

struct Story {
    rng: Rng,
    log: Log,
    deciders: Vec<Decider>,
    /// Copies on their way from deciders that have given them up, or are gone.
    ghosts: Vec<VecDeque<Written>>,
    backups: Vec<Reader>,
    asked: Vec<(ToolCallId, RunId, ApprovalId)>,
    commands: BTreeSet<RecordId>,
    told: Told,
    seen: Counts,
    next_id: u64,
    second: i64,
    without: Option<Without>,
}

/// Tells the story of a seed: what was seen in it, or which promise was broken.
pub(super) fn tell(seed: u64, without: Option<Without>) -> Result<Counts, String> {
    let log = Log::new();
    let first = Decider::new(Reader::new(without), &log, without);
    let mut story = Story {
        rng: Rng::with_seed(seed),
        log,
        deciders: vec![first],
        ghosts: Vec::new(),
        backups: vec![Reader::new(without)],
        asked: Vec::new(),
        commands: BTreeSet::new(),
        told: Told::new(),
        seen: Counts::new(),
        next_id: 0,
        second: 0,
        without,
    };
    for run in 0..RUNS {
        story.append_fact(run, started(run));
    }
    for second in 0..STEPS {
        story.second = second;
        story.step();
    }
    story.end()
}

fn run_id(number: usize) -> RunId {
    format!("r{number}").parse().expect("an id")
}

fn started(number: usize) -> run::Fact {
    run::Fact::Started(Box::new(Started {
        run_id: run_id(number),
        agent_id: "a".parse().expect("an id"),
        agent_version: String::new(),
        parent_run_id: None,
        conversation_id: None,
        space_id: None,
        account_id: None,
        trigger: Trigger::Api,
        task: String::new(),
        reason: String::new(),
        agent_context: None,
        model: String::new(),
        input: None,
        labels: std::collections::BTreeMap::new(),
        limits: Limits {
            tool_calls: Some(CALLS_MAX),
            ..Limits::default()
        },
    }))
}

impl Story {
    fn saw(&mut self, fault: Fault) {
        *self.seen.entry(fault).or_default() += 1;
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..10 => self.request(),
            10..20 => self.vote(),
            20..24 => self.confirm(),
            24 if self.rng.u32(..4) == 0 => self.end_a_run(),
            24..50 => self.read(),
            50..66 => self.decide(),
            66..88 => self.deliver(),
            88..90 => self.producer_fails(),
            90..93 => self.ghost_lands(),
            93..95 => {
                let which = self.rng.usize(..self.deciders.len());
                self.backups.push(self.deciders[which].reader.clone());
            }
            95..97 => {
                let backup = self.a_backup();
                self.deciders
                    .push(Decider::new(backup, &self.log, self.without));
                self.saw(Fault::Takeover);
            }
            _ => self.crash(),
        }
    }

    fn a_backup(&mut self) -> Reader {
        self.backups[self.rng.usize(..self.backups.len())].clone()
    }

    fn append_fact(&mut self, run: usize, fact: run::Fact) {
        let (type_name, payload) = encode::payload(&Fact::Run(fact));
        self.append(
            &run_id(run),
            Kind::Fact,
            agent(),
            (type_name.into(), payload),
        );
    }

    fn append(
        &mut self,
        run: &RunId,
        kind: Kind,
        actor: Actor,
        payload: (Box<str>, Vec<u8>),
    ) -> RecordId {
        self.next_id += 1;
        let body = Body {
            kind,
            actor,
            payload,
            prev: None,
            cause: None,
        };
        let written = written(self.next_id, run, self.second, body);
        if kind == Kind::Command && self.rng.u32(..5) == 0 {
            self.log.append(written.clone());
            self.saw(Fault::CommandRepeated);
        }
        self.log.append(written);
        record_id(self.next_id)
    }

    fn command(&mut self, run: &RunId, actor: Actor, command: &Command) -> RecordId {
        let (type_name, payload) = encode::approval_command(command);
        let id = self.append(run, Kind::Command, actor, (type_name.into(), payload));
        self.commands.insert(id);
        id
    }

    fn request(&mut self) {
        let run = run_id(self.rng.usize(..RUNS));
        let tool_call_id: ToolCallId = format!("c{}", self.asked.len()).parse().expect("an id");
        let tool = TOOLS[self.rng.usize(..TOOLS.len())];
        let command = Command::RequestToolCall(Box::new(RequestToolCall {
            call: ToolCallStarted {
                run_id: run.clone(),
                tool_call_id: tool_call_id.clone(),
                step_id: None,
                tool: tool.parse().expect("a name"),
                arguments: None,
                action_hint: String::new(),
                reason: String::new(),
                agent_context: None,
            },
            agent_id: "a".parse().expect("an id"),
        }));
        let id = self.command(&run, agent(), &command);
        let approval = ApprovalId::new(id.as_uuid());
        self.asked.push((tool_call_id, run, approval));
    }

    fn one_asked_for(&mut self) -> Option<(ToolCallId, RunId, ApprovalId)> {
        // Mostly a late one: the early ones are decided.
        let late = self.asked.len().saturating_sub(4);
        let which = self.rng.usize(late..self.asked.len().max(late + 1));
        self.asked.get(which).cloned()
    }

    fn vote(&mut self) {
        let Some((tool_call_id, run, approval_id)) = self.one_asked_for() else {
            return;
        };
        let voter = reviewer(10 + u128::from(self.rng.u32(..3)));
        let vote = DecideApproval {
            approval_id,
            tool_call_id,
            approve: self.rng.u32(..4) > 0,
            reason: String::new(),
            edited_arguments: None,
            arguments_digest: None,
        };
        self.command(&run, voter, &Command::DecideApproval(vote));
    }

    fn confirm(&mut self) {
        let Some((tool_call_id, run, _)) = self.one_asked_for() else {
            return;
        };
        let confirm = ConfirmExecution {
            tool_call_id,
            arguments_digest: digest_arguments(None),
        };
        self.command(&run, agent(), &Command::ConfirmExecution(confirm));
    }

    fn end_a_run(&mut self) {
        let run = self.rng.usize(..RUNS);
        let ended = run::Fact::Ended(Ended {
            run_id: run_id(run),
            outcome: Outcome::Completed,
            error: None,
            result: None,
            counters: std::collections::BTreeMap::new(),
        });
        self.append_fact(run, ended);
    }

    fn read(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        for _ in 0..self.rng.u32(1..6) {
            if self.deciders[which].read_one(&self.log, &mut self.told) == Some(Read::Dropped) {
                self.saw(Fault::RoundDropped);
            }
        }
    }

    fn decide(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        let decider = &mut self.deciders[which];
        decider.decide(
            self.second,
            &mut self.next_id,
            &mut self.rng,
            &mut self.told,
        );
    }

    /// What a decider has sent comes into the log: the next, rarely another, rarely twice.
    fn deliver(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        let sending = self.deciders[which].sending.len();
        if sending == 0 {
            return;
        }
        let place = if self.rng.u32(..20) == 0 {
            self.rng.usize(..sending)
        } else {
            0
        };
        let Some(written) = self.deciders[which].sending.remove(place) else {
            return;
        };
        if place > 0 {
            self.saw(Fault::Reordered);
        }
        if self.rng.u32(..20) == 0 {
            self.log.append(written.clone());
            self.saw(Fault::Doubled);
        }
        self.log.append(written);
    }

    fn producer_fails(&mut self) {
        let which = self.rng.usize(..self.deciders.len());
        let left = self.deciders[which].producer_failed(&self.log);
        self.ghosts.push(left);
        self.saw(Fault::ProducerFailed);
    }

    fn ghost_lands(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let which = self.rng.usize(..self.ghosts.len());
        if let Some(written) = self.ghosts[which].pop_front() {
            self.log.append(written);
            self.saw(Fault::LateCopy);
        }
    }

    fn crash(&mut self) {
        if self.deciders.len() > 1 {
            let which = self.rng.usize(..self.deciders.len());
            let gone = self.deciders.swap_remove(which);
            self.ghosts.push(gone.sending);
            self.saw(Fault::Crash);
        }
    }

    /// All copies land or are lost; then one more decider takes over from any backup, alone and in
    /// fair weather, until nothing is left to decide.
    fn end(mut self) -> Result<Counts, String> {
        let sending = self
            .deciders
            .iter_mut()
            .map(|one| std::mem::take(&mut one.sending));
        let late: Vec<_> = self.ghosts.drain(..).chain(sending).flatten().collect();
        for written in late {
            if self.rng.u32(..3) == 0 {
                self.saw(Fault::Lost);
            } else {
                self.log.append(written);
            }
        }
        self.second += 1_000;
        let backup = self.a_backup();
        let mut last = Decider::new(backup, &self.log, self.without);
        let (mut said, mut waited) = (BTreeSet::new(), false);
        for _ in 0..20_000 {
            let decides = self.rng.u32(..3) == 0;
            if decides
                && last.decide(
                    self.second,
                    &mut self.next_id,
                    &mut self.rng,
                    &mut self.told,
                )
            {
                continue;
            }
            if self.rng.bool()
                && let Some(written) = last.sending.pop_front()
            {
                said.insert(self.log.end());
                self.log.append(written);
            } else if last.read_one(&self.log, &mut self.told).is_none()
                && last.sending.is_empty()
                && !last.is_waiting()
                && !last.decide(
                    self.second,
                    &mut self.next_id,
                    &mut self.rng,
                    &mut self.told,
                )
            {
                // Nothing is left to decide but what comes due.
                if waited {
                    return self.promises(&last.reader, &said);
                }
                self.second += 1_000;
                waited = true;
            }
        }
        Err("a decider alone comes to no end".into())
    }

    fn promises(mut self, survivor: &Reader, said: &BTreeSet<u64>) -> Result<Counts, String> {
        let mut fresh = Reader::new(self.without);
        while let Some((offset, decided)) = fresh.read(&self.log) {
            if decided.is_some_and(|(_, in_force, _)| !in_force) {
                self.saw(Fault::VoidDecision);
                if said.contains(&offset) {
                    return Err(format!("{offset}: void, though its decider was alone"));
                }
            }
            let mut runs = fresh.streams.values().map(|stream| &stream.run);
            if runs.any(|run| run.tool_calls > u64::from(CALLS_MAX)) {
                return Err(format!("{offset}: a run has made more calls than it may"));
            }
        }
        if let Some(diverged) = &fresh.diverged {
            return Err(diverged.to_string());
        }
        self.outcomes(&fresh)?;
        if fresh != *survivor {
            return Err("a fresh fold differs from that of the survivor".into());
        }
        let (log, mut others) = (&self.log, std::mem::take(&mut self.deciders));
        for decider in &mut others {
            while decider.reader.read(log).is_some() {}
            if decider.reader != fresh {
                return Err("two readers differ".into());
            }
        }
        Ok(self.seen)
    }

    fn outcomes(&mut self, fresh: &Reader) -> Result<(), String> {
        if fresh.misfits > 0 {
            return Err(format!("{} decisions in force fit nothing", fresh.misfits));
        }
        for id in &self.commands {
            let outcomes = fresh.outcomes.get(id).map_or(0, Vec::len);
            if outcomes != 1 {
                return Err(format!("command {id} has {outcomes} outcomes"));
            }
        }
        for (id, told) in &self.told {
            let recorded = &fresh.outcomes[id];
            if told.len() != 1 || told.first() != recorded.first() {
                let (told, recorded) = (told.len(), recorded.len());
                return Err(format!(
                    "command {id}: told {told} outcomes, of {recorded} recorded"
                ));
            }
        }
        let twice = |(settled, used): &(u32, u32)| *settled > 1 || *used > 1;
        if fresh.settled.values().any(twice) {
            return Err("an approval has two winners, or a call two executions".into());
        }
        self.see_outcomes(fresh)
    }

    fn see_outcomes(&mut self, fresh: &Reader) -> Result<(), String> {
        for stream in fresh.streams.values() {
            for held in stream.calls.values().filter_map(|call| call.held.as_ref()) {
                match held.status {
                    Status::Pending if stream.run.ended => {
                        return Err("a call is left pending on a run that has ended".into());
                    }
                    Status::Pending => return Err("a call is left pending for ever".into()),
                    Status::Expired => self.saw(Fault::Expired),
                    Status::Cancelled => self.saw(Fault::Cancelled),
                    Status::Approved | Status::Rejected => {}
                }
            }
        }
        for (_, payload) in fresh.outcomes.values().flatten() {
            if payload == b"ALREADY_DECIDED" {
                self.saw(Fault::Contested);
            }
            let limit = b"RUN_LIMIT_TOOL_CALLS";
            if payload.windows(limit.len()).any(|part| part == limit) {
                self.saw(Fault::OverLimit);
            }
        }
        Ok(())
    }
}
