//! The rollups as the tables have them.

use std::collections::BTreeMap;

use runledger_domain::scope::Scope;
use sqlx::PgPool;

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

/// All rollups of a scope.
pub(crate) async fn rollups(pool: &PgPool, scope: Scope) -> BTreeMap<Row, Sum> {
    type Keys = (String, i64, String, Vec<String>, Vec<String>);
    let rows: Vec<(Keys, i64, String, String, i64)> = {
        let rows: Vec<(String, i64, String, Vec<String>, Vec<String>, i64, String, String, i64)> = sqlx::query_as(
            "SELECT grain, extract(epoch FROM at)::bigint, subject, ARRAY[agent_id, agent_version, model, space_id],
                    ARRAY[tool, status, verdict, kind, error], count, quantity::text, duration::text,
                    coalesce((SELECT sum(durations[i][2]) FROM generate_subscripts(durations, 1) i), 0)::bigint
               FROM rollups WHERE tenant_id = $1 AND mode = $2",
        )
        .bind(scope.tenant.as_uuid())
        .bind(scope.mode.as_str())
        .fetch_all(pool)
        .await
        .unwrap();
        rows.into_iter()
            .map(|(a, b, c, d, e, f, g, h, i)| ((a, b, c, d, e), f, g, h, i))
            .collect()
    };
    let row = |((grain, at, subject, origin, others), count, quantity, micros, timed): (
        Keys,
        i64,
        String,
        String,
        i64,
    )| {
        let [tool, status, verdict, kind, error] = others.try_into().unwrap();
        let origin = origin.try_into().unwrap();
        let row = Row {
            grain,
            at,
            subject,
            origin,
            tool,
            status,
            verdict,
            kind,
            error,
        };
        let sum = Sum {
            count,
            quantity: quantity.parse().unwrap(),
            micros: micros.parse().unwrap(),
            timed,
        };
        (row, sum)
    };
    rows.into_iter().map(row).collect()
}
