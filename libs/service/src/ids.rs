//! The one place where an id is made that nobody handed in.

use uuid::Uuid;

/// A new id, version 7: unique, and ordered by when it was made, to the millisecond.
#[expect(clippy::disallowed_methods, reason = "the one place that makes v7 ids")]
pub fn fresh() -> Uuid {
    Uuid::now_v7()
}
