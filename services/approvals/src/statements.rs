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
    INSERT_APPROVALS = "insert_approvals",
    INSERT_CHANGES = "insert_changes",
    INSERT_POLICY_VERSIONS = "insert_policy_versions",
    INSERT_VOTES = "insert_votes",
    SELECT_APPROVAL = "select_approval",
    SELECT_APPROVER_COUNT = "select_approver_count",
    SELECT_APPROVALS = "select_approvals",
    SELECT_APPROVALS_ALIKE = "select_approvals_alike",
    SELECT_CALLS = "select_calls",
    SELECT_CALLS_OF_RUN = "select_calls_of_run",
    SELECT_CHANGES = "select_changes",
    SELECT_COUNTS = "select_counts",
    SELECT_OWED = "select_owed",
    SELECT_POLICIES = "select_policies",
    SELECT_POLICY_VERSIONS = "select_policy_versions",
    SELECT_PLACE = "select_place",
    SELECT_VOTES = "select_votes",
    UPDATE_APPROVALS = "update_approvals",
}

#[cfg(test)]
mod tests {
    use runledger_testkit::{Database, plans};
    use sqlx::{Connection as _, Executor as _};

    use super::{ALL, UPDATE_APPROVALS};

    #[tokio::test]
    async fn every_statement_is_sound() {
        let database = Database::fresh().await;
        // Statements of the api are those that a reader may make; the others are the decider's.
        let of_reader = |name: &str| name.starts_with("select");
        for (name, sql) in ALL.iter().chain(runledger_decider::statements::ALL) {
            let user = if *name == "select_outcomes" || (of_reader(name) && is_own(name)) {
                "runledger_approvals_reader"
            } else {
                "runledger_approvals_writer"
            };
            let pool = database.pool(user, "approvals");
            let prepared = pool.prepare(sqlx::SqlStr::from_static(sql)).await;
            assert!(prepared.is_ok(), "{name} as {user}: {prepared:?}");
        }
    }

    /// Beside the keys there are indexes of what is undecided and owed, which hold next to nothing
    /// when plans are made, and a backlog when they are used.
    #[tokio::test]
    async fn the_writer_looks_rows_up_by_their_keys_from_the_first_on() {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_approvals_writer", "approvals");
        let mut connection = pool.acquire().await.unwrap().detach();
        plans::plan_with(&mut connection, runledger_projection::BY_KEY).await;
        let of_decider = ["select_states", "update_outcomes"];
        let all = runledger_decider::statements::ALL.iter();
        let mut by_key: Vec<&str> = all
            .filter(|(name, _)| of_decider.contains(name))
            .map(|(_, sql)| *sql)
            .collect();
        assert_eq!(by_key.len(), of_decider.len());
        by_key.push(UPDATE_APPROVALS);
        for sql in by_key {
            plans::assert_by_key(&mut connection, sql).await;
        }
        connection.close().await.unwrap();
    }

    /// Callers who wait ask it again and again, and what is undecided comes and goes: its tables look empty
    /// to the planner, and are full of dead rows.
    #[tokio::test]
    async fn what_is_owed_is_looked_up_by_indexes_from_the_first_on() {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_approvals_reader", "approvals");
        let mut connection = pool.acquire().await.unwrap().detach();
        let generic = [("plan_cache_mode", "force_generic_plan")];
        let settings = [runledger_projection::BY_INDEX, &generic].concat();
        plans::plan_with(&mut connection, &settings).await;
        let indexes = ["commands_owed", "parts_owed"];
        plans::assert_by_indexes(&mut connection, super::SELECT_OWED, &indexes).await;
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn outcomes_are_looked_up_by_their_keys() {
        let database = Database::fresh().await;
        plans::assert_outcomes_by_key(&database.admin(), "approvals").await;
    }

    fn is_own(name: &str) -> bool {
        ALL.iter().any(|(own, _)| *own == name)
    }
}
