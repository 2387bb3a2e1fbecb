//! The id by which a caller and we speak of one call.

use http::{HeaderMap, HeaderValue};

use crate::ids;

/// The metadata that carries it, both ways.
pub const HEADER: &str = "x-request-id";

const CHARS_MAX: usize = 128;

/// The caller's own when it is 1 to 128 printable ASCII characters, else a new one. Left in every
/// request, echoed in the answer, and in every line that is logged on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER) {
            Some(value) if is_printable(value.as_bytes()) => Self(value.clone()),
            Some(_) | None => Self::fresh(),
        }
    }

    fn fresh() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let text = ids::fresh().hyphenated().encode_lower(&mut buffer);
        // A UUID is always a header value; were it not, an empty id would do no harm.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("")))
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn into_header(self) -> HeaderValue {
        self.0
    }
}

fn is_printable(bytes: &[u8]) -> bool {
    (1..=CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> RequestId {
        RequestId::of(&HeaderMap::from_iter([(
            HEADER.parse().unwrap(),
            HeaderValue::from_bytes(value).unwrap(),
        )]))
    }

    #[test]
    fn a_good_id_is_kept_and_any_other_replaced() {
        assert_eq!(of(b"abc-123").as_str(), "abc-123");
        assert_eq!(of(&[b'x'; 128]).as_str().len(), 128);
        for wrong in [&b""[..], b"a b", &[b'x'; 129], "é".as_bytes()] {
            assert_eq!(of(wrong).as_str().len(), 36);
        }
        assert_ne!(
            RequestId::of(&HeaderMap::new()),
            RequestId::of(&HeaderMap::new())
        );
    }
}
