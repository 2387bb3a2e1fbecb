//! Facts about messages.

use runledger_domain::ids::{ConversationId, MessageId, Name, RunId};
use runledger_domain::message as domain;

use super::fields::Fields;
use crate::message::v1 as wire;

const SENDER_CHARS_MAX: usize = 128;
const TEXT_CHARS_MAX: usize = 131_072;
const KIND_DEFAULT: &str = "text";

pub(super) fn message_recorded(
    wire: wire::MessageRecorded,
    see: &mut Fields<'_>,
) -> Option<domain::Fact> {
    use wire::message_recorded::Content;
    let conversation_id = see.id(
        "conversation_id",
        wire.conversation_id,
        ConversationId::parse,
    );
    let message_id = see.id("message_id", wire.message_id, MessageId::parse);
    let sender_id = see.text("sender_id", wire.sender_id, SENDER_CHARS_MAX);
    let role = see.word::<wire::SenderRole>("role", wire.role);
    let kind = if wire.kind.is_empty() {
        KIND_DEFAULT.to_owned()
    } else {
        wire.kind
    };
    let kind = see.id("kind", kind, Name::parse);
    let content = see
        .required("content", wire.content)
        .map(|content| match content {
            Content::Text(text) => domain::Content::Text(see.text("text", text, TEXT_CHARS_MAX)),
            Content::Chars(chars) => domain::Content::Chars(see.count("chars", chars)),
        });
    let in_reply_to = see.optional_id("in_reply_to", wire.in_reply_to, MessageId::parse);
    let run_id = see.optional_id("run_id", wire.run_id, RunId::parse);
    Some(domain::Fact::MessageRecorded(domain::MessageRecorded {
        conversation_id: conversation_id?,
        message_id: message_id?,
        sender_id,
        role: role?,
        kind: kind?,
        content: content?,
        in_reply_to,
        run_id,
    }))
}
