//! What every call goes through before its handler, in this order: request id, deadline, room for
//! it, authentication, access, span. And after: the end of a panic, the count, the echo.
//!
//! All of it comes before the body is read.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::{HeaderMap, Request, Response};
use runledger_domain::fault::{Fault, Kind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::{Instrument as _, Span};

use super::body::{Ends, Inbound, Outbound, code_in, deadline_exceeded, panicked};
use super::{Bounds, REQUEST_ID_HEADER, RequestId, Stopping};
use crate::access::{self, Access, Rule, Shape};
use crate::auth::{Authenticator, Caller};
use crate::deadline::Deadline;
use crate::{status, trace};

const TIMEOUT_HEADER: &str = "grpc-timeout";
/// An answer needs a moment to reach its caller: at most this much of the caller's time, and at
/// most a twentieth of it.
const MARGIN_MAX: Duration = Duration::from_millis(50);
/// How soon a call that found no room may come again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Puts the gate before the services of a server.
#[derive(Clone)]
pub(super) struct Layer(Arc<Shared>);

struct Shared {
    authenticator: Authenticator,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    call_timeout: Duration,
    call_timeout_max: Duration,
    stopping: Stopping,
    cut: CancellationToken,
}

impl Layer {
    /// `cut` ends the streams that are still open.
    pub(super) fn new(
        authenticator: Authenticator,
        bounds: &Bounds,
        stopping: Stopping,
        cut: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            authenticator,
            calls: Arc::new(Semaphore::new(bounds.calls_max.min(Semaphore::MAX_PERMITS))),
            streams: Arc::new(Semaphore::new(
                bounds.streams_max.min(Semaphore::MAX_PERMITS),
            )),
            call_timeout: bounds.call_timeout,
            call_timeout_max: bounds.call_timeout_max,
            stopping,
            cut,
        }))
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            shared: Arc::clone(&self.0),
        }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(super) struct Gate<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that was polled ready is the one to call.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let request_id = RequestId::of(request.headers());
            let answered = shared.answer(inner, request, &request_id).await;
            let mut response = answered.unwrap_or_else(Status::into_http);
            response
                .headers_mut()
                .insert(REQUEST_ID_HEADER, request_id.into_header());
            Ok(response)
        })
    }
}

/// The span of a call, a child of the caller's when it sent one. It is made when all of its fields
/// are known, for recording them later costs more than the rest. Public calls are many and say
/// little.
fn span(rule: &Rule, request_id: &RequestId, caller: Option<&Caller>, headers: &HeaderMap) -> Span {
    let request_id = request_id.as_str();
    let span = match rule.access {
        Access::Public => tracing::debug_span!(
            "rpc",
            otel.name = rule.path,
            otel.kind = "server",
            request_id
        ),
        Access::Roles(_) => tracing::info_span!(
            "rpc",
            otel.name = rule.path,
            otel.kind = "server",
            request_id,
            scope = caller
                .and_then(|caller| caller.scope)
                .map(tracing::field::display),
            principal = caller.map(|caller| tracing::field::display(caller.principal.principal)),
        ),
    };
    if let Some(traceparent) = headers
        .get(trace::HEADER)
        .and_then(|value| value.to_str().ok())
    {
        trace::set_parent(&span, traceparent);
    }
    span
}

impl Shared {
    async fn answer<S>(
        &self,
        inner: S,
        request: Request<Body>,
        request_id: &RequestId,
    ) -> Result<Response<Body>, Status>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let rule = access::rule(request.uri().path());
        let mut tally = Tally::new(rule);
        let Some(rule) = rule else {
            let refusal = "there is no such rpc here; reflection lists those there are";
            return Err(tally.refused(status::bare(Code::Unimplemented, "RPC_UNKNOWN", refusal)));
        };
        let until = self.until(rule, request.headers());
        let admitted = within(
            until.as_ref(),
            self.admit(rule, request.headers(), &mut tally),
        )
        .await;
        let admitted = admitted.map_err(|status| tally.refused(status))?;
        let caller = admitted.as_ref().ok().and_then(Option::as_deref);
        let span = span(rule, request_id, caller, request.headers());
        let caller =
            admitted.map_err(|fault| tally.refused(span.in_scope(|| status::from_fault(fault))))?;
        let request = self.prepared(request, request_id, caller, until.as_ref());
        let work = AssertUnwindSafe(hand_on(inner, request))
            .catch_unwind()
            .instrument(span.clone());
        let response = match within(until.as_ref(), work).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => return Err(tally.refused(span.in_scope(|| panicked(panic.as_ref())))),
            Err(status) => return Err(tally.refused(status)),
        };
        // Refused by its handler: nothing follows the headers.
        if let Some(code) = code_in(response.headers()) {
            tally.set(code);
            return Ok(response);
        }
        let ends = match rule.shape {
            Shape::Unary => Ends::default(),
            Shape::Stream => Ends {
                deadline: until.map(|until| Box::pin(sleep_until(until.at))),
                cut: Some(Box::pin(self.cut.clone().cancelled_owned())),
            },
        };
        Ok(response.map(|body| Body::new(Outbound::new(body, ends, tally, span))))
    }

    /// Finds room for the call, and its caller, and whether the caller may.
    async fn admit(
        &self,
        rule: &Rule,
        headers: &HeaderMap,
        tally: &mut Tally,
    ) -> Result<Option<Arc<Caller>>, Fault> {
        if rule.access == Access::Public {
            return Ok(None);
        }
        tally.permit = Some(self.room(rule.shape)?);
        let caller = self.authenticator.authenticate(headers).await?;
        rule.check(caller.principal.role)?;
        Ok(Some(caller))
    }

    /// The request as its handler is to find it.
    fn prepared(
        &self,
        mut request: Request<Body>,
        request_id: &RequestId,
        caller: Option<Arc<Caller>>,
        until: Option<&Until>,
    ) -> Request<Body> {
        let extensions = request.extensions_mut();
        extensions.insert(self.stopping.clone());
        extensions.insert(request_id.clone());
        if let Some(caller) = caller {
            extensions.insert(caller);
        }
        if let Some(until) = until {
            extensions.insert(Deadline(until.at));
        }
        request.map(|body| Body::new(Inbound::new(body)))
    }

    /// Room for one more call. Public calls need none: health answers also when all else is full.
    fn room(&self, shape: Shape) -> Result<OwnedSemaphorePermit, Fault> {
        let semaphore = match shape {
            Shape::Unary => &self.calls,
            Shape::Stream => &self.streams,
        };
        Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
            let message =
                "this process has as many calls in flight as it can bear; nothing was done, retry";
            Fault::new(Kind::Exhausted, "OVERLOADED", message).retry_after(RETRY_AFTER)
        })
    }

    /// Until when the call must be answered. A stream lasts as long as its caller likes.
    fn until(&self, rule: &Rule, headers: &HeaderMap) -> Option<Until> {
        let now = Instant::now();
        let asked = headers
            .get(TIMEOUT_HEADER)
            .and_then(|value| timeout(value.as_bytes()));
        let (after, callers) = match (rule.shape, asked) {
            (Shape::Unary, Some(asked)) if asked > self.call_timeout_max => {
                (self.call_timeout_max, false)
            }
            (Shape::Unary, None) => (self.call_timeout, false),
            (Shape::Unary | Shape::Stream, Some(asked)) => {
                (asked - (asked / 20).min(MARGIN_MAX), true)
            }
            (Shape::Stream, None) => return None,
        };
        // A time too far away to be counted is none.
        now.checked_add(after).map(|at| Until { at, callers })
    }
}

async fn hand_on<S>(mut inner: S, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    match inner.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What `work` comes to, unless the time is over first.
async fn within<F: Future>(until: Option<&Until>, work: F) -> Result<F::Output, Status> {
    match until {
        None => Ok(work.await),
        Some(until) => timeout_at(until.at, work)
            .await
            .map_err(|_| until.exceeded()),
    }
}

/// When a call must be answered, and whose wish that is.
struct Until {
    at: Instant,
    callers: bool,
}

impl Until {
    fn exceeded(&self) -> Status {
        if self.callers {
            return deadline_exceeded();
        }
        let message = "not done in the time that a call has; a write may still take effect, repeat it with the same ids";
        status::from_fault(
            Fault::new(Kind::Unavailable, "TIMED_OUT", message).retry_after(RETRY_AFTER),
        )
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit. Nonsense is none.
fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3_600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Counts a call when it is over, however it ends, and keeps its room until then.
pub(super) struct Tally {
    rpc: &'static str,
    begun: Instant,
    code: Option<Code>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Tally {
    fn new(rule: Option<&'static Rule>) -> Self {
        metrics::gauge!("runledger_rpc_in_flight").increment(1.0);
        Self {
            rpc: rule.map_or("unknown", |rule| rule.path),
            begun: Instant::now(),
            code: None,
            permit: None,
        }
    }

    pub(super) fn set(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// The body ended without saying how: well, unless it said so before.
    pub(super) fn set_ok(&mut self) {
        self.code.get_or_insert(Code::Ok);
    }

    fn refused(&mut self, status: Status) -> Status {
        self.set(status.code());
        status
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // Without a code the caller went away before the end.
        let code = name(self.code.unwrap_or(Code::Cancelled));
        metrics::gauge!("runledger_rpc_in_flight").decrement(1.0);
        metrics::histogram!("runledger_rpc_seconds", "rpc" => self.rpc, "code" => code)
            .record(self.begun.elapsed().as_secs_f64());
        tracing::debug!(rpc = self.rpc, code, "answered");
    }
}

const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        assert_eq!(timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            timeout(b"99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        assert_eq!(timeout(b"1S"), Some(Duration::from_secs(1)));
        for wrong in [
            &b""[..],
            b"m",
            b"1",
            b"1x",
            b"-1S",
            b"123456789S",
            "é".as_bytes(),
            b"1 S",
        ] {
            assert_eq!(timeout(wrong), None);
        }
    }
}
