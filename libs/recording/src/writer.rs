//! Writing a recording, and going on with one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom, Write};

use runledger_proto::recording::v1::{Block, Footer, Header};

use crate::frame::{self, Chain, Kind};
use crate::{Error, MAGIC, Reader};

/// A recording that is being written.
pub struct Writer<W> {
    to: W,
    chain: Chain,
    blocks: u64,
    facts: u64,
}

/// How far a recording has come.
#[derive(Debug, PartialEq)]
pub struct Standing {
    pub header: Header,
    pub facts: u64,
    /// Of each span of the header, the next offset to look at.
    pub looked_to: Vec<u64>,
    pub left_out: BTreeMap<String, u64>,
    /// There is nothing left to do.
    pub is_whole: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(mut to: W, header: &Header) -> Result<Self, Error> {
        to.write_all(MAGIC)?;
        let mut chain = Chain::new();
        frame::write(&mut to, &mut chain, Kind::Header, header)?;
        Ok(Self {
            to,
            chain,
            blocks: 0,
            facts: 0,
        })
    }

    /// Writes a block; what was written before it stays whole, whatever becomes of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`].
    pub fn block(&mut self, block: &Block) -> Result<(), Error> {
        frame::write(&mut self.to, &mut self.chain, Kind::Block, block)?;
        self.blocks += 1;
        self.facts += block.facts.len() as u64;
        Ok(())
    }

    /// Says that the recording is whole, and gives back what it was written to.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self, left_out: BTreeMap<String, u64>) -> Result<W, Error> {
        let footer = Footer {
            facts: self.facts,
            blocks: self.blocks,
            left_out,
        };
        frame::write(&mut self.to, &mut self.chain, Kind::Footer, &footer)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl Writer<File> {
    /// Goes on with a recording behind its last whole block; what stands behind that is cut off.
    ///
    /// # Errors
    /// [`Error::NotARecording`], [`Error::VersionTooNew`], [`Error::Corrupted`] where the header is not whole or a
    /// block is damaged, [`Error::Io`].
    pub fn resume(mut file: File) -> Result<(Self, Standing), Error> {
        let mut reader = Reader::open(BufReader::new(&file))?;
        let mut standing = Standing {
            header: reader.header().clone(),
            facts: 0,
            looked_to: reader
                .header()
                .spans
                .iter()
                .map(|span| span.from_offset)
                .collect(),
            left_out: BTreeMap::new(),
            is_whole: true,
        };
        loop {
            match reader.block() {
                Ok(Some(block)) => {
                    standing.facts += block.facts.len() as u64;
                    standing.looked_to = block.looked_to;
                    standing.left_out = block.left_out;
                }
                Ok(None) => break,
                Err(Error::CutShort { .. }) => {
                    standing.is_whole = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let (at, blocks, facts, chain) = reader.into_standing();
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        let writer = Self {
            to: file,
            chain,
            blocks,
            facts,
        };
        Ok((writer, standing))
    }
}
