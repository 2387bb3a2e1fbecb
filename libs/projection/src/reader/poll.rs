use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Cursors;
use crate::store;

/// Between polls while a read waits for its token.
const EAGER: Duration = Duration::from_millis(8);
/// Between polls while only tails wait for anything new.
const LEISURELY: Duration = Duration::from_millis(50);
/// After a poll that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// One poll of the cursors for all who wait; none while nobody does.
pub(super) struct Poll {
    pool: PgPool,
    seen: watch::Sender<Cursors>,
    eager: AtomicUsize,
    leisurely: AtomicUsize,
    /// Somebody waits.
    came: Notify,
    /// Somebody waits who is in a hurry.
    hurry: Notify,
}

impl Poll {
    pub(super) fn new(pool: PgPool) -> Self {
        let (seen, _) = watch::channel(Cursors::new());
        Self {
            pool,
            seen,
            eager: AtomicUsize::new(0),
            leisurely: AtomicUsize::new(0),
            came: Notify::new(),
            hurry: Notify::new(),
        }
    }

    /// Waits until cursors polled from now on satisfy `enough`.
    pub(super) async fn until(&self, enough: impl Fn(&Cursors) -> bool) {
        let _counted = Counted::among(&self.eager);
        self.hurry.notify_one();
        self.wait(enough).await;
    }

    /// The same, for those who do not mind to hear a little later.
    pub(super) async fn until_leisurely(&self, enough: impl Fn(&Cursors) -> bool) {
        let _counted = Counted::among(&self.leisurely);
        self.wait(enough).await;
    }

    /// What was polled before the wait began counts for nothing: it may be older than what the
    /// caller has seen by itself, and a caller that took it for news would come back at once, for
    /// ever, without a poll in between.
    async fn wait(&self, enough: impl Fn(&Cursors) -> bool) {
        let mut seen = self.seen.subscribe();
        self.came.notify_one();
        // The sender lives in `self`, so the channel cannot close.
        while seen.changed().await.is_ok() {
            if enough(&seen.borrow_and_update()) {
                return;
            }
        }
    }

    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let waiting = (
                self.eager.load(Ordering::SeqCst),
                self.leisurely.load(Ordering::SeqCst),
            );
            if waiting == (0, 0) {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.came.notified() => continue,
                }
            }
            let pause = match store::active(&self.pool).await {
                Ok(cursors) => {
                    self.seen.send_replace(cursors);
                    if waiting.0 > 0 { EAGER } else { LEISURELY }
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot poll the cursors"
                    );
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.hurry.notified(), if pause == LEISURELY => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Counts one who waits, for as long as it waits.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
