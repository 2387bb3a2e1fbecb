//! Every SQL statement of this crate. Table names are unqualified: the pool's search path says in
//! which schema they lie, because later generations lie in schemas beside the first.

macro_rules! statements {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) const $name: &str = include_str!(concat!("../sql/", $file, ".sql"));)+

        /// All of them by name, for the test that prepares each.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

statements! {
    DELETE_EMPTY_ROLLUPS = "delete_empty_rollups",
    DELETE_EMPTY_UNREPORTED = "delete_empty_unreported",
    DELETE_RETIRED_ROLLUPS = "delete_retired_rollups",
    DELETE_UNREPORTED = "delete_unreported",
    INSERT_MESSAGES = "insert_messages",
    INSERT_RUNS_NAMED = "insert_runs_named",
    MOVE_HORIZONS = "move_horizons",
    SELECT_CALLS_OF_RUN = "select_calls_of_run",
    SELECT_FAILED_RUNS = "select_failed_runs",
    SELECT_HORIZONS = "select_horizons",
    SELECT_LATEST_FAILURE = "select_latest_failure",
    SELECT_RUN = "select_run",
    SELECT_RUNS = "select_runs",
    SELECT_RUNS_FOR_UPDATE = "select_runs_for_update",
    SELECT_SCOPES = "select_scopes",
    SELECT_TOOL_CALLS = "select_tool_calls",
    SELECT_UNREPORTED = "select_unreported",
    UPSERT_ROLLUPS = "upsert_rollups",
    UPSERT_RUNS = "upsert_runs",
    UPSERT_TOOL_CALLS = "upsert_tool_calls",
    UPSERT_UNREPORTED = "upsert_unreported",
}

#[cfg(test)]
mod tests {
    use runledger_testkit::{Database, plans};
    use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqlSafeStr as _};

    use super::*;

    #[tokio::test]
    async fn every_statement_is_sound() {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_analytics_writer", "analytics");
        for (name, sql) in ALL {
            let prepared = pool.prepare(AssertSqlSafe(*sql).into_sql_str()).await;
            assert!(prepared.is_ok(), "{name}: {prepared:?}");
        }
    }

    /// What the projector's connections plan while the tables are new they go on doing.
    #[tokio::test]
    async fn the_writer_looks_rows_up_by_their_keys_from_the_first_on() {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_analytics_writer", "analytics");
        let mut connection = pool.acquire().await.unwrap().detach();
        plans::plan_with(&mut connection, runledger_projection::BY_KEY).await;
        for sql in [
            DELETE_EMPTY_ROLLUPS,
            DELETE_EMPTY_UNREPORTED,
            DELETE_UNREPORTED,
            SELECT_RUNS,
            SELECT_RUNS_FOR_UPDATE,
            SELECT_TOOL_CALLS,
            SELECT_UNREPORTED,
        ] {
            plans::assert_by_key(&mut connection, sql).await;
        }
        connection.close().await.unwrap();
    }
}
