//! A record as it lies in the log.

use bytes::Bytes;
use runledger_domain::digest::{self, Digest};
use runledger_domain::log::{Kind, Position};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;

/// A record as it was read back: undecoded, bytes as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub position: Position,
    pub key: Bytes,
    pub value: Bytes,
    pub headers: Result<Headers, HeaderFault>,
    /// The log's own timestamp, to the millisecond: `recorded_at` as its writer said it.
    pub log_timestamp: Option<Timestamp>,
}

impl Stored {
    /// The digest of key and value.
    pub fn digest(&self) -> Digest {
        digest::of_parts(&[&self.key, &self.value])
    }

    /// Size in the log, headers left out.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

pub(crate) const KIND: &str = "kind";
pub(crate) const TYPE: &str = "type";
pub(crate) const SCOPE: &str = "scope";
pub(crate) const PREV: &str = "prev";
pub(crate) const TRACE: &str = "traceparent";

/// What a record's headers repeat of it, to be judged without decoding the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    pub kind: Kind,
    pub type_name: Box<str>,
    /// `None` only in a Genesis.
    pub scope: Option<Scope>,
    /// Of a decision: the hash of the decision it continues.
    pub prev: Option<Digest>,
    /// W3C `traceparent`.
    pub trace: Option<Box<str>>,
}

/// Why headers cannot be read. The record itself is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    #[error("header {0} is missing")]
    Missing(&'static str),
    #[error("header {0} is malformed")]
    Malformed(&'static str),
}

impl Headers {
    /// Reads headers as stored. Of a repeated header the first counts; unknown ones are left alone;
    /// a malformed `traceparent` is dropped, since nothing depends on it.
    pub(crate) fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, HeaderFault> {
        let (mut kind, mut type_name, mut scope, mut prev, mut trace) =
            (None, None, None, None, None);
        for (name, value) in pairs {
            let slot = match name {
                KIND => &mut kind,
                TYPE => &mut type_name,
                SCOPE => &mut scope,
                PREV => &mut prev,
                TRACE => &mut trace,
                _ => continue,
            };
            *slot = slot.or(value);
        }
        let kind: Kind = text(KIND, kind.ok_or(HeaderFault::Missing(KIND))?)?
            .parse()
            .map_err(|_| HeaderFault::Malformed(KIND))?;
        let type_name = text(TYPE, type_name.ok_or(HeaderFault::Missing(TYPE))?)?.into();
        let scope = match scope {
            Some(scope) => {
                Some(parse_scope(text(SCOPE, scope)?).ok_or(HeaderFault::Malformed(SCOPE))?)
            }
            None if kind == Kind::Genesis => None,
            None => return Err(HeaderFault::Missing(SCOPE)),
        };
        let prev = match prev {
            Some(prev) => Some(prev.try_into().map_err(|_| HeaderFault::Malformed(PREV))?),
            None if kind == Kind::Decision => return Err(HeaderFault::Missing(PREV)),
            None => None,
        };
        let trace = trace
            .and_then(|trace| std::str::from_utf8(trace).ok())
            .map(Into::into);
        Ok(Self {
            kind,
            type_name,
            scope,
            prev,
            trace,
        })
    }
}

fn text<'a>(name: &'static str, value: &'a [u8]) -> Result<&'a str, HeaderFault> {
    std::str::from_utf8(value).map_err(|_| HeaderFault::Malformed(name))
}

fn parse_scope(text: &str) -> Option<Scope> {
    let (tenant, mode) = text.split_once('/')?;
    Some(Scope {
        tenant: tenant.parse().ok()?,
        mode: mode.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TENANT: &str = "0192f0c4-0000-7000-8000-000000000001/sandbox";

    #[test]
    fn headers_are_read_leniently_but_never_guessed() {
        let fact = [
            (KIND, Some(&b"fact"[..])),
            (TYPE, Some(b"t")),
            (SCOPE, Some(TENANT.as_bytes())),
        ];
        let headers = Headers::parse(
            fact.iter()
                .copied()
                .chain([("other", None), (TRACE, Some(&b"\xff"[..]))]),
        )
        .unwrap();
        assert_eq!((headers.kind, headers.trace), (Kind::Fact, None));
        assert_eq!(
            Headers::parse(fact[1..].to_vec()),
            Err(HeaderFault::Missing(KIND))
        );
        assert_eq!(
            Headers::parse(fact[..2].to_vec()),
            Err(HeaderFault::Missing(SCOPE))
        );
        let decision = [(KIND, Some(&b"decision"[..])), fact[1], fact[2]];
        assert_eq!(Headers::parse(decision), Err(HeaderFault::Missing(PREV)));
        let short = decision.iter().copied().chain([(PREV, Some(&[1; 31][..]))]);
        assert_eq!(Headers::parse(short), Err(HeaderFault::Malformed(PREV)));
        let genesis = [(KIND, Some(&b"genesis"[..])), (TYPE, Some(b"t"))];
        assert_eq!(Headers::parse(genesis).unwrap().scope, None);
    }

    proptest! {
        #[test]
        fn no_headers_make_it_panic(pairs: Vec<(u8, Option<Vec<u8>>)>) {
            let names = [KIND, TYPE, SCOPE, PREV, TRACE, "x"];
            let pairs = pairs.iter().map(|(name, value)| (names[usize::from(*name) % 6], value.as_deref()));
            drop(Headers::parse(pairs));
        }
    }
}
