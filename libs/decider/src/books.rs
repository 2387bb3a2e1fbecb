//! The fold of facts, commands and decisions in force into the tables that judging needs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use metrics::counter;
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Family, Kind, Partition, Record, Terms};
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError, Kept, Projection, Standing};
use runledger_proto::encode;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::rules::Rules;
use crate::statements;
use crate::states::{LoadError, States, StreamId, Wanted, number};

mod facts;

pub use facts::Answered;
use facts::Facts;

/// A decision in force, as read models take it in.
#[derive(Debug)]
pub struct Folded<'a, D> {
    pub applied: &'a Applied,
    pub decision: &'a D,
    /// The facts that it answers, in the order in which it names them.
    pub answers: Vec<Answered>,
    /// The state of its stream behind it, encoded, where the rules say that it is kept.
    pub state: Option<Vec<u8>>,
}

/// What a service makes of the same records beside the states of its rules: the tables that people
/// ask. Inside the same transaction; facts and decisions in force alone, each once.
#[async_trait]
pub trait ReadModel<R: Rules>: Send + Sync + 'static {
    /// All of the service's: its own, and [`TABLES`] before them.
    fn tables(&self) -> &'static [&'static str];

    async fn apply(
        &mut self,
        tx: &mut PgConnection,
        facts: &[&Applied],
        decisions: &[Folded<'_, R::Decision>],
    ) -> Result<(), ApplyError>;
}

/// The projection that a decider decides from.
pub struct Books<R, M> {
    rules: Arc<R>,
    read_model: M,
}

/// The tables of every decider; those of its read model come beside them.
pub const TABLES: &[&str] = &["identities", "commands", "streams", "parts", "decided"];

impl<R: Rules, M: ReadModel<R>> Books<R, M> {
    pub fn new(rules: Arc<R>, read_model: M) -> Self {
        Self { rules, read_model }
    }
}

#[async_trait]
impl<R: Rules, M: ReadModel<R>> Projection for Books<R, M> {
    fn families(&self) -> &'static [Family] {
        self.rules.families()
    }

    fn tables(&self) -> &'static [&'static str] {
        self.read_model.tables()
    }

    fn reads_commands(&self) -> bool {
        true
    }

    async fn keep(
        &mut self,
        tx: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        let of = |kind: Kind| -> Vec<&Applied> {
            let those = batch.iter().filter(|one| one.record.kind == kind);
            those.copied().collect()
        };
        let facts = keep_facts(tx, &of(Kind::Fact)).await?;
        let commands = keep_commands(tx, &of(Kind::Command)).await?;
        let decisions = of(Kind::Decision);
        keep_decisions(tx, &decisions).await?;
        let standing = |applied: &&Applied| {
            let is_first = match applied.record.kind {
                // The chain has judged it.
                Kind::Decision => true,
                Kind::Fact => facts.contains(&applied.position),
                Kind::Command => commands.contains(&applied.position),
                Kind::Genesis => false,
            };
            if is_first {
                Standing::First
            } else {
                Standing::Copy
            }
        };
        Ok(batch.iter().map(standing).collect())
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError> {
        let fresh = || {
            let first = |one: &&Kept<'_>| one.standing == Standing::First;
            batch.iter().filter(first).map(|one| one.applied)
        };
        let mut decoded: BTreeMap<usize, R::Decision> = BTreeMap::new();
        let mut wanted = Wanted::default();
        for (index, applied) in fresh().enumerate() {
            match applied.record.kind {
                Kind::Decision => {
                    let decision = self.rules.decision(&applied.record);
                    let decision = decision.map_err(ApplyError::payload)?;
                    let part = decision
                        .as_ref()
                        .and_then(|one| self.rules.part_of_decision(one));
                    wanted.add(id(applied), applied.position.partition, part);
                    decoded.extend(decision.map(|decision| (index, decision)));
                }
                Kind::Fact if self.is_heeded(applied) => {
                    wanted.add(id(applied), applied.position.partition, None);
                }
                Kind::Fact | Kind::Command | Kind::Genesis => {}
            }
        }
        let mut states = BTreeMap::new();
        if !wanted.is_empty() {
            states = self.fold(tx, fresh(), &decoded, wanted).await?;
        }
        let facts = Facts::of(&*self.rules, fresh(), &decoded);
        let mut answers = facts.write(tx).await?;
        let facts: Vec<&Applied> = fresh()
            .filter(|applied| applied.record.kind == Kind::Fact)
            .collect();
        let decisions: Vec<Folded<'_, R::Decision>> = fresh()
            .enumerate()
            .filter_map(|(index, applied)| {
                let decision = decoded.get(&index)?;
                Some(Folded {
                    applied,
                    decision,
                    answers: answers.remove(&index).unwrap_or_default(),
                    state: states.remove(&index),
                })
            })
            .collect();
        self.read_model.apply(tx, &facts, &decisions).await
    }
}

impl<R: Rules, M: ReadModel<R>> Books<R, M> {
    fn is_heeded(&self, applied: &Applied) -> bool {
        let heeds = |fact| self.rules.heeds(fact);
        applied.fact.as_ref().is_some_and(heeds)
    }

    async fn fold<'a>(
        &self,
        tx: &mut PgConnection,
        fresh: impl Iterator<Item = &'a Applied>,
        decoded: &BTreeMap<usize, R::Decision>,
        wanted: Wanted,
    ) -> Result<BTreeMap<usize, Vec<u8>>, ApplyError> {
        let rules = &*self.rules;
        let mut states = States::load(rules, tx, wanted).await.map_err(load_error)?;
        let mut kept = BTreeMap::new();
        let mut misfits = 0;
        for (index, applied) in fresh.enumerate() {
            let at = moment(&applied.record);
            match (applied.record.kind, &applied.fact) {
                (Kind::Decision, _) => {
                    let decision = decoded.get(&index);
                    let fits = states.evolve(rules, &id(applied), decision, at);
                    misfits += u64::from(!fits);
                    if decision.is_some() && fits {
                        let state = states.kept(rules, &id(applied));
                        kept.extend(state.map(|state| (index, state)));
                    }
                }
                (Kind::Fact, Some(fact)) if rules.heeds(fact) => {
                    states.heed(rules, &id(applied), fact, at);
                }
                (Kind::Fact | Kind::Command | Kind::Genesis, _) => {}
            }
        }
        counter!("runledger_decider_misfits_total").increment(misfits);
        states.write(rules, tx).await.map_err(load_error)?;
        Ok(kept)
    }
}

/// When a record counts: a decision at the moment it was taken at, a fact when we took it in. What its
/// reporter's clock said would let him stretch the time that a run may take.
pub(crate) fn moment(record: &Record) -> Timestamp {
    match record.kind {
        Kind::Decision => record.occurred_at,
        Kind::Fact | Kind::Command | Kind::Genesis => record.recorded_at,
    }
}

fn load_error(error: LoadError) -> ApplyError {
    match error {
        LoadError::Database(source) => ApplyError::Database {
            doing: "fold states",
            source,
        },
        LoadError::State(source) => ApplyError::Database {
            doing: "read a state that was stored",
            source: sqlx::Error::Decode(source.into()),
        },
    }
}

fn id(applied: &Applied) -> StreamId {
    (applied.record.scope, applied.record.stream.clone())
}

type Identity<'a> = (Uuid, &'a str, &'a str, Uuid);

fn identity(record: &Record) -> Identity<'_> {
    (
        record.scope.tenant.as_uuid(),
        record.scope.mode.as_str(),
        record.stream.as_str(),
        record.id.as_uuid(),
    )
}

/// The first of each identity in a batch, sorted: whoever writes at the same time takes locks in the
/// same order.
fn firsts<'a>(batch: &[&'a Applied]) -> BTreeMap<Identity<'a>, &'a Applied> {
    let mut firsts = BTreeMap::new();
    for applied in batch {
        firsts.entry(identity(&applied.record)).or_insert(*applied);
    }
    firsts
}

type Positions = HashSet<runledger_domain::log::Position>;

/// Of those that went in, where they lie.
fn new_ones(
    firsts: &BTreeMap<Identity<'_>, &Applied>,
    went_in: &[(Uuid, String, String, Uuid)],
) -> Positions {
    let position = |(tenant, mode, stream, id): &(Uuid, String, String, Uuid)| {
        let first = firsts.get(&(*tenant, mode.as_str(), stream.as_str(), *id))?;
        Some(first.position)
    };
    went_in.iter().filter_map(position).collect()
}

async fn keep_facts(tx: &mut PgConnection, batch: &[&Applied]) -> Result<Positions, ApplyError> {
    let firsts = firsts(batch);
    if firsts.is_empty() {
        return Ok(Positions::new());
    }
    let column = |pick: fn(&Identity<'_>) -> Uuid| firsts.keys().map(pick).collect::<Vec<_>>();
    let modes: Vec<&str> = firsts.keys().map(|one| one.1).collect();
    let streams: Vec<&str> = firsts.keys().map(|one| one.2).collect();
    let went_in = sqlx::query_as(statements::INSERT_IDENTITIES)
        .bind(column(|one| one.0))
        .bind(modes)
        .bind(streams)
        .bind(column(|one| one.3))
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("keep the identity of facts"))?;
    Ok(new_ones(&firsts, &went_in))
}

async fn keep_commands(tx: &mut PgConnection, batch: &[&Applied]) -> Result<Positions, ApplyError> {
    let firsts = firsts(batch);
    if firsts.is_empty() {
        return Ok(Positions::new());
    }
    let column = |pick: fn(&Identity<'_>) -> Uuid| firsts.keys().map(pick).collect::<Vec<_>>();
    let modes: Vec<&str> = firsts.keys().map(|one| one.1).collect();
    let streams: Vec<&str> = firsts.keys().map(|one| one.2).collect();
    let positions = || firsts.values().map(|applied| applied.position);
    let records = || firsts.values().map(|applied| &applied.record);
    let families: Vec<&str> = positions().map(|at| at.partition.family.as_str()).collect();
    let partitions: Vec<i32> = positions().map(|at| number(at.partition)).collect();
    let incarnations: Vec<Uuid> = positions().map(|at| at.incarnation.as_uuid()).collect();
    let offsets: Vec<i64> = positions().map(|at| signed(at.offset)).collect();
    let digests: Vec<&[u8]> = records().map(|one| one.request_digest.as_slice()).collect();
    let values: Vec<Vec<u8>> = records().map(|one| encode::record(one.clone())).collect();
    let went_in = sqlx::query_as(statements::INSERT_COMMANDS)
        .bind(column(|one| one.0))
        .bind(modes)
        .bind(streams)
        .bind(column(|one| one.3))
        .bind(families)
        .bind(partitions)
        .bind(incarnations)
        .bind(offsets)
        .bind(digests)
        .bind(values)
        .fetch_all(tx)
        .await
        .map_err(ApplyError::database("keep commands"))?;
    Ok(new_ones(&firsts, &went_in))
}

/// Writes what decisions answer, and the last moment and the highest version of rules of each
/// partition. Of two decisions that name one command, the first stands.
async fn keep_decisions(tx: &mut PgConnection, decisions: &[&Applied]) -> Result<(), ApplyError> {
    if decisions.is_empty() {
        return Ok(());
    }
    let mut answered: BTreeMap<Identity<'_>, &Applied> = BTreeMap::new();
    for applied in decisions {
        let record = &applied.record;
        let cause = record.cause.as_ref().filter(|cause| cause.stream.is_none());
        if let Some(id) = cause.map(|cause| RecordId::as_uuid(cause.id)) {
            let (tenant, mode, stream, _) = identity(record);
            answered
                .entry((tenant, mode, stream, id))
                .or_insert(applied);
        }
    }
    let column = |pick: fn(&Identity<'_>) -> Uuid| answered.keys().map(pick).collect::<Vec<_>>();
    let modes: Vec<&str> = answered.keys().map(|one| one.1).collect();
    let streams: Vec<&str> = answered.keys().map(|one| one.2).collect();
    let records = || answered.values().map(|applied| &applied.record);
    let offsets = answered.values().map(|one| signed(one.position.offset));
    let moments = Moments::of(decisions);
    sqlx::query(statements::UPDATE_OUTCOMES)
        .bind(column(|one| one.0))
        .bind(modes)
        .bind(streams)
        .bind(column(|one| one.3))
        .bind(offsets.collect::<Vec<_>>())
        .bind(records().map(|one| one.occurred_at).collect::<Vec<_>>())
        .bind(records().map(|one| &*one.type_name).collect::<Vec<_>>())
        .bind(
            records()
                .map(|one| one.payload.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(moments.families)
        .bind(moments.partitions)
        .bind(moments.last_ats)
        .bind(moments.versions)
        .execute(tx)
        .await
        .map_err(ApplyError::database("keep outcomes"))?;
    Ok(())
}

/// Columns of the partitions in which something was decided.
#[derive(Default)]
struct Moments {
    families: Vec<&'static str>,
    partitions: Vec<i32>,
    last_ats: Vec<Timestamp>,
    versions: Vec<i64>,
}

impl Moments {
    fn of(decisions: &[&Applied]) -> Self {
        let mut last: BTreeMap<Partition, (Timestamp, u32)> = BTreeMap::new();
        for applied in decisions {
            let version = match &applied.record.terms {
                Some(Terms::Decided(decided)) => decided.rules_version,
                Some(Terms::Asked(_)) | None => 0,
            };
            let at = applied.record.occurred_at;
            let (latest, highest) = last
                .entry(applied.position.partition)
                .or_insert((at, version));
            *latest = at.max(*latest);
            *highest = version.max(*highest);
        }
        let mut moments = Self::default();
        for (partition, (at, version)) in last {
            moments.families.push(partition.family.as_str());
            moments.partitions.push(number(partition));
            moments.last_ats.push(at);
            moments.versions.push(i64::from(version));
        }
        moments
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use runledger_domain::ids::{PrincipalId, TenantId};
    use runledger_domain::log::{Author, Stream};
    use runledger_domain::scope::{Mode, Scope};

    use super::*;

    #[test]
    fn what_a_reporter_says_of_time_does_not_count() {
        let at = |second| Timestamp::from_timestamp(second, 0).unwrap();
        let record = |kind| Record {
            id: RecordId::new(Uuid::nil()),
            scope: Scope {
                tenant: TenantId::new(Uuid::nil()),
                mode: Mode::Live,
            },
            stream: Stream::parse("run/1").unwrap(),
            kind,
            type_name: "type".into(),
            occurred_at: at(1),
            recorded_at: at(2),
            author: Author {
                principal: PrincipalId::new(Uuid::nil()),
                kind: None,
                role: None,
            },
            cause: None,
            request_digest: [0; 32],
            key: None,
            payload: Vec::new(),
            terms: None,
        };
        assert_eq!(moment(&record(Kind::Fact)), at(2));
        assert_eq!(
            moment(&record(Kind::Decision)),
            at(1),
            "its decider took it by the database's clock"
        );
    }
}
