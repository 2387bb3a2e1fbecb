//! What a service brings: the rules by which it judges.

use runledger_domain::Fact;
use runledger_domain::decision::Rejection;
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Author, Family, Partition, Position, Record, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::decode;

/// Most facts that one decision answers.
pub const FACTS_MAX: usize = 500;

/// Why a state that was stored cannot be read: somebody else has written it.
#[derive(Debug, thiserror::Error)]
#[error("the state of {what} cannot be read")]
pub struct StateError {
    pub what: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// When and for whom a command is judged.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// By the database's clock; never before that of an earlier decision of the partition.
    pub at: Timestamp,
    pub scope: Scope,
    pub stream: &'a Stream,
    /// Who asks.
    pub author: &'a Author,
    /// The command.
    pub id: RecordId,
    /// Records of other families that the decision has to know of.
    pub at_least: &'a [Position],
}

/// What the rules say to a command.
#[derive(Debug)]
pub enum Ruling<D> {
    Decided {
        decision: D,
        /// The last records of other families that it knows of.
        views: Vec<Position>,
    },
    Rejected(Rejection),
    /// Not now: what is known of another family is too old. Nothing else of the stream is decided
    /// before it.
    Waits,
}

/// When and for whom facts are answered.
#[derive(Clone, Copy, Debug)]
pub struct FactsMoment<'a> {
    /// As of [`Moment`].
    pub at: Timestamp,
    pub scope: Scope,
    pub stream: &'a Stream,
}

/// A fact that is owed a decision.
#[derive(Clone, Copy, Debug)]
pub struct Owing<'a> {
    pub position: Position,
    pub record: &'a Record,
    pub fact: &'a Fact,
}

/// What the rules say to facts: they have happened, so none is refused.
#[derive(Debug)]
pub enum FactsRuling<D> {
    /// It answers all of them.
    Decided {
        decision: D,
        /// The last records of other families that it knows of.
        views: Vec<Position>,
    },
    /// As [`Ruling::Waits`].
    Waits,
}

/// The rules of a service's families: pure functions over a stream's state and over the states of
/// its parts, of which a command or a decision is about one at most.
pub trait Rules: Send + Sync + 'static {
    type Command: Send;
    type Decision: Send + Sync;
    type Stream: Clone + Send + Sync;
    type Part: Clone + Send + Sync;

    /// Only grows, with every change after which the same command might be decided otherwise.
    fn version(&self) -> u32;

    /// What it reads, and decides in.
    fn families(&self) -> &'static [Family];

    /// The command in a record. `Ok(None)`: of a type beyond this version.
    ///
    /// # Errors
    /// When it can never be read: it is rejected then.
    fn command(&self, record: &Record) -> Result<Option<Self::Command>, decode::Error>;

    /// The decision in a record. `Ok(None)`: of a type beyond this version, or a rejection.
    ///
    /// # Errors
    /// When it can never be read: its stream is parked then.
    fn decision(&self, record: &Record) -> Result<Option<Self::Decision>, decode::Error>;

    /// Type and bytes of a decision, as they are stored.
    fn encode(&self, decision: &Self::Decision) -> (&'static str, Vec<u8>);

    fn part_of_command<'a>(&self, command: &'a Self::Command) -> Option<&'a str>;

    fn part_of_decision<'a>(&self, decision: &'a Self::Decision) -> Option<&'a str>;

    /// The state of a stream of which nothing was heard.
    fn unheard(&self, stream: &Stream) -> Self::Stream;

    fn encode_stream(&self, state: &Self::Stream) -> Vec<u8>;

    fn decode_stream(&self, stream: &Stream, bytes: &[u8]) -> Result<Self::Stream, StateError>;

    fn encode_part(&self, state: &Self::Part) -> Vec<u8>;

    fn decode_part(&self, stream: &Stream, bytes: &[u8]) -> Result<Self::Part, StateError>;

    /// Whether a fact can change a stream's state at all.
    fn heeds(&self, fact: &Fact) -> bool;

    /// Folds a fact in. True: what the parts of the stream are owed may have changed.
    fn heed(&self, stream: &mut Self::Stream, fact: &Fact, at: Timestamp) -> bool;

    fn decide(
        &self,
        stream: &Self::Stream,
        part: Option<&Self::Part>,
        command: &Self::Command,
        moment: &Moment<'_>,
    ) -> Ruling<Self::Decision>;

    /// Folds a decision in force in. Total; false: it does not fit, and has changed nothing.
    fn evolve(
        &self,
        stream: &mut Self::Stream,
        part: &mut Option<Self::Part>,
        decision: &Self::Decision,
        at: Timestamp,
    ) -> bool;

    /// The decision that a part is owed at `at`, whoever's decision or fact brought it there.
    fn due(
        &self,
        stream: &Self::Stream,
        name: &str,
        part: &Self::Part,
        at: Timestamp,
    ) -> Option<Self::Decision>;

    /// From when on [`Self::due`] has an answer; long ago: already now.
    fn due_at(&self, stream: &Self::Stream, part: &Self::Part) -> Option<Timestamp>;

    /// Whether streams themselves are owed decisions by time. When that is, is kept as of the part
    /// without a name.
    fn lapses(&self) -> bool {
        false
    }

    /// The decision that a stream is owed at `at` by time alone.
    fn lapse(&self, _stream: &Self::Stream, _at: Timestamp) -> Option<Self::Decision> {
        None
    }

    /// From when on [`Self::lapse`] has an answer, which then moves it on.
    fn lapse_at(&self, _stream: &Self::Stream) -> Option<Timestamp> {
        None
    }

    /// Whether any fact is owed a decision. Such services have the table `facts`.
    fn answers_facts(&self) -> bool {
        false
    }

    /// Whether a fact is owed a decision.
    fn answers(&self, _fact: &Fact) -> bool {
        false
    }

    /// One decision for facts of one stream, at most [`FACTS_MAX`], in the order of the log. `None`:
    /// never, of rules that answer none.
    fn decide_facts(
        &self,
        _stream: &Self::Stream,
        _facts: &[Owing<'_>],
        _moment: &FactsMoment<'_>,
    ) -> Option<FactsRuling<Self::Decision>> {
        None
    }

    /// The answer to facts that cannot be decided: deciding them fails, or fells whoever tries.
    fn give_up(
        &self,
        _stream: &Self::Stream,
        _facts: &[Owing<'_>],
        _moment: &FactsMoment<'_>,
    ) -> Option<Self::Decision> {
        None
    }

    /// The facts of its stream that a decision answers.
    fn answered(&self, _decision: &Self::Decision) -> Vec<RecordId> {
        Vec::new()
    }

    /// Whether read models get the state of a stream as it is now, behind a decision.
    fn keeps_state(&self, _stream: &Self::Stream) -> bool {
        false
    }

    /// Told at most every half second while something [`Ruling::Waits`]: look at the views now.
    fn refresh(&self) {}

    /// Whether the partition is one to decide in.
    fn decides(&self, partition: Partition) -> bool {
        self.families().contains(&partition.family)
    }
}
