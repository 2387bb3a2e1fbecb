//! Reads with tokens over the twin of the log and a real Postgres.

mod probe;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use probe::{World, fact, scope};
use runledger_domain::log::{Family, Partition};
use runledger_eventlog::token::Token;
use runledger_eventlog::{Log, Outcome};
use runledger_projection::{ReadOptions, Reader};
use runledger_testkit::eventually;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::Field;
use tracing::instrument::WithSubscriber as _;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const SOON: Duration = Duration::from_secs(20);
const WAITERS: usize = 1_000;
/// The reader pauses a little longer between two polls.
const POLLS_APART_MS: u128 = 8;

struct Api {
    reader: Reader,
    shutdown: CancellationToken,
    /// How often it has looked at the cursors for all who wait.
    polls: Looks,
}

/// Counts the statements that look at the cursors, as sqlx tells of them, in whatever is run with it.
#[derive(Clone, Default)]
struct Looks(Arc<AtomicUsize>);

impl Looks {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    async fn reach(&self, wanted: usize) {
        eventually(SOON, async || {
            let count = self.count();
            (count >= wanted)
                .then_some(())
                .ok_or_else(|| format!("{count} of {wanted} looks"))
        })
        .await;
    }
}

impl Subscriber for Looks {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.target() == "sqlx::query"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut is_look = false;
        event.record(&mut |_: &Field, value: &dyn Debug| {
            is_look |= format!("{value:?}").contains("active AS MATERIALIZED");
        });
        if is_look {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Api {
    fn over(world: &World) -> Self {
        let log: Arc<dyn Log> = Arc::new(world.log.clone());
        let reader = Reader::new(world.reader.clone(), log, &[Family::Run]);
        let shutdown = CancellationToken::new();
        let (following, token) = (reader.clone(), shutdown.clone());
        let polls = Looks::default();
        let follow = async move { following.follow(token).await };
        #[expect(clippy::disallowed_methods, reason = "the test is the supervisor")]
        tokio::spawn(follow.with_subscriber(polls.clone()));
        Self {
            reader,
            shutdown,
            polls,
        }
    }

    /// How many records a read with this token sees, or the reason of its refusal.
    async fn count(&self, token: &Token, max_wait: Duration) -> Result<i64, String> {
        self.count_with(vec![token.to_string()], max_wait).await
    }

    async fn count_with(&self, at_least: Vec<String>, max_wait: Duration) -> Result<i64, String> {
        let options = ReadOptions {
            at_least,
            max_wait: Some(max_wait),
        };
        let mut snapshot = self
            .reader
            .read(scope(), &options)
            .await
            .map_err(|fault| fault.reason.into_owned())?;
        let count = sqlx::query_scalar("SELECT count(*) FROM seen")
            .fetch_one(&mut *snapshot.tx)
            .await;
        Ok(count.expect("a count"))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn append(world: &World, count: usize) -> Token {
    let outcomes = world.append((0..count).map(fact).collect()).await;
    // The world has seen to it that all were accepted.
    Token::from_positions(outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Accepted(position) => Some(position),
        Outcome::TooLarge | Outcome::Unknown => None,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_with_a_token_is_never_older_than_its_write() {
    let world = World::new().await;
    let worker = world.spawn("worker");
    let (first, second) = (Api::over(&world), Api::over(&world));
    for round in 1..=100 {
        let token = append(&world, 3).await;
        let api = if round % 2 == 0 { &first } else { &second };
        let seen = api.count(&token, SOON).await;
        assert!(seen >= Ok(round * 3), "round {round}: {seen:?}");
    }
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_reached_in_time_says_so() {
    let world = World::new().await;
    let api = Api::over(&world);
    let token = append(&world, 10).await;
    let waited = Duration::from_millis(50);
    assert_eq!(
        api.count(&token, waited).await,
        Err("READ_MODEL_BEHIND".into())
    );
    assert_eq!(api.count(&Token::default(), waited).await, Ok(0));
    let worker = world.spawn("worker");
    assert_eq!(api.count(&token, SOON).await, Ok(10));
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_beyond_the_log_is_refused_after_the_wait() {
    let world = World::new().await;
    let (api, worker) = (Api::over(&world), world.spawn("worker"));
    let token = append(&world, 1).await;
    world.caught_up(SOON).await;
    let mut position = token.positions().next().expect("a position");
    position.offset += 1_000;
    let forged = Token::from_positions([position]);
    assert_eq!(
        api.count(&forged, Duration::from_millis(50)).await,
        Err("TOKEN_BEYOND_LOG".into())
    );
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_incarnation_or_none_at_all_is_refused_at_once() {
    let (world, other) = (World::new().await, World::new().await);
    let (api, worker) = (Api::over(&world), world.spawn("worker"));
    append(&world, 40).await;
    world.caught_up(SOON).await;
    let foreign = append(&other, 40).await;
    assert_eq!(
        api.count(&foreign, SOON).await,
        Err("TOKEN_INCARNATION".into())
    );
    assert_eq!(
        api.count_with(vec!["not a token".into()], SOON).await,
        Err("TOKEN_INVALID".into())
    );
    assert_eq!(
        api.count_with(vec![String::new(); 65], SOON).await,
        Err("TOKEN_INVALID".into())
    );
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_says_what_it_reflects() {
    let world = World::new().await;
    let (api, worker) = (Api::over(&world), world.spawn("worker"));
    let token = append(&world, 40).await;
    let options = ReadOptions {
        at_least: vec![token.to_string()],
        max_wait: Some(SOON),
    };
    let snapshot = api
        .reader
        .read(scope(), &options)
        .await
        .expect("a snapshot");
    for wanted in token.positions() {
        let reflected = snapshot
            .as_of
            .token
            .positions()
            .find(|position| position.partition == wanted.partition);
        assert!(
            reflected.is_some_and(|position| position.offset >= wanted.offset),
            "{wanted:?}"
        );
    }
    assert_eq!(snapshot.as_of.lag, Duration::ZERO);
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_noticed_by_all_who_wait_for_it() {
    let world = World::new().await;
    let (api, worker) = (Api::over(&world), world.spawn("worker"));
    world.caught_up(SOON).await;
    let now = api
        .reader
        .read(scope(), &ReadOptions::default())
        .await
        .expect("a snapshot")
        .cursors;
    let waits = (0..20).map(|_| api.reader.wait_for_change(&now));
    let all = futures::future::join_all(waits);
    let (_, appended) = tokio::time::timeout(SOON, async { tokio::join!(all, append(&world, 1)) })
        .await
        .expect("in time");
    let partition: Partition = appended.positions().next().expect("a position").partition;
    let then = api
        .reader
        .read(scope(), &ReadOptions::default())
        .await
        .expect("a snapshot")
        .cursors;
    assert!(then[&partition].next_offset > now[&partition].next_offset);
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_wait_cost_one_poll() {
    let world = World::new().await;
    let api = Api::over(&world);
    let token = append(&world, 3).await;
    let own_looks = Looks::default();
    let waits = (0..WAITERS).map(|_| api.count(&token, SOON));
    let all = futures::future::join_all(waits).with_subscriber(own_looks.clone());
    let begun = Instant::now();
    let watcher = async {
        // Everybody has looked once, and looks no more while the polls go on.
        own_looks.reach(WAITERS).await;
        api.polls.reach(api.polls.count() + 20).await;
        assert_eq!(own_looks.count(), WAITERS, "somebody looks by himself");
        let most = begun.elapsed().as_millis() / POLLS_APART_MS + 1;
        assert!(api.polls.count() as u128 <= most, "more than one poll");
        world.spawn("worker")
    };
    let (seen, worker) = tokio::join!(all, watcher);
    assert!(seen.iter().all(|seen| *seen == Ok(3)), "{seen:?}");
    assert_eq!(
        own_looks.count(),
        2 * WAITERS,
        "told once, when it is there"
    );
    worker.stop().await.expect("a clean stop");
}

/// A waiter that took an old poll for news would come back at once, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_polled_before_a_wait_is_no_news() {
    let world = World::new().await;
    let (api, worker) = (Api::over(&world), world.spawn("worker"));
    world.caught_up(SOON).await;
    let cursors = async || {
        let snapshot = api.reader.read(scope(), &ReadOptions::default()).await;
        snapshot.expect("a snapshot").cursors
    };
    // A wait that ends leaves what it polled behind; then the log goes on while nobody waits.
    let before = cursors().await;
    tokio::join!(api.reader.wait_for_change(&before), append(&world, 1));
    append(&world, 40).await;
    world.caught_up(SOON).await;
    let now = cursors().await;
    let quiet = Duration::from_millis(300);
    let told = tokio::time::timeout(quiet, api.reader.wait_for_change(&now)).await;
    assert!(told.is_err(), "told of a change in a quiet log");
    worker.stop().await.expect("a clean stop");
}
