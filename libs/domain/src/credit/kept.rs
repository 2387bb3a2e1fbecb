//! What is known of accounts and holds, as bytes to be kept beside the log.

use super::{Account, Fate};

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
#[error("not a state as it is kept")]
pub struct InvalidState(#[from] serde_json::Error);

impl Account {
    /// As it is kept. Only read back by [`Self::from_bytes`]: a version that keeps it otherwise
    /// builds its tables anew.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Every key is a text or a number, so nothing can stand in the way.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// When somebody else has written the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidState> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Fate {
    /// As it is kept; see [`Account::to_bytes`].
    pub fn to_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    /// # Errors
    /// When somebody else has written the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidState> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
