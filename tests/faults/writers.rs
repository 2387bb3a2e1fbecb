//! Writers report runs, batch by batch, and note what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use runledger_proto::common::v1::AppendResult;
use runledger_proto::common::v1::append_result::Outcome;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;
use uuid::Uuid;

use crate::batch::{Batch, Content, Service, plan};
use crate::history::{Fate, RecordKey, RunKey, Writer};
use crate::readers::Asked;
use crate::reading::Known;
use crate::scene::{Caller, Shared, fate};
use crate::tails::Followed;

/// How long a batch is sent again before it is left unknown.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Reporter {
    pub(crate) number: u16,
    pub(crate) nonce: u32,
    pub(crate) caller: Caller,
    pub(crate) rng: StdRng,
    pub(crate) history: Writer,
    pub(crate) shared: Shared,
    /// Who reads what was just written; full: nobody does.
    pub(crate) readers: mpsc::Sender<Asked>,
    /// Who follows a run as it is written; full: nobody does.
    pub(crate) followers: mpsc::Sender<Followed>,
}

/// A run under way.
struct Run {
    key: RunKey,
    known: Known,
    /// The latest token of each service.
    tokens: BTreeMap<Service, String>,
    acknowledged: BTreeSet<Uuid>,
}

impl Reporter {
    /// Reports one run after another, a batch each `pace`, until told to stop.
    pub(crate) async fn report(mut self, pace: Duration) -> Writer {
        let mut pace = interval(pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        while !self.shared.is_stopped() {
            self.report_run(number, &mut pace).await;
            number += 1;
        }
        self.history
    }

    async fn report_run(&mut self, number: u32, pace: &mut Interval) {
        let key = RunKey {
            writer: self.number,
            number,
        };
        let (planned, batches) = plan(&mut self.rng);
        let mut run = Run {
            key,
            known: Known {
                run: key,
                acknowledged: BTreeSet::new(),
                planned,
            },
            tokens: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
        };
        let (told, tells) = watch::channel(None);
        let followed = Followed {
            run: key,
            caller: self.caller.clone(),
            acknowledged: tells,
        };
        // Some runs are followed: those for which there is a follower at leisure.
        let is_followed = self.followers.try_send(followed).is_ok();
        for (service, content) in &batches {
            // One that goes on would delay the end by minutes when the log is away.
            if self.shared.is_stopped() {
                break;
            }
            pace.tick().await;
            self.report_batch(&mut run, *service, content).await;
            if self.rng.random_bool(0.3) {
                let asked = Asked {
                    known: run.known.clone(),
                    tokens: run.tokens.values().cloned().collect(),
                    caller: self.caller.clone(),
                };
                // Readers who are busy miss this one.
                self.readers.try_send(asked).ok();
            }
        }
        if is_followed {
            told.send_replace(Some(run.acknowledged));
        }
    }

    async fn report_batch(&mut self, run: &mut Run, service: Service, content: &Content) {
        let numbers: Vec<u32> = content
            .iter()
            .map(|(kind, part)| self.history.add(run.key.number, *kind, *part))
            .collect();
        let id = |number: &u32| {
            let key = RecordKey {
                writer: self.number,
                number: *number,
            };
            key.uuid(self.nonce)
        };
        let ids: Vec<Uuid> = numbers.iter().map(id).collect();
        let batch = Batch::new(&mut self.rng, run.key, service, content, &ids);
        // Some callers never ask again.
        let patience = if self.rng.random_bool(0.1) {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let given_up = Instant::now() + patience;
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            let answer = batch.send(&self.caller.clients).await;
            let whole = self.hear(run, service, content, &numbers, &ids, answer);
            // Some send again what was acknowledged: it changes nothing.
            let repeats = whole && self.rng.random_bool(0.03);
            if (whole && !repeats) || Instant::now() >= given_up {
                return;
            }
        }
    }

    /// Notes an answer. Returns whether all of the batch is acknowledged by it.
    fn hear(
        &mut self,
        run: &mut Run,
        service: Service,
        content: &Content,
        numbers: &[u32],
        ids: &[Uuid],
        answer: Result<(Vec<AppendResult>, String), Status>,
    ) -> bool {
        let (results, token) = match answer {
            Ok(answer) => answer,
            Err(status) => {
                let fate = fate(&status);
                if fate.is_none() {
                    self.shared
                        .surprise(format!("{}: an append: {status:?}", run.key));
                }
                for number in numbers {
                    self.history.told(*number, fate.unwrap_or(Fate::Unknown));
                }
                return false;
            }
        };
        let mut whole = results.len() == numbers.len();
        for (index, result) in results.iter().enumerate().take(numbers.len()) {
            let fate = match &result.outcome {
                Some(Outcome::Accepted(_)) => Fate::Acknowledged,
                Some(Outcome::Unknown(_)) => Fate::Unknown,
                Some(Outcome::Refused(_)) | None => {
                    self.shared.surprise(format!("{}: {result:?}", run.key));
                    Fate::Unknown
                }
            };
            whole &= fate == Fate::Acknowledged && result.id == ids[index].to_string();
            if self.history.told(numbers[index], fate) {
                self.shared.acknowledge();
                run.acknowledged.insert(ids[index]);
                run.known.acknowledged.insert(content[index]);
            }
        }
        if !token.is_empty() {
            run.tokens.insert(service, token);
        }
        whole
    }
}
