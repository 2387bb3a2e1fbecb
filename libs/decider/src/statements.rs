//! Every SQL statement of this crate. Names are unqualified: the pool of the service says in which
//! schema they lie.

macro_rules! statements {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) const $name: &str = include_str!(concat!("../sql/", $file, ".sql"));)+

        /// All of them by name, for the test of a service that prepares each in its schema.
        pub const ALL: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

statements! {
    DELETE_ATTEMPTS = "delete_attempts",
    INSERT_COMMANDS = "insert_commands",
    INSERT_IDENTITIES = "insert_identities",
    SELECT_DECIDED = "select_decided",
    SELECT_DUE = "select_due",
    SELECT_OUTCOMES = "select_outcomes",
    SELECT_OWING_PARTS = "select_owing_parts",
    SELECT_STATES = "select_states",
    SELECT_SUSPENDED = "select_suspended",
    SELECT_UNDECIDED = "select_undecided",
    UPDATE_OUTCOMES = "update_outcomes",
    UPSERT_ATTEMPTS = "upsert_attempts",
    UPSERT_OPENINGS = "upsert_openings",
    UPSERT_STATES = "upsert_states",
}
