//! The tables of a generation: made like those of the one that is served, completed, dropped.

use runledger_domain::time::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::Error;
use crate::store::Generation;

/// Tables of the book-keeping that a generation has for itself until it is whole.
const BOOKS: &[&str] = &["cursors", "checkpoints", "parked"];

/// The same, and what is left out.
const TRIAL_BOOKS: &[&str] = &["cursors", "checkpoints", "parked", "skipped"];

/// A generation, whether it is served or not.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Known {
    pub(super) generation: i32,
    pub(super) schema_name: String,
    pub(super) is_whole: bool,
    /// Made by a verify, which leaves out what is parked: never to be served.
    pub(super) is_trial: bool,
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
            "SELECT generation, schema_name, is_whole,
                    schema_name <> $1 AND to_regclass(schema_name || '.skipped') IS NOT NULL AS is_trial
               FROM generations ORDER BY generation",
        )
        .bind(self.base)
        .fetch_all(self.pool)
        .await;
        rows.map_err(Error::database("list the generations"))
    }

    /// Makes the empty, unlogged tables of a new generation, like those of `like`: all of them or none.
    /// One on trial leaves out what is parked in `like` as if facts said so, so that both can be
    /// compared.
    pub(super) async fn create(
        &self,
        like: &Known,
        at: Timestamp,
        is_trial: bool,
    ) -> Result<Known, Error> {
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
                 RETURNING generation, schema_name, is_whole, $3 AS is_trial",
            )
            .bind(self.base)
            .bind(at)
            .bind(is_trial)
            .fetch_one(&mut *tx)
            .await?;
            run(&mut tx, format!("CREATE SCHEMA {}", known.schema_name)).await?;
            let books: &[&str] = if is_trial { TRIAL_BOOKS } else { BOOKS };
            for (source, tables) in [(like.schema_name.as_str(), self.tables), (self.base, books)] {
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
            if is_trial {
                let (base, schema) = (self.base, &known.schema_name);
                let left_out = format!(
                    "INSERT INTO {schema}.skipped SELECT * FROM {base}.skipped
                     UNION ALL SELECT family, partition, incarnation, log_offset, -1 FROM {base}.parked WHERE generation = {}
                     ON CONFLICT DO NOTHING",
                    like.generation
                );
                run(&mut tx, left_out).await?;
            }
            tx.commit().await?;
            Ok(known)
        };
        created.await.map_err(failed)
    }

    /// Makes a generation that was built whole: its tables logged, the indexes it lacks, and only
    /// then its cursors where a crash leaves them. May be repeated after any interruption.
    pub(super) async fn complete(&self, known: &Known, like: &Known) -> Result<(), Error> {
        let completed = async {
            // One transaction: were the process killed, the server would end a statement that is not
            // in one all the same, beside the rebuild that goes on.
            let mut tx = self.pool.begin().await?;
            run(&mut tx, "SET LOCAL maintenance_work_mem = '256MB'".into()).await?;
            // First, while there are few indexes: logging a table writes it and all of them anew.
            for table in self.tables {
                let logged = format!("ALTER TABLE {}.{table} SET LOGGED", known.schema_name);
                run(&mut tx, logged).await?;
            }
            let indexes: Vec<String> =
                sqlx::query_scalar(include_str!("../../sql/clone_indexes.sql"))
                    .bind(&like.schema_name)
                    .bind(&known.schema_name)
                    .bind(self.tables)
                    .fetch_all(&mut *tx)
                    .await?;
            for statement in indexes {
                run(&mut tx, statement).await?;
            }
            for table in self.tables {
                run(&mut tx, format!("ANALYZE {}.{table}", known.schema_name)).await?;
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
