//! What people ask for, from decisions in force: the journal and its entries, what usage was charged,
//! and the versions of prices. Statements take columns; rows go in sorted, so that processes take locks
//! in one order.

use async_trait::async_trait;
use runledger_decider::Folded;
use runledger_domain::credit::Posted;
use runledger_domain::price::Published;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::rules::{Decision, Rules};
use crate::statements;

mod charges;
mod entries;

use charges::Charges;
use entries::Entries;

/// The tables of the decider, and of this read model.
pub(crate) const TABLES: &[&str] = &[
    "identities",
    "commands",
    "facts",
    "streams",
    "parts",
    "decided",
    "journal",
    "snapshots",
    "entries",
    "charges",
    "spending",
    "run_spending",
    "crossings",
    "price_lists",
];

/// Accounts and prices, as they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadModel;

#[async_trait]
impl runledger_decider::ReadModel<Rules> for ReadModel {
    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    async fn apply(
        &mut self,
        tx: &mut PgConnection,
        _facts: &[&Applied],
        decisions: &[Folded<'_, Decision>],
    ) -> Result<(), ApplyError> {
        let mut batch = Batch::default();
        for folded in decisions {
            batch.take_in(folded);
        }
        batch.write(tx).await
    }
}

/// A decision about an account, and where it lies.
#[derive(Clone, Copy)]
struct Place<'a> {
    scope: Scope,
    account: &'a str,
    offset: i64,
    at: Timestamp,
}

impl<'a> Place<'a> {
    /// `None`: it is not of an account.
    fn of(applied: &'a Applied) -> Option<Self> {
        let account = applied.record.stream.as_str().strip_prefix("account/")?;
        Some(Self {
            scope: applied.record.scope,
            account,
            offset: signed(applied.position.offset),
            at: applied.record.occurred_at,
        })
    }
}

/// The rows that a batch of decisions makes.
#[derive(Default)]
struct Batch<'a> {
    journal: Journal<'a>,
    snapshots: Journal<'a>,
    entries: Entries<'a>,
    charges: Charges<'a>,
    crossings: Crossings<'a>,
    lists: Vec<(Scope, &'a Published, &'a [u8])>,
}

impl<'a> Batch<'a> {
    fn take_in(&mut self, folded: &'a Folded<'a, Decision>) {
        let record = &folded.applied.record;
        let posted = match folded.decision {
            Decision::Prices(published) => {
                let row = (record.scope, published, record.payload.as_slice());
                self.lists.push(row);
                return;
            }
            Decision::Account(ordered) => &ordered.posted,
        };
        let Some(place) = Place::of(folded.applied) else {
            return;
        };
        self.journal.push(place, &record.payload);
        if let Some(state) = &folded.state {
            self.snapshots.push(place, state);
        }
        self.entries.take_in(place, posted, record.cause.as_ref());
        self.charges.take_in(place, posted, &folded.answers);
        self.crossings.take_in(place, posted);
    }

    async fn write(self, tx: &mut PgConnection) -> Result<(), ApplyError> {
        let write = async {
            let (journal, snapshots) = (statements::INSERT_JOURNAL, statements::INSERT_SNAPSHOTS);
            self.journal.insert(tx, journal).await?;
            self.snapshots.insert(tx, snapshots).await?;
            self.entries.insert(tx).await?;
            self.charges.write(tx).await?;
            self.crossings.insert(tx).await?;
            insert_lists(tx, &self.lists).await
        };
        write
            .await
            .map_err(ApplyError::database("write accounts and prices"))
    }
}

/// Columns of where decisions about accounts lie.
#[derive(Default)]
struct Places<'a> {
    tenants: Vec<Uuid>,
    modes: Vec<&'static str>,
    accounts: Vec<&'a str>,
    offsets: Vec<i64>,
    ats: Vec<Timestamp>,
}

impl<'a> Places<'a> {
    fn push(&mut self, place: Place<'a>) {
        self.tenants.push(place.scope.tenant.as_uuid());
        self.modes.push(place.scope.mode.as_str());
        self.accounts.push(place.account);
        self.offsets.push(place.offset);
        self.ats.push(place.at);
    }

    fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}

/// Columns of what lies where.
#[derive(Default)]
struct Journal<'a> {
    places: Places<'a>,
    bytes: Vec<&'a [u8]>,
}

impl<'a> Journal<'a> {
    fn push(&mut self, place: Place<'a>, bytes: &'a [u8]) {
        self.places.push(place);
        self.bytes.push(bytes);
    }

    async fn insert(
        &self,
        tx: &mut PgConnection,
        statement: &'static str,
    ) -> Result<(), sqlx::Error> {
        if self.places.is_empty() {
            return Ok(());
        }
        sqlx::query(statement)
            .bind(&self.places.tenants)
            .bind(&self.places.modes)
            .bind(&self.places.accounts)
            .bind(&self.places.offsets)
            .bind(&self.places.ats)
            .bind(&self.bytes)
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// Columns of thresholds that were crossed.
#[derive(Default)]
struct Crossings<'a> {
    places: Places<'a>,
    names: Vec<&'a str>,
    balances: Balances,
}

impl<'a> Crossings<'a> {
    fn take_in(&mut self, place: Place<'a>, posted: &'a Posted) {
        if posted.crossed.is_empty() {
            return;
        }
        let moved = posted.transactions.iter();
        let balance = moved.fold(posted.before, |balance, one| balance.after(one));
        for name in &posted.crossed {
            self.places.push(place);
            self.names.push(name.as_str());
            self.balances.push(balance);
        }
    }

    async fn insert(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.places.is_empty() {
            return Ok(());
        }
        sqlx::query(statements::INSERT_CROSSINGS)
            .bind(&self.places.tenants)
            .bind(&self.places.modes)
            .bind(&self.places.accounts)
            .bind(&self.places.offsets)
            .bind(&self.names)
            .bind(&self.places.ats)
            .bind(&self.balances.available)
            .bind(&self.balances.held)
            .bind(&self.balances.overdrawn)
            .bind(&self.balances.unpaid)
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// Columns of balances, in micros.
#[derive(Default)]
struct Balances {
    available: Vec<i64>,
    held: Vec<i64>,
    overdrawn: Vec<i64>,
    unpaid: Vec<i64>,
}

impl Balances {
    fn push(&mut self, balance: runledger_domain::credit::Balance) {
        self.available.push(balance.available.as_micros());
        self.held.push(balance.held.as_micros());
        self.overdrawn.push(balance.overdrawn.as_micros());
        self.unpaid.push(balance.unpaid.as_micros());
    }
}

async fn insert_lists(
    tx: &mut PgConnection,
    lists: &[(Scope, &Published, &[u8])],
) -> Result<(), sqlx::Error> {
    if lists.is_empty() {
        return Ok(());
    }
    let tenants = lists.iter().map(|(scope, ..)| scope.tenant.as_uuid());
    let modes = lists.iter().map(|(scope, ..)| scope.mode.as_str());
    let versions = lists.iter().map(|(_, one, _)| signed(one.list.version));
    let effective = lists.iter().map(|(_, one, _)| one.list.effective_at);
    let payloads = lists.iter().map(|(.., payload)| *payload);
    sqlx::query(statements::INSERT_PRICE_LISTS)
        .bind(tenants.collect::<Vec<_>>())
        .bind(modes.collect::<Vec<_>>())
        .bind(versions.collect::<Vec<_>>())
        .bind(effective.collect::<Vec<_>>())
        .bind(payloads.collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// Postgres has no unsigned numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
