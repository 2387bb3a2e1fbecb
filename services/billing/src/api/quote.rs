//! What usage would cost now: the code that charges, and nobody records what it says.

use runledger_domain::credit::{self, Change, Draw, Ledger, Source, Usage};
use runledger_domain::fault::Fault;
use runledger_domain::ids::{Name, RecordId};
use runledger_domain::log::Stream;
use runledger_domain::money::Credits;
use runledger_domain::price::PriceSet;
use runledger_proto::billing::v1 as wire;
use runledger_proto::decode::billing as read;
use std::sync::Arc;
use uuid::Uuid;

use super::{Api, Call, account, parse};

impl Api {
    pub(super) async fn quoted(
        &self,
        call: Call<wire::QuoteRequest>,
    ) -> Result<wire::QuoteResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let ((id, quoted), options) = parse(request.read, |see| {
            let id = account(see, request.account_id);
            let quoted = read::quoted(request.usages, see);
            Some((id?, quoted?))
        })?;
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        // Nothing is known of an account before its first command: it has nothing then.
        let known = view.account(&id).await?.map(|(_, account)| account);
        let account = known.unwrap_or_default();
        let now = self.0.clock.now().max(account.last_at);
        let prices = view.prices_at(now).await?;
        let as_of = view.close().await?;
        let version = prices.as_ref().map_or(0, |list| list.version);
        let set = prices.map(|list| PriceSet::compile(Arc::new(list)));
        let usages: Vec<Usage> = (1..).zip(quoted).map(|one| usage(one, now)).collect();
        let posted = credit::charge(&account, &|_| set.as_ref(), &usages, now);
        let lapsed = super::balance::lapsed(account, now);
        let after = posted.transactions.iter();
        let after = after.fold(posted.before, |balance, one| balance.after(one));
        let lines = match &posted.change {
            Change::Charged(lines) => lines.as_slice(),
            _ => &[],
        };
        let total = Credits::sum(lines.iter().map(|line| line.amount));
        Ok(wire::QuoteResponse {
            lines: lines.iter().map(Into::into).collect(),
            total_micros: total.unwrap_or(Credits::MAX).as_micros(),
            draws: draws(&posted).iter().map(Into::into).collect(),
            before: Some((&lapsed.balance()).into()),
            after: Some((&after).into()),
            price_version: version,
            crossed: posted.crossed.iter().map(Name::to_string).collect(),
            as_of: Some(as_of),
        })
    }
}

fn usage(
    (number, (meter, quantity, dimensions, spender)): (u128, read::Quoted),
    now: runledger_domain::time::Timestamp,
) -> Usage {
    Usage {
        source: RecordId::new(Uuid::from_u128(number)),
        meter,
        quantity,
        dimensions,
        spender,
        used_at: now,
    }
}

/// What would be taken from where, in all.
fn draws(posted: &credit::Posted) -> Vec<Draw> {
    let mut draws: Vec<Draw> = Vec::new();
    let debits = posted.transactions.iter();
    let debits = debits.filter(|one| one.kind == credit::EntryKind::Debit);
    for posting in debits.flat_map(|one| &one.postings) {
        let from = match posting.ledger {
            Ledger::Grant(grant) => Source::Grant(grant),
            Ledger::Overdraft => Source::Overdraft,
            Ledger::Unpaid => Source::Unpaid,
            Ledger::Issued
            | Ledger::Held(_)
            | Ledger::Spent
            | Ledger::Expired
            | Ledger::WrittenOff => continue,
        };
        let taken = Credits::ZERO.minus(posting.amount).unwrap_or(Credits::MAX);
        match draws.iter_mut().find(|draw| draw.from == from) {
            Some(draw) => draw.amount = draw.amount.plus(taken).unwrap_or(Credits::MAX),
            None => draws.push(Draw {
                from,
                amount: taken,
            }),
        }
    }
    draws
}
