//! Postgres's clock, as decisions use it: read now and then, carried on by this machine's monotonic
//! one. Deciders on several machines so have one time.

use std::time::Duration;

use chrono::TimeDelta;
use runledger_domain::time::{Timestamp, micros};
use sqlx::PgPool;
use tokio::time::Instant;

/// After this the clock is read again.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Clock {
    read: Option<(Instant, Timestamp)>,
}

impl Clock {
    pub(crate) async fn now(&mut self, database: &PgPool) -> Result<Timestamp, sqlx::Error> {
        if let Some((read_at, at)) = self.read.filter(|(read_at, _)| read_at.elapsed() < FRESH) {
            let passed = TimeDelta::from_std(read_at.elapsed()).unwrap_or_default();
            return Ok(micros(at.checked_add_signed(passed).unwrap_or(at)));
        }
        let asked_at = Instant::now();
        let at: Timestamp = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(database)
            .await?;
        // The answer is from between the two: taking it for the earlier moment errs to the future by
        // a round trip at most.
        self.read = Some((asked_at, at));
        Ok(micros(at))
    }
}
