//! How long rollups are kept. Scopes have their own horizons, which only move forward: see the table `horizons` for why
//! nothing older can come to be once one has moved.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use runledger_domain::analytics::{Grain, Range};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::rebuild::try_lock;
use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::serve::SCHEMA;
use crate::{UpkeepConfig, statements};

/// Rollups that one statement deletes.
const PIECE: i64 = 5_000;
/// Shortest that anything is kept: today, in whatever zone it is asked for.
const KEPT_AT_LEAST: TimeDelta = TimeDelta::days(2);

/// How long rollups of each grain are kept; `None`: as long as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    pub minutes: Option<TimeDelta>,
    pub quarters: Option<TimeDelta>,
    pub days: Option<TimeDelta>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    pub scopes: usize,
    /// In all generations.
    pub rollups: u64,
}

/// Why nothing, or not all, was retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    #[error("{0}")]
    Nonsense(&'static str),
    #[error(
        "analytics is being rebuilt or verified, or retired by another; do it again when that has ended"
    )]
    Busy,
    #[error("the database did not answer; do it again, that is always safe")]
    Database(#[from] sqlx::Error),
}

/// Where the rollups of a scope begin; empty: nothing was ever retired.
#[derive(Clone, Debug, Default)]
pub(crate) struct Horizons(Vec<(Grain, Timestamp)>);

impl Keep {
    /// # Errors
    /// When something is kept for less than two days, or the coarser for less long than the finer.
    pub fn check(&self) -> Result<(), RetireError> {
        let kept = [self.minutes, self.quarters, self.days];
        let kept: Vec<TimeDelta> = kept.into_iter().flatten().collect();
        if kept.is_empty() {
            return Err(RetireError::Nonsense(
                "say how long minutes, quarters or days are kept",
            ));
        }
        if kept.iter().any(|kept| *kept < KEPT_AT_LEAST) {
            return Err(RetireError::Nonsense(
                "nothing can be kept for less than two days",
            ));
        }
        if !kept.is_sorted() {
            let what = "minutes cannot be kept for longer than quarters, nor quarters for longer than days";
            return Err(RetireError::Nonsense(what));
        }
        Ok(())
    }

    /// Where each grain begins. What a span that is kept begins in is kept whole.
    fn horizons(self, now: Timestamp) -> Vec<(Grain, Timestamp)> {
        let kept = [
            (Grain::Minute, self.minutes),
            (Grain::Quarter, self.quarters),
            (Grain::Day, self.days),
        ];
        let begin = |(grain, kept): (Grain, Option<TimeDelta>)| {
            Some((grain, grain.floor(now.checked_sub_signed(kept?)?)))
        };
        kept.into_iter().filter_map(begin).collect()
    }
}

impl Horizons {
    pub(crate) async fn of(tx: &mut PgConnection, scope: Scope) -> Result<Self, sqlx::Error> {
        let rows: Vec<(String, Timestamp)> = sqlx::query_as(statements::SELECT_HORIZONS)
            .bind(scope.tenant.as_uuid())
            .bind(scope.mode.as_str())
            .fetch_all(tx)
            .await?;
        let known = rows.into_iter();
        Ok(Self(
            known
                .filter_map(|(grain, at)| Some((grain.parse().ok()?, at)))
                .collect(),
        ))
    }

    /// Of pieces that would answer a question, where the first that is not kept any more would begin.
    pub(crate) fn lacking(&self, pieces: &[(Grain, Range)]) -> Option<(Grain, Timestamp)> {
        self.0.iter().copied().find(|(grain, kept_from)| {
            pieces
                .iter()
                .any(|(of, piece)| of == grain && piece.from < *kept_from)
        })
    }
}

/// What retires rollups of one installation.
pub struct Retirement {
    pool: PgPool,
    /// The projection's, by which rebuilds and verifies are held off.
    name: String,
}

impl Retirement {
    /// # Errors
    /// When the configuration is wrong.
    pub fn new(config: &UpkeepConfig) -> Result<Self, RetireError> {
        let pool = runledger_postgres::connect(&config.database, "runledger retire", SCHEMA)?;
        Ok(Self::on(pool, &config.analytics.name))
    }

    /// The same with connections that are there already, of the role that writes.
    pub fn on(pool: PgPool, name: &str) -> Self {
        let name = name.to_owned();
        Self { pool, name }
    }

    /// Moves the horizons of a scope, or of all that have rollups, and deletes what lies before them.
    ///
    /// # Errors
    /// See [`RetireError`]. What was begun is gone on with by the next call, and by [`Retirement::sweep`].
    pub async fn retire(
        &self,
        scope: Option<Scope>,
        keep: Keep,
        now: Timestamp,
    ) -> Result<Retired, RetireError> {
        keep.check()?;
        let mut connection = self.alone().await?;
        let scopes = match scope {
            Some(scope) => [(scope.tenant.as_uuid(), scope.mode.to_string())].into(),
            None => scopes(&mut connection).await?,
        };
        advance(&mut connection, &scopes, &keep.horizons(now)).await?;
        let rollups = delete(&mut connection).await?;
        connection.close().await?;
        Ok(Retired {
            scopes: scopes.len(),
            rollups,
        })
    }

    /// Deletes what a retirement that was cut short has left. To be called before generations are compared: what lies
    /// before a horizon is in no new one.
    ///
    /// # Errors
    /// As [`Retirement::retire`].
    pub async fn sweep(&self) -> Result<u64, RetireError> {
        let mut connection = self.alone().await?;
        let rollups = delete(&mut connection).await?;
        connection.close().await?;
        Ok(rollups)
    }

    /// A connection that holds the lock of rebuilds: while generations are built and compared, nothing is deleted.
    async fn alone(&self) -> Result<PgConnection, RetireError> {
        let mut connection = self.pool.acquire().await?.detach();
        if !try_lock(&mut connection, &self.name).await? {
            return Err(RetireError::Busy);
        }
        Ok(connection)
    }
}

/// Moves horizons forward, once nobody is left who has added to rollups by those of before and has not committed.
/// Readers and writers wait meanwhile; whoever keeps them waiting for too long ends this, not them.
async fn advance(
    connection: &mut PgConnection,
    scopes: &BTreeSet<(Uuid, String)>,
    horizons: &[(Grain, Timestamp)],
) -> Result<(), sqlx::Error> {
    let places = scopes.iter();
    let places = places.flat_map(|scope| horizons.iter().map(move |one| (scope, one)));
    let (mut tenants, mut modes, mut grains, mut ats) = (vec![], vec![], vec![], vec![]);
    for ((tenant, mode), (grain, at)) in places {
        tenants.push(*tenant);
        modes.push(mode.as_str());
        grains.push(grain.as_str());
        ats.push(*at);
    }
    let mut tx = connection.begin().await?;
    sqlx::query("SET LOCAL lock_timeout = '2s'")
        .execute(&mut *tx)
        .await?;
    sqlx::query("LOCK TABLE analytics.horizons IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await?;
    sqlx::query(statements::MOVE_HORIZONS)
        .bind(&tenants)
        .bind(&modes)
        .bind(&grains)
        .bind(&ats)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// All that have rollups, in whatever generation.
async fn scopes(connection: &mut PgConnection) -> Result<BTreeSet<(Uuid, String)>, sqlx::Error> {
    let mut scopes = BTreeSet::new();
    for schema in schemas(connection).await? {
        turn_to(connection, &schema).await?;
        let found: Vec<(Uuid, String)> = sqlx::query_as(statements::SELECT_SCOPES)
            .fetch_all(&mut *connection)
            .await?;
        scopes.extend(found);
    }
    Ok(scopes)
}

/// Where the tables of each generation lie. The first one's may be gone.
async fn schemas(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT schema_name FROM analytics.generations ORDER BY generation")
        .fetch_all(connection)
        .await
}

async fn turn_to(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('search_path', $1, false)")
        .bind(schema)
        .execute(connection)
        .await?;
    Ok(())
}

/// Piece by piece, in every generation; how many there were.
async fn delete(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let horizons: Vec<(Uuid, String, String, Timestamp)> =
        sqlx::query_as("SELECT tenant_id, mode, grain, kept_from FROM analytics.horizons")
            .fetch_all(&mut *connection)
            .await?;
    let mut deleted = 0;
    for schema in schemas(connection).await? {
        turn_to(connection, &schema).await?;
        for (tenant, mode, grain, kept_from) in &horizons {
            loop {
                let piece = sqlx::query(statements::DELETE_RETIRED_ROLLUPS)
                    .bind(tenant)
                    .bind(mode)
                    .bind(grain)
                    .bind(kept_from)
                    .bind(PIECE)
                    .execute(&mut *connection)
                    .await?;
                deleted += piece.rows_affected();
                if piece.rows_affected() == 0 {
                    break;
                }
            }
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: i64) -> Option<TimeDelta> {
        Some(TimeDelta::days(days))
    }

    #[test]
    fn what_is_coarser_is_kept_for_as_long_at_least() {
        let keep = |minutes, quarters, days| {
            Keep {
                minutes,
                quarters,
                days,
            }
            .check()
        };
        assert!(keep(days(2), days(2), None).is_ok());
        assert!(keep(None, None, days(30)).is_ok());
        assert!(keep(None, None, None).is_err());
        assert!(keep(days(1), None, None).is_err());
        assert!(keep(days(30), None, days(20)).is_err());
        assert!(keep(None, days(30), days(20)).is_err());
    }

    #[test]
    fn a_day_is_kept_until_its_last_moment_has_passed() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap_or_default();
        let keep = Keep {
            days: days(2),
            ..Keep::default()
        };
        let kept_from = |now| keep.horizons(now);
        let (third, fourth) = (at("2026-03-03T00:00:00Z"), at("2026-03-04T00:00:00Z"));
        assert_eq!(kept_from(at("2026-03-05T23:59:59Z")), [(Grain::Day, third)]);
        assert_eq!(
            kept_from(at("2026-03-06T00:00:00Z")),
            [(Grain::Day, fourth)]
        );
    }

    #[test]
    fn a_question_is_lacking_what_is_not_kept_in_the_grain_that_answers_it() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap_or_default();
        let horizons = Horizons(vec![(Grain::Minute, at("2026-03-03T00:00:00Z"))]);
        let days = Range::of(at("2026-03-01T00:00:00Z"), at("2026-03-09T00:00:00Z"));
        assert_eq!(horizons.lacking(&days.cover(&[])), None);
        let odd = Range::of(at("2026-03-01T00:01:00Z"), at("2026-03-09T00:00:00Z"));
        assert!(horizons.lacking(&odd.cover(&[])).is_some());
        let late = Range::of(at("2026-03-03T00:01:00Z"), at("2026-03-09T00:00:00Z"));
        assert_eq!(horizons.lacking(&late.cover(&[])), None);
    }
}
