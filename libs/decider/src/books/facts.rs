//! Facts that are owed a decision: kept until a decision in force answers them.

use std::collections::{BTreeMap, HashMap};

use runledger_domain::Fact;
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Family, Kind, Record};
use runledger_projection::{Applied, ApplyError};
use runledger_proto::{decode, encode};
use sqlx::PgConnection;
use uuid::Uuid;

use super::signed;
use crate::rules::Rules;
use crate::statements;
use crate::states::{StreamId, id_of, number};

/// A fact that a decision answers.
#[derive(Clone, Debug)]
pub struct Answered {
    pub record: Record,
    pub fact: Fact,
}

type Key = (StreamId, RecordId);
type Row = (Uuid, String, String, Uuid, String, Vec<u8>);

/// What a batch asks and answers: facts that came, and which of all facts its decisions answer, by the
/// index of each decision.
#[derive(Default)]
pub(super) struct Facts<'a> {
    came: HashMap<Key, &'a Applied>,
    answers: BTreeMap<usize, Vec<Key>>,
    answered_here: HashMap<Key, &'a Applied>,
    answered_before: Vec<Key>,
}

impl<'a> Facts<'a> {
    /// Goes through a batch, whose decisions are decoded, in its order.
    pub(super) fn of<R: Rules>(
        rules: &R,
        fresh: impl Iterator<Item = &'a Applied>,
        decoded: &BTreeMap<usize, R::Decision>,
    ) -> Self {
        let mut facts = Self::default();
        if !rules.answers_facts() {
            return facts;
        }
        for (index, applied) in fresh.enumerate() {
            let stream = || (applied.record.scope, applied.record.stream.clone());
            match applied.record.kind {
                Kind::Fact if is_owed(rules, applied) => {
                    facts.came.insert((stream(), applied.record.id), applied);
                }
                Kind::Decision => {
                    let Some(decision) = decoded.get(&index) else {
                        continue;
                    };
                    let ids = rules.answered(decision);
                    let keys: Vec<Key> = ids.into_iter().map(|id| (stream(), id)).collect();
                    for key in &keys {
                        facts.answer(key);
                    }
                    facts.answers.insert(index, keys);
                }
                Kind::Fact | Kind::Command | Kind::Genesis => {}
            }
        }
        facts
    }

    fn answer(&mut self, key: &Key) {
        match self.came.remove(key) {
            Some(applied) => {
                self.answered_here.insert(key.clone(), applied);
            }
            None => self.answered_before.push(key.clone()),
        }
    }

    /// Keeps what is not answered, forgets what is, and gives back what each decision answers.
    pub(super) async fn write(
        self,
        tx: &mut PgConnection,
    ) -> Result<BTreeMap<usize, Vec<Answered>>, ApplyError> {
        let mut known = delete(tx, &self.answered_before).await?;
        insert(tx, self.came.values().copied()).await?;
        for (key, applied) in self.answered_here {
            if let Some(fact) = &applied.fact {
                let (record, fact) = (applied.record.clone(), fact.clone());
                known.insert(key, Answered { record, fact });
            }
        }
        let answers = self.answers.into_iter().map(|(index, keys)| {
            let answers = keys.iter().filter_map(|key| known.remove(key));
            (index, answers.collect())
        });
        Ok(answers.collect())
    }
}

/// Only in its own stream: nobody else's decider would ever answer it.
fn is_owed<R: Rules>(rules: &R, applied: &Applied) -> bool {
    let fact = applied.fact.as_ref();
    fact.is_some_and(|fact| rules.answers(fact) && fact.stream() == applied.record.stream)
}

async fn insert<'a>(
    tx: &mut PgConnection,
    facts: impl Iterator<Item = &'a Applied>,
) -> Result<(), ApplyError> {
    let mut facts: Vec<&Applied> = facts.collect();
    if facts.is_empty() {
        return Ok(());
    }
    facts.sort_unstable_by_key(|applied| super::identity(&applied.record));
    let records = || facts.iter().map(|applied| &applied.record);
    let positions = || facts.iter().map(|applied| applied.position);
    let column = |pick: fn(&Record) -> Uuid| records().map(pick).collect::<Vec<_>>();
    let values = records().map(|one| encode::record(one.clone()));
    let families = positions().map(|at| at.partition.family.as_str());
    let incarnations = positions().map(|at| at.incarnation.as_uuid());
    sqlx::query(statements::INSERT_FACTS)
        .bind(column(|one| one.scope.tenant.as_uuid()))
        .bind(
            records()
                .map(|one| one.scope.mode.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(records().map(|one| one.stream.as_str()).collect::<Vec<_>>())
        .bind(column(|one| one.id.as_uuid()))
        .bind(families.collect::<Vec<_>>())
        .bind(
            positions()
                .map(|at| number(at.partition))
                .collect::<Vec<_>>(),
        )
        .bind(incarnations.collect::<Vec<_>>())
        .bind(positions().map(|at| signed(at.offset)).collect::<Vec<_>>())
        .bind(values.collect::<Vec<_>>())
        .execute(tx)
        .await
        .map_err(ApplyError::database("keep facts that are owed a decision"))?;
    Ok(())
}

async fn delete(tx: &mut PgConnection, keys: &[Key]) -> Result<HashMap<Key, Answered>, ApplyError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let mut keys: Vec<&Key> = keys.iter().collect();
    keys.sort_unstable();
    let rows: Vec<Row> = sqlx::query_as(statements::DELETE_FACTS)
        .bind(
            keys.iter()
                .map(|((scope, _), _)| scope.tenant.as_uuid())
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|((scope, _), _)| scope.mode.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|((_, stream), _)| stream.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(keys.iter().map(|(_, id)| id.as_uuid()).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("forget facts that are answered"))?;
    Ok(rows.into_iter().filter_map(answered).collect())
}

/// It was decoded before it was kept.
fn answered((tenant, mode, stream, id, family, bytes): Row) -> Option<(Key, Answered)> {
    let family = family.parse::<Family>().ok()?;
    let Ok(decode::Stored::Record(record)) = decode::record(family, &bytes) else {
        return None;
    };
    let fact = decode::fact(&record).ok().flatten()?;
    let key = (id_of(tenant, &mode, &stream)?, RecordId::new(id));
    Some((key, Answered { record, fact }))
}
