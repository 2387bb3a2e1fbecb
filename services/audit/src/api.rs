//! `AuditService`: entries from one snapshot of one scope.

use std::time::Duration;

use runledger_domain::audit::ActorType;
use runledger_domain::directory::OPERATORS;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::RunId;
use runledger_domain::log::Family;
use runledger_domain::scope::{Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::{Reader, Snapshot};
use runledger_proto::audit::v1 as wire;
use runledger_proto::audit::v1::audit_service_server::AuditService;
use runledger_proto::common::v1 as common;
use runledger_proto::decode::fields::Fields;
use runledger_proto::encode;
use runledger_role::reading::{Reading, answer, parse};
use runledger_service::clearance::Clearance;
use runledger_service::{auth, page, status};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Postgres, QueryBuilder};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::statements;

/// Longest text that is searched for, in characters.
const SEARCH_CHARS_MAX: usize = 200;
/// Most entries that one call looks at when it searches. Matching words is no operator that may use an
/// index under row-level security, so each of them is read.
const SEARCH_ENTRIES_MAX: i64 = 10_000;
const WORD_CHARS_MAX: usize = 128;

/// Section `[api]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How often health asks the database, and how long it waits for the answer.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    reading: Reading,
}

/// Where an entry stands in the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    at: Timestamp,
    id: AuditId,
}

/// Where the record of an entry lies, and the entry's place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AuditId {
    family: String,
    partition: i32,
    offset: i64,
    ordinal: i32,
}

impl AuditId {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let family: Family = parts.next()?.parse().ok()?;
        let id = Self {
            family: family.as_str().to_owned(),
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
            ordinal: parts.next()?.parse().ok()?,
        };
        // One spelling alone.
        (id.to_string() == text).then_some(id)
    }
}

impl std::fmt::Display for AuditId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            family,
            partition,
            offset,
            ordinal,
        } = self;
        write!(f, "{family}.{partition}.{offset}.{ordinal}")
    }
}

#[derive(Debug, FromRow)]
struct Row {
    family: String,
    partition: i32,
    log_offset: i64,
    ordinal: i32,
    at: Timestamp,
    recorded_at: Timestamp,
    actor_type: String,
    actor: String,
    name: Option<String>,
    principal_id: Option<Uuid>,
    role: Option<String>,
    entity_type: String,
    entity_id: String,
    action: String,
    run_id: Option<String>,
    details: String,
    stream: String,
}

impl Row {
    fn id(&self) -> AuditId {
        AuditId {
            family: self.family.clone(),
            partition: self.partition,
            offset: self.log_offset,
            ordinal: self.ordinal,
        }
    }

    fn place(&self) -> Place {
        Place {
            at: self.at,
            id: self.id(),
        }
    }

    fn to_wire(&self) -> wire::Entry {
        let actor_type = self.actor_type.parse::<ActorType>().ok();
        let role = self
            .role
            .as_ref()
            .and_then(|role| role.parse::<Role>().ok());
        wire::Entry {
            audit_id: self.id().to_string(),
            at: Some(encode::timestamp(self.at)),
            recorded_at: Some(encode::timestamp(self.recorded_at)),
            actor_type: actor_type.map_or(0, |one| wire::ActorType::from(one).into()),
            actor: self.actor_text(),
            principal_id: self
                .principal_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            role: role.map_or(0, |one| common::Role::from(one).into()),
            entity_type: self.entity_type.clone(),
            entity_id: self.entity_id.clone(),
            action: self.action.clone(),
            run_id: self.run_id.clone().unwrap_or_default(),
            details_json: self.details.clone(),
            stream: self.stream.clone(),
        }
    }

    /// With the principal's name in the place of its id, where it is known.
    fn actor_text(&self) -> String {
        let named = self
            .principal_id
            .zip(self.name.as_ref())
            .and_then(|(id, name)| {
                let kind = self.actor.strip_suffix(&id.to_string())?;
                Some(format!("{kind}{name}"))
            });
        named.unwrap_or_else(|| self.actor.clone())
    }
}

/// Which entries.
#[derive(Debug)]
struct Filters {
    run: Option<RunId>,
    entity_type: String,
    action: String,
    actor_type: Option<ActorType>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    search: String,
}

impl Filters {
    fn read(request: wire::ListEntriesRequest, see: &mut Fields<'_>) -> Self {
        let actor_type = match request.actor_type {
            0 => None,
            number => see.word::<wire::ActorType>("actor_type", number),
        };
        Self {
            run: see.optional_id("run_id", request.run_id, RunId::parse),
            entity_type: see.text("entity_type", request.entity_type, WORD_CHARS_MAX),
            action: see.text("action", request.action, WORD_CHARS_MAX),
            actor_type,
            from: see.optional_time("from", request.from),
            to: see.optional_time("to", request.to),
            search: see.text("search", request.search, SEARCH_CHARS_MAX),
        }
    }

    /// What a page token is bound to.
    fn list(&self, scope: Scope) -> page::List {
        let time = |one: Option<Timestamp>| one.map(|at| at.to_rfc3339()).unwrap_or_default();
        page::List::of(&[
            "ListEntries",
            &scope.to_string(),
            self.run.as_ref().map_or("", RunId::as_str),
            &self.entity_type,
            &self.action,
            self.actor_type.map_or("", |one| one.as_str()),
            &time(self.from),
            &time(self.to),
            &self.search,
        ])
    }

    /// The statement up to its order, with every filter but the words. What is pushed is never a
    /// caller's text.
    fn statement(
        &self,
        head: &'static str,
        scope: Scope,
        after: Option<&Place>,
    ) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(head);
        query
            .push("WHERE e.tenant_id = ")
            .push_bind(scope.tenant.as_uuid());
        query.push(" AND e.mode = ").push_bind(scope.mode.as_str());
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        for (column, value) in [
            (
                " AND e.run_id = ",
                self.run.as_ref().map(ToString::to_string),
            ),
            (" AND e.entity_type = ", text(&self.entity_type)),
            (" AND e.action = ", text(&self.action)),
            (
                " AND e.actor_type = ",
                self.actor_type.map(|one| one.to_string()),
            ),
        ] {
            if let Some(value) = value {
                query.push(column).push_bind(value);
            }
        }
        if let Some(from) = self.from {
            query.push(" AND e.at >= ").push_bind(from);
        }
        if let Some(to) = self.to {
            query.push(" AND e.at < ").push_bind(to);
        }
        if let Some(after) = after {
            push_place(&mut query, " < ", after);
        }
        query
    }
}

const PLACE: &str = "(e.at, e.family, e.partition, e.log_offset, e.ordinal)";
const ORDER: &str =
    " ORDER BY e.at DESC, e.family DESC, e.partition DESC, e.log_offset DESC, e.ordinal DESC ";
const WORDS: &str = " AND to_tsvector('simple', concat_ws(' ', e.actor, p.name, e.entity_type, e.entity_id, e.action, e.run_id, e.details))
    @@ plainto_tsquery('simple', ";

fn push_place(query: &mut QueryBuilder<Postgres>, operator: &'static str, place: &Place) {
    query.push(" AND ").push(PLACE).push(operator).push("(");
    let mut values = query.separated(", ");
    values.push_bind(place.at);
    values.push_bind(place.id.family.clone());
    values.push_bind(place.id.partition);
    values.push_bind(place.id.offset);
    values.push_bind(place.id.ordinal);
    query.push(")");
}

impl Api {
    pub(crate) fn new(reader: Reader, clearance: Clearance) -> Self {
        let reading = Reading {
            reader,
            clearance,
            what: "audit entries",
        };
        Self { reading }
    }

    async fn list(
        &self,
        scope: Scope,
        mut request: wire::ListEntriesRequest,
    ) -> Result<wire::ListEntriesResponse, Fault> {
        let (token, size) = (
            std::mem::take(&mut request.page_token),
            page::size(request.page_size),
        );
        let read = request.read.take();
        let (filters, options) = parse(read, |see| Some(Filters::read(request, see)))?;
        let list = filters.list(scope);
        let after: Option<Place> = list.place(&token)?;
        let mut snapshot = self.reading.snapshot(scope, &options).await?;
        let mut query = filters.statement(head(), scope, after.as_ref());
        let mut stop = None;
        if !filters.search.is_empty() {
            let looked_at = last_looked_at(&mut snapshot, &filters, scope, after.as_ref()).await;
            stop = looked_at.map_err(|error| self.reading.database(error))?;
            if let Some(stop) = &stop {
                push_place(&mut query, " >= ", stop);
            }
            query
                .push(WORDS)
                .push_bind(filters.search.clone())
                .push(")");
        }
        query
            .push(ORDER)
            .push("LIMIT ")
            .push_bind(i64::from(size) + 1);
        let mut rows: Vec<Row> = query
            .build_query_as()
            .fetch_all(&mut *snapshot.tx)
            .await
            .map_err(|error| self.reading.database(error))?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        // A page that is full ends at its last entry, another where the search has stopped.
        let stop = stop.filter(|_| !more);
        let last = if more {
            rows.last().map(Row::place)
        } else {
            stop.clone()
        };
        let next_page_token = last.map(|place| list.token(&place)).transpose()?;
        Ok(wire::ListEntriesResponse {
            entries: rows.iter().map(Row::to_wire).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            as_of: Some(self.reading.close(snapshot).await?),
            searched_to: stop.map(|place| encode::timestamp(place.at)),
        })
    }

    async fn entry(
        &self,
        scope: Scope,
        request: wire::GetEntryRequest,
    ) -> Result<wire::GetEntryResponse, Fault> {
        let ((), options) = parse(request.read, |_| Some(()))?;
        let id = AuditId::parse(&request.audit_id).ok_or_else(not_found)?;
        let mut snapshot = self.reading.snapshot(scope, &options).await?;
        let row: Option<Row> = sqlx::query_as(statements::SELECT_ENTRY)
            .bind(scope.tenant.as_uuid())
            .bind(scope.mode.as_str())
            .bind(&id.family)
            .bind(id.partition)
            .bind(id.offset)
            .bind(id.ordinal)
            .fetch_optional(&mut *snapshot.tx)
            .await
            .map_err(|error| self.reading.database(error))?;
        let row = row.ok_or_else(not_found)?;
        Ok(wire::GetEntryResponse {
            entry: Some(row.to_wire()),
            as_of: Some(self.reading.close(snapshot).await?),
        })
    }
}

/// The statement of lists, up to its conditions.
fn head() -> &'static str {
    let whole = statements::SELECT_ENTRIES;
    whole.split_once("WHERE").map_or(whole, |(head, _)| head)
}

/// The last entry that a search looks at; `None`: it looks at all.
async fn last_looked_at(
    snapshot: &mut Snapshot,
    filters: &Filters,
    scope: Scope,
    after: Option<&Place>,
) -> Result<Option<Place>, sqlx::Error> {
    const HEAD: &str =
        "SELECT e.at, e.family, e.partition, e.log_offset, e.ordinal FROM entries e ";
    let mut query = filters.statement(HEAD, scope, after);
    query
        .push(ORDER)
        .push("LIMIT 1 OFFSET ")
        .push_bind(SEARCH_ENTRIES_MAX - 1);
    let last: Option<(Timestamp, String, i32, i64, i32)> = query
        .build_query_as()
        .fetch_optional(&mut *snapshot.tx)
        .await?;
    Ok(last.map(|(at, family, partition, offset, ordinal)| Place {
        at,
        id: AuditId {
            family,
            partition,
            offset,
            ordinal,
        },
    }))
}

/// An operator belongs to no tenant; what is about none is what it may see.
fn scope_of<T>(request: &Request<T>) -> Result<Scope, Status> {
    let caller = auth::caller(request)?;
    if caller.principal.role == Role::Operator {
        return Ok(OPERATORS);
    }
    caller.require_scope().map_err(status::from_fault)
}

/// The same for an entry that is another scope's and for one that is nobody's.
fn not_found() -> Fault {
    let message =
        "there is no such entry; right after something was done, pass its token as read.at_least";
    Fault::new(Kind::NotFound, "AUDIT_ENTRY_NOT_FOUND", message)
}

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_entries(
        &self,
        request: Request<wire::ListEntriesRequest>,
    ) -> Result<Response<wire::ListEntriesResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.list(scope, request.into_inner()).await)
    }

    async fn get_entry(
        &self,
        request: Request<wire::GetEntryRequest>,
    ) -> Result<Response<wire::GetEntryResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.entry(scope, request.into_inner()).await)
    }
}

#[cfg(test)]
mod tests {
    use super::AuditId;

    #[test]
    fn an_id_is_read_in_one_spelling_alone() {
        let id = AuditId::parse("run.3.4711.0").unwrap();
        assert_eq!(id.to_string(), "run.3.4711.0");
        for wrong in [
            "",
            "run",
            "run.3.4711",
            "run.3.4711.0.1",
            "run.03.4711.0",
            "ran.3.4711.0",
            "run.+3.4711.0",
        ] {
            assert!(AuditId::parse(wrong).is_none(), "{wrong}");
        }
    }
}
