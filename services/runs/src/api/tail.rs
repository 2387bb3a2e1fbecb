//! The timeline of a run as stored, then as it grows.
//!
//! In rounds: take a snapshot, read what lies behind the place, close the transaction, and only then
//! send; a slow client holds a page in memory and nothing else. A record becomes visible in the same
//! transaction that moves its partition's cursor, in the order of the partition, so that the place
//! passes nothing unseen; and the wait begins from the cursors of that very snapshot, so that nothing
//! is slept through.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use http::HeaderMap;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::RunId;
use runledger_domain::scope::Scope;
use runledger_projection::{Cursors, ReadOptions};
use runledger_proto::decode::fields::reason;
use runledger_proto::run::v1::{TailRunRequest, TailRunResponse};
use runledger_service::open_streams::{Named, Open};
use runledger_service::{page, status};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::timeline::{self, Place, Written};
use super::{Api, View, database, parse};
use crate::statements;

/// Most items of one round.
const ROUND_ITEMS: u32 = 200;
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// How often the key of a quiet tail is looked at again: revoked means within a second, and
/// what the look finds may be as old as an answer of the directory that is still used.
const KEY_CHECK: Duration = Duration::from_millis(200);

pub(super) type Tailed = Pin<Box<dyn Stream<Item = Result<TailRunResponse, Status>> + Send>>;

/// Tails, as they are counted.
pub(super) const TAILS: Named = Named {
    gauge: "runledger_runs_tails",
    reason: "TOO_MANY_TAILS",
    message: "too many tails are open; close one, or read the timeline in pages",
};

/// A tail and where it stands.
struct Tail {
    api: Api,
    scope: Scope,
    /// The caller's credentials, which must go on being good.
    headers: HeaderMap,
    stopping: CancellationToken,
    run: RunId,
    list: page::List,
    heartbeat: Duration,
    until_ended: bool,
    /// Behind the last item read.
    place: Place,
    /// Read, to be sent.
    ready: VecDeque<TailRunResponse>,
    next: Step,
    quiet_since: Instant,
    /// When the key was last found good.
    checked_at: Instant,
    _open: Open,
}

/// What to do when nothing is left to be sent.
enum Step {
    Read,
    /// Until a cursor stands elsewhere than here.
    Wait(Cursors),
    End,
}

impl Api {
    pub(super) async fn tail(
        &self,
        scope: Scope,
        headers: HeaderMap,
        stopping: CancellationToken,
        request: TailRunRequest,
    ) -> Result<Tailed, Fault> {
        let (run_id, heartbeat) = (request.run_id, request.heartbeat);
        let ((run, heartbeat), _) = parse(None, |see| {
            let heartbeat = see
                .optional_duration("heartbeat", heartbeat)
                .unwrap_or(HEARTBEAT_DEFAULT);
            if !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&heartbeat) {
                see.fault(
                    "heartbeat",
                    reason::OUT_OF_RANGE,
                    "must be from 1 to 60 seconds",
                );
            }
            Some((see.id("run_id", run_id, RunId::parse)?, heartbeat))
        })?;
        let list = page::List::of(&["TailRun", &scope.to_string(), run.as_str()]);
        let place: Option<Written> = list.place(&request.resume_token).map_err(|fault| Fault {
            message: "resume_token is not one that a tail of this run answered with; send it unchanged, or leave \
                      it empty to begin from the beginning"
                .into(),
            reason: "RESUME_TOKEN_INVALID".into(),
            ..fault
        })?;
        let mut tail = Tail {
            api: self.clone(),
            scope,
            headers,
            stopping,
            run,
            list,
            heartbeat,
            until_ended: request.until_ended,
            place: place.map(Place::from).unwrap_or_default(),
            ready: VecDeque::new(),
            next: Step::Read,
            quiet_since: Instant::now(),
            checked_at: Instant::now(),
            _open: self.tails.open(scope.tenant)?,
        };
        // The first round is part of the call, so that what is wrong with it is its answer.
        tail.next = tail.read().await?;
        Ok(Box::pin(try_unfold(tail, |mut tail| async move {
            let answer = tail.answer().await.map_err(status::from_fault)?;
            Ok(answer.map(|answer| (answer, tail)))
        })))
    }
}

impl Tail {
    /// The next thing to send; none at the end.
    async fn answer(&mut self) -> Result<Option<TailRunResponse>, Fault> {
        loop {
            // A long history, or a slow reader, keeps a tail from waiting where it would look.
            self.check().await?;
            if let Some(answer) = self.ready.pop_front() {
                self.quiet_since = Instant::now();
                return Ok(Some(answer));
            }
            self.next = match std::mem::replace(&mut self.next, Step::End) {
                Step::End => return Ok(None),
                Step::Read => self.read().await?,
                Step::Wait(since) => self.wait(&since).await?,
            };
        }
    }

    /// One round: reads what lies behind the place.
    async fn read(&mut self) -> Result<Step, Fault> {
        let mut view = self.api.read(self.scope, &ReadOptions::default()).await?;
        let round = timeline::read(&mut view, &self.run, &self.place, ROUND_ITEMS).await?;
        let Some(round) = round else {
            return Err(timeline::of_another_log(
                "RESUME_TOKEN_INVALID",
                "resume_token",
            ));
        };
        let next = if round.more {
            Step::Read
        } else if self.until_ended && ended(&mut view, &self.run).await? {
            Step::End
        } else {
            Step::Wait(view.snapshot.cursors.clone())
        };
        view.close().await?;
        for (item, place) in round.items {
            let resume_token = self.list.token(&place.write())?;
            self.ready.push_back(TailRunResponse {
                item: Some(item),
                resume_token,
            });
            self.place = place;
        }
        Ok(next)
    }

    /// Waits for anything new, the next sign of life, or a reason to end.
    async fn wait(&mut self, since: &Cursors) -> Result<Step, Fault> {
        let alive_at = self.quiet_since + self.heartbeat;
        let changed = self.api.reader.wait_for_change(since);
        tokio::pin!(changed);
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return Err(stopping()),
                () = &mut changed => break,
                () = sleep_until(alive_at) => {
                    let resume_token = self.list.token(&self.place.write())?;
                    self.ready.push_back(TailRunResponse { item: None, resume_token });
                    return Ok(Step::Wait(since.clone()));
                }
                () = sleep_until(self.checked_at + KEY_CHECK) => {
                    self.checked_at = check_key(&self.api, &self.headers, self.scope).await?;
                }
            }
        }
        Ok(Step::Read)
    }

    /// Whether the tail may go on: the server does, and the key is good.
    async fn check(&mut self) -> Result<(), Fault> {
        if self.stopping.is_cancelled() {
            return Err(stopping());
        }
        self.checked_at = check_key(&self.api, &self.headers, self.scope).await?;
        Ok(())
    }
}

/// A key that was revoked ends the tail as it would refuse a call. When it was found good.
async fn check_key(api: &Api, headers: &HeaderMap, scope: Scope) -> Result<Instant, Fault> {
    let now = Instant::now();
    let caller = api.authenticator.authenticate(headers).await?;
    if caller.scope != Some(scope) {
        return Err(Fault::new(
            Kind::Forbidden,
            "SCOPE_CHANGED",
            "the key now belongs to another scope; call again",
        ));
    }
    Ok(now)
}

async fn ended(view: &mut View, run: &RunId) -> Result<bool, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    sqlx::query_scalar(statements::SELECT_RUN_ENDED)
        .bind(tenant)
        .bind(mode)
        .bind(run.as_str())
        .fetch_one(&mut **view.tx())
        .await
        .map_err(database)
}

fn stopping() -> Fault {
    let message = "the server is stopping; tail again with the last resume_token";
    Fault::new(Kind::Unavailable, "SHUTTING_DOWN", message).retry_after(Duration::from_millis(500))
}
