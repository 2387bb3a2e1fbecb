use http::HeaderValue;
use runledger_domain::scope::Role;
use tokio::task::JoinSet;
use tokio::time::advance;

use super::super::{KillSwitch, Known};
use super::*;
use crate::fixtures::credential;

struct World {
    directory: Arc<Known>,
    authenticator: Authenticator,
}

impl World {
    fn new() -> Self {
        let directory = Arc::new(Known::default());
        let authenticator = Authenticator::new(Arc::clone(&directory), &Config::default());
        Self {
            directory,
            authenticator,
        }
    }

    fn add(&self, mode: Mode, random: u8) -> Held {
        let text = Key::text(mode, &[random; 32]);
        let digest = Key::parse(&text).unwrap().digest;
        self.directory.insert(digest, credential(mode, Role::Agent));
        let headers = HeaderMap::from_iter([(
            http::header::AUTHORIZATION,
            HeaderValue::from_str(&format!("Bearer {text}")).unwrap(),
        )]);
        Held { digest, headers }
    }

    async fn reason(&self, headers: &HeaderMap) -> String {
        match self.authenticator.authenticate(headers).await {
            Ok(_) => "OK".to_owned(),
            Err(fault) => fault.reason.into_owned(),
        }
    }

    /// Lets what was asked behind the calls come to its end.
    async fn settle(&self) {
        let behind = &self.authenticator.0.behind;
        behind.close();
        behind.wait().await;
        behind.reopen();
    }
}

struct Held {
    digest: Digest,
    headers: HeaderMap,
}

impl Held {
    fn with_mode(&self, mode: &'static str) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(MODE_HEADER, HeaderValue::from_static(mode));
        headers
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_asked_about_once_and_then_remembered() {
    let world = World::new();
    let key = world.add(Mode::Live, 1);
    for _ in 0..10 {
        assert_eq!(world.reason(&key.headers).await, "OK");
    }
    assert_eq!(world.directory.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_calls_at_once_ask_once() {
    let world = World::new();
    let key = world.add(Mode::Live, 1);
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (authenticator, headers) = (world.authenticator.clone(), key.headers.clone());
        calls.spawn(async move { authenticator.authenticate(&headers).await.is_ok() });
    }
    assert!(calls.join_all().await.into_iter().all(|good| good));
    assert_eq!(world.directory.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_seen_within_a_second() {
    let world = World::new();
    let key = world.add(Mode::Live, 1);
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.directory.remove(&key.digest);
    advance(Duration::from_millis(300)).await;
    assert_eq!(world.reason(&key.headers).await, "OK");
    advance(Duration::from_millis(401)).await;
    assert_eq!(world.reason(&key.headers).await, "KEY_UNKNOWN");
    // And a key that comes to be is seen as soon.
    world.add(Mode::Live, 1);
    assert_eq!(world.reason(&key.headers).await, "KEY_UNKNOWN");
    advance(Duration::from_millis(701)).await;
    assert_eq!(world.reason(&key.headers).await, "OK");
}

#[tokio::test(start_paused = true)]
async fn a_key_in_steady_use_is_asked_about_behind_its_calls() {
    let world = World::new();
    let key = world.add(Mode::Live, 1);
    assert_eq!(world.reason(&key.headers).await, "OK");
    advance(Duration::from_millis(500)).await;
    world.directory.remove(&key.digest);
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.settle().await;
    assert_eq!(world.directory.asked(), 2);
    assert_eq!(world.reason(&key.headers).await, "KEY_UNKNOWN");
}

#[tokio::test(start_paused = true)]
async fn keys_go_on_for_five_minutes_without_the_directory() {
    let world = World::new();
    let (key, other) = (world.add(Mode::Live, 1), world.add(Mode::Live, 2));
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.directory.set_away(true);
    advance(Duration::from_secs(2)).await;
    assert_eq!(world.reason(&key.headers).await, "OK");
    advance(Duration::from_millis(1)).await;
    assert_eq!(world.reason(&other.headers).await, "DIRECTORY_UNREACHABLE");
    // Two in a row have failed: nobody asks again within the back-off.
    let asked = world.directory.asked();
    assert_eq!(world.reason(&other.headers).await, "DIRECTORY_UNREACHABLE");
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.settle().await;
    assert_eq!(world.directory.asked(), asked);

    advance(Duration::from_secs(297)).await;
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.settle().await;
    assert!(world.directory.asked() > asked);
    advance(Duration::from_secs(2)).await;
    let fault = world
        .authenticator
        .authenticate(&key.headers)
        .await
        .unwrap_err();
    assert_eq!(
        (fault.kind, fault.reason),
        (Kind::Unavailable, "DIRECTORY_UNREACHABLE".into())
    );
    assert_eq!(fault.retry_after, Some(Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_comes_back_is_believed_again() {
    let world = World::new();
    let key = world.add(Mode::Live, 1);
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.directory.set_away(true);
    advance(Duration::from_secs(10)).await;
    assert_eq!(world.reason(&key.headers).await, "OK");
    advance(Duration::from_millis(1)).await;
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.directory.set_away(false);
    world.directory.remove(&key.digest);
    advance(Duration::from_millis(999)).await;
    assert_eq!(world.reason(&key.headers).await, "OK", "left alone");
    advance(Duration::from_millis(1)).await;
    assert_eq!(world.reason(&key.headers).await, "KEY_UNKNOWN");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_failed_long_ago_lets_no_revoked_key_through() {
    let world = World::new();
    let (key, other) = (world.add(Mode::Live, 1), world.add(Mode::Live, 2));
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.directory.set_away(true);
    for _ in 0..2 {
        assert_eq!(world.reason(&other.headers).await, "DIRECTORY_UNREACHABLE");
        advance(Duration::from_millis(1)).await;
    }
    world.directory.set_away(false);
    advance(Duration::from_secs(60)).await;
    world.directory.remove(&key.digest);
    advance(Duration::from_secs(180)).await;
    assert_eq!(world.reason(&key.headers).await, "KEY_UNKNOWN");
}

#[tokio::test(start_paused = true)]
async fn a_kill_switch_is_seen_by_the_first_call_after_one_lost_lookup() {
    let world = World::new();
    let (key, other) = (world.add(Mode::Live, 1), world.add(Mode::Live, 2));
    assert_eq!(world.reason(&key.headers).await, "OK");
    let mut stopped = credential(Mode::Live, Role::Agent);
    stopped.kill_switch = Some(KillSwitch {
        reason: "stop".into(),
        global: false,
    });
    world.directory.insert(key.digest, stopped);
    advance(Duration::from_millis(990)).await;
    world.directory.set_away(true);
    assert_eq!(world.reason(&other.headers).await, "DIRECTORY_UNREACHABLE");
    world.directory.set_away(false);
    advance(Duration::from_millis(10)).await;
    let caller = world
        .authenticator
        .authenticate(&key.headers)
        .await
        .unwrap();
    assert!(caller.kill_switch.is_some());
}

#[tokio::test(start_paused = true)]
async fn lookups_that_fail_together_are_one_failure() {
    let world = World::new();
    let keys: Vec<Held> = (1..=20).map(|n| world.add(Mode::Live, n)).collect();
    world.directory.set_away(true);
    let mut calls = JoinSet::new();
    for key in &keys {
        let (authenticator, headers) = (world.authenticator.clone(), key.headers.clone());
        calls.spawn(async move { authenticator.authenticate(&headers).await.is_err() });
    }
    advance(Duration::ZERO).await;
    assert!(calls.join_all().await.into_iter().all(|failed| failed));
    world.directory.set_away(false);
    assert_eq!(world.reason(&keys[0].headers).await, "OK");
}

/// A directory in which key number 1 has a role of a later version.
struct Later(Arc<Known>, Digest);

#[async_trait::async_trait]
impl Directory for Later {
    async fn find(&self, digest: &Digest) -> Result<Option<Credential>, LookupError> {
        let found = self.0.find(digest).await?;
        if *digest == self.1 {
            return Err(LookupError::Unreadable("auditor".into()));
        }
        Ok(found)
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_says_nothing_of_the_directory() {
    let mut world = World::new();
    let (later, key) = (world.add(Mode::Live, 1), world.add(Mode::Live, 2));
    let directory = Later(Arc::clone(&world.directory), later.digest);
    world.authenticator = Authenticator::new(directory, &Config::default());
    assert_eq!(world.reason(&key.headers).await, "OK");
    world.directory.remove(&key.digest);
    advance(Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert_eq!(world.reason(&later.headers).await, "KEY_UNREADABLE");
        advance(FRESH + Duration::from_millis(1)).await;
        assert_eq!(world.reason(&later.headers).await, "KEY_UNREADABLE");
    }
    assert_eq!(world.reason(&key.headers).await, "KEY_UNKNOWN");
}

/// A directory that never answers.
struct Silent;

#[async_trait::async_trait]
impl Directory for Silent {
    async fn find(&self, _: &Digest) -> Result<Option<Credential>, LookupError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn two_calls_wait_on_a_silent_directory_and_the_next_do_not() {
    let authenticator = Authenticator::new(Silent, &Config::default());
    let headers = World::new().add(Mode::Live, 1).headers;
    for waited in [900, 900, 0] {
        let begin = Instant::now();
        assert!(authenticator.authenticate(&headers).await.is_err());
        assert_eq!(begin.elapsed(), Duration::from_millis(waited));
        advance(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_mode_is_the_keys_unless_a_live_key_asks_for_the_sandbox() {
    let world = World::new();
    let (live, test) = (world.add(Mode::Live, 1), world.add(Mode::Sandbox, 2));
    let scope = async |headers| {
        world
            .authenticator
            .authenticate(&headers)
            .await
            .unwrap()
            .scope
            .unwrap()
            .mode
    };
    assert_eq!(scope(live.headers.clone()).await, Mode::Live);
    assert_eq!(scope(live.with_mode("live")).await, Mode::Live);
    assert_eq!(scope(live.with_mode("sandbox")).await, Mode::Sandbox);
    assert_eq!(scope(test.headers.clone()).await, Mode::Sandbox);
    assert_eq!(scope(test.with_mode("sandbox")).await, Mode::Sandbox);
    assert_eq!(
        world.reason(&test.with_mode("live")).await,
        "MODE_NOT_ALLOWED"
    );
    assert_eq!(world.reason(&live.with_mode("LIVE")).await, "MODE_UNKNOWN");
    assert_eq!(world.reason(&test.with_mode("")).await, "MODE_UNKNOWN");
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_malformed_key_is_never_looked_up() {
    let world = World::new();
    assert_eq!(world.reason(&HeaderMap::new()).await, "KEY_MISSING");
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer rl_live_12",
        "rl_live_12",
    ] {
        let value = HeaderValue::from_str(wrong).unwrap();
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        assert_eq!(world.reason(&headers).await, "KEY_MALFORMED", "{wrong:?}");
    }
    assert_eq!(world.directory.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_operator_has_no_scope() {
    let world = World::new();
    let key = world.add(Mode::Live, 1);
    world
        .directory
        .insert(key.digest, credential(Mode::Live, Role::Operator));
    let caller = world
        .authenticator
        .authenticate(&key.headers)
        .await
        .unwrap();
    assert_eq!(caller.scope, None);
    assert_eq!(caller.require_scope().unwrap_err().reason, "SCOPE_REQUIRED");
}
