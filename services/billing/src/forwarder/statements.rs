//! Every SQL statement about the schema `usage`. Table names are unqualified: later generations lie in
//! schemas beside the first.

macro_rules! statements {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(super) const $name: &str = include_str!(concat!("../../sql/forwarder/", $file, ".sql"));)+

        /// All of them by name, for the test that prepares each.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

statements! {
    DELETE_WAITING = "delete_waiting",
    DELETE_WAITING_OF_RUN = "delete_waiting_of_run",
    INSERT_WAITING = "insert_waiting",
    SELECT_CALLS = "select_calls",
    SELECT_CALLS_OF_RUN = "select_calls_of_run",
    SELECT_OUTPUTS = "select_outputs",
    SELECT_RUNS = "select_runs",
    SELECT_WAITING = "select_waiting",
    UPSERT_CALLS = "upsert_calls",
    UPSERT_OUTPUTS = "upsert_outputs",
    UPSERT_RUNS = "upsert_runs",
}

#[cfg(test)]
mod tests {
    use runledger_testkit::Database;
    use sqlx::Executor as _;

    use super::ALL;

    #[tokio::test]
    async fn every_statement_is_sound() {
        let database = Database::fresh().await;
        for (name, sql) in ALL {
            let user = match *name {
                "select_outputs" | "select_waiting" => "runledger_billing_reader",
                _ => "runledger_billing_writer",
            };
            let pool = database.pool(user, super::super::SCHEMA);
            let prepared = pool.prepare(sqlx::SqlStr::from_static(sql)).await;
            assert!(prepared.is_ok(), "{name} as {user}: {prepared:?}");
        }
    }
}
