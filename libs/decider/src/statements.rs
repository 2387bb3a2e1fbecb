//! Every SQL statement of this crate. Names are unqualified: the pool of the service says in which
//! schema they lie.

macro_rules! statements {
    ($(#[$doc:meta])* $all:ident { $($name:ident = $file:literal),+ $(,)? }) => {
        $(pub(crate) const $name: &str = include_str!(concat!("../sql/", $file, ".sql"));)+

        $(#[$doc])*
        pub const $all: &[(&str, &str)] = &[$(($file, $name)),+];
    };
}

statements! {
    /// Those about facts that are owed decisions, by name.
    OF_FACTS {
        DELETE_FACTS = "delete_facts",
        INSERT_FACTS = "insert_facts",
        SELECT_FACTS = "select_facts",
    }
}

statements! {
    /// All others by name, for the test of a service that prepares each in its schema.
    ALL {
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
        UPDATE_ATTEMPTS = "update_attempts",
        UPDATE_OUTCOMES = "update_outcomes",
        UPSERT_ATTEMPTS = "upsert_attempts",
        UPSERT_OPENINGS = "upsert_openings",
        UPSERT_STATES = "upsert_states",
    }
}
