//! Readers read right after writers wrote, with their tokens, and judge what they see.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_proto::run::v1::{
    GetRunRequest, ListMessagesRequest, ListOccurrencesRequest, ListToolCallsRequest, Run,
    RunStatus,
};
use runledger_service::client::Connection;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Code, Request, Status};

use crate::history::{Kind, Reads, parse_part};
use crate::reading::{Judgement, Known, ShownRun};
use crate::scene::{Caller, Shared, is_passing};

/// How long a read is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(12);
/// So small that the larger lists have several pages.
const PAGE: u32 = 60;

/// A read that somebody wants.
pub(crate) struct Asked {
    pub(crate) known: Known,
    pub(crate) tokens: Vec<String>,
    pub(crate) caller: Caller,
}

/// Reads what is asked for until nobody asks any more.
pub(crate) async fn read(
    mut asked: mpsc::Receiver<Asked>,
    mut rng: StdRng,
    shared: Shared,
) -> Reads {
    let mut reads = Reads::default();
    while let Some(asked) = asked.recv().await {
        match asked.read(&mut rng).await {
            Ok(Some(judgement)) => reads.note(judgement),
            Ok(None) => reads.unanswered += 1,
            Err(status) => shared.surprise(format!("{}: a read: {status:?}", asked.known.run)),
        }
    }
    reads
}

impl Reads {
    fn note(&mut self, judgement: Judgement) {
        self.answered += 1;
        let what = match judgement {
            Judgement::Fresh => return,
            Judgement::Stale(what) => {
                self.stale += 1;
                what
            }
            Judgement::Wrong(what) => {
                self.wrong += 1;
                what
            }
        };
        if self.examples.len() < Self::EXAMPLES_MAX {
            self.examples.push(what);
        }
    }
}

impl Asked {
    /// Asks either api until one answers; none: patience ended.
    async fn read(&self, rng: &mut StdRng) -> Result<Option<Judgement>, Status> {
        let given_up = Instant::now() + PATIENCE;
        let what = rng.random_range(0..6);
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < given_up {
            again.tick().await;
            let [one, other] = &self.caller.apis;
            let api = if rng.random_bool(0.5) { one } else { other };
            let read = match what {
                0 => self.calls(api.clone()).await,
                1 => self.messages(api.clone()).await,
                2 => self.occurrences(api.clone()).await,
                _ => self.run(api.clone()).await,
            };
            match read {
                Ok(judgement) => return Ok(Some(judgement)),
                Err(status) if is_passing(&status) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(None)
    }

    fn options(&self) -> Option<ReadOptions> {
        Some(ReadOptions {
            at_least: self.tokens.clone(),
            max_wait: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        })
    }

    async fn run(&self, mut api: RunsServiceClient<Connection>) -> Result<Judgement, Status> {
        let request = GetRunRequest {
            run_id: self.known.run.to_string(),
            read: self.options(),
        };
        match api.get_run(within(request)).await {
            Ok(answer) => Ok(self
                .known
                .judge_run(answer.into_inner().run.as_ref().map(shown))),
            Err(status) if status.code() == Code::NotFound => Ok(self.known.judge_run(None)),
            Err(status) => Err(status),
        }
    }

    async fn calls(&self, mut api: RunsServiceClient<Connection>) -> Result<Judgement, Status> {
        let (mut shown, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListToolCallsRequest {
                run_id: self.known.run.to_string(),
                page_size: PAGE,
                page_token,
                read: self.options(),
                ..ListToolCallsRequest::default()
            };
            let page = match api.list_tool_calls(within(request)).await {
                Ok(page) => page.into_inner(),
                Err(status) if status.code() == Code::NotFound => {
                    return Ok(self.known.judge_run(None));
                }
                Err(status) => return Err(status),
            };
            shown.extend(page.tool_calls.iter().map(|call| {
                let part = parse_part(&call.tool_call_id);
                (part, call.started.is_some(), call.ended.is_some())
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(self.known.judge_calls(&shown));
            }
        }
    }

    async fn messages(&self, mut api: RunsServiceClient<Connection>) -> Result<Judgement, Status> {
        let (mut shown, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListMessagesRequest {
                conversation_id: self.known.run.conversation(),
                page_size: PAGE,
                page_token,
                read: self.options(),
            };
            let page = api.list_messages(within(request)).await?.into_inner();
            shown.extend(page.messages.iter().map(|one| {
                let message = one.message.as_ref()?;
                parse_part(&message.message_id)
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(self.known.judge_parts(Kind::Message, &shown));
            }
        }
    }

    async fn occurrences(
        &self,
        mut api: RunsServiceClient<Connection>,
    ) -> Result<Judgement, Status> {
        let (mut shown, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListOccurrencesRequest {
                schedule_id: self.known.run.schedule(),
                page_size: PAGE,
                page_token,
                read: self.options(),
                ..ListOccurrencesRequest::default()
            };
            let page = api.list_occurrences(within(request)).await?.into_inner();
            shown.extend(page.occurrences.iter().map(|one| {
                let occurrence = one.occurrence.as_ref()?;
                parse_part(&occurrence.result)
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(self.known.judge_parts(Kind::Occurrence, &shown));
            }
        }
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn shown(run: &Run) -> ShownRun {
    let totals = run.totals.unwrap_or_default();
    ShownRun {
        started: run.started.is_some(),
        ended: run.status == i32::from(RunStatus::Completed),
        calls: totals.tool_calls,
        failed: totals.failed_tool_calls,
        messages: totals.messages,
        uses: run.usage.iter().map(|usage| usage.records).sum(),
        used: run.usage.iter().map(|usage| usage.quantity).sum(),
    }
}
