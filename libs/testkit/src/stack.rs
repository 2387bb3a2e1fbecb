use sqlx::postgres::PgConnectOptions;

/// Where the test stack listens: `RUNLEDGER_TEST_KAFKA` and `RUNLEDGER_TEST_POSTGRES`, or the
/// addresses that `make up STACK=test` uses.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Kafka's bootstrap address.
    pub kafka: String,
    /// Postgres, signed in as a superuser.
    pub postgres: PgConnectOptions,
}

impl Stack {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests learn from the environment which stack is theirs"
    )]
    pub fn get() -> Self {
        let kafka =
            std::env::var("RUNLEDGER_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".into());
        let postgres = std::env::var("RUNLEDGER_TEST_POSTGRES")
            .unwrap_or_else(|_| "postgres://runledger_admin:runledger-dev@127.0.0.1:25432".into());
        let postgres = postgres
            .parse()
            .expect("RUNLEDGER_TEST_POSTGRES must be a postgres:// address");
        Self { kafka, postgres }
    }
}

/// A prefix for topics and groups that no other test uses.
pub fn topic_prefix(test: &str) -> String {
    format!("test.{test}.{:016x}", rand::random::<u64>())
}
