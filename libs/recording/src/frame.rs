//! One frame of a recording: packed, sized, checked.

use std::io::{Read, Write};

use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::{Error, MAGIC};

/// Largest content of a frame, unpacked. A record has at most 256 KiB; blocks are cut far below this.
pub(crate) const CONTENT_MAX: usize = 16 << 20;
/// Packed it may be a little larger than that, where it cannot be packed.
const PACKED_MAX: usize = CONTENT_MAX + (64 << 10);
/// Kind, two sizes, checksum.
pub(crate) const HEAD: usize = 1 + 4 + 4 + 32;
/// Packs facts to about a quarter at several hundred megabytes a second.
const LEVEL: i32 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Header = 1,
    Block = 2,
    Footer = 3,
}

/// The checksum so far: over everything before the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain([u8; 32]);

impl Chain {
    pub(crate) fn new() -> Self {
        Self(Sha256::digest(MAGIC).into())
    }

    fn then(self, kind: u8, sizes: [u8; 8], packed: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update([kind]);
        hasher.update(sizes);
        hasher.update(packed);
        Self(hasher.finalize().into())
    }
}

/// What stood where a frame was expected.
pub(crate) enum Found {
    Frame(Kind, Vec<u8>),
    /// Nothing, or the beginning of a frame.
    End,
    Damage(&'static str),
}

/// Writes a frame; the chain goes on when all of it is written.
pub(crate) fn write(
    to: &mut impl Write,
    chain: &mut Chain,
    kind: Kind,
    content: &impl Message,
) -> Result<u64, Error> {
    let content = content.encode_to_vec();
    if content.len() > CONTENT_MAX {
        return Err(Error::TooLarge(content.len()));
    }
    let packed = zstd::bulk::compress(&content, LEVEL)?;
    let sizes = sizes(content.len(), packed.len());
    let next = chain.then(kind as u8, sizes, &packed);
    let mut frame = Vec::with_capacity(HEAD + packed.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&sizes);
    frame.extend_from_slice(&next.0);
    frame.extend_from_slice(&packed);
    to.write_all(&frame)?;
    *chain = next;
    Ok(frame.len() as u64)
}

/// Reads a frame; the chain goes on when it is good. Answers with the bytes it took, too.
pub(crate) fn read(from: &mut impl Read, chain: &mut Chain) -> Result<(Found, u64), Error> {
    let mut head = Vec::with_capacity(HEAD);
    from.take(HEAD as u64).read_to_end(&mut head)?;
    let Ok(head) = <[u8; HEAD]>::try_from(head) else {
        return Ok((Found::End, 0));
    };
    let (kind, rest) = (head[0], &head[1..]);
    let mut sizes = [0; 8];
    sizes.copy_from_slice(&rest[..8]);
    let (unpacked, packed) = of_sizes(sizes);
    if unpacked > CONTENT_MAX || packed > PACKED_MAX {
        return Ok((Found::Damage("a frame is larger than frames can be"), 0));
    }
    let mut content = Vec::new();
    from.take(packed as u64).read_to_end(&mut content)?;
    if content.len() < packed {
        return Ok((Found::End, 0));
    }
    let next = chain.then(kind, sizes, &content);
    if rest[8..] != next.0 {
        return Ok((Found::Damage("a checksum is not that of its frame"), 0));
    }
    let kind = match kind {
        1 => Kind::Header,
        2 => Kind::Block,
        3 => Kind::Footer,
        _ => return Ok((Found::Damage("a frame is of no known kind"), 0)),
    };
    let Ok(content) = zstd::bulk::decompress(&content, unpacked) else {
        return Ok((Found::Damage("a frame cannot be unpacked"), 0));
    };
    *chain = next;
    Ok((Found::Frame(kind, content), (HEAD + packed) as u64))
}

fn sizes(unpacked: usize, packed: usize) -> [u8; 8] {
    let four = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let mut sizes = [0; 8];
    sizes[..4].copy_from_slice(&four(unpacked));
    sizes[4..].copy_from_slice(&four(packed));
    sizes
}

fn of_sizes([a, b, c, d, e, f, g, h]: [u8; 8]) -> (usize, usize) {
    let size = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    (size([a, b, c, d]), size([e, f, g, h]))
}
