//! Messages of a conversation, in the order of the log.

use runledger_domain::fault::Fault;
use runledger_domain::ids::ConversationId;
use runledger_domain::log::Stream;
use runledger_domain::scope::Scope;
use runledger_proto::encode;
use runledger_proto::run::v1::{ListMessagesRequest, ListMessagesResponse, Message};
use runledger_service::page;
use uuid::Uuid;

use super::records::Records;
use super::{Api, Page, View, count, database, parse};
use crate::statements;

impl Api {
    pub(super) async fn messages(
        &self,
        scope: Scope,
        request: ListMessagesRequest,
    ) -> Result<ListMessagesResponse, Fault> {
        let size = page::size(request.page_size);
        let (conversation, options) = parse(request.read, |see| {
            see.id(
                "conversation_id",
                request.conversation_id,
                ConversationId::parse,
            )
        })?;
        let list = page::List::of(&["ListMessages", &scope.to_string(), conversation.as_str()]);
        let after: Option<i64> = list.place(&request.page_token)?;
        let mut view = self.read(scope, &options).await?;
        let page = messages(&mut view, &conversation, size, after).await?;
        let next_page_token = page
            .next
            .map(|place| list.token(&place))
            .transpose()?
            .unwrap_or_default();
        Ok(ListMessagesResponse {
            messages: page.entries,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}

/// A page of a conversation. One that is another scope's is as empty as one that is nobody's.
async fn messages(
    view: &mut View,
    conversation: &ConversationId,
    size: u32,
    after: Option<i64>,
) -> Result<Page<Message, i64>, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    let mut rows: Vec<(Uuid, i64)> = sqlx::query_as(statements::SELECT_MESSAGES)
        .bind(tenant)
        .bind(mode)
        .bind(conversation.as_str())
        .bind(after.unwrap_or(-1))
        .bind(i64::from(size) + 1)
        .fetch_all(&mut **view.tx())
        .await
        .map_err(database)?;
    let more = rows.len() > size as usize;
    rows.truncate(size as usize);
    let stream = Stream::conversation(conversation);
    let asked: Vec<(String, Uuid)> = rows
        .iter()
        .map(|(id, _)| (stream.as_str().to_owned(), *id))
        .collect();
    let records = Records::read(view, &asked).await?;
    let mut room = view.room();
    let (mut entries, mut last) = (Vec::with_capacity(rows.len()), None);
    for (place, (_, log_offset)) in rows.iter().enumerate() {
        let Some(record) = records.get(place) else {
            break;
        };
        let entry = Message {
            message: Some(record.decode()?),
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
        last = Some(*log_offset);
        entries.push(entry);
    }
    let next = last.filter(|_| more || entries.len() < rows.len());
    Ok(Page { entries, next })
}
