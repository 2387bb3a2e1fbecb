use sqlx::{PgPool, Postgres, Transaction};
use tokio::task::JoinSet;

type Begun = Result<Transaction<'static, Postgres>, sqlx::Error>;

/// Begins a transaction; safe to be dropped at any moment.
///
/// `PgPool::begin` is not, in sqlx 0.9.0: dropped while its `BEGIN` is on the way, it gives the
/// connection back to the pool inside a transaction that nobody knows of
/// (github.com/transact-rs/sqlx/issues/4393, mended after that version). What others then read
/// there comes from that transaction's snapshot, and what they write is never committed. So it is
/// never dropped half-way: a caller that goes leaves it to end by itself, and to be rolled back.
/// As many can be on the way as the pool has connections, beside those that wait for one, for as
/// long as a pool lets them wait.
pub async fn begin(pool: &PgPool) -> Begun {
    let pool = pool.clone();
    to_the_end(async move { pool.begin().await }).await
}

/// The same, with a `BEGIN` of one's own.
pub(crate) async fn begin_with(pool: &PgPool, statement: &'static str) -> Begun {
    let pool = pool.clone();
    to_the_end(async move { pool.begin_with(statement).await }).await
}

/// Goes on to the end also when its caller has gone. What it began then falls to the ground whole,
/// which sqlx knows how to handle.
struct UnderWay(JoinSet<Begun>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

async fn to_the_end(beginning: impl Future<Output = Begun> + Send + 'static) -> Begun {
    let mut under_way = UnderWay(JoinSet::new());
    under_way.0.spawn(beginning);
    match under_way.0.join_next().await {
        Some(Ok(begun)) => begun,
        // The runtime is going.
        Some(Err(_)) | None => Err(sqlx::Error::WorkerCrashed),
    }
}
