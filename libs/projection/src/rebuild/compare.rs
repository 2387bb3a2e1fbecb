//! Two generations at the same cursors, row by row.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use futures::{Stream, TryStreamExt as _};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::Error;

/// The first row in which a read model is not what its log makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub table: String,
    /// The row's key, as Postgres writes a row.
    pub key: String,
    pub kind: DifferenceKind,
    /// The row as JSON, where it is there: as served, and as the log makes it.
    pub served: Option<String>,
    pub rebuilt: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The log makes a row that is not served.
    Missing,
    /// A row is served that the log does not make.
    Unaccounted,
    /// The row has other values.
    Altered,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, .. } = self;
        match self.kind {
            DifferenceKind::Missing => write!(
                f,
                "{table} {key}: the log makes this row, and it is not there"
            ),
            DifferenceKind::Unaccounted => {
                write!(f, "{table} {key}: nothing in the log makes this row")
            }
            DifferenceKind::Altered => {
                write!(f, "{table} {key}: the log makes other values of this row")
            }
        }
    }
}

#[derive(FromRow)]
struct Row {
    key: String,
    hash: i64,
}

/// Compares a table in two snapshots, each looked up where its connection looks names up. Rows are
/// hashed into buckets by their key, in whatever order they lie; only buckets that differ are gone
/// through row by row, in the order of the key. Memory does not grow with the table. `together`: both
/// are read at the same time.
pub(super) async fn table(
    served: &mut PgConnection,
    rebuilt: &mut PgConnection,
    table: &str,
    seed: i64,
    together: bool,
) -> Result<Result<u64, Box<Difference>>, Error> {
    let key = key_columns(served, table).await?;
    let compared = async {
        let bucket = format!(
            "(hash_record_extended(ROW({key}), {seed}) & {})",
            BUCKETS - 1
        );
        let hash = format!("hash_record_extended(t, {seed})");
        let sums = format!(
            "SELECT {bucket} AS bucket, count(*) AS rows, bit_xor({hash}) AS hash FROM {table} t GROUP BY 1"
        );
        let (ours, theirs) = if together {
            tokio::try_join!(buckets(&mut *served, &sums), buckets(&mut *rebuilt, &sums))?
        } else {
            let ours = buckets(&mut *served, &sums).await?;
            (ours, buckets(&mut *rebuilt, &sums).await?)
        };
        let numbers = ours.keys().chain(theirs.keys()).copied();
        let differing: Vec<i64> = numbers
            .filter(|at| ours.get(at) != theirs.get(at))
            .collect();
        if differing.is_empty() {
            return Ok(Ok(ours.values().map(|(rows, _)| rows.unsigned_abs()).sum()));
        }
        let select = format!(
            "SELECT ROW({key})::text AS key, {hash} AS hash FROM {table} t WHERE {bucket} = ANY ($1) ORDER BY {key}"
        );
        let ours = rows(&mut *served, select.clone(), differing.clone());
        let theirs = rows(&mut *rebuilt, select, differing);
        Ok(Err(first_difference(ours, theirs).await?))
    };
    let parted = compared
        .await
        .map_err(Error::database("compare the rows of two generations"))?;
    let (served_key, rebuilt_key) = match parted {
        Ok(count) => return Ok(Ok(count)),
        Err(keys) => keys,
    };
    describe(served, rebuilt, table, &key, served_key, rebuilt_key)
        .await
        .map(|difference| Err(Box::new(difference)))
        .map_err(Error::database("look at the rows that differ"))
}

/// Into how many buckets a table is hashed; a power of two.
const BUCKETS: i64 = 4_096;

/// Rows and their hashes together, by bucket.
async fn buckets(
    connection: &mut PgConnection,
    select: &str,
) -> Result<BTreeMap<i64, (i64, i64)>, sqlx::Error> {
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(AssertSqlSafe(select))
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(bucket, rows, hash)| (bucket, (rows, hash)))
        .collect())
}

fn rows(connection: &mut PgConnection, select: String, buckets: Vec<i64>) -> Rows<'_> {
    Box::pin(
        sqlx::query_as(AssertSqlSafe(select))
            .bind(buckets)
            .fetch(connection),
    )
}

type Rows<'a> = Pin<Box<dyn Stream<Item = Result<Row, sqlx::Error>> + Send + 'a>>;

/// The keys at which two that are not equal part ways.
async fn first_difference(
    mut ours: Rows<'_>,
    mut theirs: Rows<'_>,
) -> Result<(Option<String>, Option<String>), sqlx::Error> {
    loop {
        let (one, other) = tokio::try_join!(ours.try_next(), theirs.try_next())?;
        match (one, other) {
            (Some(one), Some(other)) if one.key == other.key && one.hash == other.hash => {}
            (one, other) => {
                let key = |row: Option<Row>| row.map(|row| row.key);
                return Ok((key(one), key(other)));
            }
        }
    }
}

/// Both snapshots parted at these keys; whichever of them only one side has is the difference.
async fn describe(
    served: &mut PgConnection,
    rebuilt: &mut PgConnection,
    table: &str,
    key: &str,
    served_key: Option<String>,
    rebuilt_key: Option<String>,
) -> Result<Difference, sqlx::Error> {
    let mut keys = [rebuilt_key, served_key].into_iter().flatten();
    let mut difference = None;
    for candidate in keys.by_ref() {
        let ours = row(served, table, key, &candidate).await?;
        let theirs = row(rebuilt, table, key, &candidate).await?;
        let kind = match (&ours, &theirs) {
            (None, _) => DifferenceKind::Missing,
            (_, None) => DifferenceKind::Unaccounted,
            (Some(_), Some(_)) => DifferenceKind::Altered,
        };
        let found = Difference {
            table: table.to_owned(),
            key: candidate,
            kind,
            served: ours,
            rebuilt: theirs,
        };
        // A row that one side lacks explains more than the next one, which both may have alike.
        if kind != DifferenceKind::Altered || difference.is_none() {
            difference = Some(found);
        }
        if kind != DifferenceKind::Altered {
            break;
        }
    }
    difference.ok_or(sqlx::Error::RowNotFound)
}

async fn row(
    connection: &mut PgConnection,
    table: &str,
    key: &str,
    wanted: &str,
) -> Result<Option<String>, sqlx::Error> {
    let select = format!("SELECT to_jsonb(t)::text FROM {table} t WHERE ROW({key})::text = $1");
    sqlx::query_scalar(AssertSqlSafe(select))
        .bind(wanted)
        .fetch_optional(connection)
        .await
}

/// The columns of a table's primary key, as a list for SQL.
async fn key_columns(connection: &mut PgConnection, table: &str) -> Result<String, Error> {
    sqlx::query_scalar(
        "SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY array_position(i.indkey::int2[], a.attnum))
           FROM pg_index i
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
          WHERE i.indrelid = to_regclass($1) AND i.indisprimary",
    )
    .bind(table)
    .fetch_one(connection)
    .await
    .map_err(Error::database("look up a primary key"))
}
