//! What all who take part in the load share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_service::client::Connection;
use runledger_service::status::reason;
use runledger_tests::Clients;
use tonic::{Code, Status};

use crate::history::Fate;

/// How many surprises are told in full.
const SURPRISES_MAX: usize = 20;

/// A caller of one scope, who knows both apis.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) clients: Clients,
    pub(crate) apis: [RunsServiceClient<Connection>; 2],
}

/// What goes on.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    acknowledged: AtomicU64,
    stop: AtomicBool,
    surprises: Mutex<Vec<String>>,
}

impl Progress {
    pub(crate) fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Asks the load to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Notes an answer that no fault explains.
    pub(crate) fn surprise(&self, what: String) {
        let mut surprises = self
            .surprises
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if surprises.len() < SURPRISES_MAX {
            surprises.push(what);
        }
    }

    pub(crate) fn surprises(&self) -> Vec<String> {
        self.surprises
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(crate) type Shared = Arc<Progress>;

/// What a refusal says of what was sent; none: that it should never have been refused like this.
pub(crate) fn fate(status: &Status) -> Option<Fate> {
    match (status.code(), reason(status).as_deref()) {
        (Code::Unavailable, Some("APPEND_UNKNOWN")) => Some(Fate::Unknown),
        // The gate and the log say so before anything is handed over.
        (Code::Unavailable | Code::ResourceExhausted, Some(_)) => Some(Fate::Denied),
        _ if is_passing(status) => Some(Fate::Unknown),
        _ => None,
    }
}

/// Whether the same call may be answered later: the server said so, or the connection broke.
pub(crate) fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Internal | Code::Cancelled => reason(status).is_none(),
        _ => false,
    }
}
