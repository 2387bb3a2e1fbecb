//! What deciding needs to know of a run and of one of its calls, and how it is kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ApprovalTerms, Status, Verdict};
use crate::digest::Digest;
use crate::ids::{AgentId, ApprovalId, Name, PrincipalId};
use crate::run::Limits;
use crate::scope::Actor;
use crate::time::Timestamp;

/// A run, as far as facts and decisions in force have told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whether a start was reported: the first one stands.
    pub started: bool,
    pub ended: bool,
    /// When it was first heard of, by a start or by a request, by our clock.
    pub since: Option<Timestamp>,
    pub agent: Option<AgentId>,
    pub model: String,
    pub labels: BTreeMap<Name, String>,
    pub limits: Limits,
    /// Governed calls that were not blocked, in all and by tool.
    pub tool_calls: u64,
    pub of_tool: BTreeMap<Name, u64>,
    /// Governed calls that were blocked.
    pub blocked: u64,
}

/// A governed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub verdict: Verdict,
    pub requester: Actor,
    /// Of the arguments as they may be used: edited ones, once they are.
    pub arguments_digest: Digest,
    /// When it is held.
    pub held: Option<Held>,
    /// When it was made.
    pub used_at: Option<Timestamp>,
}

/// The approval of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub approval_id: ApprovalId,
    pub terms: ApprovalTerms,
    pub status: Status,
    /// Who has approved the arguments as they are.
    pub approved_by: BTreeSet<PrincipalId>,
    /// When it was approved, rejected or closed.
    pub decided_at: Option<Timestamp>,
    pub use_by: Option<Timestamp>,
}

/// Why stored bytes are no state.
#[derive(Debug, thiserror::Error)]
#[error("not a state as it is stored")]
pub struct InvalidState(#[from] serde_json::Error);

impl Run {
    /// As it is kept. Only read back by [`Self::from_bytes`]: a version that keeps it otherwise
    /// builds its tables anew.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// When somebody else has written the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidState> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Call {
    /// As it is kept; see [`Run::to_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// When somebody else has written the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidState> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
