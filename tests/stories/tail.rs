//! Tails: everything about a run, once and in order, over any number of interruptions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runledger_domain::scope::Role;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::common::v1::{AppendResult, ReadOptions};
use runledger_proto::message::v1::MessageIngestServiceAppendRequest;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{
    GetTimelineRequest, RunEnded, RunFact, RunIngestServiceAppendRequest, RunOutcome, RunPhase,
    RunProgressed, TailRunRequest, TailRunResponse, TimelineItem,
    ToolCallIngestServiceAppendRequest,
};
use runledger_proto::schedule::v1::ScheduleIngestServiceAppendRequest;
use runledger_service::status::reason;
use runledger_tests::{Clients, Installation, Kind, Tenant, facts, is_proof, patiently, seed};
use tonic::{Code, Status, Streaming};

const RUN: &str = "run-followed";
const FOLLOWERS: usize = 3;
/// How long all of it may take to reach a follower.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a caller waits before he asks again.
const AGAIN: Duration = Duration::from_millis(50);

/// What was acknowledged of the run.
#[derive(Default)]
struct Reported {
    ids: BTreeSet<String>,
    /// The latest token of each partition.
    tokens: BTreeMap<(String, u32), String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_misses_nothing_and_repeats_nothing_however_it_is_cut() {
    let mut rng = seed("tail");
    let batches = if is_proof() { 2_000 } else { 150 };
    let mut installation = Installation::start("tail").await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    // How many records there are, once all are written.
    let written = Arc::new(AtomicUsize::new(usize::MAX));
    let followers = join_all((0..FOLLOWERS).map(|_| {
        let rng = StdRng::from_rng(&mut rng);
        follow(clients.clone(), rng, Arc::clone(&written))
    }));
    let to_the_end = until_ended(&clients);
    let writer = async {
        let rng = StdRng::from_rng(&mut rng);
        let reported = write(&clients, rng, batches).await;
        written.store(reported.ids.len(), Ordering::SeqCst);
        reported
    };
    let mut chance = StdRng::from_rng(&mut rand::rng());
    let disturber = disturb(&mut installation, &mut chance, &written);
    let (followed, ended, reported, ()) = tokio::join!(followers, to_the_end, writer, disturber);

    let timeline = read_timeline(&clients, &reported, &mut rng).await;
    assert_is_the_run(&timeline, &reported, "the timeline");
    let stored = by_id(&timeline);
    for items in &followed {
        assert_is_the_run(items, &reported, "a tail");
        assert_eq!(
            by_id(items),
            stored,
            "a tail that differs from the timeline"
        );
    }
    assert_in_order(&ended, "a tail until the end");
    let end = |item: &TimelineItem| item.r#type == "runledger.run.v1.RunEnded";
    assert!(
        ended.iter().any(end),
        "a tail until the end without the end"
    );
    // Begun when all is there, it is the timeline and ends by itself.
    assert_eq!(until_ended(&clients).await, timeline);
    installation.assert_unharmed();
}

/// Kills and restarts the projector at random moments, and once the api, until all is written.
async fn disturb(installation: &mut Installation, rng: &mut StdRng, written: &AtomicUsize) {
    let mut api = true;
    while written.load(Ordering::SeqCst) == usize::MAX {
        // Random moments are what this story is about.
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..2_500))).await;
        installation.take(Kind::Projector, 0).kill().await;
        if std::mem::take(&mut api) {
            installation.take(Kind::Api, 0).kill().await;
            installation.run(Kind::Api, 0);
        }
        installation.run(Kind::Projector, 0);
    }
}

/// Reports facts of every kind about the run, its end in the middle of them.
async fn write(clients: &Clients, mut rng: StdRng, batches: u32) -> Reported {
    let mut reported = Reported::default();
    let started = facts::run_started(&mut rng, RUN);
    reported.append_run(clients, started).await;
    for number in 0..batches {
        if number == batches / 2 {
            let ended = RunEnded {
                run_id: RUN.into(),
                outcome: RunOutcome::Completed.into(),
                ..RunEnded::default()
            };
            let ended = facts::run_fact(&mut rng, Fact::RunEnded(ended));
            reported.append_run(clients, ended).await;
        }
        reported.append_some(clients, &mut rng, number).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
    }
    reported
}

macro_rules! append {
    ($reported:ident, $client:expr, $request:ident, $facts:expr) => {{
        let request = $request { facts: $facts };
        let answer = patiently(async || $client.clone().append(request.clone()).await).await;
        $reported.keep(&answer.token, answer.results);
    }};
}

impl Reported {
    async fn append_run(&mut self, clients: &Clients, fact: RunFact) {
        append!(
            self,
            clients.runs_in,
            RunIngestServiceAppendRequest,
            vec![fact.clone()]
        );
    }

    /// A batch of one kind; now and then twice, which changes nothing.
    async fn append_some(&mut self, clients: &Clients, rng: &mut StdRng, number: u32) {
        let times = if rng.random_bool(0.2) { 2 } else { 1 };
        let names: Vec<String> = (0..rng.random_range(1..5))
            .map(|part| format!("{number}-{part}"))
            .collect();
        let names = names.iter();
        match rng.random_range(0..5) {
            0 => {
                let call = |name| facts::tool_call_started(rng, RUN, name, "tool");
                let facts: Vec<_> = names.map(String::as_str).map(call).collect();
                for _ in 0..times {
                    append!(
                        self,
                        clients.tool_calls_in,
                        ToolCallIngestServiceAppendRequest,
                        facts.clone()
                    );
                }
            }
            1 => {
                let message = |name| {
                    let conversation = format!("conversation-{}", rng.random_range(0..3));
                    facts::message(rng, RUN, &conversation, name, "a word")
                };
                let facts: Vec<_> = names.map(String::as_str).map(message).collect();
                for _ in 0..times {
                    append!(
                        self,
                        clients.messages_in,
                        MessageIngestServiceAppendRequest,
                        facts.clone()
                    );
                }
            }
            2 => {
                let occurrence = |name| facts::occurrence(rng, RUN, name, "done");
                let facts: Vec<_> = names.map(String::as_str).map(occurrence).collect();
                for _ in 0..times {
                    append!(
                        self,
                        clients.schedules_in,
                        ScheduleIngestServiceAppendRequest,
                        facts.clone()
                    );
                }
            }
            kind => {
                let phase = if kind == 3 {
                    RunPhase::Running
                } else {
                    RunPhase::Waiting
                };
                let progressed = |note: &String| progressed(rng, phase, note);
                let facts: Vec<_> = names.map(progressed).collect();
                for _ in 0..times {
                    append!(
                        self,
                        clients.runs_in,
                        RunIngestServiceAppendRequest,
                        facts.clone()
                    );
                }
            }
        }
    }

    fn keep(&mut self, token: &str, results: Vec<AppendResult>) {
        for result in results {
            let Some(Outcome::Accepted(accepted)) = result.outcome else {
                panic!("{result:?}")
            };
            let position = accepted.position.expect("a position");
            let partition = (position.family, position.partition);
            self.ids.insert(result.id);
            self.tokens.insert(partition, token.into());
        }
    }
}

fn progressed(rng: &mut StdRng, phase: RunPhase, note: &str) -> RunFact {
    let progressed = RunProgressed {
        run_id: RUN.into(),
        phase: phase.into(),
        note: note.into(),
    };
    facts::run_fact(rng, Fact::RunProgressed(progressed))
}

/// Follows the run in many calls, each of which is dropped at a random point and taken up behind
/// the last item that came, until all that was written has come.
async fn follow(clients: Clients, mut rng: StdRng, written: Arc<AtomicUsize>) -> Vec<TimelineItem> {
    let mut items = Vec::new();
    let mut resume_token = String::new();
    let all_came = |items: &[TimelineItem]| items.len() >= written.load(Ordering::SeqCst);
    let following = async {
        while !all_came(&items) {
            let request = TailRunRequest {
                run_id: RUN.into(),
                resume_token: resume_token.clone(),
                heartbeat: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                }),
                until_ended: false,
            };
            let mut left = rng.random_range(1..40);
            let Some(mut tail) = open(&clients, request).await else {
                continue;
            };
            while left > 0 && !all_came(&items) {
                let Some(answer) = next(&mut tail).await else {
                    break;
                };
                resume_token = answer.resume_token;
                items.extend(answer.item);
                left -= 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, following)
        .await
        .expect("all of it in time");
    items
}

/// A tail; none while the api is away.
async fn open(clients: &Clients, request: TailRunRequest) -> Option<Streaming<TailRunResponse>> {
    match clients.runs.clone().tail_run(request).await {
        Ok(tail) => Some(tail.into_inner()),
        Err(status) => {
            assert_is_away(&status);
            tokio::time::sleep(AGAIN).await;
            None
        }
    }
}

/// The next answer; none when the api has gone.
async fn next(tail: &mut Streaming<TailRunResponse>) -> Option<TailRunResponse> {
    match tail.message().await {
        Ok(answer) => Some(answer.expect("a tail that does not end by itself")),
        Err(status) => {
            assert_is_away(&status);
            None
        }
    }
}

/// The api was killed: its callers see a connection that breaks, or none.
fn assert_is_away(status: &Status) {
    let broken = [
        Code::Unavailable,
        Code::Unknown,
        Code::Internal,
        Code::Cancelled,
    ];
    let ours = reason(status).is_some_and(|reason| reason == "INTERNAL");
    assert!(broken.contains(&status.code()) && !ours, "{status:?}");
}

/// Follows the run until it says that it has ended.
async fn until_ended(clients: &Clients) -> Vec<TimelineItem> {
    let (mut items, mut resume_token) = (Vec::new(), String::new());
    let following = async {
        loop {
            let request = TailRunRequest {
                run_id: RUN.into(),
                resume_token: resume_token.clone(),
                heartbeat: None,
                until_ended: true,
            };
            let Some(mut tail) = open(clients, request).await else {
                continue;
            };
            loop {
                match tail.message().await {
                    Ok(None) => return,
                    Ok(Some(answer)) => {
                        resume_token = answer.resume_token;
                        items.extend(answer.item);
                    }
                    Err(status) => {
                        assert_is_away(&status);
                        break;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, following)
        .await
        .expect("an end in time");
    items
}

/// The timeline, page by page, no older than what was acknowledged.
async fn read_timeline(
    clients: &Clients,
    reported: &Reported,
    rng: &mut StdRng,
) -> Vec<TimelineItem> {
    let (mut items, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = GetTimelineRequest {
            run_id: RUN.into(),
            page_size: rng.random_range(1..100),
            page_token: page_token.clone(),
            read: Some(ReadOptions {
                at_least: reported.tokens.values().cloned().collect(),
                max_wait: Some(prost_types::Duration {
                    seconds: 10,
                    nanos: 0,
                }),
            }),
        };
        let page =
            patiently(async || clients.runs.clone().get_timeline(request.clone()).await).await;
        items.extend(page.items);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return items;
        }
    }
}

/// Every record that was acknowledged, once, and none that was not.
fn assert_is_the_run(items: &[TimelineItem], reported: &Reported, what: &str) {
    let ids: BTreeSet<&String> = items.iter().map(|item| &item.record_id).collect();
    assert_eq!(ids.len(), items.len(), "{what} repeats a record");
    assert_eq!(
        ids,
        reported.ids.iter().collect(),
        "{what} has other records"
    );
    assert_in_order(items, what);
}

/// Records of one partition, and so of one stream, in the order of the log.
fn assert_in_order(items: &[TimelineItem], what: &str) {
    let mut last = BTreeMap::new();
    for item in items {
        let position = item.position.clone().expect("a position");
        let partition = (position.family, position.partition);
        let before = last.insert(partition, position.offset);
        assert!(
            before < Some(position.offset),
            "{what} turns the order: {item:?}"
        );
    }
}

fn by_id(items: &[TimelineItem]) -> BTreeMap<&str, &TimelineItem> {
    items
        .iter()
        .map(|item| (item.record_id.as_str(), item))
        .collect()
}
