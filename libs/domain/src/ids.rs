//! Identities. UUIDs for what Runledger makes, short texts for what its callers name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

uuid_id! {
    /// An organisation: the wall of isolation.
    TenantId,
    /// A user, an agent, a service or an operator.
    PrincipalId,
    /// An API key.
    KeyId,
    /// A record of the log; unique in its stream.
    RecordId,
    /// One incarnation of one partition: the id in its Genesis.
    Incarnation,
    /// A tool call that is held until people decide.
    ApprovalId,
    /// Credits that were given to an account: the id of the command that gave them.
    GrantId,
    /// Credits that are set aside: the id of the command that asked for it.
    HoldId,
}

/// Longest id that a caller may choose, in characters.
pub const ID_CHARS_MAX: usize = 128;

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {ID_CHARS_MAX} characters")]
    TooLong,
    #[error("must consist of printable ASCII characters without spaces")]
    NotPrintable,
}

fn check_id(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.chars().nth(ID_CHARS_MAX).is_some() {
        return Err(InvalidId::TooLong);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidId::NotPrintable);
    }
    Ok(())
}

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Box<str>);

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl $name {
            /// Checks `text`: 1 to 128 printable ASCII characters without spaces.
            pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_id(&text)?;
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    )+};
}

text_id! {
    RunId,
    AgentId,
    StepId,
    ToolCallId,
    ConversationId,
    MessageId,
    SpaceId,
    AccountId,
    ScheduleId,
    PolicyId,
    /// Owner of schedules: an agent, a space.
    OwnerId,
    /// A name that callers choose and group by: a tool, a meter, a label, a counter, a kind.
    Name,
}

impl From<Name> for AccountId {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

impl Name {
    /// A word of ours, which a test holds to be a name.
    pub(crate) fn of_word(word: &'static str) -> Self {
        Self(word.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_128_printable_characters() {
        assert!(RunId::parse("run/1:ä".replace('ä', "a")).is_ok());
        assert_eq!(RunId::parse(""), Err(InvalidId::Empty));
        assert_eq!(RunId::parse("a b"), Err(InvalidId::NotPrintable));
        assert_eq!(RunId::parse("a\0"), Err(InvalidId::NotPrintable));
        assert_eq!(RunId::parse("é"), Err(InvalidId::NotPrintable));
        assert!(RunId::parse("a".repeat(128)).is_ok());
        assert_eq!(RunId::parse("a".repeat(129)), Err(InvalidId::TooLong));
    }
}
