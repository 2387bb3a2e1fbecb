//! What an account has and owes: now, as of a moment, or behind a record.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use runledger_domain::credit::{self, Account, Grant, Source};
use runledger_domain::fault::{Fault, Violation};
use runledger_domain::ids::{AccountId, GrantId};
use runledger_domain::log::{Family, Stream};
use runledger_domain::money::Credits;
use runledger_domain::time::{Clock, Timestamp};
use runledger_eventlog::token::Token;
use runledger_proto::decode::fields::Fields;
use runledger_proto::{billing::v1 as wire, decode, encode, types};
use sqlx::Row as _;

use super::{Api, Call, View, account, account_not_found, database, parse, signed};
use crate::statements;

/// Of which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Now,
    At(Timestamp),
    /// Behind the record there.
    Behind(u64),
}

/// An account as it was or is, and when that was.
pub(super) struct Seen {
    pub(super) account: Account,
    pub(super) at: Timestamp,
}

fn when(see: &mut Fields<'_>, at: Option<prost_types::Timestamp>) -> When {
    see.optional_time("at", at).map_or(When::Now, When::At)
}

fn ahead_of_now() -> Fault {
    Fault::invalid(vec![Violation {
        field: "at".into(),
        reason: "AHEAD_OF_NOW".into(),
        description: "must not be ahead of now".into(),
    }])
}

impl View {
    /// The account as it is in the tables, and its partition. `None`: nothing was ever decided for it; a
    /// refusal makes no account.
    pub(super) async fn account(
        &mut self,
        id: &AccountId,
    ) -> Result<Option<(i32, Account)>, Fault> {
        let (tenant, mode) = (self.tenant(), self.mode());
        let row: Option<(i32, Vec<u8>)> = sqlx::query_as(statements::SELECT_ACCOUNT)
            .bind(tenant)
            .bind(mode)
            .bind(Stream::account(id).as_str())
            .fetch_optional(&mut **self.tx())
            .await
            .map_err(database)?;
        let Some((partition, state)) = row else {
            return Ok(None);
        };
        let account = Account::from_bytes(&state).map_err(Fault::internal)?;
        Ok((account.decisions > 0).then_some((partition, account)))
    }

    /// The account of a moment. What time has moved until then counts, whether or not a decision says
    /// so; of a place in the log only what lies there.
    pub(super) async fn seen(
        &mut self,
        id: &AccountId,
        when: When,
        clock: &dyn Clock,
    ) -> Result<Seen, Fault> {
        let (_, account) = self.account(id).await?.ok_or_else(account_not_found)?;
        // Decisions have the database's clock, which may be ahead of this one.
        let now = clock.now().max(account.last_at);
        Ok(match when {
            When::Now => Seen {
                account: lapsed(account, now),
                at: now,
            },
            When::At(at) if at > now => return Err(ahead_of_now()),
            When::At(at) => Seen {
                account: lapsed(self.folded(id, at, u64::MAX).await?.account, at),
                at,
            },
            When::Behind(offset) => {
                self.is_of(id, offset).await?;
                self.folded(id, account.last_at, offset).await?
            }
        })
    }

    /// Whether a decision about the account lies there.
    async fn is_of(&mut self, id: &AccountId, offset: u64) -> Result<(), Fault> {
        let (tenant, mode) = (self.tenant(), self.mode());
        let is_of: bool = sqlx::query_scalar(statements::SELECT_IS_OF)
            .bind(tenant)
            .bind(mode)
            .bind(id.as_str())
            .bind(signed(offset))
            .fetch_one(&mut **self.tx())
            .await
            .map_err(database)?;
        if is_of { Ok(()) } else { Err(of_elsewhere()) }
    }

    /// A fold of the decisions up to a moment and a place, from the last state that was kept on.
    async fn folded(&mut self, id: &AccountId, at: Timestamp, offset: u64) -> Result<Seen, Fault> {
        let (tenant, mode) = (self.tenant(), self.mode());
        let kept: Option<(i64, Vec<u8>)> = sqlx::query_as(statements::SELECT_SNAPSHOT)
            .bind(tenant)
            .bind(mode)
            .bind(id.as_str())
            .bind(at)
            .bind(signed(offset))
            .fetch_optional(&mut **self.tx())
            .await
            .map_err(database)?;
        let (from, mut account) = match kept {
            None => (-1, Account::default()),
            Some((from, state)) => {
                let account = Account::from_bytes(&state).map_err(Fault::internal)?;
                (from, account)
            }
        };
        let mut last = Timestamp::UNIX_EPOCH;
        let mut rows = sqlx::query(statements::SELECT_JOURNAL)
            .bind(tenant)
            .bind(mode)
            .bind(id.as_str())
            .bind(from)
            .bind(at)
            .bind(signed(offset))
            .fetch(&mut *self.snapshot.tx);
        while let Some(row) = rows.try_next().await.map_err(database)? {
            let decided_at: Timestamp = row.try_get(0).map_err(database)?;
            let payload: Vec<u8> = row.try_get(1).map_err(database)?;
            let posted = decode::stored_account_posted(types::ACCOUNT_POSTED, &payload);
            if let Some(posted) = posted.map_err(Fault::internal)? {
                // A misfit was counted when it was folded, and changed nothing then either.
                let _fits = credit::evolve(&mut account, &mut None, &posted, decided_at);
            }
            last = decided_at;
        }
        Ok(Seen { account, at: last })
    }
}

/// The account with all that time has moved until a moment.
pub(super) fn lapsed(account: Account, at: Timestamp) -> Account {
    let Some(posted) = credit::owed(&account, at) else {
        return account;
    };
    let mut seen = account.clone();
    if credit::evolve(&mut seen, &mut None, &posted, at) {
        seen
    } else {
        account
    }
}

impl Api {
    pub(super) async fn balance(
        &self,
        call: Call<wire::GetBalanceRequest>,
    ) -> Result<wire::GetBalanceResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let at_token = request.at_token;
        let ((id, mut when), mut options) = parse(request.read, |see| {
            let id = account(see, request.account_id);
            let when = when(see, request.at);
            if !at_token.is_empty() && request.at.is_some() {
                see.fault("at_token", "NOT_TOGETHER", "must not be given with at");
            }
            Some((id?, when))
        })?;
        if !at_token.is_empty() {
            options.at_least.push(at_token.clone());
        }
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let (partition, _) = view.account(&id).await?.ok_or_else(account_not_found)?;
        if !at_token.is_empty() {
            when = When::Behind(behind(&at_token, partition)?);
        }
        let seen = view.seen(&id, when, &*self.0.clock).await?;
        let uncharged = uncharged(&mut view, &stream).await?;
        let account = &seen.account;
        let next = next_expiry(account);
        Ok(wire::GetBalanceResponse {
            account_id: id.to_string(),
            balance: Some((&account.balance()).into()),
            at: Some(encode::timestamp(seen.at)),
            grants: grants(account),
            recurring: recurring(account),
            next_expiry: next.map(|(at, _)| encode::timestamp(at)),
            next_expiry_micros: next.map_or(0, |(_, amount)| amount.as_micros()),
            holds: u32::try_from(account.holds.len()).unwrap_or(u32::MAX),
            uncharged,
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn explain(
        &self,
        call: Call<wire::ExplainBalanceRequest>,
    ) -> Result<wire::ExplainBalanceResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let ((id, when), options) = parse(request.read, |see| {
            let id = account(see, request.account_id);
            Some((id?, when(see, request.at)))
        })?;
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let seen = view.seen(&id, when, &*self.0.clock).await?;
        let asked = super::history::Asked {
            name: "ExplainBalance",
            account: &id,
            // From the beginning, that moment included.
            range: (
                Timestamp::UNIX_EPOCH,
                seen.at + chrono::TimeDelta::microseconds(1),
            ),
            kinds: Vec::new(),
            size: request.page_size,
            page_token: &request.page_token,
        };
        let (entries, next_page_token) = view.entries(&asked).await?;
        Ok(wire::ExplainBalanceResponse {
            balance: Some((&seen.account.balance()).into()),
            at: Some(encode::timestamp(seen.at)),
            grants: grants(&seen.account),
            ledgers: ledgers(&seen.account),
            entries,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}

/// Which place of an account's partition a token names.
fn behind(token: &str, partition: i32) -> Result<u64, Fault> {
    // The reader has parsed it before.
    let token = Token::parse(token).unwrap_or_default();
    let here = |number: u32| i32::try_from(number) == Ok(partition);
    let mut positions = token.positions();
    let position = positions.find(|position| {
        position.partition.family == Family::Billing && here(position.partition.number)
    });
    let offset = position.map(|position| position.offset);
    offset.ok_or_else(of_elsewhere)
}

fn of_elsewhere() -> Fault {
    Fault::invalid(vec![Violation {
        field: "at_token".into(),
        reason: "TOKEN_OF_ELSEWHERE".into(),
        description: "names no decision about this account; pass the token of a command's answer"
            .into(),
    }])
}

async fn uncharged(view: &mut View, stream: &Stream) -> Result<u64, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    let count: i64 = sqlx::query_scalar(statements::SELECT_UNCHARGED)
        .bind(tenant)
        .bind(mode)
        .bind(stream.as_str())
        .fetch_one(&mut **view.tx())
        .await
        .map_err(database)?;
    Ok(super::unsigned(count))
}

/// Those with anything left or held in the order in which they are drawn on, then those to come.
fn grants(account: &Account) -> Vec<wire::Grant> {
    let mut held: BTreeMap<GrantId, i64> = BTreeMap::new();
    for draw in account.holds.values().flat_map(|hold| &hold.draws) {
        if let Source::Grant(grant) = draw.from {
            let sum = held.entry(grant).or_default();
            *sum = sum.saturating_add(draw.amount.as_micros());
        }
    }
    let mut grants: Vec<(&GrantId, &Grant)> = account.grants.iter().collect();
    grants.sort_by_key(|(_, grant)| {
        let expires = grant.terms.expires_at;
        let order = (grant.terms.priority, expires.is_none(), expires);
        (!grant.credited, order, grant.ordinal)
    });
    let grants = grants.into_iter().map(|(id, grant)| wire::Grant {
        grant_id: id.to_string(),
        terms: Some((&grant.terms).into()),
        remaining_micros: grant.remaining.as_micros(),
        held_micros: held.get(id).copied().unwrap_or_default(),
        to_come: !grant.credited,
    });
    grants.collect()
}

fn recurring(account: &Account) -> Vec<wire::Recurring> {
    let recurring = account.recurring.iter().map(|(id, recurring)| {
        let terms = &recurring.terms;
        let next = terms
            .every
            .after(terms.first_at, recurring.next, account.zone);
        let next = next.filter(|next| terms.until.is_none_or(|until| *next < until));
        wire::Recurring {
            recurrence_id: id.to_string(),
            terms: Some(terms.into()),
            next_at: next.map(encode::timestamp),
        }
    });
    recurring.collect()
}

fn next_expiry(account: &Account) -> Option<(Timestamp, Credits)> {
    let expiring = || {
        let grants = account.grants.values();
        let left = grants.filter(|grant| grant.remaining.is_positive());
        left.filter_map(|grant| Some((grant.terms.expires_at?, grant.remaining)))
    };
    let next = expiring().map(|(at, _)| at).min()?;
    let then = expiring().filter(|(at, _)| *at == next);
    let amount = Credits::sum(then.map(|(_, amount)| amount));
    Some((next, amount.unwrap_or(Credits::MAX)))
}

fn ledgers(account: &Account) -> Vec<wire::explain_balance_response::LedgerSum> {
    use wire::Ledger;
    let (lying, balance) = (&account.balances, account.balance());
    let sums = [
        (Ledger::Issued, lying.issued),
        (Ledger::Grant, balance.available),
        (Ledger::Held, balance.held),
        (Ledger::Spent, lying.spent),
        (Ledger::Expired, lying.expired),
        (Ledger::WrittenOff, lying.written_off),
        (Ledger::Overdraft, lying.overdraft),
        (Ledger::Unpaid, lying.unpaid),
    ];
    let sums = sums.map(
        |(ledger, amount)| wire::explain_balance_response::LedgerSum {
            ledger: ledger.into(),
            amount_micros: amount.as_micros(),
        },
    );
    sums.into()
}
