//! What a round needs of the tables.

use std::collections::BTreeMap;

use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Partition, Position};
use runledger_domain::time::Timestamp;
use runledger_proto::decode;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::judging::{Owed, Undecided};
use crate::rules::Rules;
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
}

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
    commands: BTreeMap<Partition, Vec<Undecided>>,
    owed: BTreeMap<Partition, Vec<Owed>>,
    pub(super) states: States<R>,
    pub(super) suspended: BTreeMap<StreamId, i64>,
}

impl<R: Rules> Input<R> {
    pub(super) fn of(&mut self, partition: Partition) -> (Vec<Undecided>, Vec<Owed>) {
        let commands = self.commands.remove(&partition).unwrap_or_default();
        (commands, self.owed.remove(&partition).unwrap_or_default())
    }
}

type DueRow = (Uuid, String, String, String, String, i32);

impl<R: Rules> Reading<'_, R> {
    pub(super) async fn read(&self, ready: &[Ready]) -> Result<Input<R>, Error> {
        let mut connection = self.database.acquire().await.map_err(Error::Database)?;
        let db = &mut *connection;
        let commands = self.undecided(db, ready).await?;
        let owed = self.owed(db, ready).await?;
        let mut wanted = Wanted::default();
        for (partition, commands) in &commands {
            for command in commands {
                let record = &command.record;
                let decoded = self.rules.command(record).ok().flatten();
                let part = decoded
                    .as_ref()
                    .and_then(|decoded| self.rules.part_of_command(decoded));
                wanted.add((record.scope, record.stream.clone()), *partition, part);
            }
        }
        for (partition, owed) in &owed {
            for one in owed {
                wanted.add(one.id.clone(), *partition, Some(&one.part));
            }
        }
        let suspended = self.suspended(db, &wanted).await?;
        let states = States::load(self.rules, db, wanted)
            .await
            .map_err(Error::Load)?;
        Ok(Input {
            commands,
            owed,
            states,
            suspended,
        })
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
        let (families, partitions) = columns(asked.iter().map(|(partition, ..)| *partition));
        let froms: Vec<i64> = asked
            .iter()
            .map(|(_, from, _)| i64::try_from(*from).unwrap_or(i64::MAX))
            .collect();
        let most: Vec<i64> = asked
            .iter()
            .map(|(.., most)| i64::try_from(*most).unwrap_or(i64::MAX))
            .collect();
        let rows: Vec<(String, i32, Uuid, i64, Vec<u8>)> =
            sqlx::query_as(statements::SELECT_UNDECIDED)
                .bind(families)
                .bind(partitions)
                .bind(froms)
                .bind(most)
                .fetch_all(db)
                .await
                .map_err(Error::Database)?;
        for (family, partition, incarnation, offset, bytes) in rows {
            let Some(partition) = partition_of(&family, partition) else {
                continue;
            };
            // It was decoded before it was kept.
            let Ok(decode::Stored::Record(record)) = decode::record(partition.family, &bytes)
            else {
                continue;
            };
            undecided.entry(partition).or_default().push(Undecided {
                position: Position {
                    partition,
                    incarnation: Incarnation::new(incarnation),
                    offset: u64::try_from(offset).unwrap_or_default(),
                },
                record,
                attempts: 0,
            });
        }
        Ok(undecided)
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
