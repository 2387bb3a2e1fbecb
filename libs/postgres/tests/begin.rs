//! A caller that goes while his transaction begins leaves nothing behind.

use std::pin::pin;
use std::task::Poll;

use runledger_domain::ids::TenantId;
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::Timestamp;
use runledger_testkit::Database;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// More polls than a beginning takes.
const POLLS_MAX: usize = 8;
/// Where a poll falls is a matter of luck.
const ROUNDS: usize = 10;

/// One connection, so that the next caller has the one that was left.
fn pool(database: &Database) -> PgPool {
    let config = database.config("runledger_runs_reader");
    let options = PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .database(&config.database)
        .username(&config.user)
        .password("runledger-dev");
    PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options)
}

/// Polls `call` so often, each time when there is something new, and drops it.
async fn poll_and_drop<F: Future>(call: F, polls: usize) {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(|context| {
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        }
    })
    .await;
}

/// Inside a transaction the time stands still.
async fn assert_outside_a_transaction(pool: &PgPool, after: usize) {
    let now = async || -> Timestamp {
        let now = sqlx::query_scalar("SELECT now()").fetch_one(pool).await;
        now.expect("the time")
    };
    let (first, second) = (now().await, now().await);
    assert_ne!(first, second, "after {after} polls: inside a transaction");
}

#[tokio::test]
async fn a_beginning_that_is_dropped_leaves_no_transaction_in_the_pool() {
    let database = Database::fresh().await;
    let pool = pool(&database);
    for polls in (1..POLLS_MAX).cycle().take(ROUNDS * POLLS_MAX) {
        // Connected before, so that what is interrupted is the beginning.
        assert_outside_a_transaction(&pool, 0).await;
        poll_and_drop(runledger_postgres::begin(&pool), polls).await;
        assert_outside_a_transaction(&pool, polls).await;
    }
}

#[tokio::test]
async fn a_scoped_beginning_that_is_dropped_leaves_no_transaction_in_the_pool() {
    let database = Database::fresh().await;
    let pool = pool(&database);
    let scope = Scope {
        tenant: TenantId::new(uuid::Uuid::from_u128(1)),
        mode: Mode::Live,
    };
    for polls in (1..POLLS_MAX).cycle().take(ROUNDS * POLLS_MAX) {
        assert_outside_a_transaction(&pool, 0).await;
        poll_and_drop(runledger_postgres::begin_scoped(&pool, scope), polls).await;
        assert_outside_a_transaction(&pool, polls).await;
    }
}
