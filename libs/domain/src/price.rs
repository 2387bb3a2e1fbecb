//! Prices: what a usage costs, and how the prices of a scope are changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::money::Credits;
use crate::policy::Change;
use crate::scope::worded;
use crate::time::Timestamp;

mod book;
mod charge;
mod check;
mod diff;
mod set;

pub use book::{
    AHEAD_MAX, BOOK_BYTES_MAX, Edition, NOTICE, PriceBook, VERSIONS_MAX, decide, evolve,
};
pub use charge::{Portion, Priced, price};
pub use check::{
    DIMENSION_CHARS_MAX, DIMENSIONS_MAX, LIST_BYTES_MAX, METERS_MAX, PRICE_MAX, RULES_MAX,
    TIERS_MAX, UNIT_MAX, UNITS_MAX, VIOLATIONS_MAX, check,
};
pub use diff::{Difference, diff};
pub use set::PriceSet;

worded! {
    /// What every price list may price without declaring it.
    Meter {
        TokensInput = "tokens_input", TokensOutput = "tokens_output", ToolCalls = "tool_calls",
        RunSeconds = "run_seconds", ServerSeconds = "server_seconds", ExportBytes = "export_bytes",
        AgentInputs = "agent_inputs", ProxyBytes = "proxy_bytes", Messages = "messages",
    }
}

impl From<Meter> for Name {
    fn from(meter: Meter) -> Self {
        Self::of_word(meter.as_str())
    }
}

/// A stretch of the billable units of a calendar month, and what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// Up to and with this unit, from where the tier before it ends. `None`: all that follow.
    pub up_to: Option<u64>,
    /// Of each [`Rule::unit`].
    pub price: Credits,
}

/// What usage of one meter costs, all of it or the part with certain dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in its list. The same id in the next list goes on with the same count.
    pub id: Name,
    pub meter: Name,
    /// What the usage must say of itself, word for word. Empty: it prices all usage of the meter.
    pub dimensions: BTreeMap<Name, String>,
    /// Prices are of so many units.
    pub unit: u64,
    /// How many units are free in each calendar month.
    pub included: u64,
    /// In order, without a gap: each begins where the one before it ends, the last has no end.
    pub tiers: Vec<Tier>,
    /// What a charge is at least, if any unit of it is billable.
    pub minimum: Credits,
}

/// One version of a scope's prices. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceList {
    /// 1, and one more with each that is published.
    pub version: u64,
    /// From here on until the next one takes effect.
    pub effective_at: Timestamp,
    pub recorded: Change,
    /// Of those that fit a usage equally well the first prices it.
    pub rules: Vec<Rule>,
    /// What it prices beside the built-in [`Meter`]s.
    pub meters: BTreeSet<Name>,
}

/// A command: these are the prices from now on. An empty list ends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// `None`: as soon as may be.
    pub effective_at: Option<Timestamp>,
    pub rules: Vec<Rule>,
    pub meters: BTreeSet<Name>,
    /// Of the list before it; 0: there is none.
    pub expected_version: Option<u64>,
}

/// A decision: a price list was published as a command asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub list: PriceList,
}

#[cfg(test)]
mod tests;
