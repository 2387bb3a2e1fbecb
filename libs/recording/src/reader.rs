//! Reading a recording, block by block.

use std::io::Read;

use prost::Message as _;
use runledger_proto::recording::v1::{Block, Footer, Header};

use crate::frame::{self, Chain, Found, Kind};
use crate::{Error, MAGIC, VERSION};

/// A recording that is being read.
pub struct Reader<R> {
    from: R,
    chain: Chain,
    header: Header,
    footer: Option<Footer>,
    blocks: u64,
    facts: u64,
    /// Bytes of all good frames, and of what stands before them.
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::NotARecording`], [`Error::VersionTooNew`], [`Error::CutShort`], [`Error::Corrupted`], [`Error::Io`].
    pub fn open(mut from: R) -> Result<Self, Error> {
        let mut magic = Vec::new();
        from.by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        if magic != MAGIC {
            return Err(Error::NotARecording);
        }
        let mut reader = Self {
            from,
            chain: Chain::new(),
            header: Header::default(),
            footer: None,
            blocks: 0,
            facts: 0,
            at: MAGIC.len() as u64,
        };
        let header = match reader.frame()? {
            Some((Kind::Header, content)) => Header::decode(&*content),
            Some(_) => return Err(reader.damage("it has no header")),
            None => return Err(Error::CutShort { blocks: 0 }),
        };
        reader.header = header.map_err(|_| reader.damage("its header cannot be understood"))?;
        match reader.header.version {
            0 => Err(reader.damage("its header has no version")),
            version if version > VERSION => Err(Error::VersionTooNew(version)),
            _ => Ok(reader),
        }
    }

    /// What the recording is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Once all blocks were read.
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// The next block; `None` when the recording is whole and over.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn block(&mut self) -> Result<Option<Block>, Error> {
        if self.footer.is_some() {
            return Ok(None);
        }
        match self.frame()? {
            Some((Kind::Block, content)) => {
                let block = Block::decode(&*content);
                let block = block.map_err(|_| self.damage("a block cannot be understood"))?;
                self.check(&block)?;
                self.blocks += 1;
                self.facts += block.facts.len() as u64;
                Ok(Some(block))
            }
            Some((Kind::Footer, content)) => {
                let footer = Footer::decode(&*content);
                let footer = footer.map_err(|_| self.damage("its footer cannot be understood"))?;
                if (footer.facts, footer.blocks) != (self.facts, self.blocks) {
                    return Err(self.damage("its footer counts otherwise"));
                }
                self.footer = Some(footer);
                Ok(None)
            }
            Some((Kind::Header, _)) => Err(self.damage("it has two headers")),
            None => Err(Error::CutShort {
                blocks: self.blocks,
            }),
        }
    }

    fn check(&self, block: &Block) -> Result<(), Error> {
        let spans = &self.header.spans;
        if block.looked_to.len() != spans.len() {
            return Err(self.damage("a block speaks of other spans than the header"));
        }
        let is_known = |span: u32| usize::try_from(span).is_ok_and(|span| span < spans.len());
        if !block.facts.iter().all(|fact| is_known(fact.span)) {
            return Err(self.damage("a fact is of no span of the header"));
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, Error> {
        match frame::read(&mut self.from, &mut self.chain)? {
            (Found::Frame(kind, content), bytes) => {
                self.at += bytes;
                Ok(Some((kind, content)))
            }
            (Found::End, _) => Ok(None),
            (Found::Damage(what), _) => Err(self.damage(what)),
        }
    }

    fn damage(&self, what: &'static str) -> Error {
        Error::Corrupted {
            blocks: self.blocks,
            at: self.at,
            what,
        }
    }

    /// Where the last good frame ended, what stands there, and the chain so far.
    pub(crate) fn into_standing(self) -> (u64, u64, u64, Chain) {
        (self.at, self.blocks, self.facts, self.chain)
    }
}
