//! Followers tail runs while they are written, over any number of interruptions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use runledger_proto::run::v1::{TailRunRequest, TailRunResponse};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::history::{RunKey, Tail};
use crate::scene::{Caller, Shared, is_passing};

/// How long the rest may take to come when all is written.
const PATIENCE: Duration = Duration::from_secs(180);
const AGAIN: Duration = Duration::from_millis(200);

/// A run that is to be followed.
pub(crate) struct Followed {
    pub(crate) run: RunKey,
    pub(crate) caller: Caller,
    /// Everything that was acknowledged of it, once it is written.
    pub(crate) acknowledged: watch::Receiver<Option<BTreeSet<Uuid>>>,
}

/// Follows up to `at_once` runs at a time, `tails_max` in all, until nobody offers any more.
pub(crate) async fn follow(
    mut offered: mpsc::Receiver<Followed>,
    at_once: usize,
    tails_max: usize,
    mut rng: StdRng,
    shared: Shared,
) -> Vec<Tail> {
    let (mut tails, mut following, mut begun) = (Vec::new(), JoinSet::new(), 0);
    loop {
        tokio::select! {
            Some(ended) = following.join_next() => tails.push(ended.expect("a follower")),
            followed = offered.recv(), if following.len() < at_once && begun < tails_max => {
                let Some(followed) = followed else { break };
                begun += 1;
                following.spawn(followed.follow(StdRng::from_rng(&mut rng), shared.clone()));
            }
            else => break,
        }
    }
    while let Some(ended) = following.join_next().await {
        tails.push(ended.expect("a follower"));
    }
    tails
}

impl Followed {
    async fn follow(self, mut rng: StdRng, shared: Shared) -> Tail {
        let mut tail = Tail::new(self.run);
        let mut resume_token = String::new();
        let mut given_up: Option<Instant> = None;
        while !self.is_over(&mut tail, &mut given_up) {
            let request = TailRunRequest {
                run_id: self.run.to_string(),
                resume_token: resume_token.clone(),
                heartbeat: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                }),
                until_ended: false,
            };
            let api = &self.caller.apis[rng.random_range(0..2)];
            let answers = match api.clone().tail_run(request).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => {
                    self.broken(&status, &shared);
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let left = rng.random_range(1..300);
            let ended = self.listen(answers, left, &mut tail, &mut resume_token, &mut given_up);
            if let Err(status) = ended.await {
                self.broken(&status, &shared);
            }
        }
        tail
    }

    /// Takes in up to `left` answers.
    async fn listen(
        &self,
        mut answers: Streaming<TailRunResponse>,
        left: usize,
        tail: &mut Tail,
        resume_token: &mut String,
        given_up: &mut Option<Instant>,
    ) -> Result<(), Status> {
        for _ in 0..left {
            let Some(answer) = answers.message().await? else {
                return Ok(());
            };
            *resume_token = answer.resume_token;
            if let Some(item) = answer.item {
                let position = item.position.unwrap_or_default();
                let id = item.record_id.parse().unwrap_or_default();
                tail.show(id, (position.family, position.partition), position.offset);
            }
            if self.is_over(tail, given_up) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether all that was acknowledged has come, or patience has ended.
    fn is_over(&self, tail: &mut Tail, given_up: &mut Option<Instant>) -> bool {
        let acknowledged = self.acknowledged.borrow();
        let Some(acknowledged) = &*acknowledged else {
            return false;
        };
        tail.complete = acknowledged.iter().all(|id| tail.items.contains_key(id));
        let given_up = *given_up.get_or_insert_with(|| Instant::now() + PATIENCE);
        tail.complete || Instant::now() >= given_up
    }

    fn broken(&self, status: &Status, shared: &Shared) {
        if !is_passing(status) {
            shared.surprise(format!("{}: a tail: {status:?}", self.run));
        }
    }
}
