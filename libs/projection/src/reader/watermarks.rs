use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runledger_domain::log::Partition;
use runledger_eventlog::{Error, Log};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Cursors;

/// Between looks at the ends of the log, while anybody reads.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a reader that was told "not yet" waits to hear whether it ever will be.
const ASK_AT_MOST: Duration = Duration::from_millis(200);
/// Looks remembered a partition: four minutes of lag can be told exactly, more is told as at least that.
const LOOKS_MAX: usize = 120;

/// The ends of the log as they were seen over the last minutes: they tell how long a record that
/// is not applied yet has been there, also when the projector is gone.
pub(super) struct Watermarks {
    log: Arc<dyn Log>,
    seen: Mutex<BTreeMap<Partition, VecDeque<(Instant, u64)>>>,
    /// Somebody has read since the last look.
    asked: AtomicBool,
}

impl Watermarks {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        Self {
            log,
            seen: Mutex::default(),
            asked: AtomicBool::new(false),
        }
    }

    /// Age of the oldest record that these cursors have not passed, as far as it was seen; zero
    /// when there is none.
    pub(super) fn lag(&self, cursors: &Cursors) -> Duration {
        self.asked.store(true, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = cursors.values().filter_map(|cursor| {
            let looks = seen.entry(cursor.partition).or_default();
            looks
                .iter()
                .find(|(_, end)| *end > cursor.next_offset)
                .map(|(at, _)| *at)
        });
        since.min().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The next offset to be written, 0 where there is no such partition; `None` when the log does
    /// not say at once: whoever asks has waited long enough already.
    pub(super) async fn end_of(&self, partition: Partition) -> Option<u64> {
        match tokio::time::timeout(ASK_AT_MOST, self.log.watermark(partition)).await {
            Ok(Ok(end)) => Some(end),
            Ok(Err(Error::NoPartition(_))) => Some(0),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if self.asked.swap(false, Ordering::Relaxed) {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.look() => {}
                }
            }
        }
    }

    async fn look(&self) {
        let partitions: Vec<Partition> = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect();
        for partition in partitions {
            match self.log.watermark(partition).await {
                Ok(end) => {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let looks = seen.entry(partition).or_default();
                    if looks.back().is_none_or(|(_, last)| *last < end) {
                        looks.push_back((Instant::now(), end));
                    }
                    if looks.len() > LOOKS_MAX {
                        looks.pop_front();
                    }
                }
                Err(error) => {
                    debug!(%partition, error = &error as &dyn std::error::Error, "the log does not say where it ends");
                }
            }
        }
    }
}
