//! Recordings: files of facts that were taken from the log, to be told again elsewhere.
//!
//! For: writing and reading `runledger.recording.v1`, compressed, with a checksum over every frame and all before it;
//! going on with a recording that was cut short.
//! Must never: take a damaged, incomplete or later file for a whole one, or hold more than one block of it in memory.
//!
//! A file is [`MAGIC`], then frames. A frame is its kind (1 byte), the sizes of its content unpacked and packed (4 bytes
//! each, little endian), a checksum (32 bytes), and the content, packed by zstd. The checksum is SHA-256 over the
//! checksum before it, kind, sizes and packed content; before the first frame stands SHA-256 of [`MAGIC`].

mod frame;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io;

pub use reader::Reader;
pub use writer::{Standing, Writer};

/// How a recording begins.
pub const MAGIC: &[u8; 8] = b"RUNLEDGR";
/// The version that is written, and the last that is read.
pub const VERSION: u32 = 1;

/// Why a file is no recording, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("NOT_A_RECORDING: the file does not begin as recordings do")]
    NotARecording,
    #[error(
        "VERSION_TOO_NEW: the recording is of version {0}, this program reads up to {VERSION}; use a newer one"
    )]
    VersionTooNew(u32),
    #[error(
        "CUT_SHORT: the recording ends after {blocks} whole blocks; record again with --resume to complete it"
    )]
    CutShort { blocks: u64 },
    #[error(
        "CORRUPTED: the recording is damaged after {blocks} good blocks, at byte {at}: {what}; take another copy"
    )]
    Corrupted {
        blocks: u64,
        at: u64,
        what: &'static str,
    },
    #[error("a block of {0} bytes is larger than a recording may have")]
    TooLarge(usize),
    #[error("cannot read or write the recording")]
    Io(#[from] io::Error),
}
