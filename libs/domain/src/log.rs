//! What lies in the log: families, streams, keys, partitions, records, positions.

use std::fmt;

use crate::digest::{self, Digest};
use crate::ids::{AccountId, ConversationId, Incarnation, OwnerId, PrincipalId, RecordId, RunId};
use crate::scope::{Actor, PrincipalKind, Role, Scope, worded};
use crate::time::Timestamp;

worded! {
    /// One topic, one module of rules, at most one decider.
    Family {
        Run = "run", Schedule = "schedule", Message = "message", Policy = "policy",
        Directory = "directory", Price = "price", Billing = "billing",
    }
}

impl Family {
    /// Whether its topic has a single partition: everybody who needs it reads all of it.
    pub const fn is_single(self) -> bool {
        match self {
            Self::Run | Self::Schedule | Self::Message | Self::Billing => false,
            Self::Policy | Self::Directory | Self::Price => true,
        }
    }
}

worded! {
    /// What a record is to its readers.
    Kind { Fact = "fact", Command = "command", Decision = "decision", Genesis = "genesis" }
}

/// The unit of order inside a scope, for example `run/r-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    family: Family,
    name: Box<str>,
}

impl Stream {
    /// Longest name, in bytes: the longest prefix and the longest id.
    pub const NAME_BYTES_MAX: usize = 160;

    pub fn run(id: &RunId) -> Self {
        Self {
            family: Family::Run,
            name: format!("run/{id}").into(),
        }
    }

    pub fn schedules(owner: &OwnerId) -> Self {
        Self {
            family: Family::Schedule,
            name: format!("schedules/{owner}").into(),
        }
    }

    pub fn conversation(id: &ConversationId) -> Self {
        Self {
            family: Family::Message,
            name: format!("conversation/{id}").into(),
        }
    }

    /// The policies of a scope.
    pub fn policies() -> Self {
        Self {
            family: Family::Policy,
            name: "policies".into(),
        }
    }

    /// The credits of an account.
    pub fn account(id: &AccountId) -> Self {
        Self {
            family: Family::Billing,
            name: format!("account/{id}").into(),
        }
    }

    /// The prices of a scope.
    pub fn prices() -> Self {
        Self {
            family: Family::Price,
            name: "prices".into(),
        }
    }

    /// What changes in the directory of a scope.
    pub fn directory() -> Self {
        Self {
            family: Family::Directory,
            name: "directory".into(),
        }
    }

    /// Parses a stored name; `None` when it belongs to no known family.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "policies" => return Some(Self::policies()),
            "directory" => return Some(Self::directory()),
            "prices" => return Some(Self::prices()),
            _ => {}
        }
        let (prefix, id) = name.split_once('/')?;
        match prefix {
            "run" => id.parse().ok().map(|id| Self::run(&id)),
            "schedules" => id.parse().ok().map(|id| Self::schedules(&id)),
            "conversation" => id.parse().ok().map(|id| Self::conversation(&id)),
            "account" => id.parse().ok().map(|id| Self::account(&id)),
            _ => None,
        }
    }

    /// The stream of a record that lies in a topic of `family`. A later version may know more kinds
    /// of streams in it: such a name is kept as it is. `None`: no name at all, or one of a known
    /// kind that does not belong there.
    pub fn stored(family: Family, name: &str) -> Option<Self> {
        match Self::parse(name) {
            Some(stream) => Some(stream).filter(|stream| stream.family == family),
            None => Self::is_name(name).then(|| Self {
                family,
                name: name.into(),
            }),
        }
    }

    /// The scope and the stream of a record key in a topic of `family`; `None`: it is none that
    /// [`Self::key`] writes. One stream has one key: a tenant written in another way is not its.
    pub fn of_key(family: Family, key: &[u8]) -> Option<(Scope, Self)> {
        let text = std::str::from_utf8(key).ok()?;
        let (tenant, rest) = text.split_once('/')?;
        let (mode, name) = rest.split_once('/')?;
        let scope = Scope {
            tenant: tenant.parse().ok()?,
            mode: mode.parse().ok()?,
        };
        let stream = Self::stored(family, name)?;
        (stream.key(scope) == text).then_some((scope, stream))
    }

    /// Whether `name` can be that of a stream, of this version or of another: 1 to 160 printable
    /// ASCII characters.
    pub fn is_name(name: &str) -> bool {
        (1..=Self::NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic())
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The record key: `<tenant>/<mode>/<stream>`.
    pub fn key(&self, scope: Scope) -> String {
        format!("{scope}/{}", self.name)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Which function [`partition_of`] is. It is written into every Genesis; a partition made with
/// another version is refused.
pub const HASH_VERSION: u32 = 1;

/// The partition of a key: the first 8 bytes, big endian, of SHA-256(key), modulo the count.
/// Changing this would tear every stream in two.
///
/// `count` must be at least 1; 0 is taken for 1.
pub fn partition_of(key: &str, count: u32) -> u32 {
    let [a, b, c, d, e, f, g, h, ..] = digest::of(key.as_bytes());
    let rest = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % u64::from(count.max(1));
    u32::try_from(rest).unwrap_or_default()
}

/// One partition of one family's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    pub family: Family,
    pub number: u32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.family, self.number)
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: Partition,
    pub incarnation: Incarnation,
    pub offset: u64,
}

/// The first record of a partition: its incarnation, and the start of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    pub incarnation: Incarnation,
    pub topic: String,
    pub partition: u32,
    pub partition_count: u32,
    pub hash_version: u32,
}

/// Which record another one follows from. An id alone names none: it is unique in its stream only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The stream that the cause lies in, by name, since this version need not know its family;
    /// `None`: the stream of the record that names it.
    pub stream: Option<Box<str>>,
    pub id: RecordId,
}

/// Who caused a record, as authenticated when it was appended. A later version may have written it:
/// `None` where its word is none that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Author {
    pub principal: PrincipalId,
    pub kind: Option<PrincipalKind>,
    pub role: Option<Role>,
}

impl From<Actor> for Author {
    fn from(actor: Actor) -> Self {
        Self {
            principal: actor.principal,
            kind: Some(actor.kind),
            role: Some(actor.role),
        }
    }
}

/// On what terms a command is to be decided, or a decision was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    Asked(Asked),
    Decided(Decided),
}

/// On what terms a command is to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Decided later than this, it is rejected.
    pub deadline: Timestamp,
    /// How many decisions its stream must have in force; `None`: any number.
    pub expected_version: Option<u64>,
    /// Records of other families that its decision has to know of.
    pub at_least: Vec<Position>,
}

impl Asked {
    /// Most positions of [`Self::at_least`].
    pub const POSITIONS_MAX: usize = 8;
}

/// What a decision was taken from. Its moment is the record's `occurred_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The first offset of its partition that its decider did not know.
    pub read_to: u64,
    pub rules_version: u32,
    /// How many decisions its stream has in force, this one included.
    pub stream_version: u64,
    /// The last records of other families that were known.
    pub views: Vec<Position>,
}

/// A projection is told to leave a record out: what a fact in the stream of that record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Name of the projection.
    pub projection: Box<str>,
    /// The record to leave out.
    pub position: Position,
    /// Why, in the words of whoever decided it.
    pub reason: Box<str>,
}

impl Skipped {
    /// Longest name of a projection, in bytes.
    pub const PROJECTION_BYTES_MAX: usize = 128;
    /// Longest reason, in characters.
    pub const REASON_CHARS_MAX: usize = 1_000;
}

/// A record: an envelope and one encoded payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Identity is (scope, stream, id); the first in the log wins.
    pub id: RecordId,
    pub scope: Scope,
    pub stream: Stream,
    pub kind: Kind,
    /// Full name of the payload's message, for example `runledger.run.v1.RunStarted`.
    pub type_name: Box<str>,
    /// When it happened, by the reporter's clock.
    pub occurred_at: Timestamp,
    /// When it was appended, by our clock.
    pub recorded_at: Timestamp,
    pub author: Author,
    pub cause: Option<Cause>,
    /// Tells a repeat from a reuse of the id.
    pub request_digest: Digest,
    /// The key that seals the payload; `None`: it is not sealed.
    pub key: Option<Box<str>>,
    pub payload: Vec<u8>,
    /// Of a command or a decision.
    pub terms: Option<Terms>,
}

impl Record {
    /// The digest of what the caller asked for: type, time, cause and payload.
    pub fn digest_request(
        type_name: &str,
        occurred_at: Timestamp,
        cause: Option<&Cause>,
        payload: &[u8],
    ) -> Digest {
        let cause_id = cause.map(|cause| cause.id.as_uuid().into_bytes());
        let cause_stream = cause.and_then(|cause| cause.stream.as_deref());
        digest::of_parts(&[
            type_name.as_bytes(),
            &occurred_at.timestamp_micros().to_be_bytes(),
            cause_id.as_ref().map_or(&[], |id| id.as_slice()),
            cause_stream.unwrap_or_default().as_bytes(),
            payload,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_key_never_changes() {
        let golden = [
            ("t/live/run/a", 12, 0),
            ("t/live/run/b", 12, 7),
            ("t/sandbox/run/a", 12, 7),
            ("", 4, 0),
        ];
        for (key, count, partition) in golden {
            assert_eq!(partition_of(key, count), partition, "{key}");
        }
        assert_eq!(partition_of("anything", 0), 0);
    }

    #[test]
    fn one_id_in_two_streams_is_two_causes() {
        let cause = |stream: Option<&str>| Cause {
            stream: stream.map(Into::into),
            id: RecordId::new(uuid::Uuid::from_u128(1)),
        };
        let digest = |cause: Option<Cause>| {
            Record::digest_request("t", Timestamp::UNIX_EPOCH, cause.as_ref(), b"p")
        };
        let said = [None, Some(cause(None)), Some(cause(Some("run/a")))].map(digest);
        assert_ne!(said[0], said[1]);
        assert_ne!(said[1], said[2]);
        assert_ne!(said[2], digest(Some(cause(Some("run/b")))));
    }

    #[test]
    fn a_stored_stream_name_parses_back() {
        let stream = Stream::run(&"r/1".parse().unwrap());
        assert_eq!(Stream::parse(stream.as_str()), Some(stream));
        assert_eq!(Stream::parse("run/"), None);
        assert_eq!(Stream::parse("elsewhere/1"), None);
    }

    #[test]
    fn only_a_key_that_we_would_write_names_a_stream() {
        let good = b"0192f0c4-0000-7000-8000-000000000001/sandbox/run/a/b";
        let (scope, stream) = Stream::of_key(Family::Run, good).unwrap();
        assert_eq!(stream.key(scope).as_bytes(), good);
        for key in [
            &b"0192f0c4-0000-7000-8000-000000000001/sandbox/conversation/a"[..],
            b"0192F0C4-0000-7000-8000-000000000001/live/run/a",
            b"0192f0c4000070008000000000000001/live/run/a",
            b"0192f0c4-0000-7000-8000-000000000001/other/run/a",
            b"0192f0c4-0000-7000-8000-000000000001/live",
            b"\xff",
            b"",
        ] {
            assert_eq!(Stream::of_key(Family::Run, key), None, "{key:?}");
        }
    }

    #[test]
    fn a_stream_of_a_later_kind_is_kept_in_the_family_where_it_lies() {
        let later = Stream::stored(Family::Message, "thread/1").unwrap();
        assert_eq!(
            (later.family(), later.as_str()),
            (Family::Message, "thread/1")
        );
        let run = Stream::run(&"1".parse().unwrap());
        assert_eq!(Stream::stored(Family::Run, "run/1"), Some(run));
        for name in ["run/1", "", "thread 1", &"x".repeat(161)] {
            assert_eq!(Stream::stored(Family::Message, name), None, "{name}");
        }
    }
}
