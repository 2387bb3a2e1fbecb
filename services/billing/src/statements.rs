//! Every SQL statement of this crate about the schema `billing`. Table names are unqualified: the
//! pool's search path says in which schema they lie, because later generations lie in schemas beside
//! the first.

macro_rules! statements {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) const $name: &str = include_str!(concat!("../sql/", $file, ".sql"));)+

        /// All of them by name, for the test that prepares each.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

statements! {
    INSERT_CHARGES = "insert_charges",
    INSERT_CROSSINGS = "insert_crossings",
    INSERT_ENTRIES = "insert_entries",
    INSERT_JOURNAL = "insert_journal",
    INSERT_PRICE_LISTS = "insert_price_lists",
    INSERT_SNAPSHOTS = "insert_snapshots",
    SELECT_ACCOUNT = "select_account",
    SELECT_ACCOUNTS = "select_accounts",
    SELECT_CHARGES = "select_charges",
    SELECT_CHARGES_OF_RUN = "select_charges_of_run",
    SELECT_COST_OF_RUN = "select_cost_of_run",
    SELECT_CROSSINGS = "select_crossings",
    SELECT_ENTRIES = "select_entries",
    SELECT_IS_OF = "select_is_of",
    SELECT_JOURNAL = "select_journal",
    SELECT_OWED = "select_owed",
    SELECT_PRICE_LIST = "select_price_list",
    SELECT_PRICE_LISTS = "select_price_lists",
    SELECT_PRICES_AT = "select_prices_at",
    SELECT_SNAPSHOT = "select_snapshot",
    SELECT_UNCHARGED = "select_uncharged",
    UPSERT_RUN_SPENDING = "upsert_run_spending",
    UPSERT_SPENDING = "upsert_spending",
}

#[cfg(test)]
mod tests {
    use runledger_testkit::{Database, plans};
    use sqlx::{Connection as _, Executor as _};

    use super::ALL;

    #[tokio::test]
    async fn every_statement_is_sound() {
        let database = Database::fresh().await;
        let of_decider = runledger_decider::statements::ALL.iter();
        let of_facts = runledger_decider::statements::OF_FACTS.iter();
        // Statements of the api are those that a reader may make; the others are the decider's.
        let of_reader = |name: &str| name.starts_with("select") && is_own(name);
        for (name, sql) in ALL.iter().chain(of_decider).chain(of_facts) {
            let user = if *name == "select_outcomes" || of_reader(name) {
                "runledger_billing_reader"
            } else {
                "runledger_billing_writer"
            };
            let pool = database.pool(user, "billing");
            let prepared = pool.prepare(sqlx::SqlStr::from_static(sql)).await;
            assert!(prepared.is_ok(), "{name} as {user}: {prepared:?}");
        }
    }

    /// Indexes of what is undecided hold next to nothing when plans are made, and a backlog when they
    /// are used.
    #[tokio::test]
    async fn the_writer_looks_rows_up_by_their_keys_from_the_first_on() {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_billing_writer", "billing");
        let mut connection = pool.acquire().await.unwrap().detach();
        plans::plan_with(&mut connection, runledger_projection::BY_KEY).await;
        let by_key = ["select_states", "update_outcomes", "delete_facts"];
        let all = runledger_decider::statements::ALL.iter();
        let all = all.chain(runledger_decider::statements::OF_FACTS);
        let by_key: Vec<&str> = all
            .filter(|(name, _)| by_key.contains(name))
            .map(|(_, sql)| *sql)
            .collect();
        assert_eq!(by_key.len(), 3);
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
        let pool = database.pool("runledger_billing_reader", "billing");
        let mut connection = pool.acquire().await.unwrap().detach();
        let generic = [("plan_cache_mode", "force_generic_plan")];
        let settings = [runledger_projection::BY_INDEX, &generic].concat();
        plans::plan_with(&mut connection, &settings).await;
        let indexes = ["commands_owed", "facts_in_order", "facts_pkey"];
        plans::assert_by_indexes(&mut connection, super::SELECT_OWED, &indexes).await;
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn outcomes_are_looked_up_by_their_keys() {
        let database = Database::fresh().await;
        plans::assert_outcomes_by_key(&database.admin(), "billing").await;
    }

    fn is_own(name: &str) -> bool {
        ALL.iter().any(|(own, _)| *own == name)
    }
}
