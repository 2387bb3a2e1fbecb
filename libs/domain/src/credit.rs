//! The credits of an account: grants, holds, charges, and the entries that explain every balance.
//!
//! [`decide`] judges a command and writes down what it moves, to the micro, after all that time alone
//! has moved since; [`evolve`] moves it. So balances are sums of what was written, whatever later
//! versions would write. Time is never swept: what has expired by `at` counts as expired at `at`,
//! whether or not a decision has said so yet ([`lapse`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::{Day, Month, Period, Zone};
use crate::ids::{AgentId, GrantId, HoldId, Name, RecordId, RunId};
use crate::money::Credits;
use crate::scope::{Actor, worded};
use crate::time::Timestamp;

mod account;
mod charge;
mod decide;
mod draw;
mod kept;
mod lapse;
mod limits;
#[cfg(test)]
mod tests;

pub use account::{Balances, evolve};
pub use charge::{Prices, charge, give_up};
pub use decide::{Moment, decide};
pub use kept::InvalidState;
pub use lapse::{Lapsed, lapse, next_lapse, owed};

/// Most grants that an account has at once, those to come included.
pub const GRANTS_MAX: usize = 1_000;
/// Most recurrences that go on at once.
pub const RECURRING_MAX: usize = 32;
/// Most thresholds of an account.
pub const THRESHOLDS_MAX: usize = 32;
/// For how many months, the current one included, units are counted. What is older counts in the oldest.
pub const MONTHS_COUNTED: i32 = 14;
/// Most counts of units, of all months and rules together; when there are more, the oldest month begins
/// anew. All of them are read and written with every decision.
pub const COUNTS_MAX: usize = 8_192;
/// Most holds that are open at once.
pub const HOLDS_MAX: usize = 4_096;
/// From how many grants one hold draws at most.
pub const DRAWS_MAX: usize = 64;
/// From how many grants all open holds together draw at most: each draw is given back by a posting of
/// its own, and what lapses together must fit into one decision.
pub const OPEN_DRAWS_MAX: usize = 8_192;
/// Of how many agents, and of how many runs, it is known what they spent, while there is a limit for
/// them: of those that spent last.
pub const SPENDERS_MAX: usize = 4_096;

worded! {
    /// What a grant is. Those that were paid for pay what is owed before anything else.
    GrantKind { Paid = "paid", Promotional = "promotional", Refund = "refund", Adjustment = "adjustment" }
}

worded! {
    /// What passing a limit of spending comes to. Usage has happened when it is charged, so as a rule
    /// it is charged and shown.
    Beyond {
        RejectHolds = "reject_holds", Reject = "reject", Flag = "flag",
    }
}

impl Beyond {
    pub(crate) const DEFAULT: Self = Self::RejectHolds;
}

worded! {
    /// A limit of spending.
    Limit {
        Day = "SPEND_LIMIT_DAY", Month = "SPEND_LIMIT_MONTH", Agent = "SPEND_LIMIT_AGENT",
        Run = "SPEND_LIMIT_RUN",
    }
}

worded! {
    /// What a transaction is to those who read the history.
    EntryKind {
        Initial = "initial", Credit = "credit", Debit = "debit", Refund = "refund",
        Expiration = "expiration", Adjustment = "adjustment", WriteOff = "write_off",
        Hold = "hold", Release = "release",
    }
}

/// Where credits lie. What customers have is positive; what they owe, and what was issued to them, is
/// negative, so that all together are nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ledger {
    Issued,
    Grant(GrantId),
    Held(HoldId),
    Spent,
    Expired,
    WrittenOff,
    Overdraft,
    Unpaid,
}

/// One leg of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    pub ledger: Ledger,
    pub amount: Credits,
}

/// What moves at one moment; its postings sum to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub kind: EntryKind,
    /// When it counts: an expiry at its own moment, however late it is noticed.
    pub at: Timestamp,
    pub postings: Vec<Posting>,
}

/// A grant as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTerms {
    pub amount: Credits,
    pub kind: GrantKind,
    /// The lower the sooner it is drawn on.
    pub priority: i32,
    pub effective_at: Timestamp,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// A grant that has anything left, is held from, or is to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub terms: GrantTerms,
    /// The how manieth it was: of equals the older is drawn on first.
    pub ordinal: u64,
    pub remaining: Credits,
    /// It has taken effect.
    pub credited: bool,
    /// Nothing comes back to it.
    pub voided: bool,
    /// How many open holds draw on it.
    pub holds: u32,
}

/// Credits that are given again and again, each time until the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    pub amount: Credits,
    pub priority: i32,
    pub every: Period,
    /// The first time; the others are counted from here.
    pub first_at: Timestamp,
    /// From then on it is given no more, and what was given ends. `None`: for ever.
    pub until: Option<Timestamp>,
}

/// A recurrence that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurring {
    pub terms: Recurrence,
    /// The how manieth time is next, from 0.
    pub next: u32,
}

/// A grant that comes to be with a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub grant: GrantId,
    pub terms: GrantTerms,
    /// The recurrence that it is of, and its how manieth time.
    pub of: Option<(GrantId, u32)>,
}

/// What somebody wants to hear of, once each time it comes to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Threshold {
    AvailableBelow(Credits),
    /// Within a calendar month.
    SpentOver(Credits),
}

/// A threshold, and whether it is crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub threshold: Threshold,
    pub crossed: bool,
}

/// Who spends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spender {
    pub agent: Option<AgentId>,
    pub run: Option<RunId>,
}

/// Where credits were taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    Grant(GrantId),
    Overdraft,
    Unpaid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    pub from: Source,
    pub amount: Credits,
}

/// An open hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub amount: Credits,
    /// In the order in which they were drawn on.
    pub draws: Vec<Draw>,
    pub expires_at: Timestamp,
    pub spender: Spender,
}

/// What became of a hold, for whoever asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Or expired, when it is no longer open.
    Open,
    Settled,
    Released,
}

/// What an account may spend. `None`: as much as it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How far below nothing it may go.
    pub overdraft: Credits,
    pub day: Option<Credits>,
    pub month: Option<Credits>,
    pub agent: Option<Credits>,
    pub run: Option<Credits>,
    pub beyond: Beyond,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            overdraft: Credits::ZERO,
            day: None,
            month: None,
            agent: None,
            run: None,
            beyond: Beyond::DEFAULT,
        }
    }
}

/// What one of many has spent, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub amount: Credits,
    pub last_at: Timestamp,
}

/// What is spent, for limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// The day and the month that the next two are of.
    pub day: Day,
    pub of_day: Credits,
    pub month: Month,
    pub of_month: Credits,
    /// Counted while there is a limit.
    pub of_agents: BTreeMap<AgentId, Spent>,
    pub of_runs: BTreeMap<RunId, Spent>,
}

/// All that is known of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How many decisions made it what it is, and when the last of them was taken; rejections change
    /// nothing.
    pub decisions: u64,
    pub last_at: Timestamp,
    pub grants: BTreeMap<GrantId, Grant>,
    pub holds: BTreeMap<HoldId, Hold>,
    pub recurring: BTreeMap<GrantId, Recurring>,
    /// Granted so far.
    pub granted: u64,
    pub balances: Balances,
    /// By whose clocks days and months begin.
    pub zone: Zone,
    pub limits: Limits,
    pub spending: Spending,
    /// Units that each rule of the prices has counted, by month.
    pub used: BTreeMap<Month, BTreeMap<Name, u64>>,
    pub thresholds: BTreeMap<Name, Watched>,
}

/// What is asked of an account. The command's id names the grant or the hold that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Grant(GrantTerms),
    GrantRecurring(Recurrence),
    /// Takes back what is left of a grant, or ends a recurrence.
    Void {
        grant: GrantId,
    },
    /// Above zero: more; below: less, as far as there is anything.
    Adjust {
        amount: Credits,
    },
    /// Gives back what was spent.
    Refund {
        amount: Credits,
    },
    /// Forgives what is owed.
    WriteOff {
        amount: Credits,
    },
    Reserve {
        amount: Credits,
        expires_at: Timestamp,
        spender: Spender,
    },
    Extend {
        hold: HoldId,
        expires_at: Timestamp,
    },
    Settle {
        hold: HoldId,
        amount: Credits,
    },
    Release {
        hold: HoldId,
    },
    SetLimits(Limits),
    SetZone(Zone),
    /// In the place of all there were.
    SetThresholds(BTreeMap<Name, Threshold>),
}

impl Command {
    /// The hold that it is about.
    pub fn hold(&self) -> Option<HoldId> {
        match self {
            Self::Extend { hold, .. } | Self::Settle { hold, .. } | Self::Release { hold } => {
                Some(*hold)
            }
            Self::Grant(_)
            | Self::GrantRecurring(_)
            | Self::Void { .. }
            | Self::Adjust { .. }
            | Self::Refund { .. }
            | Self::WriteOff { .. }
            | Self::Reserve { .. }
            | Self::SetLimits(_)
            | Self::SetZone(_)
            | Self::SetThresholds(_) => None,
        }
    }
}

/// Something that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The record that says so.
    pub source: RecordId,
    pub meter: Name,
    pub quantity: u64,
    pub dimensions: BTreeMap<Name, String>,
    pub spender: Spender,
    /// Grants that came later do not pay for it.
    pub used_at: Timestamp,
}

/// What a usage was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub source: RecordId,
    pub meter: Name,
    pub quantity: u64,
    pub spender: Spender,
    pub used_at: Timestamp,
    pub pricing: Pricing,
    pub amount: Credits,
    /// Its month was over when it was charged.
    pub late: bool,
    /// What this takes the spending beyond.
    pub over: Vec<Limit>,
}

impl Pricing {
    /// The word that stands for it in columns.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::By { .. } => "priced",
            Self::Unpriced => "unpriced",
            Self::Overflow => "overflow",
            Self::Rejected => "rejected",
            Self::Undecidable => "undecidable",
        }
    }
}

/// How a usage came to its amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pricing {
    By {
        /// Of the price list.
        version: u64,
        rule: Name,
        /// Units that the month includes, and the others.
        free: u64,
        billable: u64,
    },
    /// No price was in force for it. It is charged nothing, and shown.
    Unpriced,
    /// It would cost more than can be counted. It is charged nothing, and shown.
    Overflow,
    /// It would pass a limit that rejects it. It is charged nothing, and shown.
    Rejected,
    /// Charging it failed. It is charged nothing, and shown.
    Undecidable,
}

/// What an account has and owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What remains of grants that have taken effect and not expired.
    pub available: Credits,
    pub held: Credits,
    /// How much of the overdraft is used; at least nothing.
    pub overdrawn: Credits,
    /// What could not even be overdrawn; at least nothing.
    pub unpaid: Credits,
}

/// A decision: all that has moved since the one before, and what else has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// What the decision before has left.
    pub before: Balance,
    pub opened: Vec<Opened>,
    pub transactions: Vec<Transaction>,
    pub change: Change,
    /// Thresholds that this crosses.
    pub crossed: Vec<Name>,
    /// Who asked for it; `None`: nobody, it was time or usage.
    pub by: Option<Actor>,
    /// Why, in the words of whoever asked.
    pub reason: String,
}

/// What a decision changes besides balances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The last of those opened.
    Granted {
        grant: GrantId,
    },
    Recurs {
        grant: GrantId,
        terms: Recurrence,
    },
    Voided {
        grant: GrantId,
    },
    Reserved {
        hold: HoldId,
        terms: Hold,
        /// What this may take the spending beyond.
        over: Vec<Limit>,
    },
    Extended {
        hold: HoldId,
        expires_at: Timestamp,
    },
    Settled {
        hold: HoldId,
        amount: Credits,
        spender: Spender,
        /// What this has taken the spending beyond.
        over: Vec<Limit>,
    },
    Released {
        hold: HoldId,
    },
    LimitsSet(Limits),
    ZoneSet(Zone),
    ThresholdsSet(BTreeMap<Name, Threshold>),
    Charged(Vec<Line>),
    /// Nothing but balances.
    Moved,
}
