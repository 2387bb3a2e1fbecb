//! How long after a fault a fresh write is visible again, whichever partition it goes to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use runledger_domain::log::partition_of;
use runledger_domain::scope::Scope;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::run::v1::GetRunRequest;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Request;

use crate::batch::{Batch, Service};
use crate::history::{Fate, Kind, RecordKey, RunKey, Writer};
use crate::scene::{Caller, Shared, fate, is_passing};
use crate::stage::PARTITIONS;

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) struct Probe {
    pub(crate) number: u16,
    pub(crate) nonce: u32,
    pub(crate) scope: Scope,
    pub(crate) caller: Caller,
    pub(crate) rng: StdRng,
    pub(crate) history: Writer,
    pub(crate) shared: Shared,
    pub(crate) next_run: u32,
}

impl Probe {
    /// Writes a run to each partition and reads it by its token, again and again until it is there;
    /// returns how long that took. None: not within `patience`.
    pub(crate) async fn recovery(&mut self, patience: Duration) -> Option<Duration> {
        let began = Instant::now();
        let (mut numbers, mut writes) = (Vec::new(), Vec::new());
        for run in self.runs() {
            let number = self.history.add(run.number, Kind::Started, 0);
            let key = RecordKey {
                writer: self.number,
                number,
            };
            let content = vec![(Kind::Started, 0)];
            let ids = [key.uuid(self.nonce)];
            let batch = Batch::new(&mut self.rng, run, Service::Runs, &content, &ids);
            numbers.push(number);
            writes.push((run, batch));
        }
        let (caller, shared) = (&self.caller, &self.shared);
        let visible = writes.into_iter().map(|(run, batch)| async move {
            let (mut learnt, mut token) = (Fate::Denied, String::new());
            let trying = visible(caller, shared, run, &batch, &mut learnt, &mut token);
            let done = tokio::time::timeout(patience, trying).await.is_ok();
            (learnt, done)
        });
        let outcomes = join_all(visible).await;
        let took = began.elapsed();
        for (number, (fate, _)) in numbers.iter().zip(&outcomes) {
            if self.history.told(*number, *fate) {
                self.shared.acknowledge();
            }
        }
        outcomes.iter().all(|(_, done)| *done).then_some(took)
    }

    /// New runs, one for each partition.
    fn runs(&mut self) -> Vec<RunKey> {
        let (mut runs, mut covered) = (Vec::new(), BTreeSet::new());
        while runs.len() < PARTITIONS as usize {
            let run = RunKey {
                writer: self.number,
                number: self.next_run,
            };
            self.next_run += 1;
            let key = format!("{}/run/{run}", self.scope);
            if covered.insert(partition_of(&key, PARTITIONS)) {
                runs.push(run);
            }
        }
        runs
    }
}

async fn visible(
    caller: &Caller,
    shared: &Shared,
    run: RunKey,
    batch: &Batch,
    learnt: &mut Fate,
    token: &mut String,
) {
    let mut again = interval(AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while token.is_empty() {
        again.tick().await;
        // An answer that never comes leaves the record unknown.
        let before = std::mem::replace(learnt, Fate::Unknown.max(*learnt));
        let told = match batch.send(&caller.clients).await {
            Ok((results, covers)) => {
                *token = covers;
                let accepted = |one: &_| matches!(one, Some(Outcome::Accepted(_)));
                if results.iter().all(|result| accepted(&result.outcome)) {
                    Fate::Acknowledged
                } else {
                    Fate::Unknown
                }
            }
            Err(status) => fate(&status).unwrap_or_else(|| {
                shared.surprise(format!("{run}: an append: {status:?}"));
                Fate::Unknown
            }),
        };
        *learnt = before.max(told);
    }
    // Both apis have to have recovered.
    for api in &caller.apis {
        loop {
            again.tick().await;
            let mut request = Request::new(GetRunRequest {
                run_id: run.to_string(),
                read: Some(ReadOptions {
                    at_least: vec![token.clone()],
                    max_wait: None,
                }),
            });
            request.set_timeout(DEADLINE);
            match api.clone().get_run(request).await {
                Ok(_) => break,
                Err(status) if is_passing(&status) => {}
                Err(status) => shared.surprise(format!("{run}: a fresh write: {status:?}")),
            }
        }
    }
}
