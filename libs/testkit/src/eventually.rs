use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// Asks again and again until `attempt` answers `Ok`, and returns what it answered.
///
/// # Panics
/// When `within` has passed: with the last answer.
#[track_caller]
pub fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    within: Duration,
    mut attempt: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + within;
        let mut tick = interval(Duration::from_millis(10));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match attempt().await {
                Ok(value) => return value,
                Err(last) if Instant::now() >= deadline => {
                    panic!("{caller}: not within {within:?}: {last}")
                }
                Err(_) => {}
            }
        }
    }
}
