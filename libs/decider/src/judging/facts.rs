//! Facts that are answered: many of one stream by one decision, never past the stream's next command.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics::{counter, histogram};
use runledger_domain::Fact;
use runledger_domain::log::{Position, Record};
use tracing::error;

use super::{ATTEMPTS_MAX, Judging, Taken, alarm};
use crate::rules::{FACTS_MAX, FactsMoment, FactsRuling, Owing, Rules};
use crate::states::StreamId;

/// A fact without an answer.
#[derive(Clone, Debug)]
pub(crate) struct OwedFact {
    pub(crate) position: Position,
    pub(crate) record: Record,
    pub(crate) fact: Fact,
    /// How often it was tried before somebody ended without a word.
    pub(crate) attempts: u32,
}

impl OwedFact {
    fn owing(&self) -> Owing<'_> {
        Owing {
            position: self.position,
            record: &self.record,
            fact: &self.fact,
        }
    }
}

impl<'a, R: Rules> Judging<'a, R> {
    /// Lets a fact wait for those behind it, unless there are enough for a decision.
    pub(super) fn gather(&mut self, id: &StreamId, fact: &'a OwedFact) {
        if self.waiting.contains(id) || self.desk.suspended.contains_key(id) {
            return;
        }
        let gathered = match self.gathered.get_mut(id) {
            Some(gathered) => gathered,
            None => self.gathered.entry(id.clone()).or_default(),
        };
        gathered.push(fact);
        if gathered.len() >= FACTS_MAX {
            self.answer_gathered(id);
        }
    }

    /// Answers all facts of all streams that have gathered.
    pub(super) fn answer_all_gathered(&mut self) {
        let streams: Vec<StreamId> = self.gathered.keys().cloned().collect();
        for id in streams {
            self.answer_gathered(&id);
        }
    }

    /// Answers what has gathered of one stream.
    pub(super) fn answer_gathered(&mut self, id: &StreamId) {
        let Some(gathered) = self.gathered.remove(id) else {
            return;
        };
        // One that was tried too often goes alone.
        let (felling, others): (Vec<_>, Vec<_>) = gathered
            .into_iter()
            .partition(|fact| fact.attempts > ATTEMPTS_MAX);
        self.give_up(id, &felling);
        if !self.answer_facts(id, &others) {
            self.wait(id);
        }
    }

    /// False: not now.
    fn answer_facts(&mut self, id: &StreamId, facts: &[&OwedFact]) -> bool {
        if facts.is_empty() {
            return true;
        }
        let owing: Vec<Owing<'_>> = facts.iter().map(|fact| fact.owing()).collect();
        let Some(held) = self.states.get(id) else {
            return false;
        };
        let moment = self.moment(id);
        let decide = || self.rules.decide_facts(&held.state, &owing, &moment);
        let (decision, views) = match catch_unwind(AssertUnwindSafe(decide)) {
            Ok(Some(FactsRuling::Decided { decision, views })) => (decision, views),
            Ok(Some(FactsRuling::Waits) | None) => return false,
            Err(_) => {
                alarm(id, "deciding facts failed");
                return self.answer_apart(id, facts);
            }
        };
        let (type_name, payload) = self.rules.encode(&decision);
        let taken = Taken {
            id,
            cause: None,
            type_name,
            payload,
            views,
        };
        match self.write(taken, Some(&decision)) {
            Ok(()) => {
                let count = u32::try_from(facts.len()).unwrap_or(u32::MAX);
                histogram!("runledger_decider_facts_a_decision").record(f64::from(count));
                true
            }
            Err(fault) => {
                error!(stream = %id.1, scope = %id.0, %fault, facts = facts.len());
                self.answer_apart(id, facts)
            }
        }
    }

    /// Answers two halves, each for itself; a single one that cannot be answered is given up.
    fn answer_apart(&mut self, id: &StreamId, facts: &[&OwedFact]) -> bool {
        if facts.len() < 2 {
            self.give_up(id, facts);
            return true;
        }
        let (first, second) = facts.split_at(facts.len() / 2);
        self.answer_facts(id, first) && self.answer_facts(id, second)
    }

    fn give_up(&mut self, id: &StreamId, facts: &[&OwedFact]) {
        for fact in facts {
            alarm(id, "a fact cannot be decided; it is given up");
            counter!("runledger_decider_given_up_total").increment(1);
            let owing = [fact.owing()];
            let Some(held) = self.states.get(id) else {
                continue;
            };
            let moment = self.moment(id);
            let give_up = || self.rules.give_up(&held.state, &owing, &moment);
            let Ok(Some(decision)) = catch_unwind(AssertUnwindSafe(give_up)) else {
                error!(stream = %id.1, scope = %id.0, "not even giving a fact up is possible");
                continue;
            };
            let (type_name, payload) = self.rules.encode(&decision);
            let taken = Taken {
                id,
                cause: None,
                type_name,
                payload,
                views: Vec::new(),
            };
            if let Err(fault) = self.write(taken, Some(&decision)) {
                error!(stream = %id.1, scope = %id.0, %fault, "not even that a fact is given up can be written");
            }
        }
    }

    fn moment<'m>(&self, id: &'m StreamId) -> FactsMoment<'m> {
        FactsMoment {
            at: self.desk.at,
            scope: id.0,
            stream: &id.1,
        }
    }
}

#[cfg(test)]
mod tests;
