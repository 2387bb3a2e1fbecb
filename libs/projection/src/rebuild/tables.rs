//! The tables of a generation: made like those of the one that is served, completed, dropped.

use runledger_domain::time::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::Error;
use crate::store::Generation;

/// Tables of the book-keeping that a generation has for itself until it is whole.
const BOOKS: &[&str] = &["cursors", "checkpoints", "parked"];

/// A generation, whether it is served or not.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Known {
    pub(super) generation: i32,
    pub(super) schema_name: String,
    pub(super) is_whole: bool,
}

impl Known {
    /// Where to look its names up. `base` is the schema of the books.
    pub(super) fn served_from(&self, base: &str) -> Generation {
        let search_path = if self.schema_name == base {
            base.to_owned()
        } else {
            format!("{}, {base}", self.schema_name)
        };
        Generation {
            generation: self.generation,
            search_path,
        }
    }
}

/// What is done to the schema of a read model, by its owner.
pub(super) struct Owner<'a> {
    pub(super) pool: &'a PgPool,
    /// The schema of the books and of the first generation.
    pub(super) base: &'a str,
    /// The tables of the projection.
    pub(super) tables: &'a [&'a str],
}

impl Owner<'_> {
    pub(super) async fn generations(&self) -> Result<Vec<Known>, Error> {
        let rows = sqlx::query_as(
            "SELECT generation, schema_name, is_whole FROM generations ORDER BY generation",
        )
        .fetch_all(self.pool)
        .await;
        rows.map_err(Error::database("list the generations"))
    }

    /// Makes the empty, unlogged tables of a new generation, like those of `like`: all of them or none.
    pub(super) async fn create(&self, like: &Known, at: Timestamp) -> Result<Known, Error> {
        let failed = Error::database("make the tables of a new generation");
        let created = async {
            let mut tx = self.pool.begin().await?;
            let known: Known = sqlx::query_as(
                // Past whatever is left of one that was dropped, too.
                "WITH next (generation) AS (
                     SELECT greatest((SELECT max(generation) FROM generations), (SELECT max(generation) FROM cursors),
                                     (SELECT max(generation) FROM checkpoints), (SELECT max(generation) FROM parked)) + 1
                 )
                 INSERT INTO generations (generation, schema_name, is_whole, made_at)
                 SELECT generation, $1 || '_' || generation, false, $2 FROM next
                 RETURNING generation, schema_name, is_whole",
            )
            .bind(self.base)
            .bind(at)
            .fetch_one(&mut *tx)
            .await?;
            run(&mut tx, format!("CREATE SCHEMA {}", known.schema_name)).await?;
            for (source, tables) in [(like.schema_name.as_str(), self.tables), (self.base, BOOKS)] {
                let statements: Vec<String> =
                    sqlx::query_scalar(include_str!("../../sql/clone_tables.sql"))
                        .bind(source)
                        .bind(&known.schema_name)
                        .bind(tables)
                        .fetch_all(&mut *tx)
                        .await?;
                for statement in statements {
                    run(&mut tx, statement).await?;
                }
            }
            tx.commit().await?;
            Ok(known)
        };
        created.await.map_err(failed)
    }

    /// Makes a generation that was built whole: the indexes it lacks, its tables logged, and only
    /// then its cursors where a crash leaves them. May be repeated after any interruption.
    pub(super) async fn complete(&self, known: &Known, like: &Known) -> Result<(), Error> {
        let completed = async {
            // One transaction: were the process killed, the server would end a statement that is not
            // in one all the same, beside the rebuild that goes on.
            let mut tx = self.pool.begin().await?;
            let indexes: Vec<String> =
                sqlx::query_scalar(include_str!("../../sql/clone_indexes.sql"))
                    .bind(&like.schema_name)
                    .bind(&known.schema_name)
                    .bind(self.tables)
                    .fetch_all(&mut *tx)
                    .await?;
            run(&mut tx, "SET LOCAL maintenance_work_mem = '256MB'".into()).await?;
            for statement in indexes {
                run(&mut tx, statement).await?;
            }
            for table in self.tables {
                run(&mut tx, format!("ANALYZE {}.{table}", known.schema_name)).await?;
            }
            for table in self.tables {
                let logged = format!("ALTER TABLE {}.{table} SET LOGGED", known.schema_name);
                run(&mut tx, logged).await?;
            }
            for table in BOOKS {
                let (base, schema) = (self.base, &known.schema_name);
                let moved = format!("INSERT INTO {base}.{table} SELECT * FROM {schema}.{table}");
                run(&mut tx, moved).await?;
                run(&mut tx, format!("DROP TABLE {schema}.{table}")).await?;
            }
            sqlx::query("UPDATE generations SET is_whole = true WHERE generation = $1")
                .bind(known.generation)
                .execute(&mut *tx)
                .await?;
            tx.commit().await
        };
        completed
            .await
            .map_err(Error::database("complete the new generation"))
    }

    /// Drops a generation that is not served.
    pub(super) async fn drop(&self, known: &Known) -> Result<(), Error> {
        let dropped = async {
            let mut tx = self.pool.begin().await?;
            if known.schema_name == self.base {
                for table in self.tables {
                    run(&mut tx, format!("DROP TABLE {}.{table}", self.base)).await?;
                }
            } else {
                run(
                    &mut tx,
                    format!("DROP SCHEMA {} CASCADE", known.schema_name),
                )
                .await?;
            }
            sqlx::query("DELETE FROM generations WHERE generation = $1")
                .bind(known.generation)
                .execute(&mut *tx)
                .await?;
            // Of every generation that is no more: a projector that stops may write down where it was
            // in the moment of a drop.
            for table in BOOKS {
                let base = self.base;
                let swept = format!(
                    "DELETE FROM {base}.{table} WHERE generation NOT IN (SELECT generation FROM {base}.generations)"
                );
                run(&mut tx, swept).await?;
            }
            tx.commit().await
        };
        dropped.await.map_err(Error::database("drop a generation"))
    }
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(|_| ())
}
