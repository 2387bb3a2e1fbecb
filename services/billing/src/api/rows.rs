//! Rows of entries and charges, as the wire has them.

use std::collections::BTreeMap;

use runledger_domain::credit::{EntryKind, Ledger, Limit};
use runledger_domain::scope::{PrincipalKind, Role};
use runledger_domain::time::Timestamp;
use runledger_proto::{billing::v1 as wire, common::v1 as common, encode};
use sqlx::FromRow;
use uuid::Uuid;

use super::unsigned;

/// What was charged for one usage.
#[derive(FromRow)]
pub(super) struct ChargeRow {
    pub(super) account_id: String,
    pub(super) log_offset: i64,
    pub(super) line: i32,
    usage_id: Uuid,
    source_id: Option<Uuid>,
    source_stream: Option<String>,
    run_id: String,
    agent_id: String,
    meter: String,
    quantity: i64,
    dimensions: String,
    used_at: Timestamp,
    charged_at: Timestamp,
    pricing: String,
    price_version: i64,
    rule_id: String,
    free: i64,
    billable: i64,
    amount: i64,
    late: bool,
    over_limits: Vec<String>,
}

impl ChargeRow {
    pub(super) fn into_wire(self) -> wire::Charge {
        let over = self.over_limits.iter().filter_map(|word| {
            let limit = word.parse::<Limit>().ok()?;
            Some(wire::SpendLimit::from(limit).into())
        });
        let line = wire::ChargeLine {
            usage_id: self.usage_id.to_string(),
            meter: self.meter,
            quantity: unsigned(self.quantity),
            spender: Some(wire::Spender {
                agent_id: self.agent_id,
                run_id: self.run_id,
            }),
            used_at: Some(encode::timestamp(self.used_at)),
            pricing: pricing(&self.pricing).into(),
            price_version: unsigned(self.price_version),
            rule_id: self.rule_id,
            free_quantity: unsigned(self.free),
            billable_quantity: unsigned(self.billable),
            amount_micros: self.amount,
            late: self.late,
            over_limits: over.collect(),
        };
        let dimensions: BTreeMap<String, String> =
            serde_json::from_str(&self.dimensions).unwrap_or_default();
        wire::Charge {
            line: Some(line),
            charged_at: Some(encode::timestamp(self.charged_at)),
            source_id: self.source_id.map(|id| id.to_string()).unwrap_or_default(),
            source_stream: self.source_stream.unwrap_or_default(),
            dimensions,
            account_id: self.account_id,
        }
    }
}

fn pricing(word: &str) -> wire::PricingKind {
    match word {
        "priced" => wire::PricingKind::Priced,
        "unpriced" => wire::PricingKind::Unpriced,
        "overflow" => wire::PricingKind::Overflow,
        "rejected" => wire::PricingKind::Rejected,
        "undecidable" => wire::PricingKind::Undecidable,
        _ => wire::PricingKind::Unspecified,
    }
}

/// The word of a kind of pricing in columns. `None`: of none.
pub(super) fn pricing_word(number: i32) -> Option<&'static str> {
    Some(match wire::PricingKind::try_from(number).ok()? {
        wire::PricingKind::Priced => "priced",
        wire::PricingKind::Unpriced => "unpriced",
        wire::PricingKind::Overflow => "overflow",
        wire::PricingKind::Rejected => "rejected",
        wire::PricingKind::Undecidable => "undecidable",
        wire::PricingKind::Unspecified => return None,
    })
}

/// A transaction, and the charge that it pays.
#[derive(FromRow)]
pub(super) struct EntryRow {
    pub(super) log_offset: i64,
    pub(super) ordinal: i32,
    kind: String,
    at: Timestamp,
    amount: i64,
    available: i64,
    held: i64,
    overdrawn: i64,
    unpaid: i64,
    ledgers: Vec<String>,
    ledger_ids: Vec<Option<Uuid>>,
    amounts: Vec<i64>,
    line: Option<i32>,
    command_id: Option<Uuid>,
    by_id: Option<Uuid>,
    by_kind: Option<String>,
    by_role: Option<String>,
    reason: String,
    account_id: Option<String>,
    usage_id: Option<Uuid>,
    source_id: Option<Uuid>,
    source_stream: Option<String>,
    run_id: Option<String>,
    agent_id: Option<String>,
    meter: Option<String>,
    quantity: Option<i64>,
    dimensions: Option<String>,
    used_at: Option<Timestamp>,
    charged_at: Option<Timestamp>,
    pricing: Option<String>,
    price_version: Option<i64>,
    rule_id: Option<String>,
    free: Option<i64>,
    billable: Option<i64>,
    charged: Option<i64>,
    late: Option<bool>,
    over_limits: Option<Vec<String>>,
}

impl EntryRow {
    pub(super) fn into_wire(self) -> wire::Entry {
        let postings = self.postings();
        let by = self.by();
        let cause = self.command_id.or(self.source_id);
        let kind = self.kind.parse::<EntryKind>().ok();
        wire::Entry {
            offset: unsigned(self.log_offset),
            ordinal: u32::try_from(self.ordinal).unwrap_or_default(),
            kind: kind.map_or(0, |kind| wire::EntryKind::from(kind).into()),
            at: Some(encode::timestamp(self.at)),
            amount_micros: self.amount,
            balance: Some(wire::Balance {
                available_micros: self.available,
                held_micros: self.held,
                overdrawn_micros: self.overdrawn,
                unpaid_micros: self.unpaid,
            }),
            postings,
            by,
            cause_id: cause.map(|id| id.to_string()).unwrap_or_default(),
            reason: self.reason.clone(),
            charge: self.charge(),
        }
    }

    fn postings(&self) -> Vec<wire::Posting> {
        let ids = self.ledger_ids.iter().map(|id| id.unwrap_or_default());
        let legs = self.ledgers.iter().zip(ids).zip(&self.amounts);
        legs.filter_map(|((word, id), amount)| {
            let ledger = Ledger::parse(word, id)?;
            Some(wire::Posting {
                ledger: encode::ledger(ledger).into(),
                id: ledger.id().map(|id| id.to_string()).unwrap_or_default(),
                amount_micros: *amount,
            })
        })
        .collect()
    }

    fn by(&self) -> Option<common::Actor> {
        let kind = self.by_kind.as_ref()?.parse::<PrincipalKind>().ok();
        let role = self.by_role.as_ref()?.parse::<Role>().ok();
        Some(common::Actor {
            principal_id: self.by_id?.to_string(),
            kind: kind.map_or(0, |one| common::PrincipalKind::from(one).into()),
            role: role.map_or(0, |one| common::Role::from(one).into()),
        })
    }

    fn charge(self) -> Option<wire::Charge> {
        let charge = ChargeRow {
            account_id: self.account_id?,
            log_offset: self.log_offset,
            line: self.line?,
            usage_id: self.usage_id?,
            source_id: self.source_id,
            source_stream: self.source_stream,
            run_id: self.run_id?,
            agent_id: self.agent_id?,
            meter: self.meter?,
            quantity: self.quantity?,
            dimensions: self.dimensions?,
            used_at: self.used_at?,
            charged_at: self.charged_at?,
            pricing: self.pricing?,
            price_version: self.price_version?,
            rule_id: self.rule_id?,
            free: self.free?,
            billable: self.billable?,
            amount: self.charged?,
            late: self.late?,
            over_limits: self.over_limits?,
        };
        Some(charge.into_wire())
    }
}
