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
    use runledger_testkit::Database;
    use sqlx::Executor as _;

    use super::ALL;

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

    fn is_own(name: &str) -> bool {
        ALL.iter().any(|(own, _)| *own == name)
    }
}
