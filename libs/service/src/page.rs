//! Page tokens: opaque, versioned, and good only for the list they came from.
//!
//! A token is no secret and no permission. Its checksum tells a damaged or foreign token from a
//! good one, so that a wrong page is never silently shown.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runledger_domain::digest::{self, Digest};
use runledger_domain::fault::{Fault, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const SIZE_DEFAULT: u32 = 50;
pub const SIZE_MAX: u32 = 1_000;

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 16;
const TOKEN_BYTES_MAX: usize = 4_096;

/// How many entries to answer with: the default for zero, and never more than the cap.
pub const fn size(requested: u32) -> u32 {
    match requested {
        0 => SIZE_DEFAULT,
        1..=SIZE_MAX => requested,
        _ => SIZE_MAX,
    }
}

/// What a list is asked for: its name, the scope, and every filter, in a fixed order. A token is
/// good only for an equal list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List(Digest);

impl List {
    pub fn of(parts: &[&str]) -> Self {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        Self(digest::of_parts(&parts))
    }

    /// The token of the page that begins after `last`.
    ///
    /// # Errors
    /// Internal, when `last` cannot be written as JSON.
    pub fn token<T: Serialize>(&self, last: &T) -> Result<String, Fault> {
        let place = serde_json::to_vec(last).map_err(Fault::internal)?;
        let mut bytes = Vec::with_capacity(1 + CHECK_BYTES + place.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.check(&place));
        bytes.extend_from_slice(&place);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Where the page of `token` begins; none for an empty token, which means the first page.
    ///
    /// # Errors
    /// Invalid, `PAGE_TOKEN_INVALID`.
    pub fn place<T: DeserializeOwned>(&self, token: &str) -> Result<Option<T>, Fault> {
        self.place_where(token, |_| true)
    }

    /// As [`Self::place`], of a token whose place `holds`: anybody can make a token, so what only a
    /// row could have said must be checked before it goes on to a statement.
    ///
    /// # Errors
    /// Invalid, `PAGE_TOKEN_INVALID`.
    pub fn place_where<T: DeserializeOwned>(
        &self,
        token: &str,
        holds: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>, Fault> {
        if token.is_empty() {
            return Ok(None);
        }
        self.read(token).filter(holds).map(Some).ok_or_else(|| {
            Fault::new(
                Kind::Invalid,
                "PAGE_TOKEN_INVALID",
                "page_token is not one that this list answered with; send it unchanged and with the same filters, or leave it empty for the first page",
            )
        })
    }

    fn read<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (&version, rest) = bytes.split_first()?;
        let (check, place) = rest.split_at_checked(CHECK_BYTES)?;
        if version != VERSION || check != self.check(place) {
            return None;
        }
        serde_json::from_slice(place).ok()
    }

    fn check(&self, place: &[u8]) -> [u8; CHECK_BYTES] {
        let whole = digest::of_parts(&[&[VERSION], &self.0, place]);
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&whole[..CHECK_BYTES]);
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_defaulted_and_capped() {
        assert_eq!(
            [0, 1, 1_000, 1_001, u32::MAX].map(size),
            [50, 1, 1_000, 1_000, 1_000]
        );
    }

    #[test]
    fn a_token_leads_back_to_its_place() {
        let list = List::of(&["ListRuns", "tenant/live", "failed"]);
        let place = ("2026-01-01T00:00:00Z".to_owned(), 17_u64);
        let token = list.token(&place).unwrap();
        assert_eq!(list.place::<(String, u64)>(&token).unwrap(), Some(place));
        assert_eq!(list.place::<(String, u64)>("").unwrap(), None);
    }

    #[test]
    fn a_touched_or_foreign_token_is_refused() {
        let list = List::of(&["ListRuns", "a", "b"]);
        let token = list.token(&"z").unwrap();
        let foreign = List::of(&["ListRuns", "ab", ""]);
        let fault = foreign.place::<String>(&token).unwrap_err();
        assert_eq!(
            (fault.kind, fault.reason),
            (Kind::Invalid, "PAGE_TOKEN_INVALID".into())
        );
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(bytes).unwrap();
            // The last digit of base64 may carry bits that mean nothing; those are refused too.
            assert!(list.place::<String>(&touched).is_err(), "{at}");
        }
        for wrong in ["!", "AQ", &"A".repeat(10_000), "ä", &token[1..]] {
            assert!(list.place::<String>(wrong).is_err());
        }
        assert!(
            list.place_where(&token, |place: &String| place == "a")
                .is_err()
        );
        // A place of another shape, however well checked.
        assert!(list.place::<u64>(&token).is_err());
    }
}
