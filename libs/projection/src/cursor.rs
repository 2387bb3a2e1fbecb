//! How far a projection has come in one partition, and the rules by which it goes on: every offset,
//! one incarnation, and of the decisions only those in force. Pure.

use runledger_domain::digest::{self, Digest};
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Kind, Partition};
use runledger_domain::time::Timestamp;
use runledger_eventlog::{HeaderFault, Stored};

/// Most void decisions in a row: two rounds of a decider. More means that the chain is lost.
pub(crate) const VOIDS_IN_A_ROW_MAX: u32 = 1_000;

/// The state of one partition; what is stored with every batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub partition: Partition,
    /// `None` until the Genesis has been read.
    pub incarnation: Option<Incarnation>,
    pub next_offset: u64,
    /// Of the record at `next_offset - 1`.
    pub last_digest: Option<Digest>,
    /// Hash of the last decision in force, or of the Genesis value.
    pub chain_head: Option<Digest>,
    pub voids_in_a_row: u32,
    /// Records read so far, Genesis included.
    pub record_count: u64,
    /// Rolled over the digests of all records read so far.
    pub rolling_hash: Digest,
    pub last_recorded_at: Option<Timestamp>,
    /// Records of it that are parked. Not the loop's to move: redriving changes it too.
    pub parked: u64,
}

/// What a record is to the projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be applied.
    Applies,
    /// Genesis, a command, or a void decision: read, counted and left out.
    LeftOut,
}

/// The log is not the one that the cursor has read so far.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Diverged {
    #[error(
        "LOG_DIVERGED: {partition}: expected offset {expected}, found {found}: records are missing from the log, \
             or it is another one; find out which before anything else"
    )]
    Offset {
        partition: Partition,
        expected: u64,
        found: u64,
    },
    #[error(
        "LOG_DIVERGED: {partition}: offset {offset} holds another record than the one applied; \
             the log was replaced or the database belongs to another one: find out which before anything else"
    )]
    Digest { partition: Partition, offset: u64 },
    #[error(
        "LOG_DIVERGED: {partition}: this is incarnation {found}, the cursor has read {expected}; \
             a topic made anew needs a read model made anew"
    )]
    Incarnation {
        partition: Partition,
        expected: Incarnation,
        found: Incarnation,
    },
    #[error(
        "LOG_DIVERGED: {partition} begins without a Genesis; run `runledger migrate` on an empty topic"
    )]
    NoGenesis { partition: Partition },
    #[error("{partition}: offset {offset}: the headers cannot be read: {fault}")]
    Headers {
        partition: Partition,
        offset: u64,
        fault: HeaderFault,
    },
    #[error(
        "CHAIN_LOST: {partition}: offset {offset}: {VOIDS_IN_A_ROW_MAX} void decisions in a row"
    )]
    ChainLost { partition: Partition, offset: u64 },
}

impl Cursor {
    /// Before anything was read.
    pub fn new(partition: Partition) -> Self {
        Self {
            partition,
            incarnation: None,
            next_offset: 0,
            last_digest: None,
            chain_head: None,
            voids_in_a_row: 0,
            record_count: 0,
            rolling_hash: [0; 32],
            last_recorded_at: None,
            parked: 0,
        }
    }

    /// Where to take the partition up again: at the last record read, to see that it is the same.
    pub(crate) fn resume_offset(&self) -> u64 {
        self.next_offset.saturating_sub(1)
    }

    /// Compares the record at [`Self::resume_offset`] with the one that was read there before.
    pub(crate) fn recognise(&self, stored: &Stored) -> Result<(), Diverged> {
        let (partition, found) = (self.partition, stored.position.offset);
        if found != self.resume_offset() {
            return Err(Diverged::Offset {
                partition,
                expected: self.resume_offset(),
                found,
            });
        }
        self.same_incarnation(stored)?;
        if self.last_digest != Some(stored.digest()) {
            return Err(Diverged::Digest {
                partition,
                offset: found,
            });
        }
        Ok(())
    }

    /// Reads the next record: counts it, rolls the hash on, and judges it by the chain.
    ///
    /// # Errors
    /// When it is not the record that follows.
    pub fn advance(&mut self, stored: &Stored) -> Result<Verdict, Diverged> {
        let (partition, offset) = (self.partition, stored.position.offset);
        if offset != self.next_offset {
            return Err(Diverged::Offset {
                partition,
                expected: self.next_offset,
                found: offset,
            });
        }
        let headers = stored.headers.as_ref().map_err(|fault| Diverged::Headers {
            partition,
            offset,
            fault: *fault,
        })?;
        if self.incarnation.is_none() {
            if headers.kind != Kind::Genesis {
                return Err(Diverged::NoGenesis { partition });
            }
            self.incarnation = Some(stored.position.incarnation);
            self.chain_head = Some(digest::of(&stored.value));
        }
        self.same_incarnation(stored)?;
        let verdict = match headers.kind {
            Kind::Fact => Verdict::Applies,
            Kind::Genesis | Kind::Command => Verdict::LeftOut,
            Kind::Decision => self.judge(headers.prev, stored)?,
        };
        let digest = stored.digest();
        self.next_offset += 1;
        self.record_count += 1;
        self.rolling_hash = digest::of_parts(&[&self.rolling_hash, &digest]);
        self.last_digest = Some(digest);
        self.last_recorded_at = stored.log_timestamp.or(self.last_recorded_at);
        Ok(verdict)
    }

    /// The chain rule: a decision is in force if and only if it continues the last one in force.
    fn judge(&mut self, prev: Option<Digest>, stored: &Stored) -> Result<Verdict, Diverged> {
        let head = self.chain_head.filter(|head| prev == Some(*head));
        let Some(head) = head else {
            self.voids_in_a_row += 1;
            if self.voids_in_a_row > VOIDS_IN_A_ROW_MAX {
                return Err(Diverged::ChainLost {
                    partition: self.partition,
                    offset: stored.position.offset,
                });
            }
            return Ok(Verdict::LeftOut);
        };
        self.voids_in_a_row = 0;
        self.chain_head = Some(decision_hash(&head, &stored.key, &stored.value));
        Ok(Verdict::Applies)
    }

    fn same_incarnation(&self, stored: &Stored) -> Result<(), Diverged> {
        match self.incarnation {
            Some(expected) if expected != stored.position.incarnation => {
                Err(Diverged::Incarnation {
                    partition: self.partition,
                    expected,
                    found: stored.position.incarnation,
                })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The hash of a decision: SHA-256(prev ‖ length of key, 8 bytes big endian ‖ key ‖ value as stored).
/// Computed by readers, never carried.
pub fn decision_hash(prev: &Digest, key: &[u8], value: &[u8]) -> Digest {
    let mut bytes = Vec::with_capacity(prev.len() + 8 + key.len() + value.len());
    bytes.extend_from_slice(prev);
    bytes.extend_from_slice(&(key.len() as u64).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    digest::of(&bytes)
}

#[cfg(test)]
mod tests;
