//! The accounts of a scope: their settings, their holds, and when their thresholds were crossed.

use futures::TryStreamExt as _;
use runledger_domain::credit::Account;
use runledger_domain::fault::Fault;
use runledger_domain::ids::HoldId;
use runledger_domain::log::Stream;
use runledger_domain::money::Credits;
use runledger_domain::time::Timestamp;
use runledger_proto::{billing::v1 as wire, encode};
use runledger_service::page;
use sqlx::Row as _;
use uuid::Uuid;

use super::balance::{Seen, When, lapsed};
use super::{Api, Call, account, account_not_found, database, parse};
use crate::statements;

/// A row of thresholds that were crossed: offset, name, moment, and the balance behind it.
type CrossingRow = (i64, String, Timestamp, i64, i64, i64, i64);

impl Api {
    pub(super) async fn accounts(
        &self,
        call: Call<wire::ListAccountsRequest>,
    ) -> Result<wire::ListAccountsResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let ((), options) = parse(request.read, |_| Some(()))?;
        let list = page::List::of(&["ListAccounts", &scope.to_string()]);
        let place: Option<String> =
            list.place_where(&request.page_token, |place: &String| Stream::is_name(place))?;
        let place = place.unwrap_or_else(|| "account/".to_owned());
        let mut view = self.read(scope, &options, None).await?;
        let now = self.0.clock.now();
        let (tenant, mode) = (view.tenant(), view.mode());
        // One by one: a state may take a megabyte, and of each only its balance is kept.
        let mut rows = sqlx::query(statements::SELECT_ACCOUNTS)
            .bind(tenant)
            .bind(mode)
            .bind(&place)
            .bind(i64::from(size) + 1)
            .fetch(&mut *view.snapshot.tx);
        let (mut accounts, mut count, mut last) = (Vec::new(), 0, None);
        while let Some(row) = rows.try_next().await.map_err(database)? {
            count += 1;
            if count > size {
                break;
            }
            let stream: String = row.try_get(0).map_err(database)?;
            let state: Vec<u8> = row.try_get(1).map_err(database)?;
            let account = Account::from_bytes(&state).map_err(Fault::internal)?;
            // Only refused so far: a page may have fewer than were asked for.
            if account.decisions > 0 {
                let id = stream.strip_prefix("account/").unwrap_or_default();
                let now = now.max(account.last_at);
                accounts.push(wire::list_accounts_response::Account {
                    account_id: id.to_owned(),
                    balance: Some((&lapsed(account, now).balance()).into()),
                });
            }
            last = Some(stream);
        }
        drop(rows);
        let last = last.filter(|_| count > size);
        let next = last.map(|stream| list.token(&stream)).transpose()?;
        Ok(wire::ListAccountsResponse {
            accounts,
            next_page_token: next.unwrap_or_default(),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn account(
        &self,
        call: Call<wire::GetAccountRequest>,
    ) -> Result<wire::GetAccountResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let (id, options) = parse(request.read, |see| account(see, request.account_id))?;
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let Seen {
            account: seen,
            at: now,
        } = view.seen(&id, When::Now, &*self.0.clock).await?;
        let watched = seen.thresholds.iter();
        let thresholds = watched.map(|(name, watched)| wire::get_account_response::Watched {
            name: name.to_string(),
            threshold: Some((&watched.threshold).into()),
            crossed: watched.crossed,
        });
        let (today, month) = seen.spent(now);
        Ok(wire::GetAccountResponse {
            account_id: id.to_string(),
            limits: Some((&seen.limits).into()),
            zone: seen.zone.to_string(),
            thresholds: thresholds.collect(),
            spent_today_micros: today.as_micros(),
            spent_this_month_micros: month.as_micros(),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn holds(
        &self,
        call: Call<wire::ListHoldsRequest>,
    ) -> Result<wire::ListHoldsResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size) as usize;
        let (id, options) = parse(request.read, |see| account(see, request.account_id))?;
        let list = page::List::of(&["ListHolds", &scope.to_string(), id.as_str()]);
        let behind: Option<(Timestamp, Uuid)> = list.place(&request.page_token)?;
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let seen = view.seen(&id, When::Now, &*self.0.clock).await?.account;
        let mut holds: Vec<_> = seen.holds.iter().collect();
        let key = |id: &HoldId, expires_at: Timestamp| (expires_at, id.as_uuid());
        holds.sort_by_key(|(id, hold)| key(id, hold.expires_at));
        let is_next = |(id, hold): &(&HoldId, &runledger_domain::credit::Hold)| {
            behind.is_none_or(|behind| key(id, hold.expires_at) > behind)
        };
        let mut page: Vec<_> = holds.into_iter().filter(is_next).take(size + 1).collect();
        let more = page.len() > size;
        page.truncate(size);
        let last = page.last().filter(|_| more);
        let next = last.map(|(id, hold)| list.token(&key(id, hold.expires_at)));
        let total = Credits::sum(seen.holds.values().map(|hold| hold.amount));
        Ok(wire::ListHoldsResponse {
            holds: page
                .iter()
                .map(|(id, hold)| encode::hold(**id, hold))
                .collect(),
            total_micros: total.unwrap_or(Credits::MAX).as_micros(),
            total_holds: u32::try_from(seen.holds.len()).unwrap_or(u32::MAX),
            next_page_token: next.transpose()?.unwrap_or_default(),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn crossings(
        &self,
        call: Call<wire::ListCrossingsRequest>,
    ) -> Result<wire::ListCrossingsResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let (id, options) = parse(request.read, |see| account(see, request.account_id))?;
        let list = page::List::of(&["ListCrossings", &scope.to_string(), id.as_str()]);
        let is_name = |(_, name): &(i64, String)| Stream::is_name(name);
        let place: Option<(i64, String)> = list.place_where(&request.page_token, is_name)?;
        let (offset, name) = place.unwrap_or((i64::MAX, String::new()));
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        view.account(&id).await?.ok_or_else(account_not_found)?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let mut rows: Vec<CrossingRow> = sqlx::query_as(statements::SELECT_CROSSINGS)
            .bind(tenant)
            .bind(mode)
            .bind(id.as_str())
            .bind(offset)
            .bind(&name)
            .bind(i64::from(size) + 1)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| list.token(&(row.0, &row.1))).transpose()?;
        Ok(wire::ListCrossingsResponse {
            crossings: rows.into_iter().map(crossing).collect(),
            next_page_token: next.unwrap_or_default(),
            as_of: Some(view.close().await?),
        })
    }
}

fn crossing(row: CrossingRow) -> wire::list_crossings_response::Crossing {
    let (_, name, at, available, held, overdrawn, unpaid) = row;
    wire::list_crossings_response::Crossing {
        name,
        at: Some(encode::timestamp(at)),
        balance: Some(wire::Balance {
            available_micros: available,
            held_micros: held,
            overdrawn_micros: overdrawn,
            unpaid_micros: unpaid,
        }),
    }
}
