//! Faults as gRPC statuses: once, and here alone.
//!
//! Outside goes the message, a stable reason and what the caller can act on; the causes stay in
//! the log, where the span carries the request id.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use runledger_domain::fault::{Fault, Kind, Violation};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every `google.rpc.ErrorInfo` of ours.
pub const DOMAIN: &str = "runledger";
/// How many violations a status lists; it says how many more there are.
pub const VIOLATIONS_MAX: usize = 100;
/// A status travels in a header, of which some clients take no more than 8 KiB.
const MESSAGE_BYTES_MAX: usize = 1_024;
const VIOLATIONS_BYTES_MAX: usize = 4_096;

/// The status for `fault`. Logs an internal fault with the whole chain of its causes.
pub fn from_fault(fault: Fault) -> Status {
    log(&fault);
    let details = details(&fault);
    let mut message = fault.message;
    cut(&mut message, MESSAGE_BYTES_MAX);
    Status::with_error_details(code(fault.kind), message, details)
}

/// A status that no [`Kind`] stands for, with its reason.
pub(crate) fn bare(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// The reason that a status of ours carries.
pub fn reason(status: &Status) -> Option<String> {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
}

/// When a retry makes sense, as the status says it.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status
        .get_error_details()
        .retry_info()
        .and_then(|info| info.retry_delay)
}

/// The code of a kind of fault.
pub const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

fn details(fault: &Fault) -> ErrorDetails {
    let mut metadata = HashMap::new();
    let mut details = ErrorDetails::new();
    let listed = listed(&fault.violations);
    for violation in listed {
        details.add_bad_request_violation(
            violation.field.as_str(),
            format!("{}: {}", violation.reason, violation.description),
        );
    }
    let more = fault.violations.len() - listed.len();
    if more > 0 {
        metadata.insert("violations_not_listed".to_owned(), more.to_string());
    }
    details.set_error_info(fault.reason.as_ref(), DOMAIN, metadata);
    if let Some(delay) = fault.retry_after {
        details.set_retry_info(Some(delay));
    }
    details
}

/// As many of the first violations as a header can carry.
fn listed(violations: &[Violation]) -> &[Violation] {
    let mut bytes = 0;
    let fit = violations
        .iter()
        .take(VIOLATIONS_MAX)
        .take_while(|one| {
            bytes += one.field.len() + one.reason.len() + one.description.len();
            bytes <= VIOLATIONS_BYTES_MAX
        })
        .count();
    violations.get(..fit).unwrap_or_default()
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}

fn log(fault: &Fault) {
    let reason = &*fault.reason;
    match (fault.kind, &fault.cause) {
        (Kind::Internal, cause) => {
            let cause = cause.as_deref().map(|cause| chain(cause));
            tracing::error!(reason, cause, "internal fault");
        }
        (_, Some(cause)) => tracing::warn!(reason, cause = chain(cause.as_ref()), "refused"),
        (_, None) => tracing::debug!(reason, message = fault.message, "refused"),
    }
}

/// An error and everything that caused it, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing into a String cannot fail.
        write!(text, ": {cause}").ok();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(number: usize) -> Violation {
        Violation {
            field: format!("facts[{number}]"),
            reason: "REQUIRED".into(),
            description: "is missing".to_owned(),
        }
    }

    #[test]
    fn details_make_the_round_trip() {
        let fault = Fault {
            violations: vec![violation(0), violation(1)],
            ..Fault::new(Kind::Exhausted, "RATE_LIMITED", "slow down")
        }
        .retry_after(Duration::from_millis(250));
        let status = from_fault(fault);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "slow down");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("RATE_LIMITED", "runledger")
        );
        assert_eq!(retry_after(&status), Some(Duration::from_millis(250)));
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[1].field, "facts[1]");
        assert_eq!(fields[1].description, "REQUIRED: is missing");
    }

    #[test]
    fn more_violations_than_a_header_holds_are_counted() {
        let status = from_fault(Fault::invalid((0..1_000).map(violation).collect()));
        let details = status.get_error_details();
        let listed = details.bad_request().unwrap().field_violations.len();
        assert_eq!(listed, VIOLATIONS_MAX);
        assert_eq!(
            details.error_info().unwrap().metadata["violations_not_listed"],
            "900"
        );

        let mut long = violation(0);
        long.description = "x".repeat(VIOLATIONS_BYTES_MAX);
        let status = from_fault(Fault::invalid(vec![violation(0), long]));
        assert_eq!(
            status
                .get_error_details()
                .bad_request()
                .unwrap()
                .field_violations
                .len(),
            1
        );
    }

    #[test]
    fn the_cause_stays_inside() {
        let status = from_fault(Fault::internal("password is hunter2"));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(reason(&status).as_deref(), Some("INTERNAL"));
        assert!(!format!("{status:?}").contains("hunter2"));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let status = from_fault(Fault::new(Kind::Invalid, "X", "ä".repeat(4_000)));
        assert!(status.message().len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(status.message().ends_with('…'));
    }
}
