//! The rules of both families, as the decider asks for them.

use std::sync::Arc;
use std::time::Duration;

use runledger_decider::{
    Confirmed, FactsMoment, FactsRuling, Moment, Owing, Ruling, StateError, View,
};
use runledger_domain::Fact;
use runledger_domain::credit::{self, Account, Change, Fate, Posted, Usage};
use runledger_domain::decision::{Rejection, RejectionKind};
use runledger_domain::ids::{HoldId, RecordId};
use runledger_domain::log::{Author, Family, Record, Stream};
use runledger_domain::policy;
use runledger_domain::price::{self, Edition, Publish, Published};
use runledger_domain::scope::Actor;
use runledger_domain::time::Timestamp;
use runledger_proto::{decode, encode, types};

use crate::prices::Prices;

/// What the decider reads, and decides in.
pub const FAMILIES: &[Family] = &[Family::Billing, Family::Price];

/// Raised with every change after which the same command might be decided otherwise: a new database of
/// time zones is one, and tables are built anew with it.
const VERSION: u32 = 1;
/// How old what is known of prices may be. They take effect a minute after they are recorded, by the
/// clock of whoever recorded them: half of it is left for clocks that differ.
const PRICES_FRESH: Duration = Duration::from_secs(30);
/// How many decisions of an account lie between two of its states that are kept.
const SNAPSHOT_EVERY: u64 = 128;

/// How credits and prices are judged.
pub struct Rules {
    prices: Arc<View<Prices>>,
}

/// A command of either family.
#[derive(Clone, Debug)]
pub enum Command {
    Account(Order),
    Prices(Publish),
}

/// A command about an account.
#[derive(Clone, Debug)]
pub struct Order {
    command: credit::Command,
    /// Why, in the words of whoever asks.
    reason: String,
    /// The hold that it is about, or makes.
    hold: Option<Box<str>>,
}

/// A decision of either family.
#[derive(Clone, Debug)]
pub enum Decision {
    Account(Box<Ordered>),
    Prices(Published),
}

/// A decision about an account.
#[derive(Clone, Debug)]
pub struct Ordered {
    pub(crate) posted: Posted,
    /// The hold whose fate it says.
    hold: Option<Box<str>>,
}

impl From<Posted> for Decision {
    fn from(posted: Posted) -> Self {
        let hold = hold_of(&posted.change).map(|hold| hold.to_string().into());
        Self::Account(Box::new(Ordered { posted, hold }))
    }
}

/// The state of a stream of either family.
#[derive(Clone, Debug)]
pub enum Held {
    Account(Box<Account>),
    Prices(Edition),
    /// A kind of stream of a later version.
    Unknown,
}

impl Rules {
    pub(crate) fn new(prices: Arc<View<Prices>>) -> Self {
        Self { prices }
    }

    /// The prices, if they are known well enough.
    fn prices(&self) -> Option<Confirmed<Prices>> {
        let now = self.prices.now();
        now.is_fresh(PRICES_FRESH).then_some(now)
    }
}

impl runledger_decider::Rules for Rules {
    type Command = Command;
    type Decision = Decision;
    type Stream = Held;
    type Part = Fate;

    fn version(&self) -> u32 {
        VERSION
    }

    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn command(&self, record: &Record) -> Result<Option<Command>, decode::Error> {
        let (type_name, payload) = (&record.type_name, &record.payload);
        if record.stream.family() == Family::Price {
            let publish = decode::stored_publish_prices(type_name, payload)?;
            return Ok(publish.map(Command::Prices));
        }
        let order = decode::stored_account_command(type_name, payload)?;
        Ok(order.map(|(command, reason)| {
            let makes = match &command {
                credit::Command::Reserve { .. } => Some(HoldId::new(record.id.as_uuid())),
                other => other.hold(),
            };
            Command::Account(Order {
                command,
                reason,
                hold: makes.map(|hold| hold.to_string().into()),
            })
        }))
    }

    fn decision(&self, record: &Record) -> Result<Option<Decision>, decode::Error> {
        let (type_name, payload) = (&record.type_name, &record.payload);
        let decision = if record.stream.family() == Family::Price {
            let published = decode::stored_prices_published(type_name, payload)?;
            published.map(Decision::Prices)
        } else {
            let posted = decode::stored_account_posted(type_name, payload)?;
            posted.map(Decision::from)
        };
        // Passed over, it would leave an account that differs from what those were told who asked.
        let is_ours = [types::ACCOUNT_POSTED, types::PRICES_PUBLISHED].contains(&&**type_name);
        if decision.is_none() && is_ours {
            let type_name = type_name.clone();
            return Err(decode::Error::NotUnderstood { type_name });
        }
        Ok(decision)
    }

    fn encode(&self, decision: &Decision) -> (&'static str, Vec<u8>) {
        match decision {
            Decision::Account(ordered) => encode::account_posted(&ordered.posted),
            Decision::Prices(published) => encode::prices_published(published),
        }
    }

    fn part_of_command<'a>(&self, command: &'a Command) -> Option<&'a str> {
        match command {
            Command::Account(order) => order.hold.as_deref(),
            Command::Prices(_) => None,
        }
    }

    fn part_of_decision<'a>(&self, decision: &'a Decision) -> Option<&'a str> {
        match decision {
            Decision::Account(ordered) => ordered.hold.as_deref(),
            Decision::Prices(_) => None,
        }
    }

    fn unheard(&self, stream: &Stream) -> Held {
        match kind_of(stream) {
            Some(Family::Billing) => Held::Account(Box::default()),
            Some(_) => Held::Prices(Edition::default()),
            None => Held::Unknown,
        }
    }

    fn encode_stream(&self, state: &Held) -> Vec<u8> {
        match state {
            Held::Account(account) => account.to_bytes(),
            // Only numbers and a time: nothing can stand in the way.
            Held::Prices(edition) => serde_json::to_vec(edition).unwrap_or_default(),
            Held::Unknown => Vec::new(),
        }
    }

    fn decode_stream(&self, stream: &Stream, bytes: &[u8]) -> Result<Held, StateError> {
        match kind_of(stream) {
            Some(Family::Billing) => Account::from_bytes(bytes)
                .map(|account| Held::Account(Box::new(account)))
                .map_err(|fault| unreadable(stream, fault)),
            Some(_) => serde_json::from_slice(bytes)
                .map(Held::Prices)
                .map_err(|fault| unreadable(stream, fault)),
            None => Ok(Held::Unknown),
        }
    }

    fn encode_part(&self, state: &Fate) -> Vec<u8> {
        state.to_bytes()
    }

    fn decode_part(&self, stream: &Stream, bytes: &[u8]) -> Result<Fate, StateError> {
        Fate::from_bytes(bytes).map_err(|fault| unreadable(stream, fault))
    }

    fn heeds(&self, _: &Fact) -> bool {
        false
    }

    fn heed(&self, _: &mut Held, _: &Fact, _: Timestamp) -> bool {
        false
    }

    fn decide(
        &self,
        stream: &Held,
        part: Option<&Fate>,
        command: &Command,
        moment: &Moment<'_>,
    ) -> Ruling<Decision> {
        let Some(actor) = actor(moment.author) else {
            let message = "the command's author is of a kind that is not known here";
            let kind = RejectionKind::Internal;
            return Ruling::Rejected(Rejection::new(kind, "UNKNOWN_ACTOR", message));
        };
        let decided = match (stream, command) {
            (Held::Account(account), Command::Account(order)) => {
                let moment = credit::Moment {
                    at: moment.at,
                    command: moment.id,
                    by: actor,
                    reason: &order.reason,
                };
                credit::decide(account, part, &order.command, moment).map(Decision::from)
            }
            (Held::Prices(edition), Command::Prices(publish)) => {
                let change = policy::Change {
                    at: moment.at,
                    by: actor,
                };
                price::decide(edition, publish, change).map(Decision::Prices)
            }
            (Held::Account(_) | Held::Prices(_) | Held::Unknown, _) => {
                let message = "this command does not belong into this stream";
                let kind = RejectionKind::Invalid;
                Err(Rejection::new(kind, "WRONG_STREAM", message))
            }
        };
        match decided {
            Ok(decision) => Ruling::Decided {
                decision,
                views: Vec::new(),
            },
            Err(rejection) => Ruling::Rejected(rejection),
        }
    }

    fn evolve(
        &self,
        stream: &mut Held,
        part: &mut Option<Fate>,
        decision: &Decision,
        at: Timestamp,
    ) -> bool {
        match (stream, decision) {
            (Held::Account(account), Decision::Account(ordered)) => {
                credit::evolve(account, part, &ordered.posted, at)
            }
            (Held::Prices(edition), Decision::Prices(published)) => edition.take_in(published),
            (Held::Account(_) | Held::Prices(_) | Held::Unknown, _) => false,
        }
    }

    fn due(&self, _: &Held, _: &str, _: &Fate, _: Timestamp) -> Option<Decision> {
        None
    }

    fn due_at(&self, _: &Held, _: &Fate) -> Option<Timestamp> {
        None
    }

    fn lapses(&self) -> bool {
        true
    }

    fn lapse(&self, stream: &Held, at: Timestamp) -> Option<Decision> {
        match stream {
            Held::Account(account) => credit::owed(account, at).map(Decision::from),
            Held::Prices(_) | Held::Unknown => None,
        }
    }

    fn lapse_at(&self, stream: &Held) -> Option<Timestamp> {
        match stream {
            Held::Account(account) => credit::next_lapse(account),
            Held::Prices(_) | Held::Unknown => None,
        }
    }

    fn answers_facts(&self) -> bool {
        true
    }

    fn answers(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Usage(_) => true,
            Fact::Run(_) | Fact::Schedule(_) | Fact::Message(_) => false,
        }
    }

    fn decide_facts(
        &self,
        stream: &Held,
        facts: &[Owing<'_>],
        moment: &FactsMoment<'_>,
    ) -> Option<FactsRuling<Decision>> {
        let Held::Account(account) = stream else {
            return None;
        };
        let Some(prices) = self.prices() else {
            return Some(FactsRuling::Waits);
        };
        let lists = prices.viewed.of(moment.scope);
        let usages = usages(facts, moment.at);
        let posted = credit::charge(account, &|at| lists?.at(at), &usages, moment.at);
        Some(FactsRuling::Decided {
            decision: posted.into(),
            views: prices.position.into_iter().collect(),
        })
    }

    fn give_up(
        &self,
        stream: &Held,
        facts: &[Owing<'_>],
        moment: &FactsMoment<'_>,
    ) -> Option<Decision> {
        match stream {
            Held::Account(account) => {
                let usages = usages(facts, moment.at);
                Some(credit::give_up(account, &usages, moment.at).into())
            }
            Held::Prices(_) | Held::Unknown => None,
        }
    }

    fn answered(&self, decision: &Decision) -> Vec<RecordId> {
        match decision {
            Decision::Account(ordered) => match &ordered.posted.change {
                Change::Charged(lines) => lines.iter().map(|line| line.source).collect(),
                _ => Vec::new(),
            },
            Decision::Prices(_) => Vec::new(),
        }
    }

    fn keeps_state(&self, stream: &Held) -> bool {
        match stream {
            Held::Account(account) => account.decisions.is_multiple_of(SNAPSHOT_EVERY),
            Held::Prices(_) | Held::Unknown => false,
        }
    }

    fn refresh(&self) {
        self.prices.hurry();
    }
}

/// What is to be charged. Nothing counts as used later than now: nobody knows the prices of then.
pub(crate) fn usages(facts: &[Owing<'_>], at: Timestamp) -> Vec<Usage> {
    let usage = |owing: &Owing<'_>| match owing.fact {
        Fact::Usage(fact) => {
            let used_at = owing.record.occurred_at.min(at);
            Some(fact.forwarded().usage(owing.record.id, used_at))
        }
        Fact::Run(_) | Fact::Schedule(_) | Fact::Message(_) => None,
    };
    facts.iter().filter_map(usage).collect()
}

fn hold_of(change: &Change) -> Option<HoldId> {
    match change {
        Change::Reserved { hold, .. }
        | Change::Extended { hold, .. }
        | Change::Settled { hold, .. }
        | Change::Released { hold } => Some(*hold),
        Change::Granted { .. }
        | Change::Recurs { .. }
        | Change::Voided { .. }
        | Change::LimitsSet(_)
        | Change::ZoneSet(_)
        | Change::ThresholdsSet(_)
        | Change::Charged(_)
        | Change::Moved => None,
    }
}

/// The family of a stream of a kind that this version knows.
fn kind_of(stream: &Stream) -> Option<Family> {
    let known = Stream::parse(stream.as_str())?;
    FAMILIES.contains(&known.family()).then(|| known.family())
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

#[cfg(test)]
mod tests;
