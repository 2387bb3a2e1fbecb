//! How long something that is silent is listened to.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{error::Elapsed, timeout};

tokio::task_local! {
    static PULSE: watch::Sender<()>;
}

/// Said by a fold that takes long, whenever it has come further: what goes on is not silent.
pub fn goes_on() {
    // Outside of the loop nobody listens.
    PULSE.try_with(|pulse| pulse.send_replace(())).ok();
}

/// What comes of `work`, unless it was silent for so long.
pub(crate) async fn while_it_goes_on<F: Future>(
    silence: Duration,
    work: F,
) -> Result<F::Output, Elapsed> {
    let (pulse, mut felt) = watch::channel(());
    let mut work = pin!(PULSE.scope(pulse, work));
    loop {
        tokio::select! {
            output = &mut work => return Ok(output),
            felt = timeout(silence, felt.changed()) => drop(felt?),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_may_take_as_long_as_it_takes() {
        let steps = async {
            for _ in 0..10 {
                sleep(SECOND).await;
                goes_on();
            }
            7
        };
        assert_eq!(while_it_goes_on(2 * SECOND, steps).await.ok(), Some(7));
        assert!(while_it_goes_on(SECOND, sleep(2 * SECOND)).await.is_err());
    }
}
