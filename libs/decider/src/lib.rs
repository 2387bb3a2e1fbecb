//! Decisions in the log: one chain a partition, one answer a command.
//!
//! For: [`Rules`], by which a service judges, pure; [`Books`], the fold of facts, commands and
//! decisions in force into the tables that judging needs; [`Decider`], which goes along with the loop
//! of that fold and writes the next decisions; [`Callers`], who ask and wait for the answer;
//! [`SettledReader`], who reads what is decided; [`View`], what a decider knows of another family.
//! Must never: believe a decision before it was read back in force, decide from anything but what
//! was read, decide twice what the log has an answer to, or tell a caller what the log does not say.

mod books;
mod callers;
mod clock;
mod deciding;
mod judging;
mod outcomes;
mod rounds;
mod rules;
mod settled;
#[cfg(test)]
mod simulation;
pub mod statements;
mod states;
mod view;

pub use books::{Answered, Books, Folded, ReadModel, TABLES};
pub use callers::{Answer, Callers, Command, Options as CallerOptions, log_fault};
pub use deciding::{Decider, Options};
pub use judging::DECISION_BYTES_MAX;
pub use rounds::{Read, Rounds};
pub use rules::{FACTS_MAX, FactsMoment, FactsRuling, Moment, Owing, Rules, Ruling, StateError};
pub use settled::SettledReader;
pub use view::{Confirmed, View, Viewed};
