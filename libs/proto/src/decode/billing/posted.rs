//! Decisions about accounts, as they lie in the log.

use runledger_domain::credit::{
    Balance, Change, Draw, Hold, Ledger, Limit, Line, Opened, Posted, Posting, Pricing, Source,
    Transaction,
};
use runledger_domain::ids::{GrantId, HoldId, Name, RecordId};
use runledger_domain::money::Credits;
use uuid::Uuid;

use super::{spender, terms, thresholds, time_zone};
use crate::billing::v1 as wire;
use crate::decode::approval::{actor, read};
use crate::decode::fields::{Fields, reason};
use crate::decode::stored::{Error, bounded};
use crate::types;

/// The decision about an account in a stored payload. `Ok(None)`: of another type, or it says what
/// this version does not understand.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_account_posted(type_name: &str, bytes: &[u8]) -> Result<Option<Posted>, Error> {
    if type_name != types::ACCOUNT_POSTED {
        return Ok(None);
    }
    bounded(type_name, bytes)?;
    read(type_name, bytes, account_posted)
}

fn account_posted(wire: wire::AccountPosted, see: &mut Fields<'_>) -> Option<Posted> {
    let before = wire.before.unwrap_or_default();
    let opened = wire.opened.into_iter();
    let opened = opened.map(|one| see.within("opened", |see| self::opened(one, see)));
    let opened: Option<Vec<Opened>> = opened.collect();
    let transactions = wire.transactions.into_iter();
    let transactions =
        transactions.map(|one| see.within("transactions", |see| transaction(one, see)));
    let transactions: Option<Vec<Transaction>> = transactions.collect();
    let crossed = wire.crossed.into_iter();
    let crossed = crossed.map(|name| see.id("crossed", name, Name::parse));
    let crossed: Option<Vec<Name>> = crossed.collect();
    let change = see.required("change", wire.change);
    let change = change.and_then(|change| see.within("change", |see| self::change(change, see)));
    let by = match wire.by {
        None => None,
        some => Some(actor("by", some, see)?),
    };
    Some(Posted {
        before: Balance {
            available: Credits::from_micros(before.available_micros),
            held: Credits::from_micros(before.held_micros),
            overdrawn: Credits::from_micros(before.overdrawn_micros),
            unpaid: Credits::from_micros(before.unpaid_micros),
        },
        opened: opened?,
        transactions: transactions?,
        change: change?,
        crossed: crossed?,
        by,
        reason: wire.reason,
    })
}

fn change(wire: wire::account_posted::Change, see: &mut Fields<'_>) -> Option<Change> {
    use wire::account_posted::Change as Wire;
    Some(match wire {
        Wire::Granted(one) => Change::Granted {
            grant: grant(&one.grant_id, see)?,
        },
        Wire::Recurs(one) => {
            let grant = grant(&one.recurrence_id, see);
            let terms = super::recurrence(one.terms, see);
            Change::Recurs {
                grant: grant?,
                terms: terms?,
            }
        }
        Wire::Voided(one) => Change::Voided {
            grant: grant(&one.grant_id, see)?,
        },
        Wire::Reserved(one) => reserved(one, see)?,
        Wire::Extended(one) => Change::Extended {
            hold: hold(&one.hold_id, see)?,
            expires_at: see.time("expires_at", one.expires_at)?,
        },
        Wire::Settled(one) => Change::Settled {
            hold: hold(&one.hold_id, see)?,
            amount: Credits::from_micros(one.amount_micros),
            spender: see.within("spender", |see| spender(one.spender, see)),
            over: limits(one.over_limits, see)?,
        },
        Wire::Released(one) => Change::Released {
            hold: hold(&one.hold_id, see)?,
        },
        Wire::LimitsSet(limits) => Change::LimitsSet(super::limits(limits, see)?),
        Wire::ZoneSet(name) => Change::ZoneSet(time_zone(&name, see)?),
        Wire::ThresholdsSet(set) => Change::ThresholdsSet(thresholds(set.thresholds, see)?),
        Wire::Charged(charged) => {
            let lines = charged.lines.into_iter();
            let lines = lines.map(|line| see.within("lines", |see| self::line(line, see)));
            Change::Charged(lines.collect::<Option<Vec<_>>>()?)
        }
        Wire::Moved(_) => Change::Moved,
    })
}

fn reserved(wire: wire::account_posted::Reserved, see: &mut Fields<'_>) -> Option<Change> {
    let hold = hold(&wire.hold_id, see);
    let draws = wire.draws.into_iter();
    let draws = draws.map(|draw| see.within("draws", |see| self::draw(&draw, see)));
    let draws: Option<Vec<Draw>> = draws.collect();
    let expires_at = see.time("expires_at", wire.expires_at);
    let spender = see.within("spender", |see| spender(wire.spender, see));
    let over = limits(wire.over_limits, see);
    Some(Change::Reserved {
        hold: hold?,
        terms: Hold {
            amount: Credits::from_micros(wire.amount_micros),
            draws: draws?,
            expires_at: expires_at?,
            spender,
        },
        over: over?,
    })
}

fn line(wire: wire::ChargeLine, see: &mut Fields<'_>) -> Option<Line> {
    let source = see.uuid("usage_id", &wire.usage_id).map(RecordId::new);
    let meter = see.id("meter", wire.meter, Name::parse);
    let used_at = see.time("used_at", wire.used_at);
    let pricing = match wire::PricingKind::try_from(wire.pricing) {
        Ok(wire::PricingKind::Priced) => {
            see.id("rule_id", wire.rule_id, Name::parse)
                .map(|rule| Pricing::By {
                    version: wire.price_version,
                    rule,
                    free: wire.free_quantity,
                    billable: wire.billable_quantity,
                })
        }
        Ok(wire::PricingKind::Unpriced) => Some(Pricing::Unpriced),
        Ok(wire::PricingKind::Overflow) => Some(Pricing::Overflow),
        Ok(wire::PricingKind::Rejected) => Some(Pricing::Rejected),
        Ok(wire::PricingKind::Undecidable) => Some(Pricing::Undecidable),
        Ok(wire::PricingKind::Unspecified) | Err(_) => {
            see.fault("pricing", reason::UNKNOWN_VALUE, "must be a known one");
            None
        }
    };
    let spender = see.within("spender", |see| spender(wire.spender, see));
    let over = limits(wire.over_limits, see);
    Some(Line {
        source: source?,
        meter: meter?,
        quantity: wire.quantity,
        spender,
        used_at: used_at?,
        pricing: pricing?,
        amount: Credits::from_micros(wire.amount_micros),
        late: wire.late,
        over: over?,
    })
}

fn limits(wire: Vec<i32>, see: &mut Fields<'_>) -> Option<Vec<Limit>> {
    let limits = wire.into_iter();
    limits
        .map(|limit| see.word::<wire::SpendLimit>("over_limits", limit))
        .collect()
}

fn opened(wire: wire::GrantOpened, see: &mut Fields<'_>) -> Option<Opened> {
    let grant = grant(&wire.grant_id, see);
    let terms = see.required("terms", wire.terms);
    let terms = terms.and_then(|terms| see.within("terms", |see| self::terms(terms, see)));
    let of = see.optional_uuid("recurrence_id", &wire.recurrence_id);
    Some(Opened {
        grant: grant?,
        terms: terms?,
        of: of.map(|of| (GrantId::new(of), wire.time)),
    })
}

fn transaction(wire: wire::Transaction, see: &mut Fields<'_>) -> Option<Transaction> {
    let kind = see.word::<wire::EntryKind>("kind", wire.kind);
    let at = see.time("at", wire.at);
    let postings = wire.postings.into_iter();
    let postings = postings.map(|one| see.within("postings", |see| posting(&one, see)));
    let postings: Option<Vec<Posting>> = postings.collect();
    Some(Transaction {
        kind: kind?,
        at: at?,
        postings: postings?,
    })
}

fn posting(wire: &wire::Posting, see: &mut Fields<'_>) -> Option<Posting> {
    Some(Posting {
        ledger: ledger(wire.ledger, &wire.id, see)?,
        amount: Credits::from_micros(wire.amount_micros),
    })
}

fn ledger(word: i32, id: &str, see: &mut Fields<'_>) -> Option<Ledger> {
    let mut of = |make: fn(Uuid) -> Ledger| see.uuid("id", id).map(make);
    match wire::Ledger::try_from(word) {
        Ok(wire::Ledger::Grant) => of(|id| Ledger::Grant(GrantId::new(id))),
        Ok(wire::Ledger::Held) => of(|id| Ledger::Held(HoldId::new(id))),
        Ok(wire::Ledger::Issued) => Some(Ledger::Issued),
        Ok(wire::Ledger::Spent) => Some(Ledger::Spent),
        Ok(wire::Ledger::Expired) => Some(Ledger::Expired),
        Ok(wire::Ledger::WrittenOff) => Some(Ledger::WrittenOff),
        Ok(wire::Ledger::Overdraft) => Some(Ledger::Overdraft),
        Ok(wire::Ledger::Unpaid) => Some(Ledger::Unpaid),
        Ok(wire::Ledger::Unspecified) | Err(_) => {
            see.fault("ledger", reason::UNKNOWN_VALUE, "must be a known one");
            None
        }
    }
}

fn draw(wire: &wire::Draw, see: &mut Fields<'_>) -> Option<Draw> {
    let from = match ledger(wire.from, &wire.grant_id, see)? {
        Ledger::Grant(grant) => Source::Grant(grant),
        Ledger::Overdraft => Source::Overdraft,
        Ledger::Unpaid => Source::Unpaid,
        Ledger::Issued | Ledger::Held(_) | Ledger::Spent | Ledger::Expired | Ledger::WrittenOff => {
            see.fault("from", reason::UNKNOWN_VALUE, "must be one to draw on");
            return None;
        }
    };
    Some(Draw {
        from,
        amount: Credits::from_micros(wire.amount_micros),
    })
}

fn grant(id: &str, see: &mut Fields<'_>) -> Option<GrantId> {
    see.uuid("grant_id", id).map(GrantId::new)
}

fn hold(id: &str, see: &mut Fields<'_>) -> Option<HoldId> {
    see.uuid("hold_id", id).map(HoldId::new)
}
