//! What other policies would make of calls: read, judged, and forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use runledger_domain::approval::{self, Run, ToolCallDecided, Verdict};
use runledger_domain::digest::{self, Digest};
use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::ids::TenantId;
use runledger_domain::log::Stream;
use runledger_domain::policy::{
    self, Book, Change, DraftError, Drafted, PolicySet, Simulation, Subject,
};
use runledger_domain::time::Timestamp;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::simulation_service_server::SimulationService;
use runledger_proto::decode::simulation::{Calls, Described, Recorded};
use runledger_proto::policy::v1 as policy_wire;
use runledger_proto::{decode, encode, types};
use runledger_service::auth::Caller;
use runledger_service::open_streams::{Named, Open, OpenStreams};
use runledger_service::page;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::policies::book;
use super::{Api, Call, View, answer, database, parse};
use crate::statements;

/// Simulations that are going on or wait to, as they are counted.
const SIMULATIONS: Named = Named {
    gauge: "runledger_approvals_simulations",
    reason: "TOO_MANY_SIMULATIONS",
    message: "as many simulations as may be wait already; wait for yours to end",
};
/// Most that judge at once in this process: they take processors from those who wait for verdicts.
const AT_ONCE_MAX: usize = 2;
/// Most that wait for that, in all and of one tenant.
const WAITING_MAX: usize = 64;
const WAITING_OF_TENANT_MAX: usize = 8;

/// Rows fetched at once: each may hold 256 KiB of arguments.
const ROWS_AT_ONCE: u32 = 50;
/// An answer ends early once it has taken so long, looked at so many bytes, or is so large itself.
const TIME_MAX: Duration = Duration::from_secs(2);
const LOOKED_BYTES_MAX: usize = 16 << 20;
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[tonic::async_trait]
impl SimulationService for Api {
    async fn simulate(
        &self,
        request: Request<wire::SimulateRequest>,
    ) -> Result<Response<wire::SimulateResponse>, Status> {
        let call = self.call(request)?;
        answer(self.simulate_(call).await)
    }
}

/// Who may simulate when.
pub(super) struct Simulations {
    waiting: OpenStreams,
    at_once: Semaphore,
}

impl Default for Simulations {
    fn default() -> Self {
        Self {
            waiting: OpenStreams::new(SIMULATIONS, WAITING_MAX, WAITING_OF_TENANT_MAX),
            at_once: Semaphore::new(AT_ONCE_MAX),
        }
    }
}

impl Simulations {
    /// Waits for its turn; it is over when what is returned is dropped.
    async fn turn(
        &self,
        tenant: TenantId,
        until: Instant,
    ) -> Result<(Open, SemaphorePermit<'_>), Fault> {
        let open = self.waiting.open(tenant)?;
        let turn = tokio::time::timeout_at(until, self.at_once.acquire()).await;
        let permit = turn.map_err(|_| {
            Fault::new(Kind::Exhausted, SIMULATIONS.reason, SIMULATIONS.message)
                .retry_after(Duration::from_secs(1))
        })?;
        Ok((open, permit.map_err(Fault::internal)?))
    }
}

/// Behind which call a page begins, and what it belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    at: Timestamp,
    partition: i32,
    offset: i64,
    /// Of what was asked for.
    asked: Digest,
    /// Of the policies that the draft was made of.
    policies: Digest,
}

/// A call as it lies in the tables.
#[derive(Debug, FromRow)]
struct Row {
    partition: i32,
    decided_offset: i64,
    decided_at: Timestamp,
    decision: Vec<u8>,
    state: Option<Vec<u8>>,
}

/// What there is to be judged, and by what.
struct Judge {
    draft: Drafted,
    recorded: Recorded,
    size: u64,
    until: Instant,
}

/// What came of the calls so far.
#[derive(Default)]
struct Tally {
    calls: u64,
    counts: BTreeMap<(Verdict, Verdict), u64>,
    with_every_field: u64,
    simulated: Vec<wire::SimulatedCall>,
    answer_bytes: usize,
    looked_bytes: usize,
    /// The last call looked at.
    last: Option<(Timestamp, i32, i64)>,
}

impl Api {
    async fn simulate_(
        &self,
        call: Call<wire::SimulateRequest>,
    ) -> Result<wire::SimulateResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let asked = asked(&request);
        let list = page::List::of(&["Simulate", &scope.to_string()]);
        let place = list.place_where(&request.page_token, |place: &Place| place.asked == asked)?;
        let size = u64::from(page::size(request.page_size));
        let (simulate, options) = parse(request.read, |see| {
            decode::simulate(request.draft, request.calls, see)
        })?;
        let _turn = self.0.simulations.turn(scope.tenant, call.until).await?;
        let mut view = self.read(scope, &options, None).await?;
        let book = book(&mut view).await?;
        let policies = digest::of(&encode::policy_book(&book));
        if place.as_ref().is_some_and(|one| one.policies != policies) {
            return Err(policies_changed());
        }
        let draft = self.draft(&simulate.draft, &book, &call.caller)?;
        let (tally, last) = match simulate.calls {
            Calls::Described(described) => {
                let judged = move || Tally::of(&described, &draft, &book.compile());
                (off_the_runtime(judged).await?, None)
            }
            Calls::Recorded(recorded) => {
                let judge = Judge {
                    draft,
                    recorded,
                    size,
                    until: call.until.min(Instant::now() + TIME_MAX),
                };
                let place = place.map(|one| (one.at, one.partition, one.offset));
                judge_recorded(&mut view, Arc::new(judge), place).await?
            }
        };
        let next_page_token = last.map(|(at, partition, offset)| {
            list.token(&Place {
                at,
                partition,
                offset,
                asked,
                policies,
            })
        });
        let next_page_token = next_page_token.transpose()?.unwrap_or_default();
        Ok(tally.into_wire(next_page_token, view.close().await?))
    }

    fn draft(&self, draft: &policy::Draft, book: &Book, caller: &Caller) -> Result<Drafted, Fault> {
        let change = Change {
            at: self.0.parts.clock.now(),
            by: caller.principal,
        };
        draft.compile(book, change).map_err(|error| {
            let (field, reason) = match &error {
                DraftError::NoSuchPolicy(_) => ("draft.without", "POLICY_NOT_FOUND"),
                DraftError::TooManyPolicies => ("draft.policies", "TOO_MANY_POLICIES"),
            };
            Fault::invalid(vec![Violation {
                field: field.into(),
                reason: reason.into(),
                description: error.to_string(),
            }])
        })
    }
}

/// What a page token is bound to: all but the token itself, the size and the freshness.
fn asked(request: &wire::SimulateRequest) -> Digest {
    let bare = wire::SimulateRequest {
        draft: request.draft.clone(),
        calls: request.calls.clone(),
        ..Default::default()
    };
    digest::of(&bare.encode_to_vec())
}

fn policies_changed() -> Fault {
    let message = "the scope's policies have changed since the first page: begin again without a page_token, so that all calls are judged alike";
    Fault::new(Kind::Precondition, "POLICIES_CHANGED", message)
}

/// Judging takes processor time, which tasks that wait for others must not.
async fn off_the_runtime<T: Send + 'static>(
    judge: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(judge)
        .await
        .map_err(Fault::internal)
}

/// Judges calls behind `place` until an answer is full. Also says where the next one goes on; none:
/// there are no more.
async fn judge_recorded(
    view: &mut View,
    judge: Arc<Judge>,
    place: Option<(Timestamp, i32, i64)>,
) -> Result<(Tally, Option<(Timestamp, i32, i64)>), Fault> {
    let from = judge.recorded.from.unwrap_or(Timestamp::UNIX_EPOCH);
    let mut tally = Tally {
        // Before the first call that could be decided at that moment.
        last: Some(place.unwrap_or((from, -1, -1))),
        ..Tally::default()
    };
    loop {
        let rows = fetch(view, &judge.recorded, tally.last).await?;
        let is_last = rows.len() < ROWS_AT_ONCE as usize;
        let judging = Arc::clone(&judge);
        let judged = off_the_runtime(move || {
            let is_through = tally.take_in(&judging, &rows)?;
            Ok::<_, Fault>((tally, is_through))
        });
        let is_through;
        (tally, is_through) = judged.await??;
        if !is_through || is_last {
            let last = tally.last.filter(|_| !is_through);
            return Ok((tally, last));
        }
    }
}

async fn fetch(
    view: &mut View,
    recorded: &Recorded,
    after: Option<(Timestamp, i32, i64)>,
) -> Result<Vec<Row>, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    let (at, partition, offset) = after.unwrap_or((Timestamp::UNIX_EPOCH, -1, -1));
    let stream = recorded.run.as_ref().map(Stream::run);
    let sql = match &stream {
        Some(_) => statements::SELECT_CALLS_OF_RUN,
        None => statements::SELECT_CALLS,
    };
    let mut query = sqlx::query_as(sql)
        .bind(tenant)
        .bind(mode)
        .bind(at)
        .bind(partition)
        .bind(offset)
        .bind(recorded.to)
        .bind(i64::from(ROWS_AT_ONCE));
    if let Some(stream) = stream {
        query = query.bind(stream.as_str().to_owned());
    }
    query.fetch_all(&mut **view.tx()).await.map_err(database)
}

impl Tally {
    /// One call, judged by the policies as they are and by a draft.
    fn of(described: &Described, draft: &Drafted, current: &PolicySet) -> Self {
        let call = &described.request.call;
        let subject = Subject {
            tool: &call.tool,
            agent: &described.request.agent_id,
            action_hint: &call.action_hint,
            run: &call.run_id,
            model: &described.model,
            arguments: call.arguments.as_ref(),
            labels: &described.labels,
        };
        let now = current.judge(&subject);
        let recorded = policy::Recorded {
            verdict: now.action.into(),
            matches: &now.matches,
            by_policies: true,
        };
        let simulation = draft.simulate(&subject, recorded);
        let mut tally = Self::default();
        tally.count(&simulation);
        let agent = described.request.agent_id.to_string();
        tally
            .simulated
            .push(to_wire(call, agent, None, &simulation));
        tally
    }

    /// Judges rows; `false`: the answer is full before their end.
    fn take_in(&mut self, judge: &Judge, rows: &[Row]) -> Result<bool, Fault> {
        for row in rows {
            let is_full = self.calls >= judge.size
                || self.answer_bytes >= ANSWER_BYTES_MAX
                || self.looked_bytes >= LOOKED_BYTES_MAX
                || (self.looked_bytes > 0 && Instant::now() >= judge.until);
            if is_full {
                return Ok(false);
            }
            self.looked_bytes += row.decision.len() + row.state.as_ref().map_or(0, Vec::len);
            self.last = Some((row.decided_at, row.partition, row.decided_offset));
            self.judge(judge, row)?;
        }
        Ok(true)
    }

    fn judge(&mut self, judge: &Judge, row: &Row) -> Result<(), Fault> {
        let decision = decode::stored_approval_decision(types::TOOL_CALL_DECIDED, &row.decision);
        let decision = decision.map_err(Fault::internal)?;
        let Some(approval::Decision::ToolCallDecided(decided)) = decision else {
            return Err(Fault::internal("a decided call is not one"));
        };
        let ToolCallDecided { call, agent_id, .. } = &*decided;
        let recorded = &judge.recorded;
        let is_wanted = recorded.agent.as_ref().is_none_or(|one| one == agent_id)
            && recorded.tool.as_ref().is_none_or(|one| *one == call.tool);
        if !is_wanted {
            return Ok(());
        }
        // The first start that is reported stands, so what was known then is known still.
        let run = match row.state.as_ref().filter(|_| decided.run_reported) {
            Some(state) => Run::from_bytes(state).map_err(Fault::internal)?,
            None => Run::default(),
        };
        let subject = Subject {
            tool: &call.tool,
            agent: agent_id,
            action_hint: &call.action_hint,
            run: &call.run_id,
            model: &run.model,
            arguments: call.arguments.as_ref(),
            labels: &run.labels,
        };
        let then = policy::Recorded {
            verdict: decided.verdict,
            matches: &decided.matches,
            by_policies: decided.is_by_policies(),
        };
        let simulation = judge.draft.simulate(&subject, then);
        self.count(&simulation);
        if simulation.changes() {
            let one = to_wire(
                call,
                agent_id.to_string(),
                Some(row.decided_at),
                &simulation,
            );
            self.answer_bytes += one.encoded_len();
            self.simulated.push(one);
        }
        Ok(())
    }

    fn count(&mut self, simulation: &Simulation) {
        self.calls += 1;
        let change = (simulation.before, simulation.after);
        *self.counts.entry(change).or_default() += 1;
        self.with_every_field += u64::from(simulation.fields.all());
    }

    fn into_wire(
        self,
        next_page_token: String,
        as_of: runledger_proto::common::v1::AsOf,
    ) -> wire::SimulateResponse {
        let counts = self.counts.into_iter();
        wire::SimulateResponse {
            calls: self.calls,
            counts: counts
                .map(|((before, after), calls)| wire::VerdictCount {
                    before: wire::Verdict::from(before).into(),
                    after: wire::Verdict::from(after).into(),
                    calls,
                })
                .collect(),
            with_every_field: self.with_every_field,
            simulated: self.simulated,
            next_page_token,
            as_of: Some(as_of),
        }
    }
}

fn to_wire(
    call: &runledger_domain::run::ToolCallStarted,
    agent_id: String,
    decided_at: Option<Timestamp>,
    simulation: &Simulation,
) -> wire::SimulatedCall {
    let matched = |(version, action): (u64, policy::Action)| wire::verdict_cause::MatchedAs {
        version,
        action: policy_wire::Action::from(action).into(),
    };
    let causes = simulation.causes.iter();
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    wire::SimulatedCall {
        run_id: call.run_id.to_string(),
        tool_call_id: call.tool_call_id.to_string(),
        agent_id,
        tool: call.tool.to_string(),
        decided_at: decided_at.map(encode::timestamp),
        before: wire::Verdict::from(simulation.before).into(),
        after: wire::Verdict::from(simulation.after).into(),
        causes: causes
            .map(|cause| wire::VerdictCause {
                policy_id: cause.policy.to_string(),
                before: cause.before.map(matched),
                after: cause.after.map(matched),
            })
            .collect(),
        matches: simulation
            .judgement
            .matches
            .iter()
            .map(Into::into)
            .collect(),
        fields_present: small(simulation.fields.present),
        fields_read: small(simulation.fields.read),
    }
}
