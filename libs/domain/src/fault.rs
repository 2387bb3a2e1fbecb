//! What can go wrong for a caller, free of any transport. `libs/service` turns it into a status,
//! once, and there alone.

use std::borrow::Cow;
use std::time::Duration;

/// The few kinds of fault. Retryable means exactly [`Kind::Unavailable`] or [`Kind::Exhausted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    AlreadyExists,
    Precondition,
    Exhausted,
    Unavailable,
    Internal,
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path, for example `facts[3].run_started.labels`.
    pub field: String,
    /// Stable, UPPER_SNAKE_CASE.
    pub reason: Cow<'static, str>,
    /// What is wrong, and what would be right.
    pub description: String,
}

/// A fault as the caller is to hear it. The cause inside is for the log only.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: Kind,
    /// Stable, UPPER_SNAKE_CASE.
    pub reason: Cow<'static, str>,
    /// For people: what happened and what to do.
    pub message: String,
    pub violations: Vec<Violation>,
    /// When a retry makes sense: not before this has passed.
    pub retry_after: Option<Duration>,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    pub fn new(
        kind: Kind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            reason: reason.into(),
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// Every field fault of a request at once.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let message = match violations.as_slice() {
            [one] => format!("{}: {}", one.field, one.description),
            many => format!(
                "{} fields are not as they must be; each is listed in the details",
                many.len()
            ),
        };
        Self {
            violations,
            ..Self::new(Kind::Invalid, "INVALID_FIELDS", message)
        }
    }

    /// Ours to mend: the caller learns nothing but that.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(
                Kind::Internal,
                "INTERNAL",
                "an unexpected error; report it with the request id",
            )
        }
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}
