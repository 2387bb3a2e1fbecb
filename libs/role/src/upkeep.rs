//! Rebuilding and verifying what a worker has folded.

use std::sync::Arc;

use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_projection::rebuild::Site;
use serde::Deserialize;

use crate::Error;

/// The section of a worker's fold, as far as upkeep has to know it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name that the worker has.
    pub name: String,
}

/// What is kept up, and as whom.
pub struct Upkeep<'a> {
    pub schema: &'static str,
    pub fold: &'a Named,
    /// Signed in as the writer of the schema.
    pub database: &'a runledger_postgres::Config,
    /// Signed in as `runledger_migrator`.
    pub owner: &'a runledger_postgres::Config,
    /// Tasks that build at the same time, at least 1.
    pub workers: usize,
}

impl Upkeep<'_> {
    /// Where it is done.
    ///
    /// # Errors
    /// When the configuration of a database is wrong.
    pub fn site(self, log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Result<Site, Error> {
        let (schema, application) = (self.schema, format!("runledger {} upkeep", self.schema));
        let writer = runledger_projection::upkeep_pool(self.database, &application, schema)
            .map_err(Error::Database)?;
        let owner = runledger_postgres::connect(self.owner, &application, schema)
            .map_err(Error::Database)?;
        Ok(Site {
            log,
            writer,
            owner,
            clock,
            schema,
            name: self.fold.name.clone(),
            workers: self.workers,
        })
    }
}
