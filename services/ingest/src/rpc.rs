//! The four gRPC services over [`Ingest`].

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use http::HeaderMap;
use runledger_domain::fault::{Fault, Kind};
use runledger_proto::{message, run, schedule};
use runledger_service::access::{self, Rule};
use runledger_service::auth::{self, Caller};
use runledger_service::server::Stopping;
use runledger_service::{deadline, status};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::batch::Answer;
use crate::facts::WireFact;
use crate::ingest::{Ingest, Ready};

/// All four services; clones share the one ingest.
#[derive(Clone)]
pub(crate) struct Service(Arc<Ingest>);

impl Service {
    pub(crate) fn new(ingest: Arc<Ingest>) -> Self {
        Self(ingest)
    }

    /// One batch, one answer.
    async fn unary<M, F: WireFact>(
        &self,
        request: Request<M>,
        facts: impl FnOnce(M) -> Vec<F>,
    ) -> Result<Answer, Status> {
        let caller = Arc::clone(auth::caller(&request)?);
        let deadline = self.0.deadline(Some(deadline::of(&request)));
        let facts = facts(request.into_inner());
        let appended = async {
            let ready = self.0.judge(&caller, facts)?;
            self.0.pay(&caller, &ready)?;
            self.0.append(ready, deadline).await
        };
        appended.await.map_err(status::from_fault)
    }

    /// An acknowledgement a batch, in order. A few batches are on their way at once; while they
    /// are, or while the caller does not read, no more are taken from him.
    ///
    /// The first batch that cannot be appended ends the stream. Those behind it that were on their
    /// way may be in the log without an acknowledgement: sending them again with the same ids is safe.
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
        let deadline = batches.deadline;
        let acknowledgements = stream::unfold(batches, Batches::next)
            .map(move |batch| {
                let ingest = Arc::clone(&ingest);
                async move {
                    let (number, ready) = batch?;
                    let until = ingest.deadline(deadline);
                    let answer = ingest.append(ready, until).await;
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

/// The batches of a stream: judged one after another, in order, before any goes into the log.
struct Batches<M, F> {
    ingest: Arc<Ingest>,
    rule: &'static Rule,
    headers: HeaderMap,
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
        let internal = |what| status::from_fault(Fault::internal(what));
        let rule =
            access::rule(path).ok_or_else(|| internal("an rpc is missing in the access table"))?;
        let deadline = deadline::of_stream(&request);
        let stopping = request.extensions().get::<Stopping>().cloned();
        let Stopping(stopping) =
            stopping.ok_or_else(|| internal("a request did not come through the gate"))?;
        let (metadata, _, incoming) = request.into_parts();
        let headers = metadata.into_headers();
        Ok(Self {
            ingest,
            rule,
            headers,
            incoming,
            split,
            deadline,
            stopping,
            ended: false,
        })
    }

    /// The next batch, or what ends the stream.
    async fn next(mut self) -> Option<(Result<(u64, Ready), Status>, Self)> {
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
            Ok(Some(message)) => self.ready(message).await,
            Err(status) => Err(status),
        };
        self.ended = batch.is_err();
        Some((batch, self))
    }

    async fn ready(&self, message: M) -> Result<(u64, Ready), Status> {
        let (number, facts) = (self.split)(message);
        let ready = async {
            let caller = self.caller().await?;
            let ready = self.ingest.judge(&caller, facts)?;
            self.pay(&caller, &ready).await?;
            Ok(ready)
        };
        ready
            .await
            .map(|ready| (number, ready))
            .map_err(|fault| of_batch(number, fault))
    }

    /// Who calls, asked anew for each batch: a stream may last for days, and a revoked key, a lost
    /// role or the kill switch must end it as they end everything else. Answered from a cache.
    async fn caller(&self) -> Result<Arc<Caller>, Fault> {
        let caller = self
            .ingest
            .authenticator
            .authenticate(&self.headers)
            .await?;
        self.rule.check(caller.principal.role)?;
        Ok(caller)
    }

    /// Waits for the caller's buckets instead of refusing: not reading on is how a stream is told
    /// to slow down.
    async fn pay(&self, caller: &Caller, ready: &Ready) -> Result<(), Fault> {
        let until = self.ingest.deadline(self.deadline);
        loop {
            let refused = match self.ingest.pay(caller, ready) {
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
                let Answer { results, token, .. } = self.unary(request, |batch| batch.facts).await?;
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
                self.stream($path, request, split, join)
            }
        }
    )+};
}

services! {
    run::run_ingest_service_server::RunIngestService at "/runledger.run.v1.RunIngestService/AppendStream" {
        RunIngestServiceAppendRequest -> RunIngestServiceAppendResponse,
        RunIngestServiceAppendStreamRequest -> RunIngestServiceAppendStreamResponse
    }
    run::tool_call_ingest_service_server::ToolCallIngestService
        at "/runledger.run.v1.ToolCallIngestService/AppendStream" {
        ToolCallIngestServiceAppendRequest -> ToolCallIngestServiceAppendResponse,
        ToolCallIngestServiceAppendStreamRequest -> ToolCallIngestServiceAppendStreamResponse
    }
    schedule::schedule_ingest_service_server::ScheduleIngestService
        at "/runledger.schedule.v1.ScheduleIngestService/AppendStream" {
        ScheduleIngestServiceAppendRequest -> ScheduleIngestServiceAppendResponse,
        ScheduleIngestServiceAppendStreamRequest -> ScheduleIngestServiceAppendStreamResponse
    }
    message::message_ingest_service_server::MessageIngestService
        at "/runledger.message.v1.MessageIngestService/AppendStream" {
        MessageIngestServiceAppendRequest -> MessageIngestServiceAppendResponse,
        MessageIngestServiceAppendStreamRequest -> MessageIngestServiceAppendStreamResponse
    }
}
