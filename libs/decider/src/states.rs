//! States of streams and of their parts, as they were loaded and as decisions and facts carry them on.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::Fact;
use runledger_domain::ids::TenantId;
use runledger_domain::log::{Partition, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::rules::{Rules, StateError};
use crate::statements;

/// Tenant, mode, stream, part if it is of one, version if it is of a stream, state.
type StateRow = (Uuid, String, String, Option<String>, i64, Vec<u8>);
type PartRow = (Uuid, String, String, String, Vec<u8>);

/// The part that stands for the stream itself; no part has this name.
const OF_STREAM: &str = "";

/// A stream, wherever it lies.
pub(crate) type StreamId = (Scope, Stream);

/// Why states cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("load states")]
    Database(#[source] sqlx::Error),
    #[error("read a state that was stored")]
    State(#[source] StateError),
}

/// One stream at hand.
pub(crate) struct Held<R: Rules> {
    pub(crate) partition: Partition,
    /// How many decisions it has in force.
    pub(crate) version: u64,
    pub(crate) state: R::Stream,
    /// Those that were asked for; `None`: there is no such part.
    pub(crate) parts: BTreeMap<Box<str>, Option<R::Part>>,
    changed: bool,
    changed_parts: BTreeSet<Box<str>>,
    /// What parts that are not at hand are owed may have changed.
    unsettled: bool,
}

/// The streams at hand.
pub(crate) struct States<R: Rules>(BTreeMap<StreamId, Held<R>>);

/// Which streams, and which parts of them, are to be at hand.
#[derive(Default)]
pub(crate) struct Wanted(BTreeMap<StreamId, (Partition, BTreeSet<Box<str>>)>);

impl Wanted {
    pub(crate) fn add(&mut self, id: StreamId, partition: Partition, part: Option<&str>) {
        let (_, parts) = self
            .0
            .entry(id)
            .or_insert_with(|| (partition, BTreeSet::new()));
        parts.extend(part.map(Box::from));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parts(&self) -> impl Iterator<Item = (&StreamId, &str)> {
        self.0
            .iter()
            .flat_map(|(id, (_, parts))| parts.iter().map(move |part| (id, &**part)))
    }

    /// Columns of the streams.
    pub(crate) fn columns(&self) -> (Vec<Uuid>, Vec<&'static str>, Vec<&str>) {
        columns(self.0.keys())
    }
}

fn columns<'a>(
    ids: impl Iterator<Item = &'a StreamId>,
) -> (Vec<Uuid>, Vec<&'static str>, Vec<&'a str>) {
    let (mut tenants, mut modes, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    for (scope, stream) in ids {
        tenants.push(scope.tenant.as_uuid());
        modes.push(scope.mode.as_str());
        streams.push(stream.as_str());
    }
    (tenants, modes, streams)
}

/// The stream that a row is of. `None`: no stream of this version.
pub(crate) fn id_of(tenant: Uuid, mode: &str, stream: &str) -> Option<StreamId> {
    let scope = Scope {
        tenant: TenantId::new(tenant),
        mode: mode.parse().ok()?,
    };
    Some((scope, Stream::parse(stream)?))
}

impl<R: Rules> States<R> {
    pub(crate) async fn load(
        rules: &R,
        db: &mut PgConnection,
        wanted: Wanted,
    ) -> Result<Self, LoadError> {
        let mut states = Self(BTreeMap::new());
        if wanted.is_empty() {
            return Ok(states);
        }
        let (tenants, modes, streams) = wanted.columns();
        let (ids, parts): (Vec<&StreamId>, Vec<&str>) = wanted.parts().unzip();
        let (part_tenants, part_modes, part_streams) = columns(ids.into_iter());
        let rows: Vec<StateRow> = sqlx::query_as(statements::SELECT_STATES)
            .bind(tenants)
            .bind(modes)
            .bind(streams)
            .bind(part_tenants)
            .bind(part_modes)
            .bind(part_streams)
            .bind(parts)
            .fetch_all(db)
            .await
            .map_err(LoadError::Database)?;
        for (id, (partition, parts)) in wanted.0 {
            let held = Held {
                partition,
                version: 0,
                state: rules.unheard(&id.1),
                parts: parts.into_iter().map(|part| (part, None)).collect(),
                changed: false,
                changed_parts: BTreeSet::new(),
                unsettled: false,
            };
            states.0.insert(id, held);
        }
        let mut of_parts = Vec::new();
        for (tenant, mode, stream, part, version, state) in rows {
            match part {
                Some(part) => of_parts.push((tenant, mode, stream, part, state)),
                None => states.take_in_stream(rules, (tenant, &mode, &stream), version, &state)?,
            }
        }
        states.take_in(rules, of_parts)?;
        Ok(states)
    }

    fn take_in_stream(
        &mut self,
        rules: &R,
        (tenant, mode, stream): (Uuid, &str, &str),
        version: i64,
        bytes: &[u8],
    ) -> Result<(), LoadError> {
        let Some(id) = id_of(tenant, mode, stream) else {
            return Ok(());
        };
        if let Some(held) = self.0.get_mut(&id) {
            held.version = u64::try_from(version).unwrap_or_default();
            held.state = rules
                .decode_stream(&id.1, bytes)
                .map_err(LoadError::State)?;
        }
        Ok(())
    }

    fn take_in(&mut self, rules: &R, rows: Vec<PartRow>) -> Result<(), LoadError> {
        for (tenant, mode, stream, part, bytes) in rows {
            let Some(id) = id_of(tenant, &mode, &stream) else {
                continue;
            };
            let Some(held) = self.0.get_mut(&id) else {
                continue;
            };
            let state = rules.decode_part(&id.1, &bytes).map_err(LoadError::State)?;
            // What is at hand already is newer than what lies in the tables.
            match held.parts.entry(part.into()) {
                Entry::Occupied(mut slot) if slot.get().is_none() => {
                    slot.insert(Some(state));
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(slot) => {
                    slot.insert(Some(state));
                }
            }
        }
        Ok(())
    }

    /// Streams of which nothing was heard.
    #[cfg(test)]
    pub(crate) fn unheard(
        rules: &R,
        ids: impl IntoIterator<Item = StreamId>,
        partition: Partition,
    ) -> Self {
        let held = |id: StreamId| {
            let held = Held {
                partition,
                version: 0,
                state: rules.unheard(&id.1),
                parts: BTreeMap::new(),
                changed: false,
                changed_parts: BTreeSet::new(),
                unsettled: false,
            };
            (id, held)
        };
        Self(ids.into_iter().map(held).collect())
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<&Held<R>> {
        self.0.get(id)
    }

    pub(crate) fn heed(&mut self, rules: &R, id: &StreamId, fact: &Fact, at: Timestamp) {
        if let Some(held) = self.0.get_mut(id) {
            held.changed = true;
            held.unsettled |= rules.heed(&mut held.state, fact, at);
        }
    }

    /// Folds a decision in, of which the stream has one more now; `None`: one that changes nothing.
    /// False: it does not fit.
    pub(crate) fn evolve(
        &mut self,
        rules: &R,
        id: &StreamId,
        decision: Option<&R::Decision>,
        at: Timestamp,
    ) -> bool {
        let Some(held) = self.0.get_mut(id) else {
            return false;
        };
        held.changed = true;
        held.version += 1;
        let Some(decision) = decision else {
            return true;
        };
        match rules.part_of_decision(decision) {
            None => rules.evolve(&mut held.state, &mut None, decision, at),
            Some(name) => {
                let part = held.parts.entry(name.into()).or_default();
                held.changed_parts.insert(name.into());
                rules.evolve(&mut held.state, part, decision, at)
            }
        }
    }

    /// As [`Self::evolve`], for a decision that is yet to be written: `false`, and nothing has changed,
    /// when it does not fit.
    pub(crate) fn take_on(
        &mut self,
        rules: &R,
        id: &StreamId,
        decision: Option<&R::Decision>,
        at: Timestamp,
    ) -> bool {
        let fits = self.evolve(rules, id, decision, at);
        if !fits && let Some(held) = self.0.get_mut(id) {
            held.version -= 1;
        }
        fits
    }

    /// The state of a stream, encoded, if it is one that is kept.
    pub(crate) fn kept(&self, rules: &R, id: &StreamId) -> Option<Vec<u8>> {
        let held = self.0.get(id)?;
        let is_kept = rules.keeps_state(&held.state);
        is_kept.then(|| rules.encode_stream(&held.state))
    }

    /// Writes what has changed, and what parts are owed from now on.
    pub(crate) async fn write(
        &mut self,
        rules: &R,
        db: &mut PgConnection,
    ) -> Result<(), LoadError> {
        self.settle(rules, db).await?;
        let changed: Vec<(&StreamId, &Held<R>)> =
            self.0.iter().filter(|(_, held)| held.changed).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let (mut versions, mut states) = (Vec::new(), Vec::new());
        for (_, held) in &changed {
            versions.push(i64::try_from(held.version).unwrap_or(i64::MAX));
            states.push(rules.encode_stream(&held.state));
        }
        let (mut owners, mut parts) = (Vec::new(), Vec::new());
        let (mut part_states, mut dues): (_, Vec<Option<Timestamp>>) = (Vec::new(), Vec::new());
        for &(id, held) in &changed {
            for name in &held.changed_parts {
                if let Some(Some(part)) = held.parts.get(name) {
                    owners.push((id, held));
                    parts.push(&**name);
                    part_states.push(rules.encode_part(part));
                    dues.push(rules.due_at(&held.state, part));
                }
            }
            if rules.lapses() {
                owners.push((id, held));
                parts.push(OF_STREAM);
                part_states.push(Vec::new());
                dues.push(rules.lapse_at(&held.state));
            }
        }
        let (tenants, modes, streams) = columns(changed.iter().map(|(id, _)| *id));
        let (families, partitions) = lying(&changed);
        let (part_tenants, part_modes, part_streams) = columns(owners.iter().map(|(id, _)| *id));
        let (part_families, part_partitions) = lying(&owners);
        sqlx::query(statements::UPSERT_STATES)
            .bind(tenants)
            .bind(modes)
            .bind(streams)
            .bind(families)
            .bind(partitions)
            .bind(versions)
            .bind(states)
            .bind(part_tenants)
            .bind(part_modes)
            .bind(part_streams)
            .bind(parts)
            .bind(part_families)
            .bind(part_partitions)
            .bind(part_states)
            .bind(dues)
            .execute(db)
            .await
            .map_err(LoadError::Database)?;
        Ok(())
    }

    /// Takes in the parts of those streams in which anything may be owed otherwise now.
    async fn settle(&mut self, rules: &R, db: &mut PgConnection) -> Result<(), LoadError> {
        let unsettled: Vec<StreamId> = self
            .0
            .iter()
            .filter(|(_, held)| held.unsettled)
            .map(|(id, _)| id.clone())
            .collect();
        if unsettled.is_empty() {
            return Ok(());
        }
        let rows = {
            let (tenants, modes, streams) = columns(unsettled.iter());
            sqlx::query_as(statements::SELECT_OWING_PARTS)
                .bind(tenants)
                .bind(modes)
                .bind(streams)
                .fetch_all(&mut *db)
                .await
                .map_err(LoadError::Database)?
        };
        self.take_in(rules, rows)?;
        for id in unsettled {
            if let Some(held) = self.0.get_mut(&id) {
                let there = held.parts.iter().filter(|(_, part)| part.is_some());
                held.changed_parts
                    .extend(there.map(|(name, _)| name.clone()));
            }
        }
        Ok(())
    }
}

/// Columns of where streams lie.
fn lying<R: Rules>(streams: &[(&StreamId, &Held<R>)]) -> (Vec<&'static str>, Vec<i32>) {
    let place = |(_, held): &(&StreamId, &Held<R>)| {
        (held.partition.family.as_str(), number(held.partition))
    };
    streams.iter().map(place).unzip()
}

/// Postgres has no unsigned numbers.
pub(crate) fn number(partition: Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}
