//! The rollups as the tables have them.

use std::collections::BTreeMap;

use runledger_domain::scope::Scope;
use sqlx::{FromRow, PgPool};

/// What a rollup is of. The origin is agent, version, model, space.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    grain: String,
    at: i64,
    subject: String,
    origin: [String; 4],
    tool: String,
    status: String,
    verdict: String,
    kind: String,
    error: String,
}

macro_rules! with {
    ($($name:ident),+) => {
        $(pub(crate) fn $name(mut self, text: &str) -> Self {
            text.clone_into(&mut self.$name);
            self
        })+
    };
}

impl Row {
    pub(crate) fn new(subject: &str, origin: [String; 4]) -> Self {
        Self {
            subject: subject.to_owned(),
            origin,
            ..Self::default()
        }
    }

    /// Whether it is of this grain and begins before this moment.
    pub(crate) fn is_before(&self, grain: &str, at: i64) -> bool {
        self.grain == grain && self.at < at
    }

    with!(tool, status, verdict, kind, error);

    pub(crate) fn within(mut self, grain: &str, at: i64) -> Self {
        grain.clone_into(&mut self.grain);
        self.at = at;
        self
    }
}

/// What was added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) count: i64,
    pub(crate) quantity: i128,
    /// How long those with a duration took together, and how many they are.
    pub(crate) micros: i128,
    pub(crate) timed: i64,
}

#[derive(FromRow)]
struct Stored {
    grain: String,
    at: i64,
    subject: String,
    origin: Vec<String>,
    others: Vec<String>,
    count: i64,
    quantity: String,
    micros: String,
    timed: i64,
}

impl From<Stored> for (Row, Sum) {
    fn from(stored: Stored) -> Self {
        let [tool, status, verdict, kind, error] = stored.others.try_into().unwrap();
        let row = Row {
            grain: stored.grain,
            at: stored.at,
            subject: stored.subject,
            origin: stored.origin.try_into().unwrap(),
            tool,
            status,
            verdict,
            kind,
            error,
        };
        let sum = Sum {
            count: stored.count,
            quantity: stored.quantity.parse().unwrap(),
            micros: stored.micros.parse().unwrap(),
            timed: stored.timed,
        };
        (row, sum)
    }
}

/// All rollups of a scope.
pub(crate) async fn rollups(pool: &PgPool, scope: Scope) -> BTreeMap<Row, Sum> {
    let rows: Vec<Stored> = sqlx::query_as(
        "SELECT grain, extract(epoch FROM at)::bigint AS at, subject,
                ARRAY[agent_id, agent_version, model, space_id] AS origin,
                ARRAY[tool, status, verdict, kind, error] AS others,
                count, quantity::text AS quantity, duration::text AS micros,
                coalesce((SELECT sum(durations[i][2]) FROM generate_subscripts(durations, 1) i), 0)::bigint AS timed
           FROM rollups
          WHERE tenant_id = $1 AND mode = $2",
    )
    .bind(scope.tenant.as_uuid())
    .bind(scope.mode.as_str())
    .fetch_all(pool)
    .await
    .unwrap();
    rows.into_iter().map(Into::into).collect()
}

/// What is kept aside for runs whose start is known by now: nothing, it has gone where it belongs.
pub(crate) async fn left_aside(pool: &PgPool, scope: Scope) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM unreported JOIN runs USING (tenant_id, mode, run_id)
          WHERE is_reported AND tenant_id = $1 AND mode = $2",
    )
    .bind(scope.tenant.as_uuid())
    .bind(scope.mode.as_str())
    .fetch_one(pool)
    .await
    .unwrap()
}
