//! The gRPC services over [`Ingest`].

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use http::HeaderMap;
use runledger_domain::fault::{Fault, Kind};
use runledger_proto::log::v1::dead_letter_service_server::DeadLetterService;
use runledger_proto::log::v1::{SkipRequest, SkipResponse};
use runledger_proto::{message, run, schedule};
use runledger_service::access::{self, Rule};
use runledger_service::auth::{Authenticator, Caller};
use runledger_service::server::Stopping;
use runledger_service::{deadline, status};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::batch::Answer;
use crate::facts::WireFact;
use crate::ingest::{Cost, Ingest, UnderWay};

/// All of the services; clones share the one ingest.
#[derive(Clone)]
pub(crate) struct Service(Arc<Ingest>);

impl Service {
    pub(crate) fn new(ingest: Arc<Ingest>) -> Self {
        Self(ingest)
    }

    /// One batch, one answer.
    async fn unary<M, F: WireFact>(
        &self,
        path: &'static str,
        request: Request<M>,
        facts: impl FnOnce(M) -> Vec<F>,
    ) -> Result<Answer, Status> {
        let deadline = self.0.deadline(Some(deadline::of(&request)));
        let (metadata, _, message) = request.into_parts();
        let calling = Calling::new(path, metadata)?;
        let facts = facts(message);
        let appended = async {
            let caller = calling.caller(&self.0.authenticator).await?;
            let cost = self.0.admit(&caller, &facts)?;
            self.0.pay(&caller, cost)?;
            let ready = self.0.judge(&caller, facts)?;
            let under_way = self.0.hand_over(ready, deadline).await?;
            self.0.answer(under_way).await
        };
        appended.await.map_err(status::from_fault)
    }

    /// An acknowledgement a batch, in order. A few batches are on their way at once; while they
    /// are, or while the caller does not read, no more are taken from him.
    ///
    /// Batches are handed over to the log one after another, so their order there is that of the
    /// stream, and nothing behind a batch that cannot be handed over goes in. One whose fate stays
    /// unknown ends the stream too; those behind it that were on their way may be in the log without
    /// an acknowledgement: sending them again with the same ids is safe.
    fn stream<M, F, A>(
        &self,
        path: &'static str,
        request: Request<Streaming<M>>,
        split: fn(M) -> (u64, Vec<F>),
        join: fn(u64, Answer) -> A,
    ) -> Result<Response<Acknowledgements<A>>, Status>
    where
        M: Send + 'static,
        F: WireFact,
        A: Send + 'static,
    {
        let batches = Batches::new(Arc::clone(&self.0), path, request, split)?;
        let ingest = Arc::clone(&self.0);
        let acknowledgements = stream::unfold(batches, Batches::next)
            .map(move |batch| {
                let ingest = Arc::clone(&ingest);
                async move {
                    let (number, under_way) = batch?;
                    let answer = ingest.answer(under_way).await;
                    answer
                        .map(|answer| join(number, answer))
                        .map_err(|fault| of_batch(number, fault))
                }
            })
            .buffered(self.0.batches_in_flight());
        Ok(Response::new(acknowledgements.boxed()))
    }
}

type Acknowledgements<A> = BoxStream<'static, Result<A, Status>>;

/// What tells who calls, for as long as the call lasts.
struct Calling {
    rule: &'static Rule,
    headers: HeaderMap,
}

impl Calling {
    fn new(path: &'static str, metadata: MetadataMap) -> Result<Self, Status> {
        let rule =
            access::rule(path).ok_or_else(|| internal("an rpc is missing in the access table"))?;
        Ok(Self {
            rule,
            headers: metadata.into_headers(),
        })
    }

    /// Who calls, asked anew for each batch: a stream may last for days, and the body of a single
    /// call may come in slowly. A revoked key, a lost role or the kill switch must end either as
    /// they end everything else. Answered from a cache.
    async fn caller(&self, authenticator: &Authenticator) -> Result<Arc<Caller>, Fault> {
        let caller = authenticator.authenticate(&self.headers).await?;
        self.rule.check(caller.principal.role)?;
        Ok(caller)
    }
}

fn internal(what: &'static str) -> Status {
    status::from_fault(Fault::internal(what))
}

/// The batches of a stream: judged and handed over one after another, in order.
struct Batches<M, F> {
    ingest: Arc<Ingest>,
    calling: Calling,
    incoming: Streaming<M>,
    split: fn(M) -> (u64, Vec<F>),
    deadline: Option<Instant>,
    stopping: CancellationToken,
    ended: bool,
}

impl<M, F: WireFact> Batches<M, F> {
    fn new(
        ingest: Arc<Ingest>,
        path: &'static str,
        request: Request<Streaming<M>>,
        split: fn(M) -> (u64, Vec<F>),
    ) -> Result<Self, Status> {
        let deadline = deadline::of_stream(&request);
        let stopping = request.extensions().get::<Stopping>().cloned();
        let Stopping(stopping) =
            stopping.ok_or_else(|| internal("a request did not come through the gate"))?;
        let (metadata, _, incoming) = request.into_parts();
        Ok(Self {
            ingest,
            calling: Calling::new(path, metadata)?,
            incoming,
            split,
            deadline,
            stopping,
            ended: false,
        })
    }

    /// The next batch, or what ends the stream.
    async fn next(mut self) -> Option<(Result<(u64, UnderWay), Status>, Self)> {
        if self.ended {
            return None;
        }
        let read = tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(stopping()),
            read = self.incoming.message() => read,
        };
        let batch = match read {
            Ok(None) => return None,
            Ok(Some(message)) => self.hand_over(message).await,
            Err(status) => Err(status),
        };
        self.ended = batch.is_err();
        Some((batch, self))
    }

    async fn hand_over(&self, message: M) -> Result<(u64, UnderWay), Status> {
        let (number, facts) = (self.split)(message);
        let handed_over = async {
            let caller = self.calling.caller(&self.ingest.authenticator).await?;
            let cost = self.ingest.admit(&caller, &facts)?;
            self.pay(&caller, cost).await?;
            let ready = self.ingest.judge(&caller, facts)?;
            let until = self.ingest.deadline(self.deadline);
            self.ingest.hand_over(ready, until).await
        };
        handed_over
            .await
            .map(|under_way| (number, under_way))
            .map_err(|fault| of_batch(number, fault))
    }

    /// Waits for the caller's buckets instead of refusing: not reading on is how a stream is told
    /// to slow down.
    async fn pay(&self, caller: &Caller, cost: Cost) -> Result<(), Fault> {
        let until = self.ingest.deadline(self.deadline);
        loop {
            let refused = match self.ingest.pay(caller, cost) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let wait = refused
                .retry_after
                .filter(|wait| Instant::now() + *wait < until);
            let Some(wait) = wait else {
                return Err(refused);
            };
            tokio::select! {
                () = self.stopping.cancelled() => return Err(refused),
                () = sleep(wait) => {}
            }
        }
    }
}

fn of_batch(number: u64, fault: Fault) -> Status {
    let message = format!("batch {number}: {}", fault.message);
    status::from_fault(Fault { message, ..fault })
}

fn stopping() -> Status {
    let message =
        "this process is stopping; every batch taken was acknowledged, send the others to another";
    let fault = Fault::new(Kind::Unavailable, "STOPPING", message);
    status::from_fault(fault.retry_after(std::time::Duration::from_millis(100)))
}

#[tonic::async_trait]
impl DeadLetterService for Service {
    async fn skip(&self, request: Request<SkipRequest>) -> Result<Response<SkipResponse>, Status> {
        let deadline = self.0.deadline(Some(deadline::of(&request)));
        let (metadata, _, message) = request.into_parts();
        let calling = Calling::new("/runledger.log.v1.DeadLetterService/Skip", metadata)?;
        let skipped = async {
            let caller = calling.caller(&self.0.authenticator).await?;
            self.0.skip(&caller, message, deadline).await
        };
        skipped.await.map(Response::new).map_err(status::from_fault)
    }
}

/// Implements a generated service by the two methods above. What differs is names.
macro_rules! services {
    ($($package:ident :: $server:ident :: $service:ident at $path:literal {
        $append:ident -> $appended:ident, $batch:ident -> $acknowledged:ident
    })+) => {$(
        #[tonic::async_trait]
        impl $package::v1::$server::$service for Service {
            async fn append(
                &self,
                request: Request<$package::v1::$append>,
            ) -> Result<Response<$package::v1::$appended>, Status> {
                let Answer { results, token, .. } = self.unary(concat!($path, "/Append"), request, |batch| batch.facts).await?;
                Ok(Response::new($package::v1::$appended { results, token }))
            }

            type AppendStreamStream = Acknowledgements<$package::v1::$acknowledged>;

            async fn append_stream(
                &self,
                request: Request<Streaming<$package::v1::$batch>>,
            ) -> Result<Response<Self::AppendStreamStream>, Status> {
                let split = |batch: $package::v1::$batch| (batch.batch, batch.facts);
                let join = |batch, Answer { results, token, .. }| {
                    $package::v1::$acknowledged { batch, results, token }
                };
                self.stream(concat!($path, "/AppendStream"), request, split, join)
            }
        }
    )+};
}

services! {
    run::run_ingest_service_server::RunIngestService at "/runledger.run.v1.RunIngestService" {
        RunIngestServiceAppendRequest -> RunIngestServiceAppendResponse,
        RunIngestServiceAppendStreamRequest -> RunIngestServiceAppendStreamResponse
    }
    run::tool_call_ingest_service_server::ToolCallIngestService
        at "/runledger.run.v1.ToolCallIngestService" {
        ToolCallIngestServiceAppendRequest -> ToolCallIngestServiceAppendResponse,
        ToolCallIngestServiceAppendStreamRequest -> ToolCallIngestServiceAppendStreamResponse
    }
    schedule::schedule_ingest_service_server::ScheduleIngestService
        at "/runledger.schedule.v1.ScheduleIngestService" {
        ScheduleIngestServiceAppendRequest -> ScheduleIngestServiceAppendResponse,
        ScheduleIngestServiceAppendStreamRequest -> ScheduleIngestServiceAppendStreamResponse
    }
    message::message_ingest_service_server::MessageIngestService
        at "/runledger.message.v1.MessageIngestService" {
        MessageIngestServiceAppendRequest -> MessageIngestServiceAppendResponse,
        MessageIngestServiceAppendStreamRequest -> MessageIngestServiceAppendStreamResponse
    }
}
