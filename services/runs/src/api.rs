//! The reading side: `RunsService` over snapshots of the read model.
//!
//! Every rpc reads the request whole (all faults at once), takes one snapshot that is bound to the
//! caller's scope and not older than the tokens given, and answers from it alone.

use std::time::Duration;

use chrono::Datelike as _;
use prost::Message;
use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::{ReadOptions, Reader, Snapshot};
use runledger_proto::common::v1 as common;
use runledger_proto::decode::fields::{Fields, Path, reason};
use runledger_proto::run::v1::runs_service_server::RunsService;
use runledger_proto::run::v1::{
    GetRunRequest, GetRunResponse, GetTimelineRequest, GetTimelineResponse, ListMessagesRequest,
    ListMessagesResponse, ListOccurrencesRequest, ListOccurrencesResponse, ListRunsRequest,
    ListRunsResponse, ListToolCallsRequest, ListToolCallsResponse, TailRunRequest,
};
use runledger_proto::{decode, encode};
use runledger_service::auth::{self, Authenticator};
use runledger_service::clearance::Clearance;
use runledger_service::open_streams::OpenStreams;
use runledger_service::server::Stopping;
use runledger_service::status;
use serde::Deserialize;
use sqlx::{Postgres, Transaction};
use tonic::{Request, Response, Status};

mod conversations;
mod list_runs;
mod records;
mod runs;
mod schedules;
mod tail;
mod timeline;
mod tool_calls;

use tail::{TAILS, Tailed};

/// Section `[api]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Bytes after which a page ends, whatever its size was to be; at least one entry is always
    /// there. Greater than zero and well below the 4 MiB that gRPC clients take by default.
    pub page_bytes_max: u32,
    /// Most tails open at once in this process.
    pub tails_max: usize,
    /// Most tails open at once of one tenant.
    pub tails_of_tenant_max: usize,
    /// How often health asks the database, and how long it waits for the answer.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    reader: Reader,
    authenticator: Authenticator,
    clearance: Clearance,
    page_bytes_max: u32,
    tails: OpenStreams,
}

impl Api {
    /// `authenticator` is asked again while a tail is open: a revoked key ends it.
    pub(crate) fn new(
        reader: Reader,
        authenticator: Authenticator,
        clearance: Clearance,
        options: &Options,
    ) -> Self {
        let tails = OpenStreams::new(TAILS, options.tails_max, options.tails_of_tenant_max);
        Self {
            reader,
            authenticator,
            clearance,
            page_bytes_max: options.page_bytes_max,
            tails,
        }
    }

    async fn read(&self, scope: Scope, options: &ReadOptions) -> Result<View, Fault> {
        if !self.clearance.is_given() {
            return Err(unavailable());
        }
        let snapshot = self.reader.read(scope, options).await?;
        Ok(View {
            scope,
            snapshot,
            bytes_max: self.page_bytes_max,
        })
    }
}

/// One snapshot of one scope, and how much of it fits an answer.
struct View {
    scope: Scope,
    snapshot: Snapshot,
    bytes_max: u32,
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

    fn room(&self) -> Room {
        Room(self.bytes_max as usize)
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

/// How many bytes an answer may still grow by.
struct Room(usize);

impl Room {
    /// Whether `entry` still fits. The first always does, and the last may reach beyond.
    fn admits(&mut self, entry: &impl Message) -> bool {
        let admitted = self.0 > 0;
        self.0 = self.0.saturating_sub(entry.encoded_len());
        admitted
    }
}

/// A page: what it holds, and the place after which the next one begins.
struct Page<T, P> {
    entries: Vec<T>,
    next: Option<P>,
}

/// The database did not answer, or answered what it never should.
fn database(error: sqlx::Error) -> Fault {
    if runledger_postgres::is_weather(&error) {
        unavailable().because(error)
    } else {
        Fault::internal(error)
    }
}

fn unavailable() -> Fault {
    let message = "the read model cannot be reached now; try again";
    Fault::new(Kind::Unavailable, "READ_MODEL_UNAVAILABLE", message)
        .retry_after(Duration::from_millis(500))
}

/// The same for a run that is another scope's and for one that is nobody's.
fn run_not_found() -> Fault {
    let message =
        "there is no such run; right after writing, pass the write's token as read.at_least";
    Fault::new(Kind::NotFound, "RUN_NOT_FOUND", message)
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

/// A count as the wire has it: never negative in our tables.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// What a filter is to a page token; none of those given is empty.
fn text_of<T: ToString>(filter: Option<&T>) -> String {
    filter.map(T::to_string).unwrap_or_default()
}

/// Whether a row can hold this time: the tables keep the years 1 to 9999.
fn is_kept(at: Timestamp) -> bool {
    (1..=9999).contains(&at.year())
}

/// Whose rows a request may see.
fn scope_of<T>(request: &Request<T>) -> Result<Scope, Status> {
    auth::caller(request)?
        .require_scope()
        .map_err(status::from_fault)
}

#[tonic::async_trait]
impl RunsService for Api {
    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.run(scope, request.into_inner()).await)
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.runs(scope, request.into_inner()).await)
    }

    async fn list_tool_calls(
        &self,
        request: Request<ListToolCallsRequest>,
    ) -> Result<Response<ListToolCallsResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.tool_calls(scope, request.into_inner()).await)
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.messages(scope, request.into_inner()).await)
    }

    async fn list_occurrences(
        &self,
        request: Request<ListOccurrencesRequest>,
    ) -> Result<Response<ListOccurrencesResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.occurrences(scope, request.into_inner()).await)
    }

    async fn get_timeline(
        &self,
        request: Request<GetTimelineRequest>,
    ) -> Result<Response<GetTimelineResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.timeline(scope, request.into_inner()).await)
    }

    type TailRunStream = Tailed;

    async fn tail_run(&self, request: Request<TailRunRequest>) -> Result<Response<Tailed>, Status> {
        let scope = scope_of(&request)?;
        let headers = request.metadata().clone().into_headers();
        let stopping = request
            .extensions()
            .get::<Stopping>()
            .map(|stopping| stopping.0.clone())
            .unwrap_or_default();
        answer(
            self.tail(scope, headers, stopping, request.into_inner())
                .await,
        )
    }
}

fn answer<T>(result: Result<T, Fault>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(status::from_fault)
}

/// Notes that a list holds a value that this version does not know.
fn unknown_value(see: &mut Fields<'_>, name: &'static str) {
    see.fault(
        name,
        reason::UNKNOWN_VALUE,
        "holds a value that this version does not know",
    );
}
