//! The words of Runledger as types, and the rules of each family as pure functions.
//!
//! For: ids, scope, time, faults, canonical JSON, and one module a family (`run`, `schedule`,
//! `message`, `policy`) with its facts and its fold; `directory` is facts alone; `audit` is what those say to whoever asks later; `decision` and
//! `approval` are the rules by which commands are judged; `price` is what usage costs and how that is
//! changed, `credit` what an account has and who pays, in the credits of `money`, by the days and
//! months of `calendar`; `analytics` is what all of them come to when they are counted.
//! Must never: read a clock, make an id, touch a file, a socket or a database, or panic on input.
//! Nothing here knows of Kafka, Postgres or gRPC.
#![deny(clippy::float_arithmetic, clippy::wildcard_enum_match_arm)]

pub mod analytics;
pub mod approval;
pub mod audit;
pub mod calendar;
pub mod credit;
pub mod decision;
pub mod digest;
pub mod directory;
pub mod fault;
pub mod ids;
pub mod json;
pub mod log;
pub mod message;
pub mod money;
pub mod policy;
pub mod price;
pub mod run;
pub mod schedule;
pub mod scope;
pub mod text;
pub mod time;
pub mod usage;

/// A fact of any family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Run(run::Fact),
    Schedule(schedule::Fact),
    Message(message::Fact),
    Usage(usage::Fact),
}

impl Fact {
    /// The stream it belongs to.
    pub fn stream(&self) -> log::Stream {
        match self {
            Self::Run(fact) => log::Stream::run(fact.run_id()),
            Self::Schedule(fact) => log::Stream::schedules(&fact.occurrence().owner_id),
            Self::Message(fact) => log::Stream::conversation(&fact.message().conversation_id),
            Self::Usage(fact) => log::Stream::account(&fact.forwarded().account_id),
        }
    }

    /// The run it is about, when it names one.
    pub fn run_id(&self) -> Option<&ids::RunId> {
        match self {
            Self::Run(fact) => Some(fact.run_id()),
            Self::Schedule(fact) => fact.occurrence().run_id.as_ref(),
            Self::Message(fact) => fact.message().run_id.as_ref(),
            Self::Usage(fact) => fact.forwarded().spender.run.as_ref(),
        }
    }
}
