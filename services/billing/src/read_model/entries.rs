//! Rows of transactions, with the balance behind each.

use std::fmt::Display;

use runledger_domain::credit::{Change, EntryKind, Line, Posted, Posting, Transaction};
use runledger_domain::log::Cause;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Balances, Place, Places};
use crate::statements;

/// Columns of transactions.
#[derive(Default)]
pub(super) struct Entries<'a> {
    places: Places<'a>,
    ordinals: Vec<i32>,
    kinds: Vec<&'static str>,
    amounts: Vec<i64>,
    balances: Balances,
    ledgers: Vec<String>,
    ledger_ids: Vec<String>,
    leg_amounts: Vec<String>,
    lines: Vec<Option<i32>>,
    commands: Vec<Option<Uuid>>,
    by_ids: Vec<Option<Uuid>>,
    by_kinds: Vec<Option<&'static str>>,
    by_roles: Vec<Option<&'static str>>,
    reasons: Vec<&'a str>,
}

/// One column of the legs of one transaction, as Postgres writes an array: columns cannot be of lists
/// of different lengths.
fn array<T: Display>(transaction: &Transaction, element: impl Fn(&Posting) -> Option<T>) -> String {
    let mut text = String::from("{");
    for (index, posting) in transaction.postings.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match element(posting) {
            Some(element) => text.push_str(&element.to_string()),
            None => text.push_str("NULL"),
        }
    }
    text.push('}');
    text
}

impl<'a> Entries<'a> {
    pub(super) fn take_in(&mut self, place: Place<'a>, posted: &'a Posted, cause: Option<&Cause>) {
        let mut paid = paid_lines(posted);
        let mut balance = posted.before;
        let command = cause.filter(|cause| cause.stream.is_none());
        for (ordinal, transaction) in (0_i32..).zip(&posted.transactions) {
            balance = balance.after(transaction);
            let line = match transaction.kind {
                EntryKind::Debit => paid.next(),
                _ => None,
            };
            self.places.push(Place {
                at: transaction.at,
                ..place
            });
            self.ordinals.push(ordinal);
            self.kinds.push(transaction.kind.as_str());
            let net = i64::try_from(transaction.net()).unwrap_or(i64::MAX);
            self.amounts.push(net);
            self.balances.push(balance);
            // Words, UUIDs and numbers: nothing that an array would have to quote.
            let ledgers = array(transaction, |leg| Some(leg.ledger.as_str()));
            self.ledgers.push(ledgers);
            let ids = array(transaction, |leg| leg.ledger.id());
            self.ledger_ids.push(ids);
            let amounts = array(transaction, |leg| Some(leg.amount.as_micros()));
            self.leg_amounts.push(amounts);
            self.lines.push(line);
            self.commands.push(command.map(|cause| cause.id.as_uuid()));
            self.by_ids.push(posted.by.map(|by| by.principal.as_uuid()));
            self.by_kinds.push(posted.by.map(|by| by.kind.as_str()));
            self.by_roles.push(posted.by.map(|by| by.role.as_str()));
            self.reasons.push(&posted.reason);
        }
    }

    pub(super) async fn insert(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.places.is_empty() {
            return Ok(());
        }
        sqlx::query(statements::INSERT_ENTRIES)
            .bind(&self.places.tenants)
            .bind(&self.places.modes)
            .bind(&self.places.accounts)
            .bind(&self.places.offsets)
            .bind(&self.ordinals)
            .bind(&self.kinds)
            .bind(&self.places.ats)
            .bind(&self.amounts)
            .bind(&self.balances.available)
            .bind(&self.balances.held)
            .bind(&self.balances.overdrawn)
            .bind(&self.balances.unpaid)
            .bind(&self.ledgers)
            .bind(&self.ledger_ids)
            .bind(&self.leg_amounts)
            .bind(&self.lines)
            .bind(&self.commands)
            .bind(&self.by_ids)
            .bind(&self.by_kinds)
            .bind(&self.by_roles)
            .bind(&self.reasons)
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// The lines that anything is paid for, in the order of the transactions that pay.
fn paid_lines(posted: &Posted) -> impl Iterator<Item = i32> {
    let lines: &[Line] = match &posted.change {
        Change::Charged(lines) => lines,
        _ => &[],
    };
    let numbered = (0_i32..).zip(lines);
    numbered
        .filter(|(_, line)| line.amount.is_positive())
        .map(|(number, _)| number)
}
