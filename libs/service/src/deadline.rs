//! Until when an answer is of use.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Request;

/// What a unary call has when its caller sets no deadline.
pub const DEFAULT: Duration = Duration::from_secs(10);

/// Left in the request by the gate: when the handler must have answered. Slightly before the
/// caller's own, so that the answer still arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// The deadline of a unary request.
pub fn of<T>(request: &Request<T>) -> Instant {
    of_stream(request).unwrap_or_else(|| Instant::now() + DEFAULT)
}

/// The deadline of a streaming request; none unless its caller set one.
pub fn of_stream<T>(request: &Request<T>) -> Option<Instant> {
    request
        .extensions()
        .get::<Deadline>()
        .map(|deadline| deadline.0)
}
