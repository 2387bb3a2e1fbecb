//! `BillingService` and `PriceService`: commands go into the log and are answered with their decisions;
//! reads are answered from snapshots of the decider's own tables.

use std::sync::Arc;
use std::time::Duration;

use runledger_decider::{Answer, Callers, SettledReader};
use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::ids::AccountId;
use runledger_domain::log::{Position, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Clock;
use runledger_eventlog::token::Token;
use runledger_projection::{ReadOptions, Snapshot};
use runledger_proto::common::v1 as common;
use runledger_proto::decode::fields::{Fields, Path};
use runledger_proto::{decode, encode};
use runledger_service::auth::{self, Caller};
use runledger_service::clearance::Clearance;
use runledger_service::limits::{self, Buckets};
use runledger_service::status;
use serde::Deserialize;
use sqlx::{Postgres, Transaction};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::forwarder::Forwarded;

mod accounts;
mod balance;
mod commands;
mod history;
mod prices;
mod quote;
mod rows;
mod rpc;
mod spending;
mod waiting;

/// The account of runs that name none.
const ACCOUNT_DEFAULT: &str = "default";

/// Section `[api]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How often health asks the database, and how long it waits for the answer.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
}

/// What the services are made of.
pub(crate) struct Parts {
    pub(crate) settled: SettledReader,
    /// How far usage was forwarded, and where it lies then.
    pub(crate) forwarded: Forwarded,
    pub(crate) callers: Callers,
    pub(crate) clearance: Clearance,
    pub(crate) buckets: Buckets,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Both services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Parts>);

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// One snapshot of a scope, in which everything at or before the tokens is decided: what they name
    /// of runs was forwarded before, and is charged. In `stream`, or in all of them.
    async fn read(
        &self,
        scope: Scope,
        options: &ReadOptions,
        stream: Option<&Stream>,
    ) -> Result<View, Fault> {
        let parts = &self.0;
        if !parts.clearance.is_given() {
            return Err(unavailable());
        }
        let deadline = options.deadline();
        let mut at_least = options.at_least.clone();
        let outputs = parts.forwarded.outputs(scope, &at_least, deadline).await?;
        if !outputs.is_empty() {
            at_least.push(Token::from_positions(outputs).to_string());
        }
        let left = ReadOptions {
            at_least,
            max_wait: Some(deadline.saturating_duration_since(Instant::now())),
        };
        let snapshot = parts.settled.read(scope, &left, stream).await?;
        Ok(View { scope, snapshot })
    }

    /// A caller who may command now: pays for one command.
    fn admit(&self, caller: &Caller) -> Result<Scope, Fault> {
        let scope = caller.require_scope()?;
        limits::writes_allowed(caller)?;
        self.0.buckets.take_command(caller)?;
        Ok(scope)
    }

    fn call<T>(&self, request: Request<T>) -> Result<Call<T>, Status> {
        let asked = runledger_service::deadline::of(&request);
        Ok(Call {
            caller: Arc::clone(auth::caller(&request)?),
            until: self.0.callers.until(Some(asked)),
            message: request.into_inner(),
        })
    }
}

/// One snapshot of one scope.
struct View {
    scope: Scope,
    snapshot: Snapshot,
}

impl View {
    fn tx(&mut self) -> &mut Transaction<'static, Postgres> {
        &mut self.snapshot.tx
    }

    fn tenant(&self) -> uuid::Uuid {
        self.scope.tenant.as_uuid()
    }

    fn mode(&self) -> &'static str {
        self.scope.mode.as_str()
    }

    /// Gives the connection back and says how fresh the answer is.
    async fn close(self) -> Result<common::AsOf, Fault> {
        self.snapshot.tx.commit().await.map_err(database)?;
        Ok(encode::as_of(
            &self.snapshot.as_of.token,
            self.snapshot.as_of.lag,
        ))
    }
}

/// Postgres has no unsigned numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// The database did not answer, or answered what it never should.
pub(crate) fn database(error: sqlx::Error) -> Fault {
    if runledger_postgres::is_weather(&error) {
        unavailable().because(error)
    } else {
        Fault::internal(error)
    }
}

fn unavailable() -> Fault {
    let message = "the accounts cannot be reached now; try again";
    Fault::new(Kind::Unavailable, "READ_MODEL_UNAVAILABLE", message)
        .retry_after(Duration::from_millis(500))
}

/// The same for an account that is another scope's and for one that is nobody's.
fn account_not_found() -> Fault {
    let message = "nothing was ever granted to or charged to such an account; right after the first command, pass its answer's token as read.at_least";
    Fault::new(Kind::NotFound, "ACCOUNT_NOT_FOUND", message)
}

/// The account that a request names, or the one of runs that name none.
fn account(see: &mut Fields<'_>, name: String) -> Option<AccountId> {
    let name = if name.is_empty() {
        ACCOUNT_DEFAULT.to_owned()
    } else {
        name
    };
    see.id("account_id", name, AccountId::parse)
}

/// Reads a request with `parse` and lists every fault of it.
fn parse<T>(
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

fn token_of(position: Position) -> String {
    Token::from_positions([position]).to_string()
}

fn answer<T>(answered: Result<T, Fault>) -> Result<Response<T>, Status> {
    answered.map(Response::new).map_err(status::from_fault)
}

/// Who calls, until when, and what.
struct Call<T> {
    caller: Arc<Caller>,
    until: Instant,
    message: T,
}

/// The decision about the only command of a call. `None`: not yet.
fn only(answers: Vec<Result<Answer, Fault>>) -> Result<Option<Decided>, Fault> {
    let one = answers.into_iter().next();
    match one.unwrap_or_else(|| Err(Fault::internal("a command was not answered")))? {
        Answer::Pending => Ok(None),
        Answer::Rejected { rejection, .. } => Err(rejection.into()),
        Answer::Decided {
            position,
            at,
            type_name,
            payload,
        } => Ok(Some(Decided {
            position,
            at,
            type_name,
            payload,
        })),
    }
}

/// A decision as it lies in the log.
struct Decided {
    position: Position,
    at: runledger_domain::time::Timestamp,
    type_name: String,
    payload: Vec<u8>,
}

impl Decided {
    fn message<M: prost::Message + Default>(&self, expected: &str) -> Result<M, Fault> {
        if self.type_name != expected {
            let what = format!("a command was answered by a {}", self.type_name);
            return Err(Fault::internal(what));
        }
        M::decode(self.payload.as_slice()).map_err(Fault::internal)
    }
}
