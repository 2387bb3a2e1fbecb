//! Balances, entries and charges as tables.

use runledger_domain::credit::{EntryKind, GrantKind};
use runledger_proto::billing::v1 as wire;
use runledger_proto::words::known;

use super::{amount, amounts};
use crate::runs::moment;
use crate::say::{self, Columns, cell};

fn at(at: Option<&prost_types::Timestamp>) -> String {
    let at = moment(at).map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
    at.unwrap_or_default()
}

/// What an account has and owes.
pub(crate) fn totals(balance: &wire::Balance) -> Columns {
    let mut table = amounts(&[">available", ">held", ">overdrawn", ">unpaid"]);
    table.row([
        amount(balance.available_micros),
        amount(balance.held_micros),
        amount(balance.overdrawn_micros),
        amount(balance.unpaid_micros),
    ]);
    table
}

pub(crate) fn balance(found: &wire::GetBalanceResponse) -> anyhow::Result<()> {
    let balance = found.balance.unwrap_or_default();
    say::line(format_args!(
        "Account {} as of {}.",
        found.account_id,
        at(found.at.as_ref())
    ))?;
    totals(&balance).print()?;
    if !found.grants.is_empty() {
        grants(&found.grants).print()?;
    }
    if found.next_expiry.is_some() {
        say::line(format_args!(
            "{} of it expire at {}.",
            runledger_domain::money::Credits::from_micros(found.next_expiry_micros),
            at(found.next_expiry.as_ref())
        ))?;
    }
    if found.uncharged > 0 {
        say::line(format_args!(
            "{} usages are not charged yet.",
            found.uncharged
        ))?;
    }
    Ok(())
}

fn grants(grants: &[wire::Grant]) -> Columns {
    let mut table = amounts(&[
        "grant",
        "kind",
        ">granted",
        ">remaining",
        ">held",
        "expires",
    ]);
    for grant in grants {
        let terms = grant.terms.unwrap_or_default();
        let kind = known::<wire::GrantKind>(terms.kind).map_or("?", GrantKind::as_str);
        table.row([
            cell(&grant.grant_id),
            cell(kind),
            amount(terms.amount_micros),
            amount(grant.remaining_micros),
            amount(grant.held_micros),
            cell(at(terms.expires_at.as_ref())),
        ]);
    }
    table
}

/// Entries with the balance behind each.
pub(crate) fn entries(entries: &[wire::Entry]) -> Columns {
    let mut table = amounts(&["at", "what", ">amount", ">available", ">held", "for", "why"]);
    for entry in entries {
        let balance = entry.balance.unwrap_or_default();
        let line = entry
            .charge
            .as_ref()
            .and_then(|charge| charge.line.as_ref());
        let used = line.map(|line| {
            let run = line.spender.as_ref().map_or("", |who| who.run_id.as_str());
            format!(
                "{} {} of {}",
                line.quantity,
                line.meter,
                say::short(run, 32)
            )
        });
        table.row([
            cell(at(entry.at.as_ref())),
            cell(kind(entry.kind)),
            amount(entry.amount_micros),
            amount(balance.available_micros),
            amount(balance.held_micros),
            cell(used.unwrap_or_default()),
            cell(&entry.reason),
        ]);
    }
    table
}

fn kind(number: i32) -> &'static str {
    known::<wire::EntryKind>(number).map_or("?", EntryKind::as_str)
}

fn ledger(number: i32) -> &'static str {
    match wire::Ledger::try_from(number) {
        Ok(wire::Ledger::Issued) => "issued",
        Ok(wire::Ledger::Grant) => "grant",
        Ok(wire::Ledger::Held) => "held",
        Ok(wire::Ledger::Spent) => "spent",
        Ok(wire::Ledger::Expired) => "expired",
        Ok(wire::Ledger::WrittenOff) => "written off",
        Ok(wire::Ledger::Overdraft) => "overdraft",
        Ok(wire::Ledger::Unpaid) => "unpaid",
        Ok(wire::Ledger::Unspecified) | Err(_) => "?",
    }
}

pub(crate) fn explanation(found: &wire::ExplainBalanceResponse) -> anyhow::Result<()> {
    say::line("Where all credits lie; together they are nothing.")?;
    let mut table = amounts(&["ledger", ">credits"]);
    for sum in &found.ledgers {
        table.row([cell(ledger(sum.ledger)), amount(sum.amount_micros)]);
    }
    table.print()?;
    grants(&found.grants).print()?;
    say::line("The last entries, each with its postings.")?;
    let mut table = amounts(&["at", "what", "ledger", ">credits", "grant or hold"]);
    for entry in &found.entries {
        for (place, posting) in entry.postings.iter().enumerate() {
            let is_first = place == 0;
            let when = if is_first {
                at(entry.at.as_ref())
            } else {
                String::new()
            };
            table.row([
                cell(when),
                cell(if is_first { kind(entry.kind) } else { "" }),
                cell(ledger(posting.ledger)),
                amount(posting.amount_micros),
                cell(&posting.id),
            ]);
        }
    }
    Ok(table.print()?)
}

pub(crate) fn holds(holds: &[wire::Hold]) -> Columns {
    let mut table = amounts(&["hold", ">credits", "expires", "run", "agent"]);
    for hold in holds {
        let spender = hold.spender.clone().unwrap_or_default();
        table.row([
            cell(&hold.hold_id),
            amount(hold.amount_micros),
            cell(at(hold.expires_at.as_ref())),
            cell(spender.run_id),
            cell(spender.agent_id),
        ]);
    }
    table
}

/// What was charged, and by which rule of which version.
pub(crate) fn charges(charges: &[wire::Charge]) -> Columns {
    let lines = charges.iter().filter_map(|charge| charge.line.as_ref());
    let lines: Vec<&wire::ChargeLine> = lines.collect();
    self::lines(&lines)
}

fn lines(lines: &[&wire::ChargeLine]) -> Columns {
    let mut table = amounts(&[
        "meter",
        ">quantity",
        ">credits",
        "by rule",
        ">of version",
        "",
    ]);
    for line in lines {
        let note = match line.pricing() {
            wire::PricingKind::Priced => "",
            wire::PricingKind::Unpriced => "no price was in force",
            wire::PricingKind::Overflow => "more than can be counted",
            wire::PricingKind::Rejected => "beyond a limit",
            wire::PricingKind::Undecidable => "charging failed",
            wire::PricingKind::Unspecified => "?",
        };
        let version = match line.price_version {
            0 => String::new(),
            version => version.to_string(),
        };
        table.row([
            cell(&line.meter),
            cell(say::count(line.quantity)),
            amount(line.amount_micros),
            cell(&line.rule_id),
            cell(version),
            cell(note),
        ]);
    }
    table
}

pub(crate) fn quote(found: &wire::QuoteResponse) -> anyhow::Result<()> {
    let all: Vec<&wire::ChargeLine> = found.lines.iter().collect();
    lines(&all).print()?;
    say::line(format_args!(
        "{} credits by version {} of the prices. Nothing is recorded; after it there would be:",
        runledger_domain::money::Credits::from_micros(found.total_micros),
        found.price_version
    ))?;
    Ok(totals(&found.after.unwrap_or_default()).print()?)
}
