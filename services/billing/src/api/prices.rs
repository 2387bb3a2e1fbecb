//! The prices of a scope, version by version.

use futures::TryStreamExt as _;
use runledger_decider::Command;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::RecordId;
use runledger_domain::log::Stream;
use runledger_domain::price::{self, PriceList};
use runledger_domain::time::Timestamp;
use runledger_proto::{decode, encode, price::v1 as wire, types};
use runledger_service::{page, trace};

use super::{Api, Call, View, database, only, parse, signed, token_of};
use crate::statements;

fn not_found() -> Fault {
    let message = "there is no such version of the prices; right after publishing, pass the answer's token as read.at_least";
    Fault::new(Kind::NotFound, "PRICES_NOT_FOUND", message)
}

/// A version as its decision says it.
fn list(payload: &[u8]) -> Result<PriceList, Fault> {
    let published = decode::stored_prices_published(types::PRICES_PUBLISHED, payload);
    let published = published.map_err(Fault::internal)?;
    let unknown = || Fault::internal("a price list of a later version");
    published.map(|one| one.list).ok_or_else(unknown)
}

impl View {
    /// The prices in force at a moment.
    pub(super) async fn prices_at(&mut self, at: Timestamp) -> Result<Option<PriceList>, Fault> {
        let (tenant, mode) = (self.tenant(), self.mode());
        let payload: Option<Vec<u8>> = sqlx::query_scalar(statements::SELECT_PRICES_AT)
            .bind(tenant)
            .bind(mode)
            .bind(at)
            .fetch_optional(&mut **self.tx())
            .await
            .map_err(database)?;
        payload.as_deref().map(list).transpose()
    }

    async fn prices_of(&mut self, version: u64) -> Result<PriceList, Fault> {
        let (tenant, mode) = (self.tenant(), self.mode());
        let payload: Option<Vec<u8>> = sqlx::query_scalar(statements::SELECT_PRICE_LIST)
            .bind(tenant)
            .bind(mode)
            .bind(signed(version))
            .fetch_optional(&mut **self.tx())
            .await
            .map_err(database)?;
        list(&payload.ok_or_else(not_found)?)
    }
}

impl Api {
    pub(super) async fn publish(
        &self,
        call: Call<wire::PublishPricesRequest>,
    ) -> Result<wire::PublishPricesResponse, Fault> {
        let scope = self.admit(&call.caller)?;
        let request = call.message;
        let ((id, publish), _) = parse(None, |see| {
            let id = see.uuid("id", &request.id).map(RecordId::new);
            let publish = decode::price::publish(request, see);
            Some((id?, publish?))
        })?;
        let (type_name, payload) = encode::publish_prices(&publish);
        let command = Command {
            id,
            scope,
            stream: Stream::prices(),
            actor: call.caller.principal,
            type_name,
            payload,
            expected_version: None,
            at_least: Vec::new(),
            trace: trace::current(),
        };
        let answers = self.0.callers.ask(vec![command], call.until).await?;
        let Some(decided) = only(answers)? else {
            return Ok(wire::PublishPricesResponse::default());
        };
        let published: wire::PricesPublished = decided.message(types::PRICES_PUBLISHED)?;
        Ok(wire::PublishPricesResponse {
            list: published.list,
            token: token_of(decided.position),
        })
    }

    pub(super) async fn prices(
        &self,
        call: Call<wire::GetPricesRequest>,
    ) -> Result<wire::GetPricesResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let now = self.0.clock.now();
        let (at, options) = parse(request.read, |see| {
            if request.version > 0 && request.at.is_some() {
                see.fault("at", "NOT_TOGETHER", "must not be given with version");
            }
            Some(see.optional_time("at", request.at).unwrap_or(now))
        })?;
        let stream = Stream::prices();
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let list = match request.version {
            0 => view.prices_at(at).await?.ok_or_else(not_found)?,
            version => view.prices_of(version).await?,
        };
        Ok(wire::GetPricesResponse {
            list: Some((&list).into()),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn price_versions(
        &self,
        call: Call<wire::ListPricesRequest>,
    ) -> Result<wire::ListPricesResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let ((), options) = parse(request.read, |_| Some(()))?;
        let list_of = page::List::of(&["ListPrices", &scope.to_string()]);
        let before: Option<i64> = list_of.place(&request.page_token)?;
        let stream = Stream::prices();
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let now = self.0.clock.now();
        let in_force = view.prices_at(now).await?.map(|list| list.version);
        let (tenant, mode) = (view.tenant(), view.mode());
        // One by one: all lists together may take many megabytes, and of each only a line is kept.
        let mut rows = sqlx::query_scalar::<_, Vec<u8>>(statements::SELECT_PRICE_LISTS)
            .bind(tenant)
            .bind(mode)
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(size) + 1)
            .fetch(&mut *view.snapshot.tx);
        let mut versions = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(database)? {
            let list = list(&row)?;
            versions.push(wire::list_prices_response::Version {
                version: list.version,
                effective_at: Some(encode::timestamp(list.effective_at)),
                recorded_at: Some(encode::timestamp(list.recorded.at)),
                recorded_by: Some(encode::actor(&list.recorded.by)),
                rules: u32::try_from(list.rules.len()).unwrap_or(u32::MAX),
                in_force: in_force == Some(list.version),
            });
        }
        drop(rows);
        let more = versions.len() > size as usize;
        versions.truncate(size as usize);
        let last = versions.last().filter(|_| more);
        let next = last.map(|one| list_of.token(&signed(one.version)));
        Ok(wire::ListPricesResponse {
            versions,
            next_page_token: next.transpose()?.unwrap_or_default(),
            as_of: Some(view.close().await?),
        })
    }

    pub(super) async fn price_differences(
        &self,
        call: Call<wire::DiffPricesRequest>,
    ) -> Result<wire::DiffPricesResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let ((), options) = parse(request.read, |_| Some(()))?;
        let stream = Stream::prices();
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let before = view.prices_of(request.before).await?;
        let after = view.prices_of(request.after).await?;
        let differences = price::diff(&before, &after);
        Ok(wire::DiffPricesResponse {
            differences: differences.iter().map(Into::into).collect(),
            as_of: Some(view.close().await?),
        })
    }
}
