//! What runs have used, put into the streams of those who pay for it.
//!
//! For: one fact `UsageForwarded` for each report of usage, each ended call and each ended run, in the
//! stream of the run's account, as soon as the starts of run and call are known.
//! Must never: append a usage under two ids, lose one that waits, or move on before what it has
//! appended is in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics::{counter, histogram};
use runledger_domain::Fact;
use runledger_domain::ids::PrincipalId;
use runledger_domain::log::{Author, Cause, Family, Kind, Partition, Position, Record};
use runledger_domain::scope::PrincipalKind;
use runledger_domain::time::Clock;
use runledger_domain::usage::{self, forwarded_id};
use runledger_eventlog::{Entry, Error as LogError, Log, Outcome};
use runledger_projection::{Applied, ApplyError, Kept, Projection, Standing};
use runledger_proto::encode;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

mod config;
mod fold;
mod outputs;
mod rows;
mod serve;
mod statements;
mod upkeep;

pub use config::{FORWARDER_DEFAULTS, ForwarderConfig};
use fold::{Derived, Fold};
pub(crate) use outputs::Forwarded;
pub use serve::serve_forwarder;
pub use upkeep::{FORWARDER_UPKEEP_DEFAULTS, ForwarderUpkeepConfig, upkeep};

/// What it reads.
pub const FAMILIES: &[Family] = &[Family::Run];
/// The schema of what it has to know.
pub(crate) const SCHEMA: &str = "usage";
/// The tables of one generation. `outputs` is of none: a new generation appends nothing.
const TABLES: &[&str] = &["runs", "calls", "waiting"];

/// How long appends may take before the batch is begun anew; what was appended then comes again as
/// copies.
const APPEND_WITHIN: Duration = Duration::from_secs(10);
/// Most records handed over at once.
const APPEND_MAX: usize = 1_000;

/// The projection. Keeps nothing in memory.
#[derive(Clone)]
pub struct Forwarder {
    /// `None`: its tables are built anew, and all that it says lies in the log already.
    outlet: Option<Outlet>,
}

#[derive(Clone)]
struct Outlet {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
}

impl Forwarder {
    pub(crate) fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Self {
        Self {
            outlet: Some(Outlet { log, clock }),
        }
    }

    /// Only the tables: nothing is appended.
    pub(crate) fn mute() -> Self {
        Self { outlet: None }
    }
}

#[async_trait]
impl Projection for Forwarder {
    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    /// Nothing is kept: a record that comes twice is forwarded under the same id, or waits under it.
    async fn keep(
        &mut self,
        _: &mut PgConnection,
        batch: &[&Applied],
    ) -> Result<Vec<Standing>, ApplyError> {
        Ok(vec![Standing::First; batch.len()])
    }

    async fn apply(&mut self, tx: &mut PgConnection, batch: &[Kept<'_>]) -> Result<(), ApplyError> {
        let facts: Vec<(&Applied, &runledger_domain::run::Fact)> = batch
            .iter()
            .filter_map(|kept| Some((kept.applied, of_run(kept.applied)?)))
            .collect();
        if facts.is_empty() {
            return Ok(());
        }
        let mut fold = Fold::load(tx, &facts).await?;
        for (applied, fact) in facts {
            fold.take_in(applied, fact);
        }
        let rests = fold.rests();
        self.forward(tx, fold).await?;
        for mut rest in rests {
            while let Some(piece) = rest.piece(tx).await? {
                self.forward(tx, piece).await?;
            }
        }
        Ok(())
    }
}

impl Forwarder {
    /// Writes what is known now, and says what follows from it.
    async fn forward(&self, tx: &mut PgConnection, fold: Fold) -> Result<(), ApplyError> {
        let derived = fold.write(tx).await?;
        let Some(outlet) = &self.outlet else {
            return Ok(());
        };
        for chunk in derived.chunks(APPEND_MAX) {
            outlet.append(tx, chunk).await?;
            runledger_projection::goes_on();
        }
        Ok(())
    }
}

/// The fact of a record in its own stream: nobody else may say what a run has used.
fn of_run(applied: &Applied) -> Option<&runledger_domain::run::Fact> {
    let fact = applied.fact.as_ref()?;
    match fact {
        Fact::Run(of_run) => (fact.stream() == applied.record.stream).then_some(of_run),
        Fact::Schedule(_) | Fact::Message(_) | Fact::Usage(_) => None,
    }
}

impl Outlet {
    /// Appends, and notes where it came to lie. Until the transaction commits the cursor stands where it
    /// stood: what is appended again is a copy.
    async fn append(&self, tx: &mut PgConnection, derived: &[Derived]) -> Result<(), ApplyError> {
        let now = self.clock.now();
        let entries = derived.iter().map(|one| Entry {
            record: record(one, now),
            prev: None,
            trace: None,
        });
        let begun = Instant::now();
        let appended = self
            .log
            .append(entries.collect(), begun + APPEND_WITHIN)
            .await
            .map_err(ApplyError::log("forward usage"))?;
        histogram!("runledger_forwarder_append_seconds").record(begun.elapsed());
        let mut outputs: BTreeMap<(Partition, Partition), Position> = BTreeMap::new();
        for (one, outcome) in derived.iter().zip(appended) {
            let Outcome::Accepted(position) = outcome else {
                return Err(ApplyError::log("forward usage")(LogError::Unavailable {
                    doing: "appending usage",
                    source: None,
                }));
            };
            let last = outputs
                .entry((one.source.partition, position.partition))
                .or_insert(position);
            if position.offset >= last.offset {
                *last = position;
            }
        }
        counter!("runledger_forwarder_forwarded_total").increment(derived.len() as u64);
        outputs::note(tx, &outputs).await
    }
}

/// Nobody's principal: it says what others have said.
fn record(derived: &Derived, now: runledger_domain::time::Timestamp) -> Record {
    let fact = Fact::Usage(usage::Fact::Forwarded(derived.usage.clone()));
    let (type_name, payload) = encode::payload(&fact);
    let cause = Cause {
        stream: Some(derived.stream.as_str().into()),
        id: derived.source_id,
    };
    let digest = Record::digest_request(type_name, derived.used_at, Some(&cause), &payload);
    Record {
        id: forwarded_id(derived.scope, &derived.run, derived.of()),
        scope: derived.scope,
        stream: fact.stream(),
        kind: Kind::Fact,
        type_name: type_name.into(),
        occurred_at: derived.used_at,
        recorded_at: now,
        author: Author {
            principal: PrincipalId::new(Uuid::nil()),
            kind: Some(PrincipalKind::Service),
            role: None,
        },
        cause: Some(cause),
        request_digest: digest,
        key: None,
        payload,
        terms: None,
    }
}
