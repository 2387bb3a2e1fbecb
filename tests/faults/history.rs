//! What clients were told: a few bytes a record, whatever it says. Pure.

use std::collections::BTreeMap;
use std::fmt;

use runledger_domain::scope::Scope;
use uuid::Uuid;

/// Parts of one kind that a run may have.
pub(crate) const PARTS_MAX: u16 = 512;
/// Every so many tool calls fail.
const FAILS_EVERY: u16 = 5;

/// What a record says. Its part tells it from others of its kind in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Started,
    Progressed,
    Used,
    CallStarted,
    CallEnded,
    Message,
    Occurrence,
    Ended,
}

impl Kind {
    /// Whether a record of it is also a row of a table of its own.
    pub(crate) fn has_row(self) -> bool {
        match self {
            Self::CallStarted | Self::CallEnded | Self::Message | Self::Occurrence => true,
            Self::Started | Self::Progressed | Self::Used | Self::Ended => false,
        }
    }
}

/// A run, by the writer that reports it and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) writer: u16,
    pub(crate) number: u32,
}

impl RunKey {
    /// The run with this id, if it is one of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (writer, number) = text.strip_prefix("run-")?.split_once('-')?;
        let key = Self {
            writer: writer.parse().ok()?,
            number: number.parse().ok()?,
        };
        (key.to_string() == text).then_some(key)
    }

    pub(crate) fn conversation(self) -> String {
        format!("talk-{}-{}", self.writer, self.number)
    }

    pub(crate) fn schedule(self) -> String {
        format!("plan-{}-{}", self.writer, self.number)
    }

    pub(crate) fn owner(self) -> String {
        format!("owner-{}-{}", self.writer, self.number)
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run-{}-{}", self.writer, self.number)
    }
}

/// The id of a tool call, a message, and what tells an occurrence from others.
pub(crate) fn part_id(part: u16) -> String {
    format!("p{part}")
}

/// The part with this id, if it can be one.
pub(crate) fn parse_part(text: &str) -> Option<u16> {
    let part = text.strip_prefix('p')?.parse().ok()?;
    (part < PARTS_MAX && part_id(part) == text).then_some(part)
}

/// Whether the tool call of this part is reported to have failed.
pub(crate) fn fails(part: u16) -> bool {
    part.is_multiple_of(FAILS_EVERY)
}

/// What the use of this part is recorded as.
pub(crate) fn quantity(part: u16) -> i64 {
    i64::from(part % 7) + 1
}

/// A record, by its writer and its number there. Its UUID says both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordKey {
    pub(crate) writer: u16,
    pub(crate) number: u32,
}

impl RecordKey {
    pub(crate) fn uuid(self, nonce: u32) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&nonce.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.writer.to_be_bytes());
        bytes[12..].copy_from_slice(&self.number.to_be_bytes());
        Uuid::new_v8(bytes)
    }

    /// The record with this id, if it is one that this history can hold.
    pub(crate) fn parse(id: Uuid, nonce: u32) -> Option<Self> {
        let [_, _, _, _, _, _, _, _, _, _, w0, w1, n0, n1, n2, n3] = *id.as_bytes();
        let key = Self {
            writer: u16::from_be_bytes([w0, w1]),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
        };
        (key.uuid(nonce) == id).then_some(key)
    }
}

/// What a client was told of a record. It only ever learns more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Each time that nothing was appended.
    Denied,
    /// At least once nothing, or that nobody knows; never that it was accepted.
    Unknown,
    Acknowledged,
}

/// A record that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// The run's number at the writer.
    pub(crate) run: u32,
    pub(crate) part: u16,
    pub(crate) kind: Kind,
    pub(crate) fate: Fate,
}

/// All that one writer sent, in the order of its numbers.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Which of the history's scopes it writes to.
    pub(crate) scope: usize,
    pub(crate) sent: Vec<Sent>,
}

impl Writer {
    pub(crate) fn new(scope: usize) -> Self {
        Self {
            scope,
            sent: Vec::new(),
        }
    }

    /// Adds a record that is about to be sent; returns its number.
    pub(crate) fn add(&mut self, run: u32, kind: Kind, part: u16) -> u32 {
        let number = u32::try_from(self.sent.len()).expect("fewer than four billion records");
        let fate = Fate::Denied;
        self.sent.push(Sent {
            run,
            part,
            kind,
            fate,
        });
        number
    }

    /// Notes what was told of a record. Returns whether it was acknowledged for the first time.
    pub(crate) fn told(&mut self, number: u32, fate: Fate) -> bool {
        let sent = &mut self.sent[number as usize];
        let first = fate == Fate::Acknowledged && sent.fate < fate;
        sent.fate = sent.fate.max(fate);
        first
    }
}

/// What the reads showed, judged as they came.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) answered: u64,
    /// Told to come back for as long as the reader had patience.
    pub(crate) unanswered: u64,
    /// How many were wrong, and what the first of them were.
    pub(crate) wrong: u64,
    pub(crate) stale: u64,
    pub(crate) examples: Vec<String>,
}

impl Reads {
    pub(crate) const EXAMPLES_MAX: usize = 10;

    pub(crate) fn merge(&mut self, other: Self) {
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.wrong += other.wrong;
        self.stale += other.stale;
        let room = Self::EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// A partition of one of the three families: its family's name and its number.
pub(crate) type Place = (String, u32);

/// What a tail of a run showed, over all its calls.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) run: RunKey,
    pub(crate) items: BTreeMap<Uuid, (Place, u64)>,
    /// The last offset shown of each partition.
    pub(crate) last: BTreeMap<Place, u64>,
    /// Items that had been shown before.
    pub(crate) repeats: u64,
    /// Items that came after a later one of their partition.
    pub(crate) turned: u64,
    /// Whether it was followed until everything acknowledged had come, or patience ended.
    pub(crate) complete: bool,
}

impl Tail {
    pub(crate) fn new(run: RunKey) -> Self {
        Self {
            run,
            items: BTreeMap::new(),
            last: BTreeMap::new(),
            repeats: 0,
            turned: 0,
            complete: false,
        }
    }

    /// Notes an item that was shown.
    pub(crate) fn show(&mut self, id: Uuid, place: Place, offset: u64) {
        let last = self.last.get(&place).copied();
        if self.items.insert(id, (place.clone(), offset)).is_some() {
            self.repeats += 1;
        } else if last >= Some(offset) {
            self.turned += 1;
        }
        self.last
            .insert(place, last.unwrap_or_default().max(offset));
    }
}

/// All that the clients of a story were told.
#[derive(Debug)]
pub(crate) struct History {
    /// In every record's id, so that another story's records are told from these.
    pub(crate) nonce: u32,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) reads: Reads,
    pub(crate) tails: Vec<Tail>,
    /// Answers that no fault explains, the first of them.
    pub(crate) surprises: Vec<String>,
}

impl History {
    pub(crate) fn find(&self, key: RecordKey) -> Option<Sent> {
        let writer = self.writers.get(usize::from(key.writer))?;
        writer.sent.get(usize::try_from(key.number).ok()?).copied()
    }
}
