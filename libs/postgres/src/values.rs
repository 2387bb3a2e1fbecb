//! Values as Postgres takes them.

use std::borrow::Cow;

use runledger_domain::scope::Scope;
pub use runledger_domain::text::storable as text;
pub use runledger_domain::time::storable as time;
use uuid::Uuid;

/// The columns that every key begins with.
#[derive(Debug, Default)]
pub struct Scopes {
    pub tenants: Vec<Uuid>,
    pub modes: Vec<&'static str>,
}

impl Scopes {
    /// Adds one row's.
    pub fn push(&mut self, scope: Scope) {
        self.tenants.push(scope.tenant.as_uuid());
        self.modes.push(scope.mode.as_str());
    }
}

/// `None` for an empty text.
pub fn some_text(some: &str) -> Option<Cow<'_, str>> {
    (!some.is_empty()).then(|| text(some))
}

/// `number`, or the largest that a column holds.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_cannot_keep_is_bent_not_refused() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        assert_eq!(some_text(""), None);
        assert_eq!(signed(u64::MAX), i64::MAX);
    }
}
