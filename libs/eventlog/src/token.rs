//! Tokens: positions that callers carry from a write to a read, as text without meaning to them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runledger_domain::digest;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Partition, Position};
use uuid::Uuid;

/// Longest text that is looked at.
pub const TEXT_CHARS_MAX: usize = 4_096;
/// Most positions in one token. They fit the text while partitions are numbered below 128 and
/// offsets stay below 2^49.
pub const POSITIONS_MAX: usize = 120;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// A set of positions, at most one a partition: "everything up to and including these".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token(BTreeMap<Partition, (Incarnation, u64)>);

/// Why a text is no token, or tokens cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("is longer than any token; pass it unchanged")]
    TooLong,
    #[error("is not a token as it was handed out; pass it unchanged")]
    Malformed,
    #[error("was made by a newer version")]
    Version,
    #[error("comes from another log than the one beside it")]
    OtherIncarnation,
    #[error("names more than {POSITIONS_MAX} partitions together")]
    TooMany,
}

impl Token {
    /// The token of some records: of each partition the last.
    pub fn from_positions(positions: impl IntoIterator<Item = Position>) -> Self {
        let mut token = Self::default();
        for position in positions {
            let offset = (position.incarnation, position.offset);
            token
                .0
                .entry(position.partition)
                .and_modify(|last| {
                    if last.1 < position.offset {
                        *last = offset
                    }
                })
                .or_insert(offset);
        }
        token
    }

    /// Reads a token; the empty text is the empty token.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > TEXT_CHARS_MAX {
            return Err(InvalidToken::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| InvalidToken::Malformed)?;
        let (body, checksum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(InvalidToken::Malformed)?;
        if checksum_of(body) != *checksum {
            return Err(InvalidToken::Malformed);
        }
        let (version, mut rest) = body.split_first().ok_or(InvalidToken::Malformed)?;
        if *version != VERSION {
            return Err(InvalidToken::Version);
        }
        let mut token = Self::default();
        if rest.is_empty() {
            return Err(InvalidToken::Malformed);
        }
        while !rest.is_empty() {
            let (partition, place) = take_position(&mut rest).ok_or(InvalidToken::Malformed)?;
            // In order and each once: a token has one text.
            if token
                .0
                .last_key_value()
                .is_some_and(|(last, _)| *last >= partition)
            {
                return Err(InvalidToken::Malformed);
            }
            token.0.insert(partition, place);
        }
        if token.0.len() > POSITIONS_MAX {
            return Err(InvalidToken::TooMany);
        }
        Ok(token)
    }

    /// Takes in what another token names: of each partition the later position.
    pub fn merge(&mut self, other: &Self) -> Result<(), InvalidToken> {
        let mut merged = self.0.clone();
        for (partition, (incarnation, offset)) in &other.0 {
            let mine = merged.entry(*partition).or_insert((*incarnation, *offset));
            if mine.0 != *incarnation {
                return Err(InvalidToken::OtherIncarnation);
            }
            mine.1 = mine.1.max(*offset);
        }
        if merged.len() > POSITIONS_MAX {
            return Err(InvalidToken::TooMany);
        }
        self.0 = merged;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The positions, by partition.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.0
            .iter()
            .map(|(partition, (incarnation, offset))| Position {
                partition: *partition,
                incarnation: *incarnation,
                offset: *offset,
            })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let mut bytes = vec![VERSION];
        for (partition, (incarnation, offset)) in &self.0 {
            bytes.push(code(partition.family));
            put_varint(&mut bytes, u64::from(partition.number));
            bytes.extend_from_slice(incarnation.as_uuid().as_bytes());
            put_varint(&mut bytes, *offset);
        }
        let checksum = checksum_of(&bytes);
        bytes.extend_from_slice(&checksum);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Guards against a text cut short or mistyped, not against forgery: a token opens no door.
fn checksum_of(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = digest::of(body);
    [a, b, c, d]
}

/// What stands for a family in a token. Never reused.
const fn code(family: Family) -> u8 {
    match family {
        Family::Run => 1,
        Family::Schedule => 2,
        Family::Message => 3,
        Family::Policy => 4,
        Family::Directory => 5,
        Family::Price => 6,
        Family::Billing => 7,
    }
}

fn take_position(rest: &mut &[u8]) -> Option<(Partition, (Incarnation, u64))> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    let family = Family::ALL
        .iter()
        .copied()
        .find(|family| code(*family) == *first)?;
    let number = u32::try_from(take_varint(rest)?).ok()?;
    let (incarnation, after) = rest.split_first_chunk::<16>()?;
    *rest = after;
    let offset = take_varint(rest)?;
    Some((
        Partition { family, number },
        (Incarnation::new(Uuid::from_bytes(*incarnation)), offset),
    ))
}

fn put_varint(bytes: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, bytes);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let before = *rest;
    let value = prost::encoding::decode_varint(rest).ok()?;
    // The shortest form only: a token has one text.
    (prost::encoding::encoded_len_varint(value) == before.len() - rest.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn position()(family in 0..Family::ALL.len(), number in 0u32..128, id: u128, offset in 0u64..1 << 49) -> Position {
            Position {
                partition: Partition { family: Family::ALL[family], number },
                incarnation: Incarnation::new(Uuid::from_u128(id)),
                offset,
            }
        }
    }

    proptest! {
        #[test]
        fn a_token_is_its_text(positions in vec(position(), 0..POSITIONS_MAX)) {
            let token = Token::from_positions(positions);
            let text = token.to_string();
            prop_assert!(text.len() <= TEXT_CHARS_MAX);
            prop_assert_eq!(Token::parse(&text), Ok(token));
        }

        #[test]
        fn any_text_is_a_token_or_refused(text in ".{0,200}") {
            drop(Token::parse(&text));
        }

        #[test]
        fn any_bytes_with_a_good_checksum_are_a_token_with_that_text_or_refused(mut bytes: Vec<u8>, versioned: bool) {
            if versioned {
                bytes.insert(0, VERSION);
            }
            let checksum = checksum_of(&bytes);
            bytes.extend_from_slice(&checksum);
            let text = URL_SAFE_NO_PAD.encode(bytes);
            if let Ok(token) = Token::parse(&text) {
                prop_assert_eq!(token.to_string(), text);
            }
        }

        #[test]
        fn a_changed_letter_is_noticed(positions in vec(position(), 1..5), at: usize, letter in "[A-Za-z0-9_-]") {
            let text = Token::from_positions(positions).to_string();
            let at = at % text.len();
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            prop_assume!(changed != text);
            prop_assert!(Token::parse(&changed).is_err());
        }

        #[test]
        fn merging_takes_the_later(positions in vec(position(), 0..20), more in vec(position(), 0..20)) {
            let (one, two) = (Token::from_positions(positions.clone()), Token::from_positions(more.clone()));
            let mut merged = one.clone();
            match merged.merge(&two) {
                Ok(()) => {
                    for position in one.positions().chain(two.positions()) {
                        let (_, offset) = merged.0[&position.partition];
                        prop_assert!(offset >= position.offset);
                    }
                }
                Err(error) => {
                    prop_assert_eq!(error, InvalidToken::OtherIncarnation);
                    prop_assert_eq!(merged, one);
                }
            }
        }
    }

    #[test]
    fn what_is_no_token_is_said_why() {
        assert_eq!(Token::parse(""), Ok(Token::default()));
        assert_eq!(Token::default().to_string(), "");
        assert_eq!(
            Token::parse(&"A".repeat(TEXT_CHARS_MAX + 1)),
            Err(InvalidToken::TooLong)
        );
        assert_eq!(Token::parse("AQ=="), Err(InvalidToken::Malformed));
        let newer = [&[2][..], &checksum_of(&[2])].concat();
        assert_eq!(
            Token::parse(&URL_SAFE_NO_PAD.encode(newer)),
            Err(InvalidToken::Version)
        );
        let bare = [&[VERSION][..], &checksum_of(&[VERSION])].concat();
        assert_eq!(
            Token::parse(&URL_SAFE_NO_PAD.encode(bare)),
            Err(InvalidToken::Malformed)
        );
    }
}
