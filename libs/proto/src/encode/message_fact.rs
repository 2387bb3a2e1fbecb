use runledger_domain::message as domain;

use super::text;
use crate::message::v1 as wire;

impl From<&domain::MessageRecorded> for wire::MessageRecorded {
    fn from(fact: &domain::MessageRecorded) -> Self {
        Self {
            conversation_id: fact.conversation_id.to_string(),
            message_id: fact.message_id.to_string(),
            sender_id: fact.sender_id.clone(),
            role: wire::SenderRole::from(fact.role).into(),
            kind: fact.kind.to_string(),
            content: Some((&fact.content).into()),
            in_reply_to: text(fact.in_reply_to.as_ref()),
            run_id: text(fact.run_id.as_ref()),
        }
    }
}

impl From<&domain::Content> for wire::message_recorded::Content {
    fn from(content: &domain::Content) -> Self {
        match content {
            domain::Content::Text(text) => Self::Text(text.clone()),
            domain::Content::Chars(chars) => Self::Chars(*chars),
        }
    }
}
