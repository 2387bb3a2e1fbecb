use prost::Message as _;
use runledger_domain::calendar::Period;
use runledger_domain::credit as domain;
use runledger_domain::ids::{HoldId, Name};
use runledger_domain::money::Credits;

use super::{actor, timestamp};
use crate::billing::v1 as wire;
use crate::types;

/// The type name and the encoded payload of a command about an account, as they are stored. `reason`:
/// in the words of whoever asks; of commands that have none it is left out.
pub fn account_command(command: &domain::Command, reason: &str) -> (&'static str, Vec<u8>) {
    use domain::Command;
    let reason = reason.to_owned();
    match command {
        Command::Grant(terms) => {
            let terms = Some(terms.into());
            let message = wire::GrantCredits { terms, reason };
            (types::GRANT_CREDITS, message.encode_to_vec())
        }
        Command::GrantRecurring(terms) => {
            let terms = Some(terms.into());
            let message = wire::GrantRecurringCredits { terms, reason };
            (types::GRANT_RECURRING_CREDITS, message.encode_to_vec())
        }
        Command::Void { grant } => {
            let grant_id = grant.to_string();
            let message = wire::VoidGrant { grant_id, reason };
            (types::VOID_GRANT, message.encode_to_vec())
        }
        Command::Adjust { amount } => {
            let amount_micros = amount.as_micros();
            let message = wire::AdjustCredits {
                amount_micros,
                reason,
            };
            (types::ADJUST_CREDITS, message.encode_to_vec())
        }
        Command::Refund { amount } => {
            let amount_micros = amount.as_micros();
            let message = wire::RefundCredits {
                amount_micros,
                reason,
            };
            (types::REFUND_CREDITS, message.encode_to_vec())
        }
        Command::WriteOff { amount } => {
            let amount_micros = amount.as_micros();
            let message = wire::WriteOffCredits {
                amount_micros,
                reason,
            };
            (types::WRITE_OFF_CREDITS, message.encode_to_vec())
        }
        Command::Reserve { .. }
        | Command::Extend { .. }
        | Command::Settle { .. }
        | Command::Release { .. } => hold_command(command),
        Command::SetLimits(limits) => {
            let limits = Some(limits.into());
            let message = wire::SetSpendLimits { limits };
            (types::SET_SPEND_LIMITS, message.encode_to_vec())
        }
        Command::SetZone(zone) => {
            let zone = zone.to_string();
            let message = wire::SetTimeZone { zone };
            (types::SET_TIME_ZONE, message.encode_to_vec())
        }
        Command::SetThresholds(thresholds) => {
            let message = set_thresholds(thresholds);
            (types::SET_THRESHOLDS, message.encode_to_vec())
        }
    }
}

fn hold_command(command: &domain::Command) -> (&'static str, Vec<u8>) {
    use domain::Command;
    match command {
        Command::Reserve {
            amount,
            expires_at,
            spender,
        } => {
            let message = wire::ReserveCredits {
                amount_micros: amount.as_micros(),
                expires_at: Some(timestamp(*expires_at)),
                spender: Some(spender.into()),
            };
            (types::RESERVE_CREDITS, message.encode_to_vec())
        }
        Command::Extend { hold, expires_at } => {
            let message = wire::ExtendHold {
                hold_id: hold.to_string(),
                expires_at: Some(timestamp(*expires_at)),
            };
            (types::EXTEND_HOLD, message.encode_to_vec())
        }
        Command::Settle { hold, amount } => {
            let message = wire::SettleHold {
                hold_id: hold.to_string(),
                amount_micros: amount.as_micros(),
            };
            (types::SETTLE_HOLD, message.encode_to_vec())
        }
        Command::Release { hold } => {
            let hold_id = hold.to_string();
            let message = wire::ReleaseHold { hold_id };
            (types::RELEASE_HOLD, message.encode_to_vec())
        }
        Command::Grant(_)
        | Command::GrantRecurring(_)
        | Command::Void { .. }
        | Command::Adjust { .. }
        | Command::Refund { .. }
        | Command::WriteOff { .. }
        | Command::SetLimits(_)
        | Command::SetZone(_)
        | Command::SetThresholds(_) => account_command(command, ""),
    }
}

/// The type name and the encoded payload of a decision about an account.
pub fn account_posted(posted: &domain::Posted) -> (&'static str, Vec<u8>) {
    let message = wire::AccountPosted::from(posted);
    (types::ACCOUNT_POSTED, message.encode_to_vec())
}

impl From<&domain::Posted> for wire::AccountPosted {
    fn from(posted: &domain::Posted) -> Self {
        Self {
            before: Some((&posted.before).into()),
            opened: posted.opened.iter().map(Into::into).collect(),
            transactions: posted.transactions.iter().map(Into::into).collect(),
            crossed: posted.crossed.iter().map(Name::to_string).collect(),
            change: Some((&posted.change).into()),
            by: posted.by.as_ref().map(actor),
            reason: posted.reason.clone(),
        }
    }
}

impl From<&domain::Change> for wire::account_posted::Change {
    fn from(change: &domain::Change) -> Self {
        use domain::Change;
        use wire::account_posted as posted;
        match change {
            Change::Granted { grant } => Self::Granted(posted::Granted {
                grant_id: grant.to_string(),
            }),
            Change::Recurs { grant, terms } => Self::Recurs(posted::Recurs {
                recurrence_id: grant.to_string(),
                terms: Some(terms.into()),
            }),
            Change::Voided { grant } => Self::Voided(posted::Voided {
                grant_id: grant.to_string(),
            }),
            Change::Reserved { hold, terms, over } => Self::Reserved(posted::Reserved {
                hold_id: hold.to_string(),
                amount_micros: terms.amount.as_micros(),
                draws: terms.draws.iter().map(Into::into).collect(),
                expires_at: Some(timestamp(terms.expires_at)),
                spender: Some((&terms.spender).into()),
                over_limits: limits(over),
            }),
            Change::Extended { hold, expires_at } => Self::Extended(posted::Extended {
                hold_id: hold.to_string(),
                expires_at: Some(timestamp(*expires_at)),
            }),
            Change::Settled {
                hold,
                amount,
                spender,
                over,
            } => Self::Settled(posted::Settled {
                hold_id: hold.to_string(),
                amount_micros: amount.as_micros(),
                spender: Some(spender.into()),
                over_limits: limits(over),
            }),
            Change::Released { hold } => Self::Released(posted::Released {
                hold_id: hold.to_string(),
            }),
            Change::LimitsSet(limits) => Self::LimitsSet(limits.into()),
            Change::ZoneSet(zone) => Self::ZoneSet(zone.to_string()),
            Change::ThresholdsSet(thresholds) => Self::ThresholdsSet(set_thresholds(thresholds)),
            Change::Charged(lines) => Self::Charged(posted::Charged {
                lines: lines.iter().map(Into::into).collect(),
            }),
            Change::Moved => Self::Moved(posted::Moved {}),
        }
    }
}

impl From<&domain::Line> for wire::ChargeLine {
    fn from(line: &domain::Line) -> Self {
        use domain::Pricing;
        let kind = match &line.pricing {
            Pricing::By { .. } => wire::PricingKind::Priced,
            Pricing::Unpriced => wire::PricingKind::Unpriced,
            Pricing::Overflow => wire::PricingKind::Overflow,
            Pricing::Rejected => wire::PricingKind::Rejected,
            Pricing::Undecidable => wire::PricingKind::Undecidable,
        };
        let (version, rule, free, billable) = match &line.pricing {
            Pricing::By {
                version,
                rule,
                free,
                billable,
            } => (*version, rule.to_string(), *free, *billable),
            Pricing::Unpriced | Pricing::Overflow | Pricing::Rejected | Pricing::Undecidable => {
                (0, String::new(), 0, 0)
            }
        };
        Self {
            usage_id: line.source.to_string(),
            meter: line.meter.to_string(),
            quantity: line.quantity,
            spender: Some((&line.spender).into()),
            used_at: Some(timestamp(line.used_at)),
            pricing: kind.into(),
            price_version: version,
            rule_id: rule,
            free_quantity: free,
            billable_quantity: billable,
            amount_micros: line.amount.as_micros(),
            late: line.late,
            over_limits: limits(&line.over),
        }
    }
}

fn limits(over: &[domain::Limit]) -> Vec<i32> {
    let limit = |limit: &domain::Limit| wire::SpendLimit::from(*limit).into();
    over.iter().map(limit).collect()
}

impl From<&domain::Opened> for wire::GrantOpened {
    fn from(opened: &domain::Opened) -> Self {
        let (of, time) = opened
            .of
            .map_or((String::new(), 0), |(of, time)| (of.to_string(), time));
        Self {
            grant_id: opened.grant.to_string(),
            terms: Some((&opened.terms).into()),
            recurrence_id: of,
            time,
        }
    }
}

impl From<&domain::Transaction> for wire::Transaction {
    fn from(transaction: &domain::Transaction) -> Self {
        Self {
            kind: wire::EntryKind::from(transaction.kind).into(),
            at: Some(timestamp(transaction.at)),
            postings: transaction.postings.iter().map(Into::into).collect(),
        }
    }
}

impl From<&domain::Posting> for wire::Posting {
    fn from(posting: &domain::Posting) -> Self {
        let id = posting.ledger.id();
        Self {
            ledger: ledger(posting.ledger).into(),
            id: id.map(|id| id.to_string()).unwrap_or_default(),
            amount_micros: posting.amount.as_micros(),
        }
    }
}

/// The word of the wire for a ledger.
pub fn ledger(ledger: domain::Ledger) -> wire::Ledger {
    match ledger {
        domain::Ledger::Issued => wire::Ledger::Issued,
        domain::Ledger::Grant(_) => wire::Ledger::Grant,
        domain::Ledger::Held(_) => wire::Ledger::Held,
        domain::Ledger::Spent => wire::Ledger::Spent,
        domain::Ledger::Expired => wire::Ledger::Expired,
        domain::Ledger::WrittenOff => wire::Ledger::WrittenOff,
        domain::Ledger::Overdraft => wire::Ledger::Overdraft,
        domain::Ledger::Unpaid => wire::Ledger::Unpaid,
    }
}

impl From<&domain::Draw> for wire::Draw {
    fn from(draw: &domain::Draw) -> Self {
        let (from, grant_id) = match draw.from {
            domain::Source::Grant(id) => (wire::Ledger::Grant, id.to_string()),
            domain::Source::Overdraft => (wire::Ledger::Overdraft, String::new()),
            domain::Source::Unpaid => (wire::Ledger::Unpaid, String::new()),
        };
        Self {
            from: from.into(),
            grant_id,
            amount_micros: draw.amount.as_micros(),
        }
    }
}

/// An open hold, as lists show it.
pub fn hold(id: HoldId, hold: &domain::Hold) -> wire::Hold {
    wire::Hold {
        hold_id: id.to_string(),
        amount_micros: hold.amount.as_micros(),
        expires_at: Some(timestamp(hold.expires_at)),
        spender: Some((&hold.spender).into()),
        draws: hold.draws.iter().map(Into::into).collect(),
    }
}

impl From<&domain::Balance> for wire::Balance {
    fn from(balance: &domain::Balance) -> Self {
        Self {
            available_micros: balance.available.as_micros(),
            held_micros: balance.held.as_micros(),
            overdrawn_micros: balance.overdrawn.as_micros(),
            unpaid_micros: balance.unpaid.as_micros(),
        }
    }
}

impl From<&domain::GrantTerms> for wire::GrantTerms {
    fn from(terms: &domain::GrantTerms) -> Self {
        Self {
            amount_micros: terms.amount.as_micros(),
            kind: wire::GrantKind::from(terms.kind).into(),
            priority: terms.priority,
            effective_at: Some(timestamp(terms.effective_at)),
            expires_at: terms.expires_at.map(timestamp),
        }
    }
}

impl From<&domain::Recurrence> for wire::Recurrence {
    fn from(terms: &domain::Recurrence) -> Self {
        let every = match terms.every {
            Period::Days(days) => wire::period::Every::Days(days),
            Period::Months(months) => wire::period::Every::Months(months),
        };
        Self {
            amount_micros: terms.amount.as_micros(),
            priority: terms.priority,
            period: Some(wire::Period { every: Some(every) }),
            first_at: Some(timestamp(terms.first_at)),
            until: terms.until.map(timestamp),
        }
    }
}

impl From<&domain::Limits> for wire::SpendLimits {
    fn from(limits: &domain::Limits) -> Self {
        let micros = |limit: Option<Credits>| limit.map(Credits::as_micros);
        Self {
            overdraft_micros: limits.overdraft.as_micros(),
            day_micros: micros(limits.day),
            month_micros: micros(limits.month),
            agent_micros: micros(limits.agent),
            run_micros: micros(limits.run),
            beyond: wire::BeyondLimit::from(limits.beyond).into(),
        }
    }
}

impl From<&domain::Threshold> for wire::Threshold {
    fn from(threshold: &domain::Threshold) -> Self {
        use wire::threshold::Threshold as Wire;
        let threshold = match threshold {
            domain::Threshold::AvailableBelow(least) => {
                Wire::AvailableBelowMicros(least.as_micros())
            }
            domain::Threshold::SpentOver(most) => Wire::SpentOverMicros(most.as_micros()),
        };
        Self {
            threshold: Some(threshold),
        }
    }
}

fn set_thresholds(
    thresholds: &std::collections::BTreeMap<Name, domain::Threshold>,
) -> wire::SetThresholds {
    let thresholds = thresholds.iter();
    wire::SetThresholds {
        thresholds: thresholds
            .map(|(name, one)| (name.to_string(), one.into()))
            .collect(),
    }
}
