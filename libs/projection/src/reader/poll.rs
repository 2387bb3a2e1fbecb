use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Cursors;
use crate::store;

/// Between polls while a read waits for its token.
const EAGER: Duration = Duration::from_millis(4);
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
    came: Notify,
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
        }
    }

    /// Waits until cursors polled from now on satisfy `enough`.
    pub(super) async fn until(&self, enough: impl FnMut(&Cursors) -> bool) {
        self.wait(&self.eager, enough).await;
    }

    /// The same, for those who do not mind to hear a little later.
    pub(super) async fn until_leisurely(&self, enough: impl FnMut(&Cursors) -> bool) {
        self.wait(&self.leisurely, enough).await;
    }

    async fn wait(&self, kind: &AtomicUsize, enough: impl FnMut(&Cursors) -> bool) {
        let mut seen = self.seen.subscribe();
        let _counted = Counted::among(kind);
        self.came.notify_one();
        // The sender lives in `self`, so the channel cannot close.
        drop(seen.wait_for(enough).await);
    }

    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let pause = match (
                self.eager.load(Ordering::SeqCst),
                self.leisurely.load(Ordering::SeqCst),
            ) {
                (0, 0) => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = self.came.notified() => continue,
                    }
                }
                (0, _) => LEISURELY,
                (_, _) => EAGER,
            };
            let pause = match store::active(&self.pool).await {
                Ok(cursors) => {
                    self.seen.send_replace(cursors);
                    pause
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
                () = self.came.notified(), if pause == LEISURELY => {}
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
