//! The bodies on their way in and out: what is too large stops here, and how a call ended is
//! seen here, for a stream's end comes long after its handler has returned.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use runledger_domain::fault::{Fault, Kind};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

use super::MESSAGE_BYTES_MAX;
use super::gate::Tally;
use crate::status;

/// gRPC puts before each message: one byte of flags, four of length.
const PREFIX_BYTES: usize = 5;

/// A request's body, of which no message is larger than allowed.
pub(super) struct Inbound {
    inner: Body,
    sizes: Sizes,
    refused: bool,
}

/// Where in the sequence of messages the bytes seen so far end.
#[derive(Default)]
struct Sizes {
    prefix: [u8; PREFIX_BYTES],
    prefix_filled: usize,
    message_left: usize,
}

impl Inbound {
    pub(super) fn new(inner: Body) -> Self {
        Self {
            inner,
            sizes: Sizes::default(),
            refused: false,
        }
    }
}

impl HttpBody for Inbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.refused {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(status) = this.sizes.pass(data)
        {
            this.refused = true;
            return Poll::Ready(Some(Err(status)));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Sizes {
    /// Goes on by `data`; refuses the message that is too large as soon as its length is known.
    fn pass(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.message_left > 0 {
                let step = self.message_left.min(data.len());
                self.message_left -= step;
                data = data.get(step..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.prefix.get_mut(self.prefix_filled)
                && let Some((&byte, rest)) = data.split_first()
            {
                *place = byte;
                self.prefix_filled += 1;
                data = rest;
            }
            if self.prefix_filled == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.message_left =
                    usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.prefix_filled = 0;
                if self.message_left > MESSAGE_BYTES_MAX {
                    return Err(too_large(self.message_left));
                }
            }
        }
        Ok(())
    }
}

fn too_large(bytes: usize) -> Status {
    status::from_fault(Fault::new(
        Kind::Invalid,
        "REQUEST_TOO_LARGE",
        format!("the request has {bytes} bytes and may have {MESSAGE_BYTES_MAX}; send it in parts"),
    ))
}

/// When a body is ended for its handler.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    pub(super) cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// A response's body, whose end is counted, and brought about when it does not come by itself.
pub(super) struct Outbound {
    /// None: ended.
    inner: Option<Body>,
    ends: Ends,
    tally: Tally,
    span: Span,
}

impl Outbound {
    pub(super) fn new(inner: Body, ends: Ends, tally: Tally, span: Span) -> Self {
        Self {
            inner: Some(inner),
            ends,
            tally,
            span,
        }
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.inner = None;
        self.tally.set(status.code());
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        }))
    }

    fn why_end(&mut self, cx: &mut Context<'_>) -> Option<Status> {
        if let Some(deadline) = &mut self.ends.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Some(deadline_exceeded());
        }
        if let Some(cut) = &mut self.ends.cut
            && cut.as_mut().poll(cx).is_ready()
        {
            let fault = Fault::new(
                Kind::Unavailable,
                "STOPPING",
                "this process is stopping; call again, another will answer",
            );
            return Some(status::from_fault(
                fault.retry_after(std::time::Duration::from_millis(100)),
            ));
        }
        None
    }
}

/// The answer to a call whose caller's own deadline has come.
pub(super) fn deadline_exceeded() -> Status {
    status::bare(
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "not done by the deadline; a write may still take effect, repeat it with the same ids",
    )
}

/// The answer to a call whose handler panicked. The panic itself is logged by its hook.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Status {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    status::from_fault(Fault::internal(format!(
        "the handler panicked: {}",
        message.unwrap_or("without words")
    )))
}

impl HttpBody for Outbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let span = this.span.clone();
        let _inside = span.enter();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let polled = match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))) {
            Ok(polled) => polled,
            Err(panic) => return this.end(&panicked(panic.as_ref())),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
                    this.tally.set(code);
                }
            }
            Poll::Ready(Some(Err(status))) => this.tally.set(status.code()),
            Poll::Ready(None) => this.tally.set_ok(),
            Poll::Pending => {
                if let Some(status) = this.why_end(cx) {
                    return this.end(&status);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// The code that headers or trailers carry.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|value| Code::from_bytes(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        bytes.resize(PREFIX_BYTES + length.min(MESSAGE_BYTES_MAX), 7);
        bytes
    }

    #[test]
    fn sizes_are_seen_however_the_bytes_are_cut() {
        let good: Vec<u8> = [
            message(0),
            message(3),
            message(MESSAGE_BYTES_MAX),
            message(1),
        ]
        .concat();
        for step in [1, 2, 3, 5, 7, 4_096, good.len()] {
            let mut sizes = Sizes::default();
            assert!(
                good.chunks(step).all(|data| sizes.pass(data).is_ok()),
                "{step}"
            );
            assert_eq!((sizes.message_left, sizes.prefix_filled), (0, 0));
            let large = message(MESSAGE_BYTES_MAX + 1);
            let status = large
                .chunks(step)
                .find_map(|data| sizes.pass(data).err())
                .unwrap();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(
                status::reason(&status).as_deref(),
                Some("REQUEST_TOO_LARGE")
            );
        }
    }
}
