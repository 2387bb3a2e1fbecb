use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Error, Health, PATIENCE};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits out what passes by itself, with jitter, for ever, and says so to whoever asks for health.
#[derive(Clone)]
pub(crate) struct Weather {
    health: watch::Sender<Health>,
    shutdown: CancellationToken,
}

impl Weather {
    pub(crate) fn new(health: watch::Sender<Health>, shutdown: CancellationToken) -> Self {
        Self { health, shutdown }
    }

    /// The work goes on.
    pub(super) fn clear(&self) {
        self.tell(Health::Working);
    }

    /// It cannot, for a reason that passes.
    pub(super) fn cloud(&self) {
        self.tell(Health::Impeded);
    }

    fn tell(&self, now: Health) {
        self.health
            .send_if_modified(|health| std::mem::replace(health, now) != now);
    }

    /// Tries until the answer is no longer weather. `None`: the shutdown came first.
    pub(crate) async fn outlast<T, F>(
        &self,
        doing: &'static str,
        attempt: impl Fn() -> F,
    ) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut attempts = self.attempts();
        loop {
            let answer = tokio::time::timeout(PATIENCE, attempt());
            let silent = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            match answer.await.unwrap_or_else(silent) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if runledger_postgres::is_weather(&error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "waiting for the database to {doing}"
                    );
                    if attempts.wait().await.is_none() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(Error::Cursors(error)),
            }
        }
    }

    pub(super) fn attempts(&self) -> Attempts {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_jitter()
            .without_max_times()
            .build();
        Attempts {
            weather: self.clone(),
            backoff,
        }
    }
}

/// The waits between attempts.
pub(super) struct Attempts {
    weather: Weather,
    backoff: ExponentialBackoff,
}

impl Attempts {
    /// Waits before the next attempt. `None`: the shutdown came first.
    pub(super) async fn wait(&mut self) -> Option<()> {
        self.weather.cloud();
        let delay = self.backoff.next().unwrap_or(LONGEST_WAIT);
        tokio::select! {
            biased;
            () = self.weather.shutdown.cancelled() => None,
            () = tokio::time::sleep(delay) => Some(()),
        }
    }
}
