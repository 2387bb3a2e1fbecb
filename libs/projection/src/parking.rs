//! Applying a batch so that a record which cannot be applied delays only its own stream.
//!
//! Whatever is applied or parked here belongs to the transaction that the caller has begun, in which
//! the cursors of the partitions are locked: nobody else parks or redrives in them meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};

use runledger_domain::log::{Partition, Position};
use runledger_domain::time::Timestamp;
use runledger_eventlog::{Log, Stored};
use sqlx::{Connection, PgConnection};

use crate::apply::{Applied, ApplyError, Kept, Projection, Standing};
use crate::halving::Halving;
use crate::item::{Item, StreamKey, chain};
use crate::store::parked::{self, Letter};

mod redrive;

pub(crate) use redrive::{CHUNK, Redriven};

/// For whom records are parked, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) generation: i32,
    /// Name of the projection.
    pub(crate) projection: &'a str,
    pub(crate) now: Timestamp,
}

/// What became of the parked streams; to be told when the transaction has gone through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A stream stands still from this record on.
    Parked {
        stream: String,
        position: Position,
        reason: String,
    },
    /// A fact said to leave this record out, and it was done.
    Skipped { position: Position, said_at: u64 },
    /// A fact says to leave out a record that is not parked in its stream.
    Unmatched { position: Position, said_at: u64 },
}

/// What is to be done with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Apply,
    LeaveOut,
    Park { reason: Option<String> },
}

/// The fates of `items`, in order, and the streams that they park. `parked`: those that are parked
/// before.
fn fates(items: &[Item], parked: &HashSet<StreamKey>) -> (Vec<Fate>, HashSet<StreamKey>) {
    let mut newly: HashSet<StreamKey> = HashSet::new();
    let fate = |item: &Item| {
        if item.left_out {
            return Fate::LeaveOut;
        }
        let reason = item.fault.clone();
        let waits = (!parked.is_empty() && parked.contains(&item.stream))
            || (!newly.is_empty() && newly.contains(&item.stream));
        match (waits, reason) {
            (false, None) => Fate::Apply,
            (false, Some(reason)) => {
                newly.insert(item.stream.clone());
                Fate::Park {
                    reason: Some(reason),
                }
            }
            (true, reason) => Fate::Park { reason },
        }
    };
    let fates = items.iter().map(fate).collect();
    (fates, newly)
}

/// Applies and parks inside one transaction.
pub(crate) struct Parking<'a, P> {
    place: Place<'a>,
    projection: &'a mut P,
    log: &'a dyn Log,
    /// Streams that are parked, among those of the batch.
    parked: HashSet<StreamKey>,
    /// Records read from the log ahead of the transaction.
    fetched: HashMap<Position, Stored>,
    /// Partitions in which something was parked, redriven or skipped.
    changed: BTreeSet<Partition>,
    pub(crate) notices: Vec<Notice>,
}

impl<'a, P: Projection> Parking<'a, P> {
    pub(crate) fn new(place: Place<'a>, projection: &'a mut P, log: &'a dyn Log) -> Self {
        Self {
            place,
            projection,
            log,
            parked: HashSet::new(),
            fetched: HashMap::new(),
            changed: BTreeSet::new(),
            notices: Vec::new(),
        }
    }

    /// Learns which streams of `items` are parked. `partitions`: those in which any is.
    pub(crate) async fn learn(
        &mut self,
        db: &mut PgConnection,
        items: &[Item],
        partitions: impl Fn(Partition) -> bool,
    ) -> Result<(), ApplyError> {
        let concerned = items
            .iter()
            .filter(|item| partitions(item.position.partition))
            .map(|item| &item.stream);
        let streams: Vec<&StreamKey> = concerned.collect::<HashSet<_>>().into_iter().collect();
        let places = parked::among(db, self.place.generation, &streams)
            .await
            .map_err(ApplyError::database("look for parked streams"))?;
        let found = places
            .into_iter()
            .filter_map(|place| streams.get(place).copied());
        self.parked.extend(found.cloned());
        Ok(())
    }

    /// Applies `items`, and parks what cannot be. `sifting`: they were refused whole before, so each
    /// part is tried behind a savepoint; otherwise an error is the whole transaction's.
    pub(crate) async fn settle(
        &mut self,
        db: &mut PgConnection,
        items: &[Item],
        sifting: bool,
    ) -> Result<(), ApplyError> {
        let projection = self.place.projection;
        let is_order = |item: &Item| item.orders(projection);
        let mut rest = items;
        while let Some(order) = rest.iter().position(is_order) {
            let (before, from) = rest.split_at(order);
            self.part(db, before, sifting).await?;
            let Some((order, behind)) = from.split_first() else {
                break;
            };
            self.obey(db, order).await?;
            rest = behind;
        }
        self.part(db, rest, sifting).await
    }

    /// Writes down what changed. How many partitions were concerned.
    pub(crate) async fn finish(&mut self, db: &mut PgConnection) -> Result<usize, ApplyError> {
        if !self.changed.is_empty() {
            parked::count(db, self.place.generation, &self.changed)
                .await
                .map_err(ApplyError::database("count what is parked"))?;
        }
        Ok(self.changed.len())
    }

    async fn part(
        &mut self,
        db: &mut PgConnection,
        items: &[Item],
        sifting: bool,
    ) -> Result<(), ApplyError> {
        if !sifting {
            let news = self.piece(db, items).await?;
            self.learn_of(news);
            return Ok(());
        }
        let mut halving = Halving::new(items.len());
        while let Some(piece) = halving.next() {
            let tried = items.get(piece.clone()).unwrap_or_default();
            let mut save = db
                .begin()
                .await
                .map_err(ApplyError::database("set a savepoint"))?;
            match self.piece(&mut save, tried).await {
                Ok(news) => {
                    save.commit()
                        .await
                        .map_err(ApplyError::database("release a savepoint"))?;
                    self.learn_of(news);
                }
                Err(refused) if refused.is_poison() => {
                    save.rollback()
                        .await
                        .map_err(ApplyError::database("go back to a savepoint"))?;
                    if let Some(item) = halving.refused(piece).and_then(|index| items.get(index)) {
                        let standing = self.identity(db, item).await?;
                        self.park(db, item, standing, Some(chain(&refused))).await?;
                    }
                }
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// Keeps, applies and parks, all or nothing. What it would park is returned and not remembered:
    /// the caller may have to undo it.
    async fn piece(&mut self, db: &mut PgConnection, items: &[Item]) -> Result<News, ApplyError> {
        let known: Vec<&Applied> = items
            .iter()
            .filter_map(|item| item.applied.as_ref())
            .collect();
        let standings = self.keep(db, &known).await?;
        let mut standings = known.into_iter().zip(standings).peekable();
        let (fates, streams) = fates(items, &self.parked);
        let (mut kept, mut letters) = (Vec::with_capacity(items.len()), Vec::new());
        for (item, fate) in items.iter().zip(fates) {
            let is_its = |(applied, _): &(&Applied, Standing)| applied.position == item.position;
            let standing = standings.next_if(is_its);
            match (fate, standing) {
                (Fate::Apply, Some((applied, standing))) => kept.push(Kept { applied, standing }),
                (Fate::Park { reason }, standing) => letters.push(Letter {
                    item,
                    standing: standing.map(|(_, standing)| standing),
                    reason,
                }),
                (Fate::LeaveOut, _) | (Fate::Apply, None) => {}
            }
        }
        if !kept.is_empty() {
            self.projection.apply(db, &kept).await?;
        }
        let mut news = News {
            streams,
            ..News::default()
        };
        if !letters.is_empty() {
            self.insert(db, &letters).await?;
            news.take(&letters);
        }
        Ok(news)
    }

    async fn keep(
        &mut self,
        db: &mut PgConnection,
        known: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let standings = self.projection.keep(db, known).await?;
        if standings.len() != known.len() {
            return Err(ApplyError::Kept {
                records: known.len(),
                kept: standings.len(),
            });
        }
        Ok(standings)
    }

    /// Keeps the identity of one record. `None`: it has none, or the tables refuse it.
    async fn identity(
        &mut self,
        db: &mut PgConnection,
        item: &Item,
    ) -> Result<Option<Standing>, ApplyError> {
        let Some(applied) = &item.applied else {
            return Ok(None);
        };
        let mut save = db
            .begin()
            .await
            .map_err(ApplyError::database("set a savepoint"))?;
        match self.keep(&mut save, &[applied]).await {
            Ok(standings) => {
                save.commit()
                    .await
                    .map_err(ApplyError::database("release a savepoint"))?;
                Ok(standings.first().copied())
            }
            Err(refused) if refused.is_poison() => {
                save.rollback()
                    .await
                    .map_err(ApplyError::database("go back to a savepoint"))?;
                Ok(None)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Parks one record; with it its stream.
    async fn park(
        &mut self,
        db: &mut PgConnection,
        item: &Item,
        standing: Option<Standing>,
        reason: Option<String>,
    ) -> Result<(), ApplyError> {
        let letters = [Letter {
            item,
            standing,
            reason,
        }];
        self.insert(db, &letters).await?;
        let mut news = News::default();
        if !self.parked.contains(&item.stream) {
            news.streams.insert(item.stream.clone());
        }
        news.take(&letters);
        self.learn_of(news);
        Ok(())
    }

    async fn insert(
        &self,
        db: &mut PgConnection,
        letters: &[Letter<'_>],
    ) -> Result<(), ApplyError> {
        parked::insert(db, self.place.generation, self.place.now, letters)
            .await
            .map_err(ApplyError::database("park records"))
    }

    fn learn_of(&mut self, news: News) {
        self.parked.extend(news.streams);
        self.changed.extend(news.partitions);
        self.notices.extend(news.notices);
    }

    /// Takes in a fact that tells this projection to leave a record of its stream out. It counts once
    /// by identity, like any fact; afterwards it is a record of its stream like any other.
    async fn obey(&mut self, db: &mut PgConnection, order: &Item) -> Result<(), ApplyError> {
        let standing = self.identity(db, order).await?;
        if let (Some(Standing::First), Some(skipped)) = (standing, &order.skips) {
            self.skip(db, order, skipped.position).await?;
        }
        if self.parked.contains(&order.stream) {
            return self.park(db, order, standing, None).await;
        }
        let (Some(applied), Some(standing)) = (&order.applied, standing) else {
            let reason = "its identity cannot be kept".to_owned();
            return self.park(db, order, standing, Some(reason)).await;
        };
        let mut save = db
            .begin()
            .await
            .map_err(ApplyError::database("set a savepoint"))?;
        let kept = [Kept { applied, standing }];
        match self.projection.apply(&mut save, &kept).await {
            Ok(()) => save
                .commit()
                .await
                .map_err(ApplyError::database("release a savepoint")),
            Err(refused) if refused.is_poison() => {
                save.rollback()
                    .await
                    .map_err(ApplyError::database("go back to a savepoint"))?;
                self.park(db, order, Some(standing), Some(chain(&refused)))
                    .await
            }
            Err(failed) => Err(failed),
        }
    }

    /// Drops a parked record and redrives what waited for it. Only a record of the order's own stream:
    /// nobody decides about another's.
    async fn skip(
        &mut self,
        db: &mut PgConnection,
        order: &Item,
        named: Position,
    ) -> Result<(), ApplyError> {
        let (partition, said_at) = (order.position.partition, order.position.offset);
        let (generation, stream) = (self.place.generation, order.stream.digest());
        let could_be = named.partition == partition
            && named.incarnation == order.position.incarnation
            && named.offset < said_at;
        let dropped = if could_be && self.parked.contains(&order.stream) {
            parked::delete(db, generation, partition, &stream, [named.offset])
                .await
                .map_err(ApplyError::database("drop a parked record"))?
        } else {
            0
        };
        if dropped == 0 {
            self.notices.push(Notice::Unmatched {
                position: named,
                said_at,
            });
            return Ok(());
        }
        parked::skip(db, named, said_at)
            .await
            .map_err(ApplyError::database("write down what is skipped"))?;
        self.changed.insert(partition);
        self.notices.push(Notice::Skipped {
            position: named,
            said_at,
        });
        let redriven = self.redrive(db, partition, &stream, usize::MAX).await?;
        if redriven.stopped.is_none() {
            self.parked.remove(&order.stream);
        }
        Ok(())
    }
}

/// What a piece would park.
#[derive(Default)]
struct News {
    streams: HashSet<StreamKey>,
    partitions: BTreeSet<Partition>,
    notices: Vec<Notice>,
}

impl News {
    /// Notes `letters`; the first of a stream that is parked with them is worth telling.
    fn take(&mut self, letters: &[Letter<'_>]) {
        let mut told: HashSet<&StreamKey> = HashSet::new();
        for letter in letters {
            self.partitions.insert(letter.item.position.partition);
            if self.streams.contains(&letter.item.stream) && told.insert(&letter.item.stream) {
                self.notices.push(Notice::Parked {
                    stream: parked::legible(&String::from_utf8_lossy(&letter.item.stream.bytes)),
                    position: letter.item.position,
                    reason: letter.reason.clone().unwrap_or_default(),
                });
            }
        }
    }
}
