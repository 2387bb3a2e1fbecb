//! What has happened to accounts: entries, charges, and what a run has cost.

use runledger_domain::credit::EntryKind;
use runledger_domain::fault::Fault;
use runledger_domain::ids::{AccountId, RunId};
use runledger_domain::log::Stream;
use runledger_domain::time::Timestamp;
use runledger_proto::billing::v1 as wire;
use runledger_proto::decode::billing as read;
use runledger_proto::decode::fields::{Fields, reason};
use runledger_service::page;

use super::rows::{ChargeRow, EntryRow, pricing_word};
use super::{Api, Call, View, account, account_not_found, database, parse};
use crate::statements;

/// Most words that a filter names: more than there are.
const WORDS_MAX: usize = 32;

fn bounded(field: &'static str, words: &[i32], see: &mut Fields<'_>) {
    if words.len() > WORDS_MAX {
        let why = format_args!("must have at most {WORDS_MAX} entries");
        see.fault(field, reason::TOO_MANY, why);
    }
}

/// Which entries of an account.
pub(super) struct Asked<'a> {
    pub(super) name: &'static str,
    pub(super) account: &'a AccountId,
    pub(super) range: (Timestamp, Timestamp),
    pub(super) kinds: Vec<&'static str>,
    pub(super) size: u32,
    pub(super) page_token: &'a str,
}

impl View {
    /// A page of entries, the newest first, and the token of the next.
    pub(super) async fn entries(
        &mut self,
        asked: &Asked<'_>,
    ) -> Result<(Vec<wire::Entry>, String), Fault> {
        let size = page::size(asked.size);
        let scope = self.scope.to_string();
        let (from, to) = asked.range;
        let list = page::List::of(&[
            asked.name,
            &scope,
            asked.account.as_str(),
            &from.to_rfc3339(),
            // The end of an explanation goes with the clock: what is behind a place stays there.
            &asked.kinds.join(","),
        ]);
        let place: Option<(i64, i32)> = list.place(asked.page_token)?;
        let (offset, ordinal) = place.unwrap_or((i64::MAX, i32::MAX));
        let kinds = Some(&asked.kinds).filter(|kinds| !kinds.is_empty());
        let (tenant, mode) = (self.tenant(), self.mode());
        let mut rows: Vec<EntryRow> = sqlx::query_as(statements::SELECT_ENTRIES)
            .bind(tenant)
            .bind(mode)
            .bind(asked.account.as_str())
            .bind(offset)
            .bind(ordinal)
            .bind(from)
            .bind(to)
            .bind(kinds)
            .bind(i64::from(size) + 1)
            .fetch_all(&mut **self.tx())
            .await
            .map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| list.token(&(row.log_offset, row.ordinal)));
        let next = next.transpose()?.unwrap_or_default();
        Ok((rows.into_iter().map(EntryRow::into_wire).collect(), next))
    }
}

impl Api {
    pub(super) async fn entries(
        &self,
        call: Call<wire::ListEntriesRequest>,
    ) -> Result<wire::ListEntriesResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let ((id, range, kinds), options) = parse(request.read, |see| {
            let id = account(see, request.account_id);
            let range = read::optional_range(request.range, see);
            bounded("kinds", &request.kinds, see);
            let kinds = request.kinds.into_iter();
            let kinds: Option<Vec<EntryKind>> = kinds
                .take(WORDS_MAX)
                .map(|kind| see.word::<wire::EntryKind>("kinds", kind))
                .collect();
            Some((id?, range?, kinds?))
        })?;
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        view.account(&id).await?.ok_or_else(account_not_found)?;
        let asked = Asked {
            name: "ListEntries",
            account: &id,
            range,
            kinds: kinds.iter().map(|kind| kind.as_str()).collect(),
            size: request.page_size,
            page_token: &request.page_token,
        };
        let (entries, next_page_token) = view.entries(&asked).await?;
        Ok(wire::ListEntriesResponse {
            entries,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn charges(
        &self,
        call: Call<wire::ListChargesRequest>,
    ) -> Result<wire::ListChargesResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let ((id, (from, to), pricing), options) = parse(request.read, |see| {
            let id = account(see, request.account_id);
            let range = read::optional_range(request.range, see);
            bounded("pricing", &request.pricing, see);
            let words = request
                .pricing
                .into_iter()
                .take(WORDS_MAX)
                .map(pricing_word);
            let words: Option<Vec<&str>> = words.collect();
            if words.is_none() {
                see.fault("pricing", reason::UNKNOWN_VALUE, "must be known kinds");
            }
            Some((id?, range?, words?))
        })?;
        let (late, over) = (request.late, request.over_limits);
        let list = page::List::of(&[
            "ListCharges",
            &scope.to_string(),
            id.as_str(),
            &format!("{from} {to} {late} {over}"),
            &pricing.join(","),
        ]);
        let place: Option<(i64, i32)> = list.place(&request.page_token)?;
        let (offset, line) = place.unwrap_or((i64::MAX, i32::MAX));
        let stream = Stream::account(&id);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        view.account(&id).await?.ok_or_else(account_not_found)?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let pricing = Some(pricing).filter(|words| !words.is_empty());
        let rows: Vec<ChargeRow> = sqlx::query_as(statements::SELECT_CHARGES)
            .bind(tenant)
            .bind(mode)
            .bind(id.as_str())
            .bind(offset)
            .bind(line)
            .bind(from)
            .bind(to)
            .bind(pricing)
            .bind(late)
            .bind(over)
            .bind(i64::from(size) + 1)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let (charges, next_page_token) = page_of(rows, size, &list)?;
        Ok(wire::ListChargesResponse {
            charges,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn run_cost(
        &self,
        call: Call<wire::GetRunCostRequest>,
    ) -> Result<wire::GetRunCostResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let (run, options) = parse(request.read, |see| {
            see.id("run_id", request.run_id, RunId::parse)
        })?;
        let list = page::List::of(&["GetRunCost", &scope.to_string(), run.as_str()]);
        let place: Option<(i64, i32)> = list.place(&request.page_token)?;
        let (offset, line) = place.unwrap_or((-1, -1));
        let mut view = self.read(scope, &options, None).await?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let (total, lines, unpriced): (i64, i64, i64) =
            sqlx::query_as(statements::SELECT_COST_OF_RUN)
                .bind(tenant)
                .bind(mode)
                .bind(run.as_str())
                .fetch_one(&mut **view.tx())
                .await
                .map_err(database)?;
        let rows: Vec<ChargeRow> = sqlx::query_as(statements::SELECT_CHARGES_OF_RUN)
            .bind(tenant)
            .bind(mode)
            .bind(run.as_str())
            .bind(offset)
            .bind(line)
            .bind(i64::from(size) + 1)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let (charges, next_page_token) = page_of(rows, size, &list)?;
        Ok(wire::GetRunCostResponse {
            total_micros: total,
            total_lines: super::unsigned(lines),
            unpriced_lines: super::unsigned(unpriced),
            charges,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}

/// A page of charges, and the token of the next.
fn page_of(
    mut rows: Vec<ChargeRow>,
    size: u32,
    list: &page::List,
) -> Result<(Vec<wire::Charge>, String), Fault> {
    let more = rows.len() > size as usize;
    rows.truncate(size as usize);
    let last = rows.last().filter(|_| more);
    let next = last.map(|row| list.token(&(row.log_offset, row.line)));
    let next = next.transpose()?.unwrap_or_default();
    Ok((rows.into_iter().map(ChargeRow::into_wire).collect(), next))
}
