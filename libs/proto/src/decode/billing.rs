//! Accounts: what requests ask of them, and the commands and decisions in the log.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use runledger_domain::calendar::{Period, Zone};
use runledger_domain::credit::{
    Beyond, Command, GrantKind, GrantTerms, Limits, Recurrence, Spender, THRESHOLDS_MAX, Threshold,
};
use runledger_domain::ids::{GrantId, HoldId, Name};
use runledger_domain::money::Credits;
use runledger_domain::time::Timestamp;

use super::approval::read;
use super::fields::{Fields, reason};
use super::stored::{Error, bounded};
use crate::billing::v1 as wire;
use crate::types;

mod posted;

pub use super::usage_fact::spender;
pub use posted::stored_account_posted;

/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;
/// Most usages of one quote.
pub const QUOTED_MAX: usize = 100;
/// Longest range of a question.
pub const RANGE_MAX: TimeDelta = TimeDelta::days(3_653);
/// The last second that a time on the wire can name.
const LATEST: i64 = 253_402_300_799;
const DIMENSIONS_MAX: usize = 16;
const DIMENSION_CHARS_MAX: usize = 128;

const AMOUNT_NOT_POSITIVE: &str = "AMOUNT_NOT_POSITIVE";
const EXPIRES_TOO_EARLY: &str = "EXPIRES_TOO_EARLY";

/// Why somebody asks, in his words.
pub fn reason(text: String, see: &mut Fields<'_>) -> String {
    see.text("reason", text, REASON_CHARS_MAX)
}

pub fn positive_amount(micros: i64, see: &mut Fields<'_>) -> Option<Credits> {
    if micros <= 0 && !see.is_stored() {
        see.fault("amount_micros", AMOUNT_NOT_POSITIVE, "must be above zero");
        return None;
    }
    Some(Credits::from_micros(micros))
}

pub fn nonzero_amount(micros: i64, see: &mut Fields<'_>) -> Option<Credits> {
    if micros == 0 && !see.is_stored() {
        let what = "must be above or below zero";
        see.fault("amount_micros", AMOUNT_NOT_POSITIVE, what);
        return None;
    }
    Some(Credits::from_micros(micros))
}

pub fn amount_from_zero(micros: i64, see: &mut Fields<'_>) -> Option<Credits> {
    if micros < 0 && !see.is_stored() {
        see.fault("amount_micros", "AMOUNT_NEGATIVE", "must be at least zero");
        return None;
    }
    Some(Credits::from_micros(micros))
}

/// A grant, in the field `terms`.
pub fn grant_terms(wire: Option<wire::GrantTerms>, see: &mut Fields<'_>) -> Option<GrantTerms> {
    let wire = see.required("terms", wire)?;
    see.within("terms", |see| terms(wire, see))
}

fn terms(wire: wire::GrantTerms, see: &mut Fields<'_>) -> Option<GrantTerms> {
    let amount = positive_amount(wire.amount_micros, see);
    let kind = see.word::<wire::GrantKind>("kind", wire.kind);
    if kind.is_some_and(is_made_by_others) && !see.is_stored() {
        let what =
            "must be paid or promotional; refunds and adjustments have commands of their own";
        see.fault("kind", reason::OUT_OF_RANGE, what);
    }
    let effective_at = see.optional_time("effective_at", wire.effective_at);
    let expires_at = see.optional_time("expires_at", wire.expires_at);
    if let (Some(from), Some(to)) = (effective_at, expires_at)
        && to <= from
        && !see.is_stored()
    {
        see.fault(
            "expires_at",
            EXPIRES_TOO_EARLY,
            "must be behind effective_at",
        );
    }
    Some(GrantTerms {
        amount: amount?,
        kind: kind?,
        priority: wire.priority,
        effective_at: effective_at.unwrap_or(Timestamp::UNIX_EPOCH),
        expires_at,
    })
}

fn is_made_by_others(kind: GrantKind) -> bool {
    match kind {
        GrantKind::Paid | GrantKind::Promotional => false,
        GrantKind::Refund | GrantKind::Adjustment => true,
    }
}

/// A recurrence, in the field `terms`.
pub fn recurrence(wire: Option<wire::Recurrence>, see: &mut Fields<'_>) -> Option<Recurrence> {
    let wire = see.required("terms", wire)?;
    see.within("terms", |see| {
        let amount = positive_amount(wire.amount_micros, see);
        let every = see.required("period", wire.period).and_then(|period| {
            see.within("period", |see| {
                match see.required("every", period.every)? {
                    wire::period::Every::Days(days) => Some(Period::Days(days)),
                    wire::period::Every::Months(months) => Some(Period::Months(months)),
                }
            })
        });
        let is_sensible = every.is_none_or(Period::is_sensible);
        if !is_sensible && !see.is_stored() {
            let why = "must be at least a day, and at most ten years";
            see.fault("period", "PERIOD_OUT_OF_RANGE", why);
        }
        let first_at = see.optional_time("first_at", wire.first_at);
        let until = see.optional_time("until", wire.until);
        if let (Some(from), Some(to)) = (first_at, until)
            && to <= from
            && !see.is_stored()
        {
            see.fault("until", EXPIRES_TOO_EARLY, "must be behind first_at");
        }
        Some(Recurrence {
            amount: amount?,
            priority: wire.priority,
            every: every?,
            first_at: first_at.unwrap_or(Timestamp::UNIX_EPOCH),
            until,
        })
    })
}

/// Limits, in the field `limits`.
pub fn spend_limits(wire: Option<wire::SpendLimits>, see: &mut Fields<'_>) -> Option<Limits> {
    let wire = see.required("limits", wire)?;
    see.within("limits", |see| limits(wire, see))
}

fn limits(wire: wire::SpendLimits, see: &mut Fields<'_>) -> Option<Limits> {
    let mut micros = |name: &'static str, micros: i64| {
        if micros < 0 && !see.is_stored() {
            see.fault(name, "AMOUNT_NEGATIVE", "must be at least zero");
        }
        Credits::from_micros(micros)
    };
    let overdraft = micros("overdraft_micros", wire.overdraft_micros);
    let day = wire.day_micros.map(|one| micros("day_micros", one));
    let month = wire.month_micros.map(|one| micros("month_micros", one));
    let agent = wire.agent_micros.map(|one| micros("agent_micros", one));
    let run = wire.run_micros.map(|one| micros("run_micros", one));
    let beyond = match wire.beyond {
        0 => Beyond::RejectHolds,
        word => see.word::<wire::BeyondLimit>("beyond", word)?,
    };
    Some(Limits {
        overdraft,
        day,
        month,
        agent,
        run,
        beyond,
    })
}

/// A zone, in the field `zone`.
pub fn time_zone(name: &str, see: &mut Fields<'_>) -> Option<Zone> {
    name.parse()
        .map_err(|fault| see.fault("zone", reason::UNKNOWN_VALUE, fault))
        .ok()
}

/// Thresholds, in the field `thresholds`.
pub fn thresholds(
    wire: BTreeMap<String, wire::Threshold>,
    see: &mut Fields<'_>,
) -> Option<BTreeMap<Name, Threshold>> {
    use wire::threshold::Threshold as Wire;
    if wire.len() > THRESHOLDS_MAX && !see.is_stored() {
        let why = format_args!("must have at most {THRESHOLDS_MAX} entries");
        see.fault("thresholds", reason::TOO_MANY, why);
        return None;
    }
    see.within("thresholds", |see| {
        let mut thresholds = BTreeMap::new();
        for (name, threshold) in wire {
            let name = see.item_id(name, Name::parse);
            let threshold = see.required("threshold", threshold.threshold);
            let threshold = threshold.map(|threshold| match threshold {
                Wire::AvailableBelowMicros(least) => {
                    Threshold::AvailableBelow(Credits::from_micros(least))
                }
                Wire::SpentOverMicros(most) => Threshold::SpentOver(Credits::from_micros(most)),
            });
            thresholds.extend(name.zip(threshold));
        }
        Some(thresholds)
    })
}

/// From and before which moments, in the field `range`.
pub fn range(wire: Option<wire::Range>, see: &mut Fields<'_>) -> Option<(Timestamp, Timestamp)> {
    let wire = see.required("range", wire)?;
    see.within("range", |see| {
        let from = see.time("from", wire.from);
        let to = see.time("to", wire.to);
        let (from, to) = (from?, to?);
        if to <= from {
            see.fault("to", "RANGE_UPSIDE_DOWN", "must be behind from");
        } else if to - from > RANGE_MAX {
            see.fault(
                "to",
                "RANGE_TOO_LONG",
                "must be at most ten years behind from",
            );
        }
        Some((from, to))
    })
}

/// The same, where all of time is meant when there is none.
pub fn optional_range(
    wire: Option<wire::Range>,
    see: &mut Fields<'_>,
) -> Option<(Timestamp, Timestamp)> {
    match wire {
        None => Some((Timestamp::UNIX_EPOCH, Timestamp::from_timestamp(LATEST, 0)?)),
        some => range(some, see),
    }
}

/// One usage of a quote: meter, quantity, dimensions, who.
pub type Quoted = (Name, u64, BTreeMap<Name, String>, Spender);

/// Usages, in the field `usages`.
pub fn quoted(
    wire: Vec<wire::quote_request::QuotedUsage>,
    see: &mut Fields<'_>,
) -> Option<Vec<Quoted>> {
    if !(1..=QUOTED_MAX).contains(&wire.len()) {
        let why = format_args!("must have 1 to {QUOTED_MAX} entries");
        see.fault("usages", reason::TOO_MANY, why);
        return None;
    }
    let usages = wire.into_iter().enumerate().map(|(index, wire)| {
        see.item("usages", index, |see| {
            let meter = see.id("meter", wire.meter, Name::parse);
            let quantity = see.count("quantity", wire.quantity);
            let dimensions = see.texts(
                "dimensions",
                wire.dimensions,
                DIMENSIONS_MAX,
                DIMENSION_CHARS_MAX,
            );
            let spender = see.within("spender", |see| spender(wire.spender, see));
            Some((meter?, quantity, dimensions, spender))
        })
    });
    let usages: Vec<Option<Quoted>> = usages.collect();
    usages.into_iter().collect()
}

/// The command about an account in a stored payload, and why it was asked. `Ok(None)`: its type is
/// none of those, or it says what this version does not understand. It is not checked again: its
/// decision does that.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_account_command(
    type_name: &str,
    bytes: &[u8],
) -> Result<Option<(Command, String)>, Error> {
    bounded(type_name, bytes)?;
    match type_name {
        types::GRANT_CREDITS => read(type_name, bytes, |wire: wire::GrantCredits, see| {
            let terms = grant_terms(wire.terms, see)?;
            Some((Command::Grant(terms), wire.reason))
        }),
        types::GRANT_RECURRING_CREDITS => read(
            type_name,
            bytes,
            |wire: wire::GrantRecurringCredits, see| {
                let terms = recurrence(wire.terms, see)?;
                Some((Command::GrantRecurring(terms), wire.reason))
            },
        ),
        types::VOID_GRANT => read(type_name, bytes, |wire: wire::VoidGrant, see| {
            let grant = GrantId::new(see.uuid("grant_id", &wire.grant_id)?);
            Some((Command::Void { grant }, wire.reason))
        }),
        types::ADJUST_CREDITS => read(type_name, bytes, |wire: wire::AdjustCredits, _| {
            let amount = Credits::from_micros(wire.amount_micros);
            Some((Command::Adjust { amount }, wire.reason))
        }),
        types::REFUND_CREDITS => read(type_name, bytes, |wire: wire::RefundCredits, _| {
            let amount = Credits::from_micros(wire.amount_micros);
            Some((Command::Refund { amount }, wire.reason))
        }),
        types::WRITE_OFF_CREDITS => read(type_name, bytes, |wire: wire::WriteOffCredits, _| {
            let amount = Credits::from_micros(wire.amount_micros);
            Some((Command::WriteOff { amount }, wire.reason))
        }),
        types::SET_SPEND_LIMITS => read(type_name, bytes, |wire: wire::SetSpendLimits, see| {
            Some((
                Command::SetLimits(spend_limits(wire.limits, see)?),
                String::new(),
            ))
        }),
        types::SET_TIME_ZONE => read(type_name, bytes, |wire: wire::SetTimeZone, see| {
            Some((Command::SetZone(time_zone(&wire.zone, see)?), String::new()))
        }),
        types::SET_THRESHOLDS => read(type_name, bytes, |wire: wire::SetThresholds, see| {
            let thresholds = thresholds(wire.thresholds, see)?;
            Some((Command::SetThresholds(thresholds), String::new()))
        }),
        _ => Ok(hold_command(type_name, bytes)?.map(|command| (command, String::new()))),
    }
}

fn hold_command(type_name: &str, bytes: &[u8]) -> Result<Option<Command>, Error> {
    let hold = |id: &str, see: &mut Fields<'_>| see.uuid("hold_id", id).map(HoldId::new);
    match type_name {
        types::RESERVE_CREDITS => read(type_name, bytes, |wire: wire::ReserveCredits, see| {
            Some(Command::Reserve {
                amount: Credits::from_micros(wire.amount_micros),
                expires_at: see.time("expires_at", wire.expires_at)?,
                spender: see.within("spender", |see| spender(wire.spender, see)),
            })
        }),
        types::EXTEND_HOLD => read(type_name, bytes, |wire: wire::ExtendHold, see| {
            Some(Command::Extend {
                hold: hold(&wire.hold_id, see)?,
                expires_at: see.time("expires_at", wire.expires_at)?,
            })
        }),
        types::SETTLE_HOLD => read(type_name, bytes, |wire: wire::SettleHold, see| {
            Some(Command::Settle {
                hold: hold(&wire.hold_id, see)?,
                amount: Credits::from_micros(wire.amount_micros),
            })
        }),
        types::RELEASE_HOLD => read(type_name, bytes, |wire: wire::ReleaseHold, see| {
            let hold = hold(&wire.hold_id, see)?;
            Some(Command::Release { hold })
        }),
        _ => Ok(None),
    }
}
