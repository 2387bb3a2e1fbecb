//! What a round needs of the tables.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Partition, Position, Record};
use runledger_domain::time::Timestamp;
use runledger_proto::decode;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::judging::{Owed, OwedFact, Undecided, Work};
use crate::rules::{FACTS_MAX, Rules};
use crate::statements;
use crate::states::{LoadError, States, StreamId, Wanted, id_of, number};

/// Why a round cannot be judged now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("read what is to be decided")]
    Database(#[source] sqlx::Error),
    #[error("read what is to be decided")]
    Load(#[source] LoadError),
    #[error("the database is silent")]
    Silent,
}

/// A partition that is ready for a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) partition: Partition,
    /// From where on commands may be undecided; `None`: none is.
    pub(super) from: Option<u64>,
    /// Most commands of this round.
    pub(super) most: usize,
    /// Most facts.
    pub(super) most_facts: usize,
}

/// Most facts of one partition in one round.
pub(super) const FACTS_A_ROUND: usize = 8 * FACTS_MAX;

/// What is asked of the tables for one round.
pub(super) struct Reading<'a, R> {
    pub(super) rules: &'a R,
    pub(super) database: &'a PgPool,
    /// Most decisions of a partition that nobody has asked for.
    pub(super) most_owed: usize,
    /// Some: what is owed at this moment too.
    pub(super) due_at: Option<Timestamp>,
    /// Whether any record of the partitions is parked.
    pub(super) any_parked: bool,
}

/// What one round judges.
pub(super) struct Input<R: Rules> {
    work: BTreeMap<Partition, Work>,
    /// Partitions in which more is undecided than was read.
    cut: BTreeSet<Partition>,
    pub(super) states: States<R>,
    pub(super) suspended: BTreeMap<StreamId, i64>,
}

impl<R: Rules> Input<R> {
    /// What there is to judge in a partition, and whether that is not all.
    pub(super) fn of(&mut self, partition: Partition) -> (Work, bool) {
        let work = self.work.remove(&partition).unwrap_or_default();
        (work, self.cut.contains(&partition))
    }
}

type DueRow = (Uuid, String, String, String, String, i32);

impl<R: Rules> Reading<'_, R> {
    pub(super) async fn read(&self, ready: &[Ready]) -> Result<Input<R>, Error> {
        let mut connection = self.database.acquire().await.map_err(Error::Database)?;
        let db = &mut *connection;
        let (work, cut) = self.work(db, ready).await?;
        let wanted = self.wanted(&work);
        let suspended = self.suspended(db, &wanted).await?;
        let states = States::load(self.rules, db, wanted)
            .await
            .map_err(Error::Load)?;
        Ok(Input {
            work,
            cut,
            states,
            suspended,
        })
    }

    /// What is undecided and owed, as far as it was read without a gap: what lies behind the last of
    /// either kind that was read is left out, where there may be more of that kind. A command is
    /// never judged before a fact of its stream that lies before it, nor the other way round.
    async fn work(
        &self,
        db: &mut PgConnection,
        ready: &[Ready],
    ) -> Result<(BTreeMap<Partition, Work>, BTreeSet<Partition>), Error> {
        let mut commands = self.undecided(db, ready).await?;
        let mut facts = self.facts(db, ready).await?;
        let mut owed = self.owed(db, ready).await?;
        let (mut all, mut cut) = (BTreeMap::new(), BTreeSet::new());
        for one in ready {
            let mut work = Work {
                commands: commands.remove(&one.partition).unwrap_or_default(),
                facts: facts.remove(&one.partition).unwrap_or_default(),
                owed: owed.remove(&one.partition).unwrap_or_default(),
            };
            let full = |len: usize, most: usize, last: Option<u64>| last.filter(|_| len >= most);
            let last_command = work.commands.last().map(|last| last.position.offset);
            let last_fact = work.facts.last().map(|last| last.position.offset);
            let commands_to = full(work.commands.len(), one.most, last_command);
            let facts_to = full(work.facts.len(), one.most_facts, last_fact);
            if let Some(last) = commands_to.into_iter().chain(facts_to).min() {
                work.cut_behind(last);
                cut.insert(one.partition);
            }
            all.insert(one.partition, work);
        }
        Ok((all, cut))
    }

    fn wanted(&self, work: &BTreeMap<Partition, Work>) -> Wanted {
        let mut wanted = Wanted::default();
        for (partition, work) in work {
            for command in &work.commands {
                let record = &command.record;
                let decoded = self.rules.command(record).ok().flatten();
                let part = decoded
                    .as_ref()
                    .and_then(|decoded| self.rules.part_of_command(decoded));
                wanted.add((record.scope, record.stream.clone()), *partition, part);
            }
            for fact in &work.facts {
                let record = &fact.record;
                wanted.add((record.scope, record.stream.clone()), *partition, None);
            }
            for owed in &work.owed {
                let part = Some(owed.part.as_str()).filter(|part| !part.is_empty());
                wanted.add(owed.id.clone(), *partition, part);
            }
        }
        wanted
    }

    async fn undecided(
        &self,
        db: &mut PgConnection,
        ready: &[Ready],
    ) -> Result<BTreeMap<Partition, Vec<Undecided>>, Error> {
        let asked: Vec<(Partition, u64, usize)> = ready
            .iter()
            .filter_map(|one| Some((one.partition, one.from?, one.most)))
            .collect();
        let mut undecided: BTreeMap<Partition, Vec<Undecided>> = BTreeMap::new();
        if asked.is_empty() {
            return Ok(undecided);
        }
        for (position, record) in lying(db, statements::SELECT_UNDECIDED, &asked, None).await? {
            undecided
                .entry(position.partition)
                .or_default()
                .push(Undecided {
                    position,
                    record,
                    attempts: 0,
                });
        }
        Ok(undecided)
    }

    async fn facts(
        &self,
        db: &mut PgConnection,
        ready: &[Ready],
    ) -> Result<BTreeMap<Partition, Vec<OwedFact>>, Error> {
        let mut facts: BTreeMap<Partition, Vec<OwedFact>> = BTreeMap::new();
        let asked: Vec<(Partition, u64, usize)> = ready
            .iter()
            .filter_map(|one| Some((one.partition, one.from?, one.most_facts)))
            .collect();
        if asked.is_empty() || !self.rules.answers_facts() {
            return Ok(facts);
        }
        for (position, record) in
            lying(db, statements::SELECT_FACTS, &asked, Some(self.any_parked)).await?
        {
            // It was decoded before it was kept.
            let Ok(Some(fact)) = decode::fact(&record) else {
                continue;
            };
            facts.entry(position.partition).or_default().push(OwedFact {
                position,
                record,
                fact,
                attempts: 0,
            });
        }
        Ok(facts)
    }

    /// At most half a round of what nobody has asked for.
    async fn owed(
        &self,
        db: &mut PgConnection,
        ready: &[Ready],
    ) -> Result<BTreeMap<Partition, Vec<Owed>>, Error> {
        let mut owed: BTreeMap<Partition, Vec<Owed>> = BTreeMap::new();
        let Some(at) = self.due_at else {
            return Ok(owed);
        };
        let (families, partitions) = columns(ready.iter().map(|one| one.partition));
        let rows: Vec<DueRow> = sqlx::query_as(statements::SELECT_DUE)
            .bind(families)
            .bind(partitions)
            .bind(at)
            .bind(i64::try_from(self.most_owed).unwrap_or(i64::MAX))
            .fetch_all(db)
            .await
            .map_err(Error::Database)?;
        for (tenant, mode, stream, part, family, partition) in rows {
            let named = partition_of(&family, partition).zip(id_of(tenant, &mode, &stream));
            if let Some((partition, id)) = named {
                owed.entry(partition).or_default().push(Owed { id, part });
            }
        }
        Ok(owed)
    }

    async fn suspended(
        &self,
        db: &mut PgConnection,
        wanted: &Wanted,
    ) -> Result<BTreeMap<StreamId, i64>, Error> {
        if wanted.is_empty() || !self.any_parked {
            return Ok(BTreeMap::new());
        }
        let families: Vec<&str> = self
            .rules
            .families()
            .iter()
            .map(|one| one.as_str())
            .collect();
        let (tenants, modes, streams) = wanted.columns();
        let rows: Vec<(Uuid, String, String, i64)> = sqlx::query_as(statements::SELECT_SUSPENDED)
            .bind(families)
            .bind(tenants)
            .bind(modes)
            .bind(streams)
            .fetch_all(db)
            .await
            .map_err(Error::Database)?;
        Ok(rows
            .into_iter()
            .filter_map(|(tenant, mode, stream, since)| {
                Some((id_of(tenant, &mode, &stream)?, since))
            })
            .collect())
    }
}

/// Records that were kept, from some offsets on: so many of each partition. `any_parked`: what the
/// statement asks besides, if it does.
async fn lying(
    db: &mut PgConnection,
    statement: &'static str,
    asked: &[(Partition, u64, usize)],
    any_parked: Option<bool>,
) -> Result<Vec<(Position, Record)>, Error> {
    let (families, partitions) = columns(asked.iter().map(|(partition, ..)| *partition));
    let froms: Vec<i64> = asked
        .iter()
        .map(|(_, from, _)| i64::try_from(*from).unwrap_or(i64::MAX))
        .collect();
    let most: Vec<i64> = asked
        .iter()
        .map(|(.., most)| i64::try_from(*most).unwrap_or(i64::MAX))
        .collect();
    let mut query = sqlx::query_as(statement)
        .bind(families)
        .bind(partitions)
        .bind(froms)
        .bind(most);
    if let Some(any_parked) = any_parked {
        query = query.bind(any_parked);
    }
    let rows: Vec<(String, i32, Uuid, i64, Vec<u8>)> =
        query.fetch_all(db).await.map_err(Error::Database)?;
    let read =
        |(family, partition, incarnation, offset, bytes): (String, i32, Uuid, i64, Vec<u8>)| {
            let partition = partition_of(&family, partition)?;
            // It was decoded before it was kept.
            let Ok(decode::Stored::Record(record)) = decode::record(partition.family, &bytes)
            else {
                return None;
            };
            let position = Position {
                partition,
                incarnation: Incarnation::new(incarnation),
                offset: u64::try_from(offset).unwrap_or_default(),
            };
            Some((position, record))
        };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Of some partitions, the moment of the last decision and the highest version of rules.
pub(super) async fn decided(
    database: &PgPool,
    asked: &[Partition],
) -> Result<BTreeMap<Partition, (Timestamp, u32)>, Error> {
    let (families, partitions) = columns(asked.iter().copied());
    let rows: Vec<(String, i32, Timestamp, i64)> = sqlx::query_as(statements::SELECT_DECIDED)
        .bind(families)
        .bind(partitions)
        .fetch_all(database)
        .await
        .map_err(Error::Database)?;
    Ok(rows
        .into_iter()
        .filter_map(|(family, partition, at, version)| {
            let version = u32::try_from(version).unwrap_or(u32::MAX);
            Some((partition_of(&family, partition)?, (at, version)))
        })
        .collect())
}

pub(super) fn columns(
    partitions: impl Iterator<Item = Partition>,
) -> (Vec<&'static str>, Vec<i32>) {
    partitions
        .map(|partition| (partition.family.as_str(), number(partition)))
        .unzip()
}

pub(super) fn partition_of(family: &str, number: i32) -> Option<Partition> {
    Some(Partition {
        family: family.parse::<Family>().ok()?,
        number: u32::try_from(number).ok()?,
    })
}
