//! The tasks of a process, and its end.
//!
//! Every task has a name and a stage. When the process is told to stop, or any task ends by
//! itself, the stages stop one after another, first [`Stage::Serve`], so that nothing new comes in
//! while what lies behind it still works. All stages together have one deadline.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::status::chain;

/// When a task is told to stop. In this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Takes work in: gRPC servers.
    Serve,
    /// Does work: projectors, refreshers.
    Work,
    /// Looks on: metrics and health.
    Watch,
}

const STAGES: [Stage; 3] = [Stage::Serve, Stage::Work, Stage::Watch];

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a process ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("task {name} ended by itself")]
    Ended { name: Box<str> },
    #[error("task {name} failed")]
    Failed {
        name: Box<str>,
        #[source]
        source: BoxError,
    },
    #[error("task {name} panicked")]
    Panicked {
        name: Box<str>,
        #[source]
        source: JoinError,
    },
    #[error("not drained after {after:?}, still running: {names}")]
    NotDrained { after: Duration, names: String },
    #[error("ended at once, by a second signal")]
    Aborted,
}

/// Runs the tasks of a process and ends with them.
pub struct Supervisor {
    drain_timeout: Duration,
    stop: CancellationToken,
    stages: [Tasks; STAGES.len()],
}

/// The tasks of one stage.
#[derive(Default)]
struct Tasks {
    stop: CancellationToken,
    running: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, Box<str>>,
}

impl Supervisor {
    /// `drain_timeout`: how long all stages together may take to end.
    pub fn new(drain_timeout: Duration) -> Self {
        Self {
            drain_timeout,
            stop: CancellationToken::new(),
            stages: Default::default(),
        }
    }

    /// Cancelling it stops the process as a first signal would.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task. It is handed the token that tells it to stop, and must then end by itself.
    /// When it ends before that, the process ends, with an error that names it.
    pub fn spawn<T, F, E>(&mut self, stage: Stage, name: impl Into<Box<str>>, task: T)
    where
        T: FnOnce(CancellationToken) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let tasks = &mut self.stages[stage as usize];
        let future = task(tasks.stop.clone());
        let id = tasks
            .running
            .spawn(async move { future.await.map_err(Into::into) })
            .id();
        tasks.names.insert(id, name.into());
    }

    /// Runs until a signal (SIGTERM, SIGINT), the stopper or the end of a task, then drains the
    /// stages in order. A second signal ends at once; whoever called should then exit the process.
    ///
    /// # Errors
    /// The task that ended by itself, or what kept the process from draining.
    pub async fn run(self) -> Result<(), Error> {
        let terminate = each(SignalKind::terminate())?;
        let interrupt = each(SignalKind::interrupt())?;
        self.run_with(futures::stream::select(terminate, interrupt))
            .await
    }

    async fn run_with(mut self, signals: impl Stream<Item = ()>) -> Result<(), Error> {
        let mut signals = pin!(signals);
        let stop = self.stop.clone();
        let first = tokio::select! {
            Some(()) = signals.next() => Ok(()),
            () = stop.cancelled() => Ok(()),
            error = self.ended() => Err(error),
        };
        match &first {
            Ok(()) => tracing::info!("stopping"),
            Err(error) => tracing::error!(error = chain(error), "stopping, because a task ended"),
        }
        let after = self.drain_timeout;
        let drained = tokio::select! {
            Some(()) = signals.next() => return Err(Error::Aborted),
            drained = timeout(after, self.drain()) => drained,
        };
        let drained = drained.unwrap_or_else(|_| {
            Err(Error::NotDrained {
                after,
                names: self.names(),
            })
        });
        if let (Err(_), Err(error)) = (&first, &drained) {
            tracing::error!(error = chain(error), "while stopping");
        }
        first.and(drained)
    }

    /// Waits until any task of any stage ends.
    async fn ended(&mut self) -> Error {
        poll_fn(|cx| {
            for tasks in &mut self.stages {
                if let Poll::Ready(Some(joined)) = tasks.running.poll_join_next_with_id(cx) {
                    let (name, result) = tasks.settle(joined);
                    return Poll::Ready(result.err().unwrap_or(Error::Ended { name }));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Stops stage after stage; answers with the first error.
    async fn drain(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for tasks in &mut self.stages {
            tasks.stop.cancel();
            while let Some(joined) = tasks.running.join_next_with_id().await {
                let (name, result) = tasks.settle(joined);
                tracing::debug!(task = %name, "ended");
                outcome = outcome.and(result);
            }
        }
        outcome
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .stages
            .iter()
            .flat_map(|tasks| tasks.names.values())
            .map(AsRef::as_ref)
            .collect();
        names.join(", ")
    }
}

impl Tasks {
    /// The name of a task that ended, and how it ended.
    fn settle(
        &mut self,
        joined: Result<(Id, Result<(), BoxError>), JoinError>,
    ) -> (Box<str>, Result<(), Error>) {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        let result = match joined {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(source))) => Err(Error::Failed {
                name: name.clone(),
                source,
            }),
            Err(source) => Err(Error::Panicked {
                name: name.clone(),
                source,
            }),
        };
        (name, result)
    }
}

fn each(kind: SignalKind) -> Result<impl Stream<Item = ()>, Error> {
    let mut signal = signal(kind).map_err(Error::Signals)?;
    Ok(futures::stream::poll_fn(move |cx| signal.poll_recv(cx)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    const DRAIN: Duration = Duration::from_secs(5);

    async fn until(stop: CancellationToken) -> Result<(), io::Error> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn stages_stop_in_order() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::new(DRAIN);
        for (stage, name) in [
            (Stage::Watch, "metrics"),
            (Stage::Work, "projector"),
            (Stage::Serve, "server"),
        ] {
            let order = Arc::clone(&order);
            supervisor.spawn(stage, name, |stop| async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                order.lock().unwrap().push(name);
                Ok::<_, io::Error>(())
            });
        }
        supervisor.stopper().cancel();
        supervisor
            .run_with(futures::stream::pending())
            .await
            .unwrap();
        assert_eq!(*order.lock().unwrap(), ["server", "projector", "metrics"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_any_task_ends_the_process_and_names_it() {
        let mut supervisor = Supervisor::new(DRAIN);
        supervisor.spawn(Stage::Serve, "server", until);
        supervisor.spawn(Stage::Work, "projector", |_| async {
            Ok::<_, io::Error>(())
        });
        let error = supervisor
            .run_with(futures::stream::pending())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Ended { name } if &**name == "projector"),
            "{error:?}"
        );

        let mut supervisor = Supervisor::new(DRAIN);
        supervisor.spawn(Stage::Serve, "server", until);
        supervisor.spawn(Stage::Work, "projector", |_| async {
            Err(io::Error::other("diverged"))
        });
        let error = supervisor
            .run_with(futures::stream::pending())
            .await
            .unwrap_err();
        assert_eq!(chain(&error), "task projector failed: diverged");

        let mut supervisor = Supervisor::new(DRAIN);
        supervisor.spawn(Stage::Work, "projector", |_| async {
            if true {
                panic!("boom")
            }
            Ok::<_, io::Error>(())
        });
        let error = supervisor
            .run_with(futures::stream::pending())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Panicked { name, .. } if &**name == "projector"),
            "{error:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_named_after_the_deadline() {
        let mut supervisor = Supervisor::new(DRAIN);
        supervisor.spawn(Stage::Serve, "server", until);
        supervisor.spawn(Stage::Work, "projector", |_| {
            std::future::pending::<Result<(), io::Error>>()
        });
        let error = supervisor
            .run_with(futures::stream::iter([()]).chain(futures::stream::pending()))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::NotDrained { names, .. } if names == "projector"),
            "{error:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once() {
        let mut supervisor = Supervisor::new(DRAIN);
        supervisor.spawn(Stage::Work, "projector", |_| {
            std::future::pending::<Result<(), io::Error>>()
        });
        let begin = tokio::time::Instant::now();
        let error = supervisor
            .run_with(futures::stream::iter([(), ()]))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Aborted));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
