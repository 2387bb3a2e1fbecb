//! Occurrences of a schedule, latest due first.

use runledger_domain::fault::Fault;
use runledger_domain::ids::{OwnerId, ScheduleId};
use runledger_domain::log::Stream;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::encode;
use runledger_proto::run::v1::{ListOccurrencesRequest, ListOccurrencesResponse, Occurrence};
use runledger_service::page;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::records::Records;
use super::{Api, Page, View, count, database, is_kept, parse, text_of};
use crate::statements::{self, filter_occurrences};

/// The rest of an occurrence's key: when it was due, the owner, the record.
type Place = (Timestamp, String, Uuid);

#[derive(Debug)]
struct Filters {
    schedule: ScheduleId,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Filters {
    /// The statement with the filters asked for and no others.
    fn statement(&self, after: bool) -> String {
        let filters = [
            (self.from.is_some(), filter_occurrences::FROM),
            (self.to.is_some(), filter_occurrences::TO),
            (after, filter_occurrences::AFTER),
        ];
        statements::filtered(statements::SELECT_OCCURRENCES, &filters)
    }

    /// A page of a schedule. One that is another scope's is as empty as one that is nobody's.
    async fn page(
        &self,
        view: &mut View,
        size: u32,
        after: Option<&Place>,
    ) -> Result<Page<Occurrence, Place>, Fault> {
        let (tenant, mode) = (view.tenant(), view.mode());
        let mut rows: Vec<Place> = sqlx::query_as(AssertSqlSafe(self.statement(after.is_some())))
            .bind(tenant)
            .bind(mode)
            .bind(self.schedule.as_str())
            .bind(i64::from(size) + 1)
            .bind(self.from)
            .bind(self.to)
            .bind(after.map(|(at, ..)| *at))
            .bind(after.map(|(_, owner, _)| owner.as_str()))
            .bind(after.map(|(.., record)| *record))
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let stream = |owner: &str| {
            owner
                .parse()
                .map(|id: OwnerId| Stream::schedules(&id).as_str().to_owned())
        };
        let asked: Result<Vec<(String, Uuid)>, _> = rows
            .iter()
            .map(|(_, owner, record)| Ok((stream(owner)?, *record)))
            .collect();
        let asked =
            asked.map_err(|error: runledger_domain::ids::InvalidId| Fault::internal(error))?;
        let records = Records::read(view, &asked).await?;
        let (mut room, mut entries) = (view.room(), Vec::with_capacity(rows.len()));
        while let Some(record) = records.get(entries.len()) {
            let entry = Occurrence {
                occurrence: Some(record.decode()?),
                occurred_at: Some(encode::timestamp(record.occurred_at)),
                recorded_at: Some(encode::timestamp(record.recorded_at)),
                actor: record.actor(),
                record_id: record.record_id.to_string(),
                position: record.position(&view.snapshot.cursors),
                conflicts: count(record.conflicts),
            };
            if !room.admits(&entry) {
                break;
            }
            entries.push(entry);
        }
        let cut = entries.len() < rows.len();
        let last = entries
            .len()
            .checked_sub(1)
            .and_then(|last| rows.into_iter().nth(last));
        Ok(Page {
            entries,
            next: last.filter(|_| more || cut),
        })
    }
}

impl Api {
    pub(super) async fn occurrences(
        &self,
        scope: Scope,
        request: ListOccurrencesRequest,
    ) -> Result<ListOccurrencesResponse, Fault> {
        let size = page::size(request.page_size);
        let (filters, options) = parse(request.read, |see| {
            let (from, to) = (
                see.optional_time("from", request.from),
                see.optional_time("to", request.to),
            );
            Some(Filters {
                schedule: see.id("schedule_id", request.schedule_id, ScheduleId::parse)?,
                from,
                to,
            })
        })?;
        let list = page::List::of(&[
            "ListOccurrences",
            &scope.to_string(),
            filters.schedule.as_str(),
            &text_of(filters.from.as_ref()),
            &text_of(filters.to.as_ref()),
        ]);
        let after = list.place_where(&request.page_token, |(at, owner, _): &Place| {
            is_kept(*at) && OwnerId::parse(owner.as_str()).is_ok()
        })?;
        let mut view = self.read(scope, &options).await?;
        let page = filters.page(&mut view, size, after.as_ref()).await?;
        let next_page_token = page
            .next
            .map(|place| list.token(&place))
            .transpose()?
            .unwrap_or_default();
        Ok(ListOccurrencesResponse {
            occurrences: page.entries,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}
