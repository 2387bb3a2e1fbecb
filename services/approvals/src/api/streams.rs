//! Waiting for one approval, and watching the queue.
//!
//! In rounds: take a snapshot, read what is new, close the transaction, and only then send; a slow
//! client holds a round in memory and nothing else. The wait begins from the cursors of that very
//! snapshot, so that nothing is slept through.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use http::HeaderMap;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::ApprovalId;
use runledger_domain::log::{Family, Partition};
use runledger_domain::scope::Scope;
use runledger_projection::{Cursors, ReadOptions};
use runledger_proto::approval::v1 as wire;
use runledger_service::open_streams::{Named, Open};
use runledger_service::{auth, page, status};
use sqlx::{FromRow as _, Row as _};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::rows::ApprovalRow;
use super::{Api, View, approval_not_found, database, parse, stopping};
use crate::statements;

/// Most changes of one partition in one round.
const ROUND_CHANGES: i64 = 200;
/// How long a stream is quiet before it gives a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the key of a quiet stream is looked at again.
const KEY_CHECK: Duration = Duration::from_millis(200);

pub(super) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Waits and watches, as they are counted.
pub(super) const STREAMS: Named = Named {
    gauge: "runledger_approvals_streams",
    reason: "TOO_MANY_STREAMS",
    message: "too many waits and watches are open; close one, or read in pages",
};

/// What every stream has, whatever it tells.
struct Going {
    api: Api,
    scope: Scope,
    /// The caller's credentials, which must go on being good.
    headers: HeaderMap,
    stopping: CancellationToken,
    checked_at: Instant,
    quiet_since: Instant,
    _open: Open,
}

/// Why a wait ended.
enum Woken {
    Changed,
    Quiet,
}

impl Going {
    fn new<T>(api: &Api, request: &Request<T>) -> Result<Self, Fault> {
        let caller = auth::caller(request).map_err(|_| Fault::internal("no caller"))?;
        let scope = caller.require_scope()?;
        Ok(Self {
            api: api.clone(),
            scope,
            headers: request.metadata().clone().into_headers(),
            stopping: stopping(request),
            checked_at: Instant::now(),
            quiet_since: Instant::now(),
            _open: api.0.streams.open(scope.tenant)?,
        })
    }

    /// Until a cursor stands elsewhere than in `since`, or it was quiet for long; sees to it that the
    /// key goes on being good.
    async fn wait(&mut self, since: &Cursors) -> Result<Woken, Fault> {
        let reader = self.api.0.parts.reader.clone();
        let changed = reader.wait_for_change(since);
        tokio::pin!(changed);
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return Err(shutting_down()),
                () = &mut changed => return Ok(Woken::Changed),
                () = sleep_until(self.quiet_since + HEARTBEAT) => {
                    self.quiet_since = Instant::now();
                    return Ok(Woken::Quiet);
                }
                () = sleep_until(self.checked_at + KEY_CHECK) => self.check().await?,
            }
        }
    }

    /// A key that was revoked ends the stream as it would refuse a call.
    async fn check(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        let authenticator = &self.api.0.parts.authenticator;
        let caller = authenticator.authenticate(&self.headers).await?;
        if caller.scope != Some(self.scope) {
            let message = "the key now belongs to another scope; call again";
            return Err(Fault::new(Kind::Forbidden, "SCOPE_CHANGED", message));
        }
        self.checked_at = now;
        Ok(())
    }
}

fn shutting_down() -> Fault {
    let message = "the server is stopping; call again with the last token";
    Fault::new(Kind::Unavailable, "SHUTTING_DOWN", message).retry_after(Duration::from_millis(500))
}

/// Waits for one approval.
struct Wait {
    going: Going,
    approval_id: ApprovalId,
    options: ReadOptions,
    /// As it was told last.
    told: Option<wire::Approval>,
    since: Option<Cursors>,
    ended: bool,
}

impl Api {
    pub(super) async fn wait(
        &self,
        request: Request<wire::WaitForApprovalRequest>,
    ) -> Result<Streamed<wire::WaitForApprovalResponse>, Fault> {
        let going = Going::new(self, &request)?;
        let message = request.into_inner();
        let read = runledger_proto::common::v1::ReadOptions {
            at_least: message.at_least,
            max_wait: None,
        };
        let (approval_id, options) = parse(Some(read), |see| {
            see.uuid("approval_id", &message.approval_id)
                .map(ApprovalId::new)
        })?;
        let mut wait = Wait {
            going,
            approval_id,
            options,
            told: None,
            since: None,
            ended: false,
        };
        // The first look is part of the call, so that what is wrong with it is its answer.
        let first = wait.look().await?;
        wait.options = ReadOptions::default();
        let mut first = Some(first.ok_or_else(approval_not_found)?);
        Ok(Box::pin(try_unfold(wait, move |mut wait| {
            let first = first.take();
            async move {
                let next = match first {
                    Some(first) => Some(first),
                    None => wait.next().await.map_err(status::from_fault)?,
                };
                Ok(next.map(|next| (next, wait)))
            }
        })))
    }

    pub(super) async fn watch(
        &self,
        request: Request<wire::WatchQueueRequest>,
    ) -> Result<Streamed<wire::WatchQueueResponse>, Fault> {
        let going = Going::new(self, &request)?;
        let list = page::List::of(&["WatchQueue", &going.scope.to_string()]);
        let resume = request.into_inner().resume;
        let place: Option<Vec<(u32, u64)>> = list.place(&resume).map_err(|fault| Fault {
            message: "resume is not one that a watch of this scope answered with; send it unchanged, or leave it empty to begin now".into(),
            reason: "RESUME_TOKEN_INVALID".into(),
            ..fault
        })?;
        let view = self
            .read(going.scope, &ReadOptions::default(), None)
            .await?;
        let place = match place {
            Some(place) => place.into_iter().collect(),
            None => ends(&view.snapshot.cursors),
        };
        view.close().await?;
        let watch = Watching {
            going,
            list,
            place,
            ready: VecDeque::new(),
            since: None,
        };
        Ok(Box::pin(try_unfold(watch, |mut watch| async move {
            let next = watch.next().await.map_err(status::from_fault)?;
            Ok(Some((next, watch)))
        })))
    }
}

impl Wait {
    async fn next(&mut self) -> Result<Option<wire::WaitForApprovalResponse>, Fault> {
        loop {
            if self.ended {
                return Ok(None);
            }
            self.going.check().await?;
            if let Some(since) = self.since.take() {
                self.going.wait(&since).await?;
            }
            let told = self.told.clone();
            if let Some(now) = self.look().await?
                && now.approval != told
            {
                return Ok(Some(now));
            }
        }
    }

    async fn look(&mut self) -> Result<Option<wire::WaitForApprovalResponse>, Fault> {
        let api = self.going.api.clone();
        let mut view = api.read(self.going.scope, &self.options, None).await?;
        let row = approval(&mut view, self.approval_id).await?;
        self.since = Some(view.snapshot.cursors.clone());
        let as_of = view.close().await?;
        let Some(row) = row else {
            return Ok(None);
        };
        self.ended = row.status != "pending";
        let approval = Some(row.to_wire());
        self.told.clone_from(&approval);
        Ok(Some(wire::WaitForApprovalResponse {
            approval,
            token: as_of.token,
        }))
    }
}

async fn approval(view: &mut View, id: ApprovalId) -> Result<Option<ApprovalRow>, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    sqlx::query_as(statements::SELECT_APPROVAL)
        .bind(tenant)
        .bind(mode)
        .bind(id.as_uuid())
        .fetch_optional(&mut **view.tx())
        .await
        .map_err(database)
}

/// Watches the queue of a scope.
struct Watching {
    going: Going,
    list: page::List,
    /// Of each partition, the next offset to be told.
    place: BTreeMap<u32, u64>,
    ready: VecDeque<wire::WatchQueueResponse>,
    since: Option<Cursors>,
}

/// Behind everything that was read so far.
fn ends(cursors: &Cursors) -> BTreeMap<u32, u64> {
    let of_runs = |(partition, _): &(&Partition, _)| partition.family == Family::Run;
    let ends = cursors.iter().filter(of_runs);
    ends.map(|(partition, cursor)| (partition.number, cursor.next_offset))
        .collect()
}

impl Watching {
    async fn next(&mut self) -> Result<wire::WatchQueueResponse, Fault> {
        loop {
            self.going.check().await?;
            if let Some(ready) = self.ready.pop_front() {
                self.going.quiet_since = Instant::now();
                return Ok(ready);
            }
            if let Some(since) = self.since.take()
                && let Woken::Quiet = self.going.wait(&since).await?
            {
                self.since = Some(since);
                return Ok(wire::WatchQueueResponse {
                    approval: None,
                    resume: self.resume()?,
                    heartbeat: true,
                });
            }
            self.round().await?;
        }
    }

    fn resume(&self) -> Result<String, Fault> {
        let place: Vec<(u32, u64)> = self.place.iter().map(|(one, at)| (*one, *at)).collect();
        self.list.token(&place)
    }

    /// Reads what lies behind the place, partition by partition.
    async fn round(&mut self) -> Result<(), Fault> {
        let api = self.going.api.clone();
        let mut view = api
            .read(self.going.scope, &ReadOptions::default(), None)
            .await?;
        let cursors = view.snapshot.cursors.clone();
        let mut more = false;
        for (partition, end) in ends(&cursors) {
            let from = self.place.get(&partition).copied().unwrap_or_default();
            if from >= end {
                continue;
            }
            let changes = changes(&mut view, partition, from).await?;
            let is_full = changes.len() >= usize::try_from(ROUND_CHANGES).unwrap_or(usize::MAX);
            for (offset, row) in changes {
                self.place.insert(partition, offset + 1);
                self.ready.push_back(wire::WatchQueueResponse {
                    approval: Some(row.to_wire()),
                    resume: self.resume()?,
                    heartbeat: false,
                });
            }
            if is_full {
                more = true;
            } else {
                self.place.insert(partition, end);
            }
        }
        view.close().await?;
        if !more {
            self.since = Some(cursors);
        }
        Ok(())
    }
}

/// Changes of one partition from an offset on, each with its approval as it is now.
async fn changes(
    view: &mut View,
    partition: u32,
    from: u64,
) -> Result<Vec<(u64, ApprovalRow)>, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    let rows = sqlx::query(statements::SELECT_CHANGES)
        .bind(tenant)
        .bind(mode)
        .bind(i32::try_from(partition).unwrap_or(i32::MAX))
        .bind(i64::try_from(from).unwrap_or(i64::MAX).saturating_sub(1))
        .bind(ROUND_CHANGES)
        .fetch_all(&mut **view.tx())
        .await
        .map_err(database)?;
    let change = |row: &sqlx::postgres::PgRow| {
        let offset: i64 = row.try_get("log_offset")?;
        Ok((
            u64::try_from(offset).unwrap_or_default(),
            ApprovalRow::from_row(row)?,
        ))
    };
    rows.iter()
        .map(change)
        .collect::<Result<_, sqlx::Error>>()
        .map_err(database)
}
