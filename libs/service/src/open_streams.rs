//! How many streams may be open at once in a process, and of one tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::TenantId;

/// What streams of a kind are to those who open and watch them.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The gauge of those that are open.
    pub gauge: &'static str,
    /// The reason and the message of the refusal.
    pub reason: &'static str,
    pub message: &'static str,
}

/// Counts the streams that are open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenStreams {
    named: Named,
    max: usize,
    of_tenant_max: usize,
    open: Arc<Mutex<HashMap<TenantId, usize>>>,
}

/// One open stream; closed when dropped.
#[derive(Debug)]
pub struct Open {
    streams: OpenStreams,
    tenant: TenantId,
}

impl OpenStreams {
    pub fn new(named: Named, max: usize, of_tenant_max: usize) -> Self {
        Self {
            named,
            max,
            of_tenant_max,
            open: Arc::default(),
        }
    }

    /// # Errors
    /// Exhausted: as many are open as may be, here or of this tenant.
    pub fn open(&self, tenant: TenantId) -> Result<Open, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let of_tenant = open.get(&tenant).copied().unwrap_or_default();
        if all >= self.max || of_tenant >= self.of_tenant_max {
            let Named {
                reason, message, ..
            } = self.named;
            return Err(
                Fault::new(Kind::Exhausted, reason, message).retry_after(Duration::from_secs(1))
            );
        }
        open.insert(tenant, of_tenant + 1);
        metrics::gauge!(self.named.gauge).increment(1);
        Ok(Open {
            streams: self.clone(),
            tenant,
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(self.streams.named.gauge).decrement(1);
        let open = self.streams.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}
