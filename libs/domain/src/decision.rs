//! What commands and decisions of every family have in common.

use std::borrow::Cow;

use crate::fault::{self, Fault, Violation};
use crate::scope::worded;

worded! {
    /// What kind of refusal it is.
    RejectionKind {
        Invalid = "invalid", Forbidden = "forbidden", NotFound = "not_found",
        AlreadyExists = "already_exists", Precondition = "precondition", Internal = "internal",
    }
}

impl From<RejectionKind> for fault::Kind {
    fn from(kind: RejectionKind) -> Self {
        match kind {
            RejectionKind::Invalid => Self::Invalid,
            RejectionKind::Forbidden => Self::Forbidden,
            RejectionKind::NotFound => Self::NotFound,
            RejectionKind::AlreadyExists => Self::AlreadyExists,
            RejectionKind::Precondition => Self::Precondition,
            RejectionKind::Internal => Self::Internal,
        }
    }
}

/// The refusal of a command, as it is recorded and as its caller hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub kind: RejectionKind,
    /// Stable, UPPER_SNAKE_CASE.
    pub reason: Cow<'static, str>,
    /// For people: what is wrong and what to do.
    pub message: String,
    pub violations: Vec<Violation>,
}

impl Rejection {
    pub fn new(
        kind: RejectionKind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            reason: reason.into(),
            message: message.into(),
            violations: Vec::new(),
        }
    }

    /// Every field fault of a command at once.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let fault = Fault::invalid(violations);
        Self {
            violations: fault.violations,
            ..Self::new(RejectionKind::Invalid, fault.reason, fault.message)
        }
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        Self {
            violations: rejection.violations,
            ..Self::new(rejection.kind.into(), rejection.reason, rejection.message)
        }
    }
}
