//! Applying what was parked, in order.

use std::collections::BTreeSet;

use runledger_domain::digest::Digest;
use runledger_domain::log::{Partition, Position};
use sqlx::{Connection, PgConnection};

use super::Parking;
use crate::apply::{ApplyError, Kept, Projection};
use crate::halving::Halving;
use crate::item::{Item, chain};
use crate::store::parked::{self, Parked};

/// Records of a stream that are redriven in one go.
pub(crate) const CHUNK: usize = 500;
/// Most records read from the log at once on the way from one parked record to the next.
const READ_MAX: u64 = 1_000;
/// For this transaction alone: how long it may stand idle before the server ends it.
const PATIENTLY: &str = "SET LOCAL idle_in_transaction_session_timeout = '120s'";

/// How far a stream came when it was redriven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redriven {
    pub(crate) applied: u64,
    /// The record that is refused again, and why; `None`: nothing of the stream is parked any more.
    pub(crate) stopped: Option<(Position, String)>,
}

impl<P: Projection> Parking<'_, P> {
    /// Applies the parked records of a stream in order, at most about `max` of them, up to the first
    /// that is refused again.
    pub(crate) async fn redrive(
        &mut self,
        db: &mut PgConnection,
        partition: Partition,
        stream: &Digest,
        max: usize,
    ) -> Result<Redriven, ApplyError> {
        let mut redriven = Redriven::default();
        // The log is read in between, and that may take its time.
        sqlx::query(PATIENTLY)
            .execute(&mut *db)
            .await
            .map_err(ApplyError::database("ask for patience"))?;
        while redriven.applied < max as u64 {
            let generation = self.place.generation;
            let letters = parked::of_stream(db, generation, partition, stream, CHUNK)
                .await
                .map_err(ApplyError::database("load parked records"))?;
            if letters.is_empty() {
                break;
            }
            self.changed.insert(partition);
            self.fetch(&letters).await?;
            let (applied, stopped) = self.redrive_chunk(db, partition, stream, &letters).await?;
            redriven.applied += applied;
            if stopped.is_some() {
                redriven.stopped = stopped;
                break;
            }
        }
        Ok(redriven)
    }

    /// Applies `letters`, which lie in the log as they were fetched, up to the first that is refused.
    async fn redrive_chunk(
        &mut self,
        db: &mut PgConnection,
        partition: Partition,
        stream: &Digest,
        letters: &[Parked],
    ) -> Result<(u64, Option<(Position, String)>), ApplyError> {
        let mut items = Vec::with_capacity(letters.len());
        let counted = self.log.genesis(partition.family).await;
        let counted = counted
            .map_err(ApplyError::log("count the partitions"))?
            .len();
        let partitions = u32::try_from(counted).unwrap_or(u32::MAX);
        for letter in letters {
            let gone = || ApplyError::Gone {
                position: letter.position,
            };
            let stored = self.fetched.remove(&letter.position).ok_or_else(gone)?;
            let item = Item::read(&stored, partitions).ok_or_else(gone)?;
            if item.stream.digest() != *stream {
                return Err(gone());
            }
            items.push((letter, item));
        }
        let sound = items.iter().take_while(|(_, item)| item.fault.is_none());
        let (mut halving, mut applied) = (Halving::new(sound.count()), 0);
        let mut stopped = None;
        while let (Some(piece), None) = (halving.next(), &stopped) {
            let tried = items.get(piece.clone()).unwrap_or_default();
            let mut save = db
                .begin()
                .await
                .map_err(ApplyError::database("set a savepoint"))?;
            match self.redrive_piece(&mut save, stream, tried).await {
                Ok(()) => {
                    save.commit()
                        .await
                        .map_err(ApplyError::database("release a savepoint"))?;
                    applied += piece.len() as u64;
                }
                Err(refused) if refused.is_poison() => {
                    save.rollback()
                        .await
                        .map_err(ApplyError::database("go back to a savepoint"))?;
                    let found = halving.refused(piece).and_then(|index| letters.get(index));
                    stopped = found.map(|letter| (letter.position, chain(&refused)));
                }
                Err(failed) => return Err(failed),
            }
        }
        if stopped.is_none() {
            let broken = items.into_iter().find(|(_, item)| item.fault.is_some());
            stopped = broken.and_then(|(letter, item)| Some((letter.position, item.fault?)));
        }
        if let Some((position, reason)) = &stopped {
            parked::refused(db, self.place.generation, *position, self.place.now, reason)
                .await
                .map_err(ApplyError::database("note an attempt"))?;
        }
        Ok((applied, stopped))
    }

    async fn redrive_piece(
        &mut self,
        db: &mut PgConnection,
        stream: &Digest,
        letters: &[(&Parked, Item)],
    ) -> Result<(), ApplyError> {
        let mut kept = Vec::with_capacity(letters.len());
        for (letter, item) in letters {
            let Some(applied) = &item.applied else {
                continue;
            };
            let standing = match letter.standing {
                Some(standing) => standing,
                None => match self.keep(db, &[applied]).await?.first() {
                    Some(standing) => *standing,
                    None => continue,
                },
            };
            kept.push(Kept { applied, standing });
        }
        self.projection.apply(db, &kept).await?;
        let Some((first, _)) = letters.first() else {
            return Ok(());
        };
        let offsets = letters.iter().map(|(letter, _)| letter.position.offset);
        parked::delete(
            db,
            self.place.generation,
            first.position.partition,
            stream,
            offsets,
        )
        .await
        .map_err(ApplyError::database("take out what was redriven"))?;
        Ok(())
    }

    /// Reads what was parked back from the log, unless that has been done. Before a transaction this
    /// keeps it short.
    pub(crate) async fn fetch(&mut self, letters: &[Parked]) -> Result<(), ApplyError> {
        let wanted: BTreeSet<Position> = letters
            .iter()
            .map(|letter| letter.position)
            .filter(|position| !self.fetched.contains_key(position))
            .collect();
        let (mut next, last) = (wanted.first().copied(), wanted.last().copied());
        while let (Some(from), Some(last)) = (next, last) {
            let max = (last.offset - from.offset + 1).min(READ_MAX);
            let records = self
                .log
                .read(
                    from.partition,
                    from.offset,
                    usize::try_from(max).unwrap_or(usize::MAX),
                )
                .await
                .map_err(ApplyError::log("read parked records"))?;
            let Some(end) = records.last().map(|stored| stored.position) else {
                return Err(ApplyError::Gone { position: from });
            };
            let of_ours = records
                .into_iter()
                .filter(|stored| wanted.contains(&stored.position));
            self.fetched
                .extend(of_ours.map(|stored| (stored.position, stored)));
            next = wanted
                .range(
                    Position {
                        offset: end.offset + 1,
                        ..from
                    }..,
                )
                .next()
                .copied();
        }
        Ok(())
    }
}
