//! Whether a role can do its work now.

use std::sync::Arc;

use tokio::sync::watch;

/// The health of one role; begins as not ready. Cheap to clone; every clone is the same health.
#[derive(Clone, Debug)]
pub struct Health {
    role: &'static str,
    ready: Arc<watch::Sender<bool>>,
}

impl Health {
    /// The health of `role`, for example `ingest`; not ready.
    pub fn new(role: &'static str) -> Self {
        Self {
            role,
            ready: Arc::new(watch::Sender::new(false)),
        }
    }

    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Says whether the role can do its work.
    pub fn set(&self, ready: bool) {
        let changed = self
            .ready
            .send_if_modified(|now| std::mem::replace(now, ready) != ready);
        if changed {
            tracing::info!(role = self.role, ready, "health changed");
        }
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Follows the changes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}
