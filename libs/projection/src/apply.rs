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

/// A fold of the log into tables.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    /// The families it reads.
    fn families(&self) -> &'static [Family];

    /// The tables it writes. Each generation has them anew.
    fn tables(&self) -> &'static [&'static str];

    /// Applies a batch inside the loop's transaction: records of several partitions, those of one
    /// partition in the order of the log; Genesis, commands and void decisions are left out.
    ///
    /// Must be idempotent by identity, (scope, stream, id), and must not commit or roll back. It
    /// may be called again with the same batch when the transaction was rolled back, so it must
    /// keep nothing of a batch in memory.
    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Applied]) -> Result<(), ApplyError>;
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
}

impl ApplyError {
    /// For `map_err`: says what was being done.
    pub fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// The database did not answer at all.
    pub(crate) fn silent() -> Self {
        let source = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
        Self::Database {
            doing: "wait for the database",
            source,
        }
    }

    pub(crate) fn is_weather(&self) -> bool {
        match self {
            Self::Database { source, .. } => runledger_postgres::is_weather(source),
        }
    }
}
