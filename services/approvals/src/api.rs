//! `ApprovalService`, `PolicyService` and `SimulationService`: commands go into the log and are answered with their
//! decisions; reads are answered from snapshots of the decider's own tables.

use std::sync::Arc;
use std::time::Duration;

use runledger_decider::{Answer, Callers, SettledReader};
use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::log::{Position, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Clock;
use runledger_eventlog::Log;
use runledger_eventlog::token::Token;
use runledger_projection::{ReadOptions, Reader, Snapshot};
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::approval_service_server::ApprovalService;
use runledger_proto::common::v1 as common;
use runledger_proto::decode::fields::{Fields, Path, reason};
use runledger_proto::{decode, encode};
use runledger_service::auth::{self, Authenticator, Caller};
use runledger_service::clearance::Clearance;
use runledger_service::limits::{self, Buckets};
use runledger_service::open_streams::OpenStreams;
use runledger_service::server::Stopping;
use runledger_service::status;
use serde::Deserialize;
use sqlx::{Postgres, Transaction};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

mod deciding;
mod outcomes;
mod policies;
mod queue;
mod requesting;
mod rows;
mod simulating;
mod streams;

use simulating::Simulations;
use streams::{STREAMS, Streamed};

/// Section `[api]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Most waits and watches open at once in this process.
    pub streams_max: usize,
    /// Most of them open at once of one tenant.
    pub streams_of_tenant_max: usize,
    /// How often health asks the database, and how long it waits for the answer.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
}

/// What the services are made of.
pub(crate) struct Parts {
    pub(crate) reader: Reader,
    pub(crate) settled: SettledReader,
    pub(crate) callers: Callers,
    pub(crate) log: Arc<dyn Log>,
    /// Asked again while a stream is open: a revoked key ends it.
    pub(crate) authenticator: Authenticator,
    pub(crate) clearance: Clearance,
    pub(crate) buckets: Buckets,
    pub(crate) clock: Arc<dyn Clock>,
}

/// All three services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

struct Inner {
    parts: Parts,
    streams: OpenStreams,
    simulations: Simulations,
}

impl Api {
    pub(crate) fn new(parts: Parts, options: &Options) -> Self {
        Self(Arc::new(Inner {
            parts,
            streams: OpenStreams::new(STREAMS, options.streams_max, options.streams_of_tenant_max),
            simulations: Simulations::default(),
        }))
    }

    /// One snapshot of a scope, which nothing at or before the tokens is owed a decision in any more:
    /// in `stream`, or in all of them.
    async fn read(
        &self,
        scope: Scope,
        options: &ReadOptions,
        stream: Option<&Stream>,
    ) -> Result<View, Fault> {
        let parts = &self.0.parts;
        if !parts.clearance.is_given() {
            return Err(unavailable());
        }
        let snapshot = parts.settled.read(scope, options, stream).await?;
        Ok(View { scope, snapshot })
    }

    /// A caller who may command now: pays for one command.
    fn admit(&self, caller: &Caller, commands: usize) -> Result<Scope, Fault> {
        let scope = caller.require_scope()?;
        limits::writes_allowed(caller)?;
        for _ in 0..commands {
            self.0.parts.buckets.take_command(caller)?;
        }
        Ok(scope)
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

/// The database did not answer, or answered what it never should.
fn database(error: sqlx::Error) -> Fault {
    if runledger_postgres::is_weather(&error) {
        unavailable().because(error)
    } else {
        Fault::internal(error)
    }
}

fn unavailable() -> Fault {
    let message = "the approvals cannot be reached now; try again";
    Fault::new(Kind::Unavailable, "READ_MODEL_UNAVAILABLE", message)
        .retry_after(Duration::from_millis(500))
}

/// The same for an approval that is another scope's and for one that is nobody's.
fn approval_not_found() -> Fault {
    let message =
        "there is no such approval; right after asking, pass the answer's token as read.at_least";
    Fault::new(Kind::NotFound, "APPROVAL_NOT_FOUND", message)
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

/// Positions that tokens name, of the families that decisions can wait for.
fn positions_of(tokens: &[String]) -> Result<Vec<Position>, Fault> {
    let mut all = Token::default();
    for (index, text) in tokens.iter().enumerate() {
        let merged = Token::parse(text).and_then(|token| all.merge(&token));
        merged.map_err(|fault| {
            Fault::invalid(vec![Violation {
                field: format!("at_least[{index}]"),
                reason: "TOKEN_INVALID".into(),
                description: fault.to_string(),
            }])
        })?;
    }
    let concern = |position: &Position| position.partition.family.is_single();
    Ok(all.positions().filter(concern).collect())
}

fn token_of(position: Position) -> String {
    Token::from_positions([position]).to_string()
}

/// What a batch says of one that was refused.
fn refused(fault: &Fault) -> wire::Refused {
    wire::Refused {
        code: status::code(fault.kind).into(),
        reason: fault.reason.to_string(),
        message: fault.message.clone(),
        violations: fault
            .violations
            .iter()
            .map(|one| common::FieldViolation {
                field: one.field.clone(),
                description: one.description.clone(),
                reason: one.reason.to_string(),
            })
            .collect(),
    }
}

/// A count or a size as a batch may have it.
fn check_batch(len: usize, field: &'static str) -> Result<(), Fault> {
    if (1..=BATCH_MAX).contains(&len) {
        return Ok(());
    }
    Err(Fault::invalid(vec![Violation {
        field: field.into(),
        reason: reason::TOO_MANY.into(),
        description: format!("must be 1 to {BATCH_MAX}"),
    }]))
}

/// Most commands of one call.
const BATCH_MAX: usize = 100;

fn answer<T>(answered: Result<T, Fault>) -> Result<Response<T>, Status> {
    answered.map(Response::new).map_err(status::from_fault)
}

/// Who calls, until when, and what.
struct Call<T> {
    caller: Arc<Caller>,
    until: Instant,
    message: T,
}

impl Api {
    fn call<T>(&self, request: Request<T>) -> Result<Call<T>, Status> {
        let asked = runledger_service::deadline::of(&request);
        Ok(Call {
            caller: Arc::clone(auth::caller(&request)?),
            until: self.0.parts.callers.until(Some(asked)),
            message: request.into_inner(),
        })
    }
}

/// The only command of a call: what is wrong with it is the answer of the call.
fn only<T>(answers: Vec<Result<T, Fault>>) -> Result<T, Fault> {
    let one = answers.into_iter().next();
    one.unwrap_or_else(|| Err(Fault::internal("a command was not answered")))
}

/// A decision's payload as the message that it is, with the token of its place.
fn decided<M: prost::Message + Default>(
    answer: Answer,
    expected: &str,
) -> Result<Option<(M, String)>, Fault> {
    match answer {
        Answer::Pending => Ok(None),
        Answer::Rejected { rejection, .. } => Err(rejection.into()),
        Answer::Decided {
            position,
            type_name,
            payload,
            ..
        } => {
            if type_name != expected {
                return Err(Fault::internal(format!(
                    "a command was answered by a {type_name}"
                )));
            }
            let message = M::decode(payload.as_slice()).map_err(Fault::internal)?;
            Ok(Some((message, token_of(position))))
        }
    }
}

fn stopping<T>(request: &Request<T>) -> tokio_util::sync::CancellationToken {
    let stopping = request.extensions().get::<Stopping>();
    stopping
        .map(|stopping| stopping.0.clone())
        .unwrap_or_default()
}

#[tonic::async_trait]
impl ApprovalService for Api {
    async fn request_tool_call(
        &self,
        request: Request<wire::RequestToolCallRequest>,
    ) -> Result<Response<wire::RequestToolCallResponse>, Status> {
        let call = self.call(request)?;
        answer(self.request_one(call).await)
    }

    async fn request_tool_calls(
        &self,
        request: Request<wire::RequestToolCallsRequest>,
    ) -> Result<Response<wire::RequestToolCallsResponse>, Status> {
        let call = self.call(request)?;
        answer(self.request_many(call).await)
    }

    type WaitForApprovalStream = Streamed<wire::WaitForApprovalResponse>;

    async fn wait_for_approval(
        &self,
        request: Request<wire::WaitForApprovalRequest>,
    ) -> Result<Response<Self::WaitForApprovalStream>, Status> {
        answer(self.wait(request).await)
    }

    async fn confirm_execution(
        &self,
        request: Request<wire::ConfirmExecutionRequest>,
    ) -> Result<Response<wire::ConfirmExecutionResponse>, Status> {
        let call = self.call(request)?;
        answer(self.confirm(call).await)
    }

    async fn complete_tool_call(
        &self,
        request: Request<wire::CompleteToolCallRequest>,
    ) -> Result<Response<wire::CompleteToolCallResponse>, Status> {
        let call = self.call(request)?;
        answer(self.complete(call).await)
    }

    async fn get_command_outcome(
        &self,
        request: Request<wire::GetCommandOutcomeRequest>,
    ) -> Result<Response<wire::GetCommandOutcomeResponse>, Status> {
        let call = self.call(request)?;
        answer(self.outcome(call).await)
    }

    async fn approve(
        &self,
        request: Request<wire::ApproveRequest>,
    ) -> Result<Response<wire::ApproveResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.approve_one(call).await;
        answer(answered.map(|one| wire::ApproveResponse { answer: Some(one) }))
    }

    async fn reject(
        &self,
        request: Request<wire::RejectRequest>,
    ) -> Result<Response<wire::RejectResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.reject_one(call).await;
        answer(answered.map(|one| wire::RejectResponse { answer: Some(one) }))
    }

    async fn decide_approvals(
        &self,
        request: Request<wire::DecideApprovalsRequest>,
    ) -> Result<Response<wire::DecideApprovalsResponse>, Status> {
        let call = self.call(request)?;
        answer(self.decide_many(call).await)
    }

    async fn get_approval(
        &self,
        request: Request<wire::GetApprovalRequest>,
    ) -> Result<Response<wire::GetApprovalResponse>, Status> {
        let call = self.call(request)?;
        answer(self.approval(call).await)
    }

    async fn list_approvals(
        &self,
        request: Request<wire::ListApprovalsRequest>,
    ) -> Result<Response<wire::ListApprovalsResponse>, Status> {
        let call = self.call(request)?;
        answer(self.approvals(call).await)
    }

    async fn count_approvals(
        &self,
        request: Request<wire::CountApprovalsRequest>,
    ) -> Result<Response<wire::CountApprovalsResponse>, Status> {
        let call = self.call(request)?;
        answer(self.counts(call).await)
    }

    type WatchQueueStream = Streamed<wire::WatchQueueResponse>;

    async fn watch_queue(
        &self,
        request: Request<wire::WatchQueueRequest>,
    ) -> Result<Response<Self::WatchQueueStream>, Status> {
        answer(self.watch(request).await)
    }
}

impl<T> Call<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Call<U> {
        Call {
            caller: self.caller,
            until: self.until,
            message: map(self.message),
        }
    }
}
