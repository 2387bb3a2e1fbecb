//! Cursors and checkpoints, recomputed from the log.

use std::collections::BTreeMap;
use std::fmt;

use runledger_domain::log::Partition;
use runledger_eventlog::{Event, Log, Stored, SubscriptionOptions};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::build::{BATCH_BYTES, BATCH_RECORDS, QUEUE_BYTES};
use crate::cursor::{Cursor, Verdict};
use crate::store::Checkpoint;

/// The first place of a partition where what is stored is not what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discontinuity {
    pub partition: Partition,
    /// The next offset at the place.
    pub next_offset: u64,
    pub what: String,
}

impl fmt::Display for Discontinuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at next offset {}: {}",
            self.partition, self.next_offset, self.what
        )
    }
}

/// Reads the log up to `cursors`, once, and compares on the way.
pub(super) async fn check(
    log: &dyn Log,
    name: &str,
    partitions: &[Partition],
    cursors: &BTreeMap<Partition, Cursor>,
    checkpoints: Vec<Checkpoint>,
    shutdown: &CancellationToken,
) -> Result<Option<Discontinuity>, Error> {
    let wrong = beyond_log(log, partitions, cursors).await?;
    let wrong = wrong.or_else(|| beyond_cursor(cursors, &checkpoints));
    if wrong.is_some() {
        return Ok(wrong);
    }
    let track = |cursor: &Cursor| (cursor.partition, Track::new(cursor));
    let mut tracks: BTreeMap<Partition, Track> = cursors.values().map(track).collect();
    for checkpoint in checkpoints {
        if let Some(track) = tracks.get_mut(&checkpoint.partition) {
            track.expect(checkpoint);
        }
    }
    tracks.retain(|_, track| track.stored.next_offset > 0);
    follow(log, name, tracks, shutdown).await
}

/// The first cursor that the log does not reach.
pub(super) async fn beyond_log(
    log: &dyn Log,
    partitions: &[Partition],
    cursors: &BTreeMap<Partition, Cursor>,
) -> Result<Option<Discontinuity>, Error> {
    for (partition, cursor) in cursors {
        if !partitions.contains(partition) {
            return Ok(found(
                *partition,
                cursor.next_offset,
                "the log has no such partition",
            ));
        }
        let end = log.watermark(*partition).await.map_err(Error::Log)?;
        if end < cursor.next_offset {
            let what = format!(
                "the log ends before offset {end}: it was replaced or cut, or the database belongs to another one; \
                 find out which before anything else"
            );
            return Ok(found(*partition, cursor.next_offset, what));
        }
    }
    Ok(None)
}

/// The first checkpoint that its cursor does not reach.
pub(super) fn beyond_cursor(
    cursors: &BTreeMap<Partition, Cursor>,
    checkpoints: &[Checkpoint],
) -> Option<Discontinuity> {
    let reached = |one: &Checkpoint| {
        let cursor = cursors.get(&one.partition);
        cursor.is_some_and(|cursor| one.next_offset <= cursor.next_offset)
    };
    let beyond = checkpoints.iter().find(|one| !reached(one))?;
    found(
        beyond.partition,
        beyond.next_offset,
        "there is a checkpoint, but no cursor that has come so far",
    )
}

fn found(partition: Partition, next_offset: u64, what: impl Into<String>) -> Option<Discontinuity> {
    Some(Discontinuity {
        partition,
        next_offset,
        what: what.into(),
    })
}

async fn follow(
    log: &dyn Log,
    name: &str,
    mut tracks: BTreeMap<Partition, Track>,
    shutdown: &CancellationToken,
) -> Result<Option<Discontinuity>, Error> {
    let mut subscription = log
        .subscribe(SubscriptionOptions {
            queue_records: BATCH_RECORDS,
            queue_bytes: QUEUE_BYTES,
            ..SubscriptionOptions::alone(name, tracks.keys().copied().collect())
        })
        .map_err(Error::Log)?;
    while tracks.values().any(|track| !track.is_done()) {
        let event = tokio::select! {
            () = shutdown.cancelled() => return Err(Error::Stopped),
            event = subscription.next() => event,
        };
        match event {
            Event::Assigned(partitions) => {
                subscription.start(partitions.into_iter().map(|one| (one, 0)).collect());
            }
            Event::Revoked(_) => {}
            Event::Failed(error) => return Err(Error::Log(error)),
            Event::Records => {
                for stored in subscription.take(BATCH_RECORDS, BATCH_BYTES) {
                    let track = tracks.get_mut(&stored.position.partition);
                    let wrong = track.and_then(|track| track.step(&stored));
                    if wrong.is_some() {
                        return Ok(wrong);
                    }
                }
            }
        }
    }
    Ok(None)
}

/// One partition: what is stored of it, and what the log has said so far.
pub(super) struct Track {
    stored: Cursor,
    pub(super) read: Cursor,
    /// How far to read.
    end: u64,
    /// Whether how many voids are in a row is known: a checkpoint does not say.
    counts_voids: bool,
    /// Those not yet passed, by next offset.
    checkpoints: BTreeMap<u64, Checkpoint>,
}

impl Track {
    fn new(stored: &Cursor) -> Self {
        Self::between(stored, None, stored.next_offset)
    }

    /// From a checkpoint, or from Genesis, to `end`.
    pub(super) fn between(stored: &Cursor, start: Option<&Checkpoint>, end: u64) -> Self {
        let mut read = Cursor::new(stored.partition);
        if let Some(start) = start {
            read.incarnation = Some(start.incarnation);
            read.next_offset = start.next_offset;
            read.chain_head = Some(start.chain_head);
            read.record_count = start.record_count;
            read.rolling_hash = start.rolling_hash;
        }
        Self {
            read,
            end: end.min(stored.next_offset),
            counts_voids: start.is_none(),
            stored: stored.clone(),
            checkpoints: BTreeMap::new(),
        }
    }

    /// A checkpoint that is to be compared, if it lies on the way.
    pub(super) fn expect(&mut self, checkpoint: Checkpoint) -> bool {
        let next = checkpoint.next_offset;
        let on_way = next > self.read.next_offset && next <= self.end;
        if on_way {
            self.checkpoints.insert(next, checkpoint);
        }
        on_way
    }

    pub(super) fn is_done(&self) -> bool {
        self.read.next_offset >= self.end
    }

    /// Reads one more record, and compares where something is stored.
    fn step(&mut self, record: &Stored) -> Option<Discontinuity> {
        if self.is_done() {
            return None;
        }
        match self.pass(record) {
            Ok(_) => self.differs(),
            Err(diverged) => Some(diverged),
        }
    }

    /// Reads one more record.
    pub(super) fn pass(&mut self, record: &Stored) -> Result<Verdict, Discontinuity> {
        let (partition, next_offset) = (self.read.partition, self.read.next_offset);
        let before = self.read.chain_head;
        let verdict = self
            .read
            .advance(record)
            .map_err(|diverged| Discontinuity {
                partition,
                next_offset,
                what: diverged.to_string(),
            })?;
        self.counts_voids |= self.read.chain_head != before;
        Ok(verdict)
    }

    /// Compares with what is stored of this place.
    pub(super) fn differs(&mut self) -> Option<Discontinuity> {
        let next = self.read.next_offset;
        let checkpoint = self.checkpoints.remove(&next);
        let differs = checkpoint.and_then(|checkpoint| checkpoint.differs(&self.read));
        let differs = differs.map(|what| format!("the checkpoint has another {what} than the log"));
        let differs = differs.or_else(|| {
            let reached = next == self.stored.next_offset;
            let what = reached.then(|| self.cursor_differs()).flatten()?;
            Some(format!("the cursor has another {what} than the log"))
        });
        differs.and_then(|what| found(self.read.partition, next, what))
    }

    fn cursor_differs(&self) -> Option<&'static str> {
        let (stored, read) = (&self.stored, &self.read);
        let same = [
            ("incarnation", stored.incarnation == read.incarnation),
            ("record count", stored.record_count == read.record_count),
            ("rolling hash", stored.rolling_hash == read.rolling_hash),
            ("last digest", stored.last_digest == read.last_digest),
            ("chain head", stored.chain_head == read.chain_head),
            (
                "number of voids in a row",
                !self.counts_voids || stored.voids_in_a_row == read.voids_in_a_row,
            ),
            (
                "time of its last record",
                stored.last_recorded_at == read.last_recorded_at,
            ),
        ];
        same.into_iter()
            .find(|(_, same)| !same)
            .map(|(what, _)| what)
    }
}

impl Checkpoint {
    fn differs(&self, read: &Cursor) -> Option<&'static str> {
        let same = [
            ("incarnation", Some(self.incarnation) == read.incarnation),
            ("record count", self.record_count == read.record_count),
            ("rolling hash", self.rolling_hash == read.rolling_hash),
            ("chain head", Some(self.chain_head) == read.chain_head),
        ];
        same.into_iter()
            .find(|(_, same)| !same)
            .map(|(what, _)| what)
    }
}
