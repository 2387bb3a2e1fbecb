//! Sums of rollups. What goes into statements as text comes from fixed lists; all else is bound.

use std::collections::BTreeMap;

use runledger_domain::analytics::{
    Dimension, Durations, Grain, Measure, Measures, Question, Range,
};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use sqlx::{FromRow, Postgres, QueryBuilder, Transaction};

/// What one group comes to, over the whole range or in one length of time.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub(super) group: Vec<String>,
    /// Which length of time, from 0; 0 where the range is not cut.
    pub(super) period: usize,
    pub(super) measures: Measures,
}

/// The largest groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Top {
    pub(super) sums: Vec<Sum>,
    /// How many groups there are in all.
    pub(super) groups: u64,
    /// Of all groups together.
    pub(super) total: Measures,
}

#[derive(FromRow)]
struct Row {
    keys: Vec<String>,
    period: i32,
    count: i64,
    quantity: String,
    micros: String,
    groups: i64,
    total_count: i64,
    total_quantity: String,
    total_micros: String,
}

#[derive(FromRow)]
struct Bin {
    keys: Vec<String>,
    period: i32,
    bin: i32,
    count: i64,
}

/// Group, and place of the length of time.
type Key = (Vec<String>, usize);

/// Sums that are no numbers would be Postgres's fault alone.
fn number(text: &str) -> i128 {
    text.parse().unwrap_or_default()
}

/// The place of what Postgres counted from 1; 0 stands for all.
fn place(period: i32) -> usize {
    usize::try_from(period.saturating_sub(1)).unwrap_or_default()
}

/// What a statement selects from.
struct Selection<'q> {
    scope: Scope,
    question: &'q Question,
    /// Only these; `None`: all.
    groups: Option<&'q [Vec<String>]>,
    /// Where lengths of time begin; empty: the range is not cut.
    edges: &'q [Timestamp],
}

/// The rollups that answer a question. The first length of time may begin before the range: nothing lies there.
pub(super) fn pieces(question: &Question, edges: &[Timestamp]) -> Vec<(Grain, Range)> {
    question.range.cover(edges.get(1..).unwrap_or_default())
}

pub(super) async fn top(
    tx: &mut Transaction<'static, Postgres>,
    scope: Scope,
    question: &Question,
    limit: u32,
) -> Result<Top, sqlx::Error> {
    let selection = Selection {
        scope,
        question,
        groups: None,
        edges: &[],
    };
    let mut query = selection.sums();
    query.push(" LIMIT ").push_bind(i64::from(limit));
    let rows: Vec<Row> = query.build_query_as().fetch_all(&mut **tx).await?;
    let mut found = Top::default();
    if let Some(first) = rows.first() {
        found.groups = super::unsigned(first.groups);
        found.total = Measures {
            count: first.total_count,
            quantity: number(&first.total_quantity),
            durations: Durations::stored(number(&first.total_micros), []),
        };
    }
    found.sums = rows.iter().map(Row::sum).collect();
    if question.durations {
        let groups: Vec<Vec<String>> = found.sums.iter().map(|sum| sum.group.clone()).collect();
        let of_groups = Selection {
            groups: Some(&groups),
            ..selection
        };
        of_groups.add_durations(tx, &mut found.sums).await?;
        let whole = Question {
            group_by: Vec::new(),
            ..question.clone()
        };
        let mut total = [Sum {
            group: Vec::new(),
            period: 0,
            measures: found.total,
        }];
        let of_all = Selection {
            question: &whole,
            groups: None,
            ..of_groups
        };
        of_all.add_durations(tx, &mut total).await?;
        let [total] = total;
        found.total = total.measures;
    }
    Ok(found)
}

pub(super) async fn by_period(
    tx: &mut Transaction<'static, Postgres>,
    scope: Scope,
    question: &Question,
    groups: &[Vec<String>],
    edges: &[Timestamp],
) -> Result<Vec<Sum>, sqlx::Error> {
    let selection = Selection {
        scope,
        question,
        groups: Some(groups),
        edges,
    };
    let rows: Vec<Row> = selection
        .sums()
        .build_query_as()
        .fetch_all(&mut **tx)
        .await?;
    let mut sums: Vec<Sum> = rows.iter().map(Row::sum).collect();
    if question.durations {
        selection.add_durations(tx, &mut sums).await?;
    }
    Ok(sums)
}

impl Row {
    fn sum(&self) -> Sum {
        Sum {
            group: self.keys.clone(),
            period: place(self.period),
            measures: Measures {
                count: self.count,
                quantity: number(&self.quantity),
                durations: Durations::stored(number(&self.micros), []),
            },
        }
    }
}

impl Selection<'_> {
    /// The statement of sums, up to its limit.
    fn sums(&self) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("SELECT ");
        self.push_keys(&mut query);
        query.push(
            ", sum(r.count)::bigint AS count, sum(r.quantity)::text AS quantity, sum(r.duration)::text AS micros,
               count(*) OVER () AS groups, (sum(sum(r.count)) OVER ())::bigint AS total_count,
               (sum(sum(r.quantity)) OVER ())::text AS total_quantity,
               (sum(sum(r.duration)) OVER ())::text AS total_micros FROM rollups r",
        );
        self.push_conditions(&mut query);
        query.push(" GROUP BY 1, 2 ORDER BY ");
        query.push(match self.question.order_by {
            Measure::Count => "sum(r.count)",
            Measure::Quantity => "sum(r.quantity)",
            Measure::Duration => "sum(r.duration)",
        });
        query.push(" DESC, 1, 2");
        query
    }

    /// Adds the sketches of durations to sums of the same groups and lengths of time.
    async fn add_durations(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        sums: &mut [Sum],
    ) -> Result<(), sqlx::Error> {
        let mut query = QueryBuilder::new("SELECT ");
        self.push_keys(&mut query);
        query.push(
            ", r.durations[i][1]::integer AS bin, sum(r.durations[i][2])::bigint AS count
               FROM rollups r CROSS JOIN LATERAL generate_subscripts(r.durations, 1) AS i",
        );
        self.push_conditions(&mut query);
        query.push(" GROUP BY 1, 2, 3");
        let rows: Vec<Bin> = query.build_query_as().fetch_all(&mut **tx).await?;
        let mut bins: BTreeMap<Key, Vec<(i32, i64)>> = BTreeMap::new();
        for row in rows {
            let of = bins.entry((row.keys, place(row.period))).or_default();
            of.push((row.bin, row.count));
        }
        for sum in sums {
            let of = bins.remove(&(sum.group.clone(), sum.period));
            let micros = sum.measures.durations.micros();
            sum.measures.durations = Durations::stored(micros, of.unwrap_or_default());
        }
        Ok(())
    }

    fn push_keys(&self, query: &mut QueryBuilder<Postgres>) {
        let columns = self
            .question
            .group_by
            .iter()
            .map(|dimension| column(*dimension));
        let columns: Vec<&str> = columns.collect();
        query
            .push("ARRAY[")
            .push(columns.join(", "))
            .push("]::text[] AS keys, ");
        if self.edges.is_empty() {
            query.push("0 AS period");
        } else {
            query
                .push("width_bucket(r.at, ")
                .push_bind(self.edges.to_vec())
                .push(") AS period");
        }
    }

    fn push_conditions(&self, query: &mut QueryBuilder<Postgres>) {
        self.push_groups(query);
        query
            .push(" WHERE r.tenant_id = ")
            .push_bind(self.scope.tenant.as_uuid());
        query
            .push(" AND r.mode = ")
            .push_bind(self.scope.mode.as_str());
        query
            .push(" AND r.subject = ")
            .push_bind(self.question.subject.as_str());
        query.push(" AND (");
        let pieces = pieces(self.question, self.edges);
        for (number, (grain, piece)) in pieces.into_iter().enumerate() {
            query.push(if number == 0 {
                "(r.grain = "
            } else {
                " OR (r.grain = "
            });
            query.push_bind(grain.as_str());
            query.push(" AND r.at >= ").push_bind(piece.from);
            query.push(" AND r.at < ").push_bind(piece.to).push(")");
        }
        query.push(")");
        for (dimension, values) in &self.question.filters {
            query.push(" AND ").push(column(*dimension));
            query.push(" = ANY (").push_bind(values.clone()).push(")");
        }
    }

    fn push_groups(&self, query: &mut QueryBuilder<Postgres>) {
        let (Some(groups), false) = (self.groups, self.question.group_by.is_empty()) else {
            return;
        };
        query.push(" JOIN unnest(");
        for number in 0..self.question.group_by.len() {
            let values = groups.iter().filter_map(|group| group.get(number).cloned());
            query.push(if number == 0 { "" } else { ", " });
            query
                .push_bind(values.collect::<Vec<String>>())
                .push("::text[]");
        }
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let names = &NAMES[..self.question.group_by.len().min(NAMES.len())];
        query
            .push(") AS wanted (")
            .push(names.join(", "))
            .push(") ON (");
        let columns = self
            .question
            .group_by
            .iter()
            .map(|dimension| column(*dimension));
        query.push(columns.collect::<Vec<&str>>().join(", "));
        query
            .push(") = (wanted.")
            .push(names.join(", wanted."))
            .push(")");
    }
}

const fn column(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Agent => "r.agent_id",
        Dimension::AgentVersion => "r.agent_version",
        Dimension::Model => "r.model",
        Dimension::Space => "r.space_id",
        Dimension::Tool => "r.tool",
        Dimension::Status => "r.status",
        Dimension::Verdict => "r.verdict",
        Dimension::Kind => "r.kind",
        Dimension::Error => "r.error",
    }
}
