//! Whether an api may read: row-level security has to bind its database role.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runledger_postgres::BypassError;
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::status;

/// Given once it is certain that row-level security binds the reader. Nothing is read before it is.
#[derive(Clone, Debug, Default)]
pub struct Clearance(Arc<AtomicBool>);

impl Clearance {
    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn give(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Gives the clearance, and watches whether the api can do its work.
pub struct Watch {
    pub clearance: Clearance,
    /// What the reader reads.
    pub schema: &'static str,
    /// Connections for health alone: in the pools that calls share, a probe would wait behind them,
    /// and a server that is busy would look like one that is broken. The first is the reader's.
    pub probes: Vec<PgPool>,
    /// How often the probes are asked, and how long they have for their answers.
    pub every: Duration,
}

impl Watch {
    /// Looks once, so that a wrong role ends the start. Where the database is away, it is looked at
    /// again as soon as it is back.
    ///
    /// # Errors
    /// The reader could bypass row-level security.
    pub async fn begin(&self) -> Result<(), BypassError> {
        match self.clear().await {
            Err(error) if !error.is_weather() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Keeps `health` true while everything can be read, until `stop`.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn run(self, health: Health, stop: CancellationToken) -> Result<(), BypassError> {
        let mut tick = interval(self.every.max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            let probed = tokio::select! {
                () = stop.cancelled() => break,
                probed = timeout(self.every, self.probe()) => probed,
            };
            health.set(probed.unwrap_or(Ok(false))?);
        }
        health.set(false);
        Ok(())
    }

    async fn clear(&self) -> Result<(), BypassError> {
        let (false, Some(reader)) = (self.clearance.is_given(), self.probes.first()) else {
            return Ok(());
        };
        runledger_postgres::refuse_bypass(reader, self.schema).await?;
        self.clearance.give();
        Ok(())
    }

    async fn probe(&self) -> Result<bool, BypassError> {
        match self.clear().await {
            Err(error) if !error.is_weather() => return Err(error),
            Err(_) => return Ok(false),
            Ok(()) => {}
        }
        for pool in &self.probes {
            if !answers(pool).await {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn answers(pool: &PgPool) -> bool {
    match sqlx::query("SELECT 1").execute(pool).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(
                cause = status::chain(&error),
                "the database refuses the probe"
            );
            false
        }
    }
}
