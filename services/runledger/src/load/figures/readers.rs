//! Reads at a fixed rate, each held against what it said before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::{GetRunRequest, ListRunsRequest, Run};
use runledger_service::status;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::load::driver::micros;
use crate::load::histogram;
use crate::reading::PAGE;
use crate::remote::{For, Remote, Runs};

/// Reads that wait at the same time; beyond that reads wait, and their latency says so.
const IN_FLIGHT_MAX: usize = 64;

/// Runs that nobody writes to any more, as they were read first.
pub(super) struct Known(Vec<Run>);

/// What reading came to. The histogram counts microseconds from the moment a read was due.
pub(super) struct Reads {
    pub(super) latency: Histogram<u64>,
    pub(super) failed: u64,
    /// Answers that were not what the first one was.
    pub(super) stale: u64,
    pub(super) reasons: BTreeMap<String, u64>,
}

impl Known {
    /// Reads the first page of runs, one by one.
    pub(super) async fn read(remote: &Remote) -> anyhow::Result<Self> {
        let mut runs = remote.runs(For::Reading).await?;
        let request = ListRunsRequest {
            page_size: PAGE,
            ..ListRunsRequest::default()
        };
        let page = runs.list_runs(request).await?.into_inner();
        let mut known = Vec::new();
        for run in page.runs {
            known.push(get(&mut runs, run.run_id).await?);
        }
        anyhow::ensure!(!known.is_empty(), "there are no runs to read");
        Ok(Self(known))
    }

    /// Reads in turn, `rate` a second, until `stop`.
    pub(super) async fn read_again(
        self: Arc<Self>,
        remote: &Remote,
        rate: u32,
        stop: CancellationToken,
    ) -> anyhow::Result<Reads> {
        let runs = remote.runs(For::Reading).await?;
        let (begin, every) = (Instant::now(), Duration::from_secs(1) / rate);
        let next = Arc::new(AtomicU64::new(0));
        let mut readers = JoinSet::new();
        for _ in 0..IN_FLIGHT_MAX {
            let (known, mut runs) = (Arc::clone(&self), runs.clone());
            let (next, stop) = (Arc::clone(&next), stop.clone());
            let mut reads = Reads::new()?;
            readers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = begin + every * u32::try_from(number).unwrap_or(u32::MAX);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return reads,
                        () = sleep_until(due) => {}
                    }
                    let at = usize::try_from(number).unwrap_or_default() % known.0.len();
                    if let Some(expected) = known.0.get(at) {
                        let answer = get(&mut runs, expected.run_id.clone()).await;
                        reads.take(&answer, expected, due);
                    }
                }
            });
        }
        let mut sum = Reads::new()?;
        while let Some(reads) = readers.join_next().await {
            sum.merge(reads?)?;
        }
        Ok(sum)
    }
}

impl Reads {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latency: histogram()?,
            failed: 0,
            stale: 0,
            reasons: BTreeMap::new(),
        })
    }

    fn take(&mut self, answer: &Result<Run, tonic::Status>, expected: &Run, due: Instant) {
        match answer {
            Ok(run) => {
                self.latency.saturating_record(micros(due.elapsed()));
                self.stale += u64::from(run != expected);
            }
            Err(refused) => {
                self.failed += 1;
                let reason = status::reason(refused).unwrap_or_else(|| refused.code().to_string());
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    fn merge(&mut self, other: Self) -> anyhow::Result<()> {
        self.latency.add(&other.latency).context("a histogram")?;
        self.failed += other.failed;
        self.stale += other.stale;
        for (reason, number) in other.reasons {
            *self.reasons.entry(reason).or_default() += number;
        }
        Ok(())
    }
}

async fn get(runs: &mut Runs, run_id: String) -> Result<Run, tonic::Status> {
    let request = GetRunRequest {
        run_id,
        read: Some(ReadOptions::default()),
    };
    let answer = runs.get_run(request).await?.into_inner();
    answer
        .run
        .ok_or_else(|| tonic::Status::internal("an answer without a run"))
}
