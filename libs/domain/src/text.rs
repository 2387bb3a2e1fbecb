//! Bounded free text.

use std::borrow::Cow;

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("must have at most {0} characters")]
    TooLong(usize),
    #[error("must not contain the NUL character")]
    Nul,
}

/// Checks that `text` has at most `chars_max` characters and no NUL, which Postgres cannot keep.
pub fn check(text: &str, chars_max: usize) -> Result<(), InvalidText> {
    if text.len() > chars_max && text.chars().nth(chars_max).is_some() {
        return Err(InvalidText::TooLong(chars_max));
    }
    if text.contains('\0') {
        return Err(InvalidText::Nul);
    }
    Ok(())
}

/// `text` without the one character that databases cannot keep. Ingestion refuses it; a record in
/// the log cannot be refused any more.
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}
