//! What the reads of an api have in common: a request with all its faults, one snapshot, an answer.

use std::time::Duration;

use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::scope::Scope;
use runledger_projection::{ReadOptions, Reader, Snapshot};
use runledger_proto::common::v1 as common;
use runledger_proto::decode::fields::{Fields, Path};
use runledger_proto::{decode, encode};
use runledger_service::clearance::Clearance;
use runledger_service::status;
use tonic::{Response, Status};

/// Reads of one api.
#[derive(Clone)]
pub struct Reading {
    pub reader: Reader,
    pub clearance: Clearance,
    /// What is read, in the plural, for messages: for example `audit entries`.
    pub what: &'static str,
}

impl Reading {
    /// One snapshot of a scope, no older than what the options say.
    ///
    /// # Errors
    /// Unavailable: the database is away, or behind for too long.
    pub async fn snapshot(&self, scope: Scope, options: &ReadOptions) -> Result<Snapshot, Fault> {
        if !self.clearance.is_given() {
            return Err(self.unavailable());
        }
        self.reader.read(scope, options).await
    }

    /// For `map_err`: the database did not answer, or answered what it never should.
    pub fn database(&self, error: sqlx::Error) -> Fault {
        if runledger_postgres::is_weather(&error) {
            self.unavailable().because(error)
        } else {
            Fault::internal(error)
        }
    }

    /// Gives the connection back and says how fresh the answer is.
    ///
    /// # Errors
    /// When the database has gone.
    pub async fn close(&self, snapshot: Snapshot) -> Result<common::AsOf, Fault> {
        snapshot
            .tx
            .commit()
            .await
            .map_err(|error| self.database(error))?;
        Ok(encode::as_of(&snapshot.as_of.token, snapshot.as_of.lag))
    }

    fn unavailable(&self) -> Fault {
        let message = format!("the {} cannot be reached now; try again", self.what);
        Fault::new(Kind::Unavailable, "READ_MODEL_UNAVAILABLE", message)
            .retry_after(Duration::from_millis(500))
    }
}

/// Reads a request with `parse`, and how fresh its answer must be.
///
/// # Errors
/// Invalid, with every fault of every field.
pub fn parse<T>(
    read: Option<common::ReadOptions>,
    parse: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<(T, ReadOptions), Fault> {
    let mut faults: Vec<Violation> = Vec::new();
    let parsed = parse(&mut Fields::new(Path::ROOT, &mut faults));
    let options =
        decode::read_options(read, Path::ROOT.field("read")).map_err(|more| faults.extend(more));
    match (parsed, options) {
        (Some(parsed), Ok(options)) if faults.is_empty() => Ok((
            parsed,
            ReadOptions {
                at_least: options.at_least,
                max_wait: options.max_wait,
            },
        )),
        _ => Err(Fault::invalid(faults)),
    }
}

/// What a caller is told.
///
/// # Errors
/// The fault as a status.
pub fn answer<T>(answered: Result<T, Fault>) -> Result<Response<T>, Status> {
    answered.map(Response::new).map_err(status::from_fault)
}
