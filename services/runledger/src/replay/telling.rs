//! Telling facts: streams side by side in lanes, each stream in its order, none ahead of its time.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use chrono::TimeDelta;
use runledger_domain::time::{Clock as _, SystemClock, Timestamp};
use runledger_proto::log::v1::Record;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::pace::Pace;
use super::progress::{Counts, Shown};
use super::proof::Expected;
use super::retell::{self, Ids};
use super::source::{Chunk, Chunks};
use crate::import::{Planned, Sender};
use crate::remote::Remote;

/// Facts of one lane that are told together, and how many more may wait there.
const GROUP: usize = 500;
const WAITING_MAX: usize = 1_000;
/// Facts that a lane is handed at a time where none has a moment of its own: fewer and fuller requests.
const GATHERED: usize = 100;
/// Connections that lanes share.
const CONNECTIONS: usize = 4;

/// How facts are told.
pub(super) struct Telling {
    pub(super) ids: Ids,
    pub(super) pace: Pace,
    pub(super) lanes: usize,
    /// How many there will be, where that is known.
    pub(super) facts: Option<u64>,
}

/// A record, and how much later it is told to have happened.
type Due = (Record, TimeDelta);

impl Telling {
    /// Tells all of them. Answers with what must lie in the log, and what was left out, by its type.
    ///
    /// # Errors
    /// When facts cannot be read, are refused, or what became of them stays unknown.
    pub(super) async fn tell(
        mut self,
        remote: &Remote,
        mut chunks: Chunks,
    ) -> anyhow::Result<(Expected, BTreeMap<String, u64>)> {
        let counts = Arc::new(Counts::default());
        let _shown = Shown::new(Arc::clone(&counts), self.facts, "facts");
        let (mut lanes, mut hands) = self.lanes(remote, &counts).await?;
        let (begun, mut left_out) = (Instant::now(), BTreeMap::new());
        'telling: while let Some(chunk) = chunks.next().await? {
            let facts = match chunk {
                Chunk::Facts(facts) => facts,
                Chunk::LeftOut(type_name) => {
                    *left_out.entry(type_name).or_default() += 1;
                    continue;
                }
            };
            for (recorded, record) in facts {
                let later = self.wait(recorded, begun, &counts).await;
                if !hands.over((record, later)).await {
                    break 'telling; // That lane has ended, and says why.
                }
            }
        }
        hands.all_over().await;
        let mut expected = Expected::default();
        while let Some(ended) = lanes.join_next().await {
            expected.join(ended??);
        }
        Ok((expected, left_out))
    }

    /// Waits until it is due; how much later it then happens.
    async fn wait(&mut self, recorded: Timestamp, begun: Instant, counts: &Counts) -> TimeDelta {
        let due = begun + self.pace.due(recorded);
        let now = Instant::now();
        if due > now {
            sleep_until(due).await;
        }
        let behind = u64::try_from((now.max(due) - due).as_millis()).unwrap_or(u64::MAX);
        counts.behind.store(
            if self.pace.is_flat_out() { 0 } else { behind },
            Ordering::Relaxed,
        );
        self.pace.later(recorded, SystemClock.now())
    }

    async fn lanes(
        &self,
        remote: &Remote,
        counts: &Arc<Counts>,
    ) -> anyhow::Result<(JoinSet<anyhow::Result<Expected>>, Hands)> {
        let first = Sender::new(remote.ingest().await?, None);
        let mut senders = vec![first.clone()];
        for _ in 1..CONNECTIONS {
            senders.push(first.over(remote.ingest().await?));
        }
        let gathered = if self.pace.is_flat_out() { GATHERED } else { 1 };
        let (mut lanes, mut to) = (JoinSet::new(), Vec::new());
        for sender in senders.iter().cycle().take(self.lanes) {
            let (sending, from) = mpsc::channel(WAITING_MAX / gathered);
            let lane = Lane {
                sender: sender.clone(),
                ids: self.ids.clone(),
                counts: Arc::clone(counts),
                expected: Expected::default(),
                from,
            };
            lanes.spawn(lane.run());
            to.push((sending, Vec::with_capacity(gathered)));
        }
        Ok((lanes, Hands { to, gathered }))
    }
}

/// What hands facts over to lanes: those of a stream always to the same.
struct Hands {
    /// Each lane, and what it has not been handed yet.
    to: Vec<(mpsc::Sender<Vec<Due>>, Vec<Due>)>,
    gathered: usize,
}

impl Hands {
    /// False: the lane has ended.
    async fn over(&mut self, due: Due) -> bool {
        let lane = lane(&due.0.stream, self.to.len());
        let Some((to, waiting)) = self.to.get_mut(lane) else {
            return false;
        };
        waiting.push(due);
        if waiting.len() < self.gathered {
            return true;
        }
        let full = std::mem::replace(waiting, Vec::with_capacity(self.gathered));
        to.send(full).await.is_ok()
    }

    /// The rest of it. A lane that has ended says why itself.
    async fn all_over(self) {
        for (to, waiting) in self.to {
            if !waiting.is_empty() {
                to.send(waiting).await.ok();
            }
        }
    }
}

fn lane(stream: &str, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    stream.hash(&mut hasher);
    let lanes = u64::try_from(lanes).unwrap_or(1).max(1);
    usize::try_from(hasher.finish() % lanes).unwrap_or_default()
}

/// Some of the streams.
struct Lane {
    sender: Sender,
    ids: Ids,
    counts: Arc<Counts>,
    expected: Expected,
    from: mpsc::Receiver<Vec<Due>>,
}

impl Lane {
    async fn run(mut self) -> anyhow::Result<Expected> {
        let mut due = Vec::with_capacity(GROUP);
        while let Some(first) = self.from.recv().await {
            due.extend(first);
            while due.len() < GROUP
                && let Ok(more) = self.from.try_recv()
            {
                due.extend(more);
            }
            let facts = u64::try_from(due.len())?;
            let group = self.group(due.drain(..))?;
            self.sender.group(group).await?;
            self.counts.done.fetch_add(facts, Ordering::Relaxed);
        }
        Ok(self.expected)
    }

    /// Facts by stream, each stream's in its order.
    fn group(&mut self, due: impl Iterator<Item = Due>) -> anyhow::Result<Vec<Planned>> {
        let (mut planned, mut places) = (Vec::<Planned>::new(), HashMap::new());
        for (record, later) in due {
            let told = retell::tell(&record, &self.ids, later)
                .with_context(|| format!("a record of {}", record.stream))?;
            if !self.expected.add(&told) {
                continue;
            }
            let place = *places.entry(told.stream).or_insert_with(|| {
                planned.push(Planned::default());
                planned.len() - 1
            });
            if let Some(planned) = planned.get_mut(place) {
                planned.push(told.fact);
            }
        }
        Ok(planned)
    }
}
