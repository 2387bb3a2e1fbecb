//! Every SQL statement of this crate. Table names are unqualified: the pool's search path says in
//! which schema they lie, because later generations of the read model lie in schemas beside it.

macro_rules! statements {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) const $name: &str = include_str!(concat!("../sql/", $file, ".sql"));)+

        /// All of them by name, for the test that prepares each.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

statements! {
    INSERT_MESSAGES = "insert_messages",
    INSERT_OCCURRENCES = "insert_occurrences",
    INSERT_RECORDS = "insert_records",
    INSERT_RUN_LABELS = "insert_run_labels",
    SELECT_MESSAGES = "select_messages",
    SELECT_OCCURRENCES = "select_occurrences",
    SELECT_RECORDS = "select_records",
    SELECT_RUN = "select_run",
    SELECT_RUNS = "select_runs",
    SELECT_RUN_ENDED = "select_run_ended",
    SELECT_RUN_EXISTS = "select_run_exists",
    SELECT_RUN_STATES = "select_run_states",
    SELECT_STANDING_DIGESTS = "select_standing_digests",
    SELECT_STEP_STATES = "select_step_states",
    SELECT_TIMELINE = "select_timeline",
    SELECT_TOOL_CALLS = "select_tool_calls",
    SELECT_TOOL_CALL_STATES = "select_tool_call_states",
    SELECT_USAGE_TOTALS = "select_usage_totals",
    UPDATE_CONFLICTING_RECORDS = "update_conflicting_records",
    UPDATE_LATE_RECORDS = "update_late_records",
    UPSERT_RUNS = "upsert_runs",
    UPSERT_STEPS = "upsert_steps",
    UPSERT_TOOL_CALLS = "upsert_tool_calls",
    UPSERT_USAGE_TOTALS = "upsert_usage_totals",
}

/// Conditions of [`SELECT_RUNS`]; all take the same parameters, $1 to $14.
pub(crate) mod filter_runs {
    /// Where in the statement the conditions go.
    pub(crate) const PLACE: &str = "/* filters */";

    macro_rules! filters {
        ($($name:ident = $file:literal),+ $(,)?) => {
            $(pub(crate) const $name: &str = include_str!(concat!("../sql/filter_runs_", $file, ".sql"));)+

            #[cfg(test)]
            pub(crate) const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
        };
    }

    filters! {
        AFTER = "after",
        BY_AGENT = "by_agent",
        BY_FAILED_TOOL_CALLS = "by_failed_tool_calls",
        BY_LABEL = "by_label",
        BY_MORE_LABELS = "by_more_labels",
        BY_SPACE = "by_space",
        BY_STATUS = "by_status",
        BY_STATUSES = "by_statuses",
        BY_TASK = "by_task",
        BY_TOOL = "by_tool",
        FROM = "from",
        TO = "to",
    }
}

#[cfg(test)]
mod tests {
    use runledger_testkit::Database;
    use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};

    use super::*;

    #[tokio::test]
    async fn every_statement_fits_the_migrated_tables() {
        let database = Database::fresh().await;
        for user in ["runledger_runs_writer", "runledger_runs_reader"] {
            let mut connection = database
                .pool(user, "runs")
                .acquire()
                .await
                .unwrap()
                .detach();
            for (name, sql) in ALL {
                let prepared = connection.prepare(AssertSqlSafe(*sql).into_sql_str()).await;
                prepared.unwrap_or_else(|error| panic!("{name} as {user}: {error}"));
            }
            connection.close().await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_filters_of_runs_fit_alone_and_together() {
        let database = Database::fresh().await;
        let mut connection = database
            .pool("runledger_runs_reader", "runs")
            .acquire()
            .await
            .unwrap()
            .detach();
        let together: String = filter_runs::ALL.iter().map(|(_, filter)| *filter).collect();
        let alone = filter_runs::ALL.iter().copied();
        for (name, filter) in alone.chain([("none", ""), ("all", together.as_str())]) {
            let sql = SELECT_RUNS.replace(filter_runs::PLACE, filter);
            assert_ne!(sql, SELECT_RUNS);
            // Parameters that no condition names need a type: sqlx gives it with the values.
            let types = "uuid, text, bigint, text[], text, text, bytea[], text, boolean, timestamptz, timestamptz, \
                         text, timestamptz, text";
            let prepare = format!("PREPARE filtered ({types}) AS {sql}; DEALLOCATE filtered");
            let prepared = connection
                .execute(sqlx::raw_sql(AssertSqlSafe(prepare)))
                .await;
            prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        connection.close().await.unwrap();
    }
}
