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
    DECLARE_ENTRIES = "declare_entries",
    INSERT_ENTRIES = "insert_entries",
    INSERT_PRINCIPALS = "insert_principals",
    SELECT_EARLIEST = "select_earliest_of_facts",
    SELECT_ENTRIES = "select_entries",
    SELECT_ENTRY = "select_entry",
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
            let user = if name.starts_with("select_entr") {
                "runledger_audit_reader"
            } else {
                "runledger_audit_writer"
            };
            let pool = database.pool(user, "audit");
            let prepared = pool.prepare(sqlx::SqlStr::from_static(sql)).await;
            assert!(prepared.is_ok(), "{name} as {user}: {prepared:?}");
        }
    }

    #[tokio::test]
    async fn nobody_who_writes_entries_can_change_or_remove_one() {
        let database = Database::fresh().await;
        let writer = database.pool("runledger_audit_writer", "audit");
        for sql in [
            "UPDATE entries SET action = 'nothing'",
            "DELETE FROM entries",
            "TRUNCATE entries",
            "UPDATE principals SET name = 'nobody'",
            "DELETE FROM principals",
        ] {
            let refused = writer.execute(sql).await.unwrap_err();
            let code = refused.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("42501"), "{sql}: {refused}");
        }
    }
}
