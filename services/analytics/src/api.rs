//! `AnalyticsService`: questions over rollups, each answered from one snapshot of one scope.

use std::time::Duration;

use chrono::SecondsFormat;
use runledger_domain::analytics::Question;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::{ReadOptions, Reader, Snapshot};
use runledger_proto::common::v1 as common;
use runledger_role::reading::Reading;
use runledger_service::auth;
use runledger_service::clearance::Clearance;
use runledger_service::status;
use serde::Deserialize;
use tonic::{Request, Status};

mod compare;
mod coverage;
mod diagnose;
mod export;
mod insights;
mod query;
mod rpc;
mod summary;
mod sums;

use crate::retention::Horizons;
use sums::{Sum, Top};

/// Section `[api]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How often health asks the database, and how long it waits for the answer.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
    /// How long the database may work on one question. Beyond it the caller is told to ask for less.
    #[serde(with = "humantime_serde")]
    pub question_timeout: Duration,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    reading: Reading,
    question_timeout: Duration,
}

impl Api {
    pub(crate) fn new(reader: Reader, clearance: Clearance, options: &Options) -> Self {
        let reading = Reading {
            reader,
            clearance,
            what: "rollups",
        };
        Self {
            reading,
            question_timeout: options.question_timeout,
        }
    }

    /// One snapshot of a scope, in which no statement works for longer than it may.
    async fn view(&self, scope: Scope, options: &ReadOptions) -> Result<View<'_>, Fault> {
        let mut snapshot = self.reading.snapshot(scope, options).await?;
        let timeout = self.question_timeout.as_millis().to_string();
        sqlx::query("SELECT set_config('statement_timeout', $1, true)")
            .bind(timeout)
            .execute(&mut *snapshot.tx)
            .await
            .map_err(|error| self.reading.database(error))?;
        let horizons = Horizons::of(&mut snapshot.tx, scope).await;
        Ok(View {
            reading: &self.reading,
            scope,
            horizons: horizons.map_err(|error| self.reading.database(error))?,
            snapshot,
        })
    }
}

/// One snapshot of one scope.
struct View<'a> {
    reading: &'a Reading,
    scope: Scope,
    horizons: Horizons,
    snapshot: Snapshot,
}

impl View<'_> {
    /// The largest groups of a question over its whole range.
    async fn top(&mut self, question: &Question, limit: u32) -> Result<Top, Fault> {
        self.is_kept(question, &[])?;
        let found = sums::top(&mut self.snapshot.tx, self.scope, question, limit).await;
        found.map_err(|error| self.fault(error))
    }

    /// The sums of some groups by the lengths of time of a question.
    async fn periods(
        &mut self,
        question: &Question,
        groups: &[Vec<String>],
        edges: &[Timestamp],
    ) -> Result<Vec<Sum>, Fault> {
        self.is_kept(question, edges)?;
        let tx = &mut self.snapshot.tx;
        let found = sums::by_period(tx, self.scope, question, groups, edges).await;
        found.map_err(|error| self.fault(error))
    }

    /// An answer from half of what there was would look like any other.
    fn is_kept(&self, question: &Question, edges: &[Timestamp]) -> Result<(), Fault> {
        let pieces = sums::pieces(question, edges);
        let Some((grain, kept_from)) = self.horizons.lacking(&pieces) else {
            return Ok(());
        };
        let message = format!(
            "the {grain}s that this takes are kept from {} on; ask from there, or for whole days of UTC",
            kept_from.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
        Err(Fault::new(Kind::Precondition, "RETIRED", message))
    }

    fn fault(&self, error: sqlx::Error) -> Fault {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.as_deref() == Some("57014") {
            let message = "the question takes too long to answer; ask for a shorter range, fewer dimensions or more filters";
            return Fault::new(Kind::Exhausted, "QUESTION_TOO_LARGE", message);
        }
        self.reading.database(error)
    }

    async fn close(self) -> Result<common::AsOf, Fault> {
        self.reading.close(self.snapshot).await
    }
}

fn scope_of<T>(request: &Request<T>) -> Result<Scope, Status> {
    auth::caller(request)?
        .require_scope()
        .map_err(status::from_fault)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
