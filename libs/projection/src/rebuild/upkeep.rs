//! Rebuilding and verifying one read model, as a command of its service does it.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Error, Progress, Report, Site, Verdict};
use crate::apply::Projection;

/// Rebuilds and verifies one installation's read model.
pub struct Upkeep<P> {
    site: Site,
    make: fn() -> P,
    /// How far it is.
    pub progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
}

impl<P: Projection> Upkeep<P> {
    /// `make`: the projection, anew for each task that builds.
    pub fn new(site: Site, make: fn() -> P, shutdown: CancellationToken) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        Self {
            site,
            make,
            progress,
            shutdown,
        }
    }

    /// See [`super::rebuild`].
    ///
    /// # Errors
    /// As there.
    pub async fn rebuild(&self, fresh: bool) -> Result<Report, Error> {
        let (progress, shutdown) = (self.progress.clone(), self.shutdown.clone());
        super::rebuild(&self.site, self.make, fresh, progress, shutdown).await
    }

    /// See [`super::rollback`].
    ///
    /// # Errors
    /// As there.
    pub async fn rollback(&self) -> Result<Report, Error> {
        let (progress, shutdown) = (self.progress.clone(), self.shutdown.clone());
        super::rollback(&self.site, self.make, progress, shutdown).await
    }

    /// See [`super::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&self) -> Result<usize, Error> {
        super::finish(&self.site, self.make, self.shutdown.clone()).await
    }

    /// See [`super::verify`].
    ///
    /// # Errors
    /// As there.
    pub async fn verify(&self) -> Result<Verdict, Error> {
        let (progress, shutdown) = (self.progress.clone(), self.shutdown.clone());
        super::verify(&self.site, self.make, progress, shutdown).await
    }
}
