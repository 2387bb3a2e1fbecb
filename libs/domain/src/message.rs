//! Messages: their facts.

use crate::ids::{ConversationId, MessageId, Name, RunId};
use crate::scope::worded;

worded! {
    /// Who speaks.
    SenderRole { User = "user", Agent = "agent", System = "system", Tool = "tool" }
}

/// The text, or only how long it was where the text stays elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    Chars(u64),
}

impl Content {
    /// Length in characters.
    pub fn chars(&self) -> u64 {
        match self {
            Self::Text(text) => text.chars().count() as u64,
            Self::Chars(chars) => *chars,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecorded {
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub sender_id: String,
    pub role: SenderRole,
    pub kind: Name,
    pub content: Content,
    pub in_reply_to: Option<MessageId>,
    pub run_id: Option<RunId>,
}

/// A fact of the family `message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    MessageRecorded(MessageRecorded),
}

impl Fact {
    pub fn message(&self) -> &MessageRecorded {
        match self {
            Self::MessageRecorded(message) => message,
        }
    }
}
