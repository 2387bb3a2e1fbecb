//! A range of the log, read once more: recomputed from the checkpoint before it, compared with what is
//! stored on the way, and handed out page by page in one snapshot of the tables.

use std::collections::{BTreeMap, HashMap, VecDeque};

use runledger_domain::log::{Family, Kind, Partition, Position};
use runledger_eventlog::{Event, Stored, Subscription, SubscriptionOptions};
use sqlx::{PgConnection, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::continuity::{self, Discontinuity, Track};
use super::{Error, Site};
use crate::apply::Applied;
use crate::cursor::{Cursor, Verdict};
use crate::item::Item;
use crate::store::{self, Checkpoint};

/// Most records and bytes of a page.
const PAGE_RECORDS: usize = 1_000;
const PAGE_BYTES: usize = 8 << 20;

/// Which part of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// `None`: every family that the read model reads.
    pub family: Option<Family>,
    /// `None`: every partition.
    pub partition: Option<u32>,
    /// In each partition.
    pub from: u64,
    /// Of the first record that is not asked for; `None`: up to the cursor.
    pub to: Option<u64>,
}

impl Range {
    fn holds(&self, partition: Partition) -> bool {
        self.family.is_none_or(|family| family == partition.family)
            && self
                .partition
                .is_none_or(|number| number == partition.number)
    }
}

/// What is read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub partition: Partition,
    /// Where recomputing begins: a checkpoint, or Genesis.
    pub start: u64,
    pub from: u64,
    pub to: u64,
}

/// What a record of the range is.
#[derive(Clone, Debug)]
pub enum Found {
    Applies(Box<Applied>),
    /// In force, and not in the tables: parked, or left out by a fact that says so.
    Parked,
    Skipped,
    /// Nothing of it can be in the tables: a command, a Genesis, a void decision.
    LeftOut,
    /// It cannot be applied, and is neither parked nor skipped.
    Unreadable(String),
}

#[derive(Clone, Debug)]
pub struct Read {
    pub position: Position,
    /// Of a decision: whether it is in force.
    pub in_force: Option<bool>,
    pub found: Found,
}

/// Records of one partition that follow upon each other.
#[derive(Clone, Debug)]
pub struct Page {
    pub partition: Partition,
    pub records: Vec<Read>,
}

#[derive(Debug)]
pub enum Step {
    Page(Page),
    /// What is stored of this place is not what the log says. Nothing comes after it.
    Differs(Discontinuity),
    End,
}

/// A walk over a range of the log, partition by partition.
pub struct Walk<'a> {
    site: &'a Site,
    range: Range,
    shutdown: CancellationToken,
    snapshot: Transaction<'static, Postgres>,
    generation: i32,
    /// How many partitions each family has.
    counts: BTreeMap<Family, u32>,
    spans: Vec<Span>,
    checkpoints: u64,
    ahead: VecDeque<Track>,
    under_way: Option<(Track, Subscription)>,
    differs: Option<Discontinuity>,
}

impl<'a> Walk<'a> {
    /// Opens the snapshot and looks where to begin. `families`: those that the read model reads.
    ///
    /// # Errors
    /// The database or the log cannot be asked, or the one partition that is asked for is not there or
    /// not read so far.
    pub async fn begin(
        site: &'a Site,
        families: &[Family],
        range: Range,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let mut partitions = Vec::new();
        let mut counts = BTreeMap::new();
        for family in families {
            let genesis = site.log.genesis(*family).await.map_err(Error::Log)?;
            let numbers = genesis.iter().map(|one| one.partition);
            counts.insert(*family, u32::try_from(genesis.len()).unwrap_or(u32::MAX));
            partitions.extend(numbers.map(|number| Partition {
                family: *family,
                number,
            }));
        }
        let mut snapshot = snapshot(site).await?;
        let (generation, mut cursors, mut checkpoints) = stored(&mut snapshot)
            .await
            .map_err(Error::database("read the cursors and checkpoints"))?;
        cursors.retain(|partition, _| range.holds(*partition));
        checkpoints.retain(|one| range.holds(one.partition));
        is_there(&range, &cursors)?;
        let differs = continuity::beyond_log(site.log.as_ref(), &partitions, &cursors).await?;
        let differs = differs.or_else(|| continuity::beyond_cursor(&cursors, &checkpoints));
        let mut walk = Self {
            site,
            range,
            shutdown,
            snapshot,
            generation,
            counts,
            spans: Vec::new(),
            checkpoints: 0,
            ahead: VecDeque::new(),
            under_way: None,
            differs,
        };
        if walk.differs.is_none() {
            walk.plan(&cursors, checkpoints);
        }
        Ok(walk)
    }

    fn plan(&mut self, cursors: &BTreeMap<Partition, Cursor>, mut checkpoints: Vec<Checkpoint>) {
        checkpoints.sort_by_key(|one| one.next_offset);
        let mut cursors: Vec<&Cursor> = cursors.values().collect();
        // As Postgres sorts them.
        cursors.sort_by_key(|one| (one.partition.family.as_str(), one.partition.number));
        let range = self.range;
        for cursor in cursors {
            let to = range
                .to
                .map_or(cursor.next_offset, |to| to.min(cursor.next_offset));
            if range.from >= to {
                continue;
            }
            let of_it = checkpoints
                .iter()
                .filter(|one| one.partition == cursor.partition);
            let start = of_it.clone().rfind(|one| one.next_offset <= range.from);
            let mut track = Track::between(cursor, start, to);
            self.spans.push(Span {
                partition: cursor.partition,
                start: track.read.next_offset,
                from: range.from,
                to,
            });
            for checkpoint in of_it {
                self.checkpoints += u64::from(track.expect(checkpoint.clone()));
            }
            self.ahead.push_back(track);
        }
    }

    /// What is read, in this order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How many checkpoints are compared.
    pub fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    /// The snapshot, in which names mean the tables that are served.
    pub fn snapshot(&mut self) -> &mut PgConnection {
        &mut self.snapshot
    }

    /// The next page, or what is wrong, or the end.
    ///
    /// # Errors
    /// The log or the database cannot be read on.
    pub async fn next(&mut self) -> Result<Step, Error> {
        if let Some(differs) = self.differs.take() {
            self.ahead.clear();
            self.under_way = None;
            return Ok(Step::Differs(differs));
        }
        let (mut track, mut subscription) = match self.under_way.take() {
            Some(under_way) => under_way,
            None => match self.ahead.pop_front() {
                None => return Ok(Step::End),
                Some(track) => {
                    let subscription = self.subscribe(track.read.partition)?;
                    (track, subscription)
                }
            },
        };
        let start = track.read.next_offset;
        let stored = self
            .take(&mut subscription, track.read.partition, start)
            .await?;
        let mut judged = Vec::with_capacity(stored.len());
        for one in stored {
            if track.is_done() || self.differs.is_some() {
                break;
            }
            match track.pass(&one) {
                Ok(verdict) => judged.push((one, verdict)),
                Err(diverged) => self.differs = Some(diverged),
            }
            if self.differs.is_none() {
                self.differs = track.differs();
            }
        }
        let page = self.page(track.read.partition, judged).await?;
        if !track.is_done() {
            self.under_way = Some((track, subscription));
        }
        Ok(Step::Page(page))
    }

    fn subscribe(&self, partition: Partition) -> Result<Subscription, Error> {
        let name = format!("{}.verify", self.site.name);
        let options = SubscriptionOptions {
            queue_records: PAGE_RECORDS,
            queue_bytes: PAGE_BYTES,
            ..SubscriptionOptions::alone(name, vec![partition])
        };
        self.site.log.subscribe(options).map_err(Error::Log)
    }

    async fn take(
        &self,
        subscription: &mut Subscription,
        partition: Partition,
        start: u64,
    ) -> Result<Vec<Stored>, Error> {
        loop {
            let event = tokio::select! {
                () = self.shutdown.cancelled() => return Err(Error::Stopped),
                event = subscription.next() => event,
            };
            match event {
                Event::Assigned(_) => {
                    subscription.start([(partition, start)].into_iter().collect());
                }
                Event::Revoked(_) => {}
                Event::Failed(error) => return Err(Error::Log(error)),
                Event::Records => {
                    let taken = subscription.take(PAGE_RECORDS, PAGE_BYTES);
                    if !taken.is_empty() {
                        return Ok(taken);
                    }
                }
            }
        }
    }

    /// Of what was read, that which was asked for.
    async fn page(
        &mut self,
        partition: Partition,
        judged: Vec<(Stored, Verdict)>,
    ) -> Result<Page, Error> {
        let asked = judged.into_iter();
        let asked = asked.filter(|(stored, _)| stored.position.offset >= self.range.from);
        let asked: Vec<(Stored, Verdict)> = asked.collect();
        let left_out = match (asked.first(), asked.last()) {
            (Some((first, _)), Some((last, _))) => store::left_out(
                &mut self.snapshot,
                self.generation,
                first.position,
                last.position.offset,
            )
            .await
            .map_err(Error::database("look at what is parked and skipped"))?,
            _ => HashMap::new(),
        };
        let partitions = self.counts.get(&partition.family).copied().unwrap_or(1);
        let read = |(stored, verdict): (Stored, Verdict)| {
            let kind = stored.headers.as_ref().ok().map(|headers| headers.kind);
            let applies = verdict == Verdict::Applies;
            Read {
                position: stored.position,
                in_force: (kind == Some(Kind::Decision)).then_some(applies),
                found: if applies {
                    found(&stored, partitions, &left_out)
                } else {
                    Found::LeftOut
                },
            }
        };
        Ok(Page {
            partition,
            records: asked.into_iter().map(read).collect(),
        })
    }
}

fn found(stored: &Stored, partitions: u32, left_out: &HashMap<u64, bool>) -> Found {
    match left_out.get(&stored.position.offset) {
        Some(true) => return Found::Parked,
        Some(false) => return Found::Skipped,
        None => {}
    }
    let Some(item) = Item::read(stored, partitions) else {
        return Found::LeftOut;
    };
    match (item.fault, item.applied) {
        (None, Some(applied)) => Found::Applies(Box::new(applied)),
        (fault, _) => Found::Unreadable(fault.unwrap_or_default()),
    }
}

/// One partition that is asked for by name is there, and was read so far: otherwise nothing can be said.
fn is_there(range: &Range, cursors: &BTreeMap<Partition, Cursor>) -> Result<(), Error> {
    let (Some(family), Some(partition)) = (range.family, range.partition) else {
        return Ok(());
    };
    let mut cursors = cursors.values();
    let cursor = cursors
        .next()
        .ok_or(Error::NoPartition { family, partition })?;
    match range.to.filter(|to| *to > cursor.next_offset) {
        Some(wanted) => Err(Error::NotSoFar {
            partition: cursor.partition,
            next: cursor.next_offset,
            wanted,
        }),
        None => Ok(()),
    }
}

async fn snapshot(site: &Site) -> Result<Transaction<'static, Postgres>, Error> {
    // Reading takes as long as it takes.
    let patient = [
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("enable_seqscan", "on"),
        ("enable_hashjoin", "on"),
        ("enable_mergejoin", "on"),
    ];
    let pool = runledger_postgres::connect_like(&site.writer, &patient);
    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(Error::database("begin a snapshot"))
}

type Books = (i32, BTreeMap<Partition, Cursor>, Vec<Checkpoint>);

async fn stored(snapshot: &mut PgConnection) -> Result<Books, sqlx::Error> {
    let served = store::active_generation(&mut *snapshot).await?;
    // Names are looked up in that generation from here on.
    let cursors = store::active(&mut *snapshot).await?;
    let checkpoints = store::checkpoints(snapshot, served.generation).await?;
    Ok((served.generation, cursors, checkpoints))
}
