//! Everything about a run, in order.
//!
//! The place of a reader is a set of offsets, one for each partition that holds records of the run:
//! see `sql/select_timeline.sql` for the order. Pages and tails share it, so that neither skips or
//! repeats a record, however the log grows in between.

use std::collections::BTreeMap;

use prost::{DecodeError, Message};
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::{Incarnation, RunId};
use runledger_domain::log::{Family, Partition, Position};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::Cursors;
use runledger_proto::run::v1::timeline_item::Fact;
use runledger_proto::run::v1::{GetTimelineRequest, GetTimelineResponse, TimelineItem};
use runledger_proto::{encode, types};
use runledger_service::page;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Api, View, count, database, parse, records, run_not_found, runs};
use crate::statements;

/// Where a reader of a timeline stands: the next offset in each partition it has met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(BTreeMap<Partition, Next>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Next {
    offset: u64,
    /// Which incarnation of the partition the offset counts in.
    incarnation: Box<str>,
}

/// A place as tokens carry it: family, partition, next offset, incarnation.
#[derive(Serialize, Deserialize)]
pub(super) struct Written(Vec<(Family, u32, u64, Box<str>)>);

/// Enough of an incarnation to tell it from any other of the same partition: its random end.
fn tag(incarnation: Incarnation) -> Box<str> {
    let text = incarnation.as_uuid().simple().to_string();
    text.get(24..).unwrap_or_default().into()
}

impl Place {
    /// Moves behind the record at `position`.
    fn pass(&mut self, position: &Position) {
        let next = Next {
            offset: position.offset + 1,
            incarnation: tag(position.incarnation),
        };
        self.0.insert(position.partition, next);
    }

    pub(super) fn write(&self) -> Written {
        let write = |(partition, next): (&Partition, &Next)| {
            (
                partition.family,
                partition.number,
                next.offset,
                next.incarnation.clone(),
            )
        };
        Written(self.0.iter().map(write).collect())
    }

    /// The place in the partitions of `cursors`; none when it belongs to another log.
    fn within(&self, cursors: &Cursors) -> Option<Columns> {
        let known = |(partition, next): (&Partition, &Next)| {
            let incarnation = cursors.get(partition)?.incarnation?;
            (tag(incarnation) == next.incarnation).then_some(())
        };
        self.0.iter().map(known).collect::<Option<()>>()?;
        let mut columns = Columns::default();
        for partition in cursors.keys() {
            let next = self.0.get(partition).map_or(0, |next| next.offset);
            columns.families.push(partition.family.as_str());
            columns
                .partitions
                .push(i32::try_from(partition.number).ok()?);
            columns.offsets.push(i64::try_from(next).ok()?);
        }
        Some(columns)
    }
}

impl From<Written> for Place {
    fn from(written: Written) -> Self {
        let read = |(family, number, offset, incarnation)| {
            (
                Partition { family, number },
                Next {
                    offset,
                    incarnation,
                },
            )
        };
        Self(written.0.into_iter().map(read).collect())
    }
}

#[derive(Default)]
struct Columns {
    families: Vec<&'static str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
}

#[derive(FromRow)]
struct Row {
    family: String,
    partition: i32,
    log_offset: i64,
    stream: String,
    record_id: Uuid,
    type_name: String,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    actor_id: Uuid,
    actor_kind: String,
    actor_role: String,
    cause_id: Option<Uuid>,
    cause_stream: Option<String>,
    late: bool,
    conflicts: i64,
    key_id: Option<String>,
    payload: Vec<u8>,
    available: i64,
}

impl Row {
    fn position(&self, cursors: &Cursors) -> Option<Position> {
        records::position(cursors, &self.family, self.partition, self.log_offset)
    }

    fn into_item(self, position: &Position) -> TimelineItem {
        let fact = match self.key_id {
            Some(_) => Ok(None),
            None => fact(&self.type_name, self.payload.as_slice()),
        };
        let fact = fact.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, %self.record_id, "a stored payload cannot be read");
            None
        });
        TimelineItem {
            record_id: self.record_id.to_string(),
            stream: self.stream,
            position: Some(encode::position(position)),
            occurred_at: Some(encode::timestamp(self.occurred_at)),
            recorded_at: Some(encode::timestamp(self.recorded_at)),
            actor: Some(records::actor(
                self.actor_id,
                &self.actor_kind,
                &self.actor_role,
            )),
            cause_id: self.cause_id.map(|id| id.to_string()).unwrap_or_default(),
            cause_stream: self.cause_stream.unwrap_or_default(),
            late: self.late,
            conflicts: count(self.conflicts),
            r#type: self.type_name,
            fact,
        }
    }
}

/// What a stored payload says, as it was stored: it was checked when it came in. `Ok(None)`: its
/// type is unknown to this version.
fn fact(type_name: &str, payload: &[u8]) -> Result<Option<Fact>, DecodeError> {
    Ok(Some(match type_name {
        types::RUN_STARTED => Fact::RunStarted(Message::decode(payload)?),
        types::RUN_PROGRESSED => Fact::RunProgressed(Message::decode(payload)?),
        types::RUN_ENDED => Fact::RunEnded(Message::decode(payload)?),
        types::STEP_STARTED => Fact::StepStarted(Message::decode(payload)?),
        types::STEP_ENDED => Fact::StepEnded(Message::decode(payload)?),
        types::USAGE_RECORDED => Fact::UsageRecorded(Message::decode(payload)?),
        types::TOOL_CALL_STARTED => Fact::ToolCallStarted(Message::decode(payload)?),
        types::TOOL_CALL_ENDED => Fact::ToolCallEnded(Message::decode(payload)?),
        types::MESSAGE_RECORDED => Fact::MessageRecorded(Message::decode(payload)?),
        types::TOOL_CALL_DECIDED
        | types::APPROVAL_VOTED
        | types::APPROVAL_CLOSED
        | types::EXECUTION_CONFIRMED
        | types::COMMAND_REJECTED => Fact::Decision(payload.to_vec()),
        types::OCCURRENCE_RECORDED => Fact::OccurrenceRecorded(Message::decode(payload)?),
        _ => return Ok(None),
    }))
}

/// Items of a timeline, each with the place behind it.
pub(super) struct Items {
    pub(super) items: Vec<(TimelineItem, Place)>,
    /// Whether the snapshot holds more behind the last of them.
    pub(super) more: bool,
}

/// The items behind `place`, at most `size` and as many as fit an answer; at least one, if any.
/// `None`: the place belongs to another log.
pub(super) async fn read(
    view: &mut View,
    run: &RunId,
    place: &Place,
    size: u32,
) -> Result<Option<Items>, Fault> {
    let Some(columns) = place.within(&view.snapshot.cursors) else {
        return Ok(None);
    };
    let (tenant, mode, bytes_max) = (view.tenant(), view.mode(), i64::from(view.bytes_max));
    let mut rows: Vec<Row> = sqlx::query_as(statements::SELECT_TIMELINE)
        .bind(tenant)
        .bind(mode)
        .bind(run.as_str())
        .bind(&columns.families)
        .bind(&columns.partitions)
        .bind(&columns.offsets)
        .bind(i64::from(size) + 1)
        .bind(bytes_max)
        .fetch_all(&mut **view.tx())
        .await
        .map_err(database)?;
    rows.truncate(size as usize);
    let available = rows.first().map_or(0, |row| row.available);
    let mut more = i64::try_from(rows.len()).is_ok_and(|read| read < available);
    let (mut items, mut place) = (Vec::with_capacity(rows.len()), place.clone());
    let mut room = view.room();
    for row in rows {
        // Every row's partition has a cursor: that is where the statement looked.
        let Some(position) = row.position(&view.snapshot.cursors) else {
            continue;
        };
        let item = row.into_item(&position);
        if !room.admits(&item) {
            more = true;
            break;
        }
        place.pass(&position);
        items.push((item, place.clone()));
    }
    Ok(Some(Items { items, more }))
}

impl Api {
    pub(super) async fn timeline(
        &self,
        scope: Scope,
        request: GetTimelineRequest,
    ) -> Result<GetTimelineResponse, Fault> {
        let size = page::size(request.page_size);
        let (run, options) = parse(request.read, |see| {
            see.id("run_id", request.run_id, RunId::parse)
        })?;
        let list = page::List::of(&["GetTimeline", &scope.to_string(), run.as_str()]);
        let place: Option<Written> = list.place(&request.page_token)?;
        let place = place.map(Place::from).unwrap_or_default();
        let mut view = self.read(scope, &options).await?;
        let Some(page) = read(&mut view, &run, &place, size).await? else {
            return Err(of_another_log("PAGE_TOKEN_INVALID", "page_token"));
        };
        if page.items.is_empty() && !runs::exists(&mut view, &run).await? {
            return Err(run_not_found());
        }
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last
            .map(|(_, place)| list.token(&place.write()))
            .transpose()?
            .unwrap_or_default();
        let items = page.items.into_iter().map(|(item, _)| item).collect();
        Ok(GetTimelineResponse {
            items,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}

/// The log was made anew since the token was given.
pub(super) fn of_another_log(reason: &'static str, field: &str) -> Fault {
    Fault::new(
        Kind::Invalid,
        reason,
        format!("{field} is of a log that has since been made anew; begin without it"),
    )
}
