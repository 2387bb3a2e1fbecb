//! SHA-256 over length-prefixed parts.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Digest = [u8; 32];

/// SHA-256 over the parts, each preceded by its length (8 bytes, big endian), so that no two lists
/// of parts run together to the same bytes.
pub fn of_parts(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Plain SHA-256 of `bytes`.
pub fn of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
