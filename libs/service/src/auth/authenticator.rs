//! The cache between every call and the directory.
//!
//! An answer is used for [`FRESH`] from the moment it was asked for, so that a revocation, a new
//! limit or a kill switch is seen everywhere within a second. Keys in steady use are asked about
//! ahead of that, behind the call. While the directory gives no answers, keys seen valid within
//! [`STALE`] go on. Each is asked about first all the same, because one lookup that was lost says
//! nothing of the next: only when two in a row have failed does nobody wait on it for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use moka::sync::Cache;
use runledger_domain::digest::Digest;
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::scope::{Mode, Scope};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::sync::Mutex as Flight;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::directory::{Credential, Directory, LookupError, Postgres};
use super::{Caller, Key};

/// An answer older than this is asked for again behind the call.
const REFRESH: Duration = Duration::from_millis(400);
/// An answer older than this is not used. With [`TIMEOUT_MAX`] it keeps the promise of one second.
const FRESH: Duration = Duration::from_millis(700);
/// How long a key goes on that was seen valid, while the directory gives no answers.
const STALE: Duration = Duration::from_secs(5 * 60);
/// A call may join a lookup that began at most this long before it.
const TIMEOUT_MAX: Duration = Duration::from_secs(1);
/// The directory is left alone for at most this long.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// Unknown keys are forgotten after this long.
const UNKNOWN_KEPT: Duration = Duration::from_secs(10);

/// Metadata with which a live key asks for the sandbox.
pub const MODE_HEADER: &str = "x-runledger-mode";

/// Section `[auth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many keys are remembered, and as many that are unknown.
    pub keys_max: u64,
    /// How long one lookup may take, waiting for a connection included; at most a second.
    #[serde(with = "humantime_serde")]
    pub lookup_timeout: Duration,
    /// How long the directory is left alone after two failed lookups in a row, at most a second:
    /// meanwhile nobody hears of a revocation.
    #[serde(with = "humantime_serde")]
    pub back_off: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys_max: 100_000,
            lookup_timeout: Duration::from_millis(900),
            back_off: Duration::from_secs(1),
        }
    }
}

/// Tells who calls. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    directory: Box<dyn Directory>,
    lookup_timeout: Duration,
    back_off: Duration,
    known: Cache<Digest, Arc<Slot>>,
    unknown: Cache<Digest, Arc<Slot>>,
    failures: Mutex<Failures>,
    behind: TaskTracker,
}

/// The lookups of any key that failed since the last one that was answered.
#[derive(Clone, Copy, Default)]
struct Failures {
    /// When the last of them failed.
    last: Option<Instant>,
    /// Whether that one began after another had failed. Those that fail together count as one: what
    /// broke them may have been over in a moment.
    in_a_row: bool,
}

/// What is known of one key.
#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Answer>>,
    /// When a lookup of it last failed.
    failed_at: Mutex<Option<Instant>>,
    /// Held by whoever is asking.
    flight: Arc<Flight<()>>,
}

#[derive(Clone)]
struct Answer {
    asked_at: Instant,
    found: Found,
}

#[derive(Clone)]
enum Found {
    Valid(Arc<Callers>),
    Unknown,
    /// The directory knows the key, and says of it what this version does not understand.
    Unreadable,
}

/// The callers that one key can stand for, ready to be handed out.
struct Callers {
    own: Arc<Caller>,
    /// The sandbox side of a live key.
    sandbox: Option<Arc<Caller>>,
}

impl Authenticator {
    /// Looks keys up in the directory's database. `pool` belongs to the role that may call
    /// `directory.authenticate` and nothing else.
    pub fn postgres(pool: PgPool, config: &Config) -> Self {
        Self::new(Postgres(pool), config)
    }

    pub fn new(directory: impl Directory, config: &Config) -> Self {
        let known = Cache::builder()
            .max_capacity(config.keys_max)
            .time_to_idle(STALE)
            .build();
        let unknown = Cache::builder()
            .max_capacity(config.keys_max)
            .time_to_live(UNKNOWN_KEPT)
            .build();
        Self(Arc::new(Inner {
            directory: Box::new(directory),
            lookup_timeout: config.lookup_timeout.min(TIMEOUT_MAX),
            back_off: config.back_off.min(BACK_OFF_MAX),
            known,
            unknown,
            failures: Mutex::default(),
            behind: TaskTracker::new(),
        }))
    }

    /// The caller whose key is in `headers`, in the mode they ask for.
    ///
    /// # Errors
    /// Unauthenticated: `KEY_MISSING`, `KEY_MALFORMED`, `KEY_UNKNOWN`. Forbidden:
    /// `MODE_NOT_ALLOWED`. Invalid: `MODE_UNKNOWN`. Unavailable: `DIRECTORY_UNREACHABLE`,
    /// `KEY_UNREADABLE`.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Fault> {
        let key = presented(headers)?;
        match self.find(&key.digest).await? {
            Found::Valid(callers) => callers.in_mode(headers),
            Found::Unknown => Err(Fault::new(
                Kind::Unauthenticated,
                "KEY_UNKNOWN",
                "this API key opens nothing: it is unknown, revoked or expired, or its principal is disabled",
            )),
            Found::Unreadable => Err(Fault::new(
                Kind::Unavailable,
                "KEY_UNREADABLE",
                "the key stands for something that this server is too old to know; nothing was done, retry",
            )
            .retry_after(self.0.back_off)),
        }
    }

    async fn find(&self, digest: &Digest) -> Result<Found, Fault> {
        let arrival = Instant::now();
        let inner = &self.0;
        let slot = inner.slot(digest);
        if let Some(answer) = slot.answer_since(arrival, FRESH) {
            if arrival.duration_since(answer.asked_at) > REFRESH {
                self.ask_behind(&slot, digest, arrival);
            }
            return Ok(answer.found);
        }
        if inner.is_left_alone(arrival) {
            return slot.stale(arrival).ok_or_else(|| inner.unreachable());
        }
        let _flight = slot.flight.lock().await;
        if let Some(answer) = slot.answer_since(arrival, FRESH) {
            return Ok(answer.found);
        }
        if slot.failed_since(arrival) {
            return slot.stale(arrival).ok_or_else(|| inner.unreachable());
        }
        match inner.ask(&slot, digest).await {
            Ok(found) => Ok(found),
            Err(error) => slot
                .stale(arrival)
                .ok_or_else(|| inner.unreachable().because(error)),
        }
    }

    /// Asks without anybody waiting, unless somebody asks already or the directory is left alone.
    fn ask_behind(&self, slot: &Arc<Slot>, digest: &Digest, now: Instant) {
        let inner = &self.0;
        if inner.is_left_alone(now) {
            return;
        }
        let Ok(flight) = Arc::clone(&slot.flight).try_lock_owned() else {
            return;
        };
        let (inner, slot, digest) = (Arc::clone(inner), Arc::clone(slot), *digest);
        let behind = inner.behind.clone();
        behind.spawn(async move {
            // A failure is kept and logged there.
            inner.ask(&slot, &digest).await.ok();
            drop(flight);
        });
    }
}

impl Inner {
    fn slot(&self, digest: &Digest) -> Arc<Slot> {
        self.known
            .get(digest)
            .unwrap_or_else(|| self.unknown.get_with(*digest, Arc::default))
    }

    /// Asks the directory and keeps its answer. To be called by the holder of the flight alone.
    async fn ask(&self, slot: &Arc<Slot>, digest: &Digest) -> Result<Found, LookupError> {
        let asked_at = Instant::now();
        let answer = match timeout(self.lookup_timeout, self.directory.find(digest)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(LookupError::Unreachable(elapsed.into())),
        };
        let (found, outcome) = match answer {
            Ok(Some(credential)) => {
                let callers = Arc::new(Callers::of(credential));
                (Found::Valid(callers), "known")
            }
            Ok(None) => (Found::Unknown, "unknown"),
            Err(error @ LookupError::Unreadable(_)) => {
                tracing::warn!(cause = crate::status::chain(&error), "cannot read a key");
                (Found::Unreadable, "unreadable")
            }
            Err(error @ LookupError::Unreachable(_)) => {
                metrics::counter!("runledger_auth_lookups_total", "outcome" => "failed")
                    .increment(1);
                tracing::warn!(cause = crate::status::chain(&error), "cannot look a key up");
                let now = Instant::now();
                self.failures().add(asked_at, now);
                slot.set_failed_at(now);
                return Err(error);
            }
        };
        metrics::counter!("runledger_auth_lookups_total", "outcome" => outcome).increment(1);
        *self.failures() = Failures::default();
        slot.set(Answer {
            asked_at,
            found: found.clone(),
        });
        match found {
            Found::Valid(_) => {
                self.known.insert(*digest, Arc::clone(slot));
                self.unknown.invalidate(digest);
            }
            Found::Unknown | Found::Unreadable => {
                self.unknown.insert(*digest, Arc::clone(slot));
                self.known.invalidate(digest);
            }
        }
        Ok(found)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody asks at the moment, because the directory has given no answers of late.
    fn is_left_alone(&self, now: Instant) -> bool {
        let failures = *self.failures();
        failures.in_a_row
            && failures
                .last
                .is_some_and(|failed_at| now < failed_at + self.back_off)
    }

    fn unreachable(&self) -> Fault {
        Fault::new(
            Kind::Unavailable,
            "DIRECTORY_UNREACHABLE",
            "the key cannot be looked up at the moment; nothing was done, retry",
        )
        .retry_after(self.back_off)
    }
}

impl Failures {
    /// A lookup that began at `asked_at` has failed `now`.
    fn add(&mut self, asked_at: Instant, now: Instant) {
        self.in_a_row |= self.last.is_some_and(|failed_at| asked_at > failed_at);
        self.last = Some(now);
    }
}

impl Slot {
    /// The answer, when it was asked for at most `age` before `arrival`.
    fn answer_since(&self, arrival: Instant, age: Duration) -> Option<Answer> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer
            .as_ref()
            .filter(|answer| answer.asked_at + age >= arrival)
            .cloned()
    }

    /// What was known of a key that was valid lately.
    fn stale(&self, arrival: Instant) -> Option<Found> {
        let answer = self.answer_since(arrival, STALE)?;
        let found = Some(answer.found).filter(|found| matches!(found, Found::Valid(_)))?;
        metrics::counter!("runledger_auth_stale_total").increment(1);
        Some(found)
    }

    /// Whether a lookup has failed since `arrival`.
    fn failed_since(&self, arrival: Instant) -> bool {
        self.failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|failed_at| failed_at > arrival)
    }

    fn set_failed_at(&self, at: Instant) {
        *self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

impl Callers {
    fn of(credential: Credential) -> Self {
        let key_mode = credential.mode;
        let (tenant, tenant_name) = credential.tenant.unzip();
        let own = Caller {
            principal: credential.principal,
            name: credential.name,
            scope: tenant.map(|tenant| Scope {
                tenant,
                mode: key_mode,
            }),
            tenant_name,
            mode: key_mode,
            key: credential.key,
            limits: credential.limits,
            kill_switch: credential.kill_switch,
        };
        let sandbox = (key_mode == Mode::Live).then(|| {
            let scope = tenant.map(|tenant| Scope {
                tenant,
                mode: Mode::Sandbox,
            });
            Arc::new(Caller {
                scope,
                mode: Mode::Sandbox,
                ..own.clone()
            })
        });
        Self {
            own: Arc::new(own),
            sandbox,
        }
    }

    fn in_mode(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Fault> {
        let Some(asked) = headers.get(MODE_HEADER) else {
            return Ok(Arc::clone(&self.own));
        };
        let asked = asked
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Mode>().ok())
            .ok_or_else(|| {
                Fault::new(
                    Kind::Invalid,
                    "MODE_UNKNOWN",
                    format!("{MODE_HEADER} must be live or sandbox, or left out"),
                )
            })?;
        match (asked, &self.sandbox) {
            (asked, _) if asked == self.own.mode => Ok(Arc::clone(&self.own)),
            (Mode::Sandbox, Some(sandbox)) => Ok(Arc::clone(sandbox)),
            (Mode::Live | Mode::Sandbox, _) => Err(Fault::new(
                Kind::Forbidden,
                "MODE_NOT_ALLOWED",
                "a test key opens the sandbox alone; use a live key to reach live",
            )),
        }
    }
}

/// The key that `headers` present.
fn presented(headers: &HeaderMap) -> Result<Key, Fault> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else {
        return Err(Fault::new(
            Kind::Unauthenticated,
            "KEY_MISSING",
            "send an API key in the metadata: authorization: Bearer rl_…",
        ));
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")))
        .and_then(|text| Key::parse(text).ok())
        .ok_or_else(|| {
            Fault::new(
                Kind::Unauthenticated,
                "KEY_MALFORMED",
                "the metadata authorization must be Bearer and an API key: rl_live_ or rl_test_ and 64 lowercase hexadecimal digits",
            )
        })
}

#[cfg(test)]
mod tests;
