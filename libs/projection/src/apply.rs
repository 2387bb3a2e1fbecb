//! What a read model brings to the loop.

use async_trait::async_trait;
use runledger_domain::Fact;
use runledger_domain::log::{Family, Position, Record};
use sqlx::PgConnection;

/// A record that counts, decoded as far as this version can.
#[derive(Clone, Debug)]
pub struct Applied {
    pub position: Position,
    pub record: Record,
    /// `None`: sealed, or of a type or with a value that this version does not know. Such records
    /// are kept and counted.
    pub fact: Option<Fact>,
}

/// What a record is by identity, (scope, stream, id): the first in the log wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    First,
    /// It says what the first one said, or was kept and counted before: it changes nothing.
    Copy,
    /// It has the id of another record and another content: counted, once.
    Conflict,
}

impl Standing {
    pub(crate) const ALL: [Self; 3] = [Self::First, Self::Copy, Self::Conflict];

    /// The word that stands for it in columns.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Copy => "copy",
            Self::Conflict => "conflict",
        }
    }
}

/// A record whose identity is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    pub applied: &'a Applied,
    pub standing: Standing,
}

/// A fold of the log into tables.
///
/// Both steps run inside the loop's transaction and must not commit or roll back. They may be called
/// again with the same records when that was rolled back, whole or in part, so they must keep
/// nothing of them in memory. Records of several partitions come at once, those of one partition in
/// the order of the log; Genesis and void decisions are left out, and so are commands, but for those
/// that read them.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// The families it reads.
    fn families(&self) -> &'static [Family];

    /// The tables it writes. Each generation has them anew.
    fn tables(&self) -> &'static [&'static str];

    /// Whether commands are among the records: only what decides them needs to see them.
    fn reads_commands(&self) -> bool {
        false
    }

    /// Keeps the identity of every record, parked ones included: one answer a record, in their
    /// order. Idempotent: a record that comes again is a copy of itself.
    async fn keep(
        &mut self,
        tx: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError>;

    /// Folds records in: those that are not parked, and later those that were. What [`Self::keep`]
    /// answered comes with each, because it is said only once.
    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError>;
}

/// Why a batch could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// What a record says cannot be decoded.
    #[error("decode a record")]
    Payload(#[source] runledger_proto::decode::Error),
    #[error("{doing}")]
    Log {
        doing: &'static str,
        #[source]
        source: runledger_eventlog::Error,
    },
    /// The log no longer holds what was parked.
    #[error(
        "LOG_DIVERGED: offset {} of {} is parked, but the log holds another record there or none; \
         find out which log this is before anything else", .position.offset, .position.partition
    )]
    Gone { position: Position },
    /// One answer a record was due.
    #[error("the projection kept {kept} of {records} records")]
    Kept { records: usize, kept: usize },
    #[error(
        "{records} records of {streams} streams are parked, more than the {records_max} of {streams_max} allowed; \
         so many say that something is wrong beyond single records: see `runledger dead-letters list`, mend the cause, \
         then redrive or skip them, or raise projection.parked_records_max and projection.parked_streams_max"
    )]
    TooManyParked {
        records: u64,
        streams: u64,
        records_max: u64,
        streams_max: u64,
    },
}

impl ApplyError {
    /// For `map_err`: says what was being done.
    pub fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// For `map_err`: the record is to blame.
    pub fn payload(source: runledger_proto::decode::Error) -> Self {
        Self::Payload(source)
    }

    /// The database did not answer at all.
    pub(crate) fn silent() -> Self {
        let source = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
        Self::Database {
            doing: "wait for the database",
            source,
        }
    }

    /// For `map_err`: the same of the log.
    pub fn log(doing: &'static str) -> impl FnOnce(runledger_eventlog::Error) -> Self {
        move |source| Self::Log { doing, source }
    }

    /// Whether it passes by itself.
    pub fn is_weather(&self) -> bool {
        match self {
            Self::Database { source, .. } => runledger_postgres::is_weather(source),
            Self::Log { source, .. } => source.is_weather(),
            Self::Payload(_)
            | Self::Gone { .. }
            | Self::Kept { .. }
            | Self::TooManyParked { .. } => false,
        }
    }

    /// Whether the records are to blame: the same ones will always be refused.
    pub(crate) fn is_poison(&self) -> bool {
        match self {
            Self::Database { source, .. } => runledger_postgres::is_data_fault(source),
            Self::Payload(_) => true,
            Self::Log { .. }
            | Self::Gone { .. }
            | Self::Kept { .. }
            | Self::TooManyParked { .. } => false,
        }
    }
}
