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
    SELECT_CONFLICTING_RECORDS = "select_conflicting_records",
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

/// Where in a statement its conditions go.
const PLACE: &str = "/* filters */";

/// `statement` with those of its `filters` that were asked for.
pub(crate) fn filtered(statement: &str, filters: &[(bool, &str)]) -> String {
    let asked: String = filters
        .iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, filter)| *filter)
        .collect();
    statement.replace(PLACE, &asked)
}

macro_rules! filters {
    ($prefix:literal: $($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) const $name: &str = include_str!(concat!("../sql/", $prefix, $file, ".sql"));)+

        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

/// Conditions of [`SELECT_OCCURRENCES`]; all take the same parameters, $1 to $9.
pub(crate) mod filter_occurrences {
    filters! {
        "filter_occurrences_":
        AFTER = "after",
        FROM = "from",
        TO = "to",
    }
}

/// Conditions of [`SELECT_RUNS`]; all take the same parameters, $1 to $14.
pub(crate) mod filter_runs {
    filters! {
        "filter_runs_":
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
    use runledger_testkit::{Database, plans};
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

    /// A statement, its filters by name, and the types of its parameters.
    type Filtered = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
    );

    const FILTERED: [Filtered; 2] = [
        (
            SELECT_RUNS,
            filter_runs::ALL,
            "uuid, text, bigint, text[], text, text, bytea[], text, boolean, timestamptz, timestamptz, text, \
             timestamptz, text",
        ),
        (
            SELECT_OCCURRENCES,
            filter_occurrences::ALL,
            "uuid, text, text, bigint, timestamptz, timestamptz, timestamptz, text, uuid",
        ),
    ];

    #[tokio::test]
    async fn filters_fit_alone_and_together() {
        let database = Database::fresh().await;
        let mut connection = database
            .pool("runledger_runs_reader", "runs")
            .acquire()
            .await
            .unwrap()
            .detach();
        for (statement, filters, types) in FILTERED {
            let together: String = filters.iter().map(|(_, filter)| *filter).collect();
            let alone = filters.iter().copied();
            for (name, filter) in alone.chain([("none", ""), ("all", together.as_str())]) {
                let sql = filtered(statement, &[(true, filter)]);
                assert_ne!(sql, statement);
                // Parameters that no condition names need a type: sqlx gives it with the values.
                let prepare = format!("PREPARE filtered ({types}) AS {sql}; DEALLOCATE filtered");
                let prepared = connection
                    .execute(sqlx::raw_sql(AssertSqlSafe(prepare)))
                    .await;
                prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn pages_follow_an_index_to_their_place() {
        let database = Database::fresh().await;
        let mut tx = runledger_postgres::begin_scoped(
            &database.pool("runledger_runs_reader", "runs"),
            runledger_domain::scope::Scope {
                tenant: runledger_domain::ids::TenantId::new(uuid::Uuid::from_u128(1)),
                mode: runledger_domain::scope::Mode::Live,
            },
        )
        .await
        .unwrap();
        // The tables are empty: without these settings any plan would be as good.
        for setting in ["enable_seqscan", "enable_bitmapscan", "enable_sort"] {
            let set = format!("SET LOCAL {setting} = off");
            tx.execute(AssertSqlSafe(set)).await.unwrap();
        }
        tx.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            .await
            .unwrap();
        let occurrences = filtered(SELECT_OCCURRENCES, &[(true, filter_occurrences::AFTER)]);
        let (_, _, types) = FILTERED[1];
        let plans = [
            (
                SELECT_TOOL_CALLS,
                "uuid, text, text, text, text[], bigint, bigint",
                "NULL, 'live', 'r', NULL, NULL, 7, 50",
                "(log_offset > ",
            ),
            (
                occurrences.as_str(),
                types,
                "NULL, 'live', 's', 50, NULL, NULL, 'now', 'o', NULL",
                "(ROW(scheduled_at, owner_id, record_id) < ",
            ),
        ];
        for (sql, types, values, bound) in plans {
            let plan = plans::plan(&mut tx, &format!("({types}) AS {sql}"), values).await;
            let conditions = plan.lines().find(|line| line.contains("Index Cond:"));
            assert!(!plan.contains("Sort"), "{plan}");
            assert!(conditions.is_some_and(|all| all.contains(bound)), "{plan}");
        }
    }

    /// What the projector's connections plan while the tables are new they go on doing.
    #[tokio::test]
    async fn the_writer_looks_rows_up_by_their_keys_from_the_first_on() {
        let database = Database::fresh().await;
        let mut connection = database
            .pool("runledger_runs_writer", "runs")
            .acquire()
            .await
            .unwrap()
            .detach();
        plans::plan_with(&mut connection, runledger_projection::BY_KEY).await;
        let by_key = [
            SELECT_CONFLICTING_RECORDS,
            SELECT_STANDING_DIGESTS,
            SELECT_RUN_STATES,
            SELECT_STEP_STATES,
            SELECT_TOOL_CALL_STATES,
            UPDATE_CONFLICTING_RECORDS,
            UPDATE_LATE_RECORDS,
        ];
        for sql in by_key {
            plans::assert_by_key(&mut connection, sql).await;
        }
        connection.close().await.unwrap();
    }
}
