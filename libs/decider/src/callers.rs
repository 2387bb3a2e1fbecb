//! Who asks: append the command, wait for the decision, answer with what the log says.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use metrics::histogram;
use runledger_domain::decision::Rejection;
use runledger_domain::digest::{self, Digest};
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::RecordId;
use runledger_domain::log::{self, Asked, Position, Record, Stream, Terms};
use runledger_domain::scope::{Actor, Scope};
use runledger_domain::time::{Clock, Timestamp};
use runledger_eventlog::{Entry, Log, Outcome as Appended, Reports};
use runledger_proto::{decode, encode, types};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::outcomes::{Outcome, Outcomes};

/// How long callers wait.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How long a caller waits for the decision when he does not say.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
    /// How long a command may wait for its decision before it is rejected.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
}

/// Largest command, in bytes as stored.
const COMMAND_BYTES_MAX: usize = 256 << 10;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct Command {
    /// Made by the caller: asked again with it, the same is answered.
    pub id: RecordId,
    pub scope: Scope,
    pub stream: Stream,
    pub actor: Actor,
    pub type_name: &'static str,
    pub payload: Vec<u8>,
    pub expected_version: Option<u64>,
    /// Records of other families that the decision has to know of.
    pub at_least: Vec<Position>,
    /// W3C `traceparent`.
    pub trace: Option<String>,
}

impl Command {
    /// What tells a repeat from a reuse of the id. Positions to know of and the deadline are no part
    /// of it: a repeat may know more, and comes later.
    fn digest(&self) -> Digest {
        let version = self.expected_version.map(u64::to_be_bytes);
        digest::of_parts(&[
            self.type_name.as_bytes(),
            version.as_ref().map_or(&[], |version| version.as_slice()),
            &self.payload,
        ])
    }

    fn entry(self, digest: Digest, now: Timestamp, deadline: Duration) -> Entry {
        let patience = TimeDelta::from_std(deadline).unwrap_or(TimeDelta::MAX);
        let record = Record {
            id: self.id,
            scope: self.scope,
            stream: self.stream,
            kind: log::Kind::Command,
            type_name: self.type_name.into(),
            occurred_at: now,
            recorded_at: now,
            author: self.actor.into(),
            cause: None,
            request_digest: digest,
            key: None,
            payload: self.payload,
            terms: Some(Terms::Asked(Asked {
                deadline: now.checked_add_signed(patience).unwrap_or(now),
                expected_version: self.expected_version,
                at_least: self.at_least,
            })),
        };
        Entry {
            record,
            prev: None,
            trace: self.trace,
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Decided {
        position: Position,
        at: Timestamp,
        /// The decision, as it lies in the log.
        type_name: String,
        payload: Vec<u8>,
    },
    Rejected {
        position: Position,
        rejection: Rejection,
    },
    /// It is in the log and not decided yet.
    Pending,
}

/// Appends commands and waits for their decisions. A cheap clone; one poll serves all who wait.
#[derive(Clone)]
pub struct Callers(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    options: Options,
    outcomes: Outcomes,
}

/// One command: on its way, or not.
enum Asking {
    UnderWay {
        digest: Digest,
        told: oneshot::Receiver<Outcome>,
    },
    Refused(Fault),
}

impl Callers {
    /// `pool` signs in as the reader of the decider's schema. Nobody is answered unless
    /// [`Self::follow`] runs.
    pub fn new(log: Arc<dyn Log>, pool: PgPool, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self(Arc::new(Inner {
            log,
            clock,
            options,
            outcomes: Outcomes::new(pool),
        }))
    }

    /// Polls while anybody waits, until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        self.0.outcomes.run(&shutdown).await;
    }

    /// How long to wait for a caller who wants his answer at `asked`.
    pub fn until(&self, asked: Option<Instant>) -> Instant {
        let own = Instant::now() + self.0.options.wait;
        asked.map_or(own, |asked| own.min(asked))
    }

    /// Appends commands, and waits for their decisions: one answer a command, in their order.
    ///
    /// # Errors
    /// Of the whole: nothing was appended. Of one: `APPEND_UNKNOWN`, `COMMAND_ID_REUSED`,
    /// `COMMAND_TOO_LARGE`.
    pub async fn ask(
        &self,
        commands: Vec<Command>,
        until: Instant,
    ) -> Result<Vec<Result<Answer, Fault>>, Fault> {
        let now = self.0.clock.now();
        let mut asking = Vec::with_capacity(commands.len());
        let mut entries = Vec::with_capacity(commands.len());
        for command in commands {
            let digest = command.digest();
            let key = (command.scope, command.stream.clone(), command.id);
            let entry = command.entry(digest, now, self.0.options.deadline);
            if encode::record_bytes(&entry.record) > COMMAND_BYTES_MAX {
                asking.push(Asking::Refused(too_large()));
                continue;
            }
            let told = self.0.outcomes.wait(key).ok_or_else(too_many)?;
            asking.push(Asking::UnderWay { digest, told });
            entries.push(entry);
        }
        if entries.is_empty() {
            let nothing: Reports = Box::pin(async { Vec::new() });
            return Ok(answers(asking, nothing, until).await);
        }
        let handed_over = self.0.log.hand_over(entries, until).await;
        let reports = handed_over.map_err(log_fault)?;
        Ok(answers(asking, reports, until).await)
    }

    /// The outcome of a command that was asked before; waits for it.
    ///
    /// # Errors
    /// Exhausted, `TOO_MANY_WAITING`.
    pub async fn outcome(
        &self,
        scope: Scope,
        stream: Stream,
        id: RecordId,
        until: Instant,
    ) -> Result<Answer, Fault> {
        let told = self.0.outcomes.wait((scope, stream, id));
        match timeout_at(until, told.ok_or_else(too_many)?).await {
            Ok(Ok(outcome)) => answer(outcome),
            Ok(Err(_)) | Err(_) => Ok(Answer::Pending),
        }
    }
}

/// An outcome may be there before the report of the append: a repeat finds the first one's.
async fn answers(
    asking: Vec<Asking>,
    reports: Reports,
    until: Instant,
) -> Vec<Result<Answer, Fault>> {
    let waits = asking.into_iter().map(|asking| async move {
        match asking {
            Asking::Refused(fault) => Err(fault),
            Asking::UnderWay { digest, told } => {
                let told = timeout_at(until, told).await.ok();
                Ok(told.and_then(Result::ok).map(|outcome| (digest, outcome)))
            }
        }
    });
    let begun = Instant::now();
    let appended = async {
        let appended = timeout_at(until, reports).await;
        histogram!("runledger_command_append_seconds").record(begun.elapsed());
        appended
    };
    let (told, appended) = tokio::join!(join_all(waits), appended);
    histogram!("runledger_command_seconds").record(begun.elapsed());
    let mut appended = appended.unwrap_or_default().into_iter();
    let answer = |told: Result<Option<(Digest, Outcome)>, Fault>| {
        let told = told?;
        // One report a command that was handed over, in their order.
        let report = appended.next();
        match (told, report) {
            (Some((digest, outcome)), _) if outcome.request_digest != digest => Err(reused()),
            (Some((_, outcome)), _) => answer(outcome),
            (None, Some(Appended::Accepted(_))) => Ok(Answer::Pending),
            (None, Some(Appended::TooLarge)) => Err(too_large()),
            (None, Some(Appended::Unknown) | None) => Err(append_unknown()),
        }
    };
    told.into_iter().map(answer).collect()
}

fn answer(outcome: Outcome) -> Result<Answer, Fault> {
    let Outcome {
        position,
        at,
        type_name,
        payload,
        ..
    } = outcome;
    if type_name != types::COMMAND_REJECTED {
        return Ok(Answer::Decided {
            position,
            at,
            type_name,
            payload,
        });
    }
    let read = decode::stored_rejection(&type_name, &payload).map_err(Fault::internal)?;
    let (rejection, _) = read.ok_or_else(|| Fault::internal("a rejection of an unknown kind"))?;
    Ok(Answer::Rejected {
        position,
        rejection,
    })
}

fn too_many() -> Fault {
    Fault::new(
        Kind::Exhausted,
        "TOO_MANY_WAITING",
        "more callers wait for decisions than this process holds; nothing was appended, retry",
    )
    .retry_after(Duration::from_millis(500))
}

fn reused() -> Fault {
    Fault::new(
        Kind::AlreadyExists,
        "COMMAND_ID_REUSED",
        "this id was used before for something else; nothing was done, make a new id",
    )
}

fn too_large() -> Fault {
    Fault::new(
        Kind::Invalid,
        "COMMAND_TOO_LARGE",
        "the command is larger than a record may be; nothing was appended",
    )
}

fn append_unknown() -> Fault {
    Fault::new(
        Kind::Unavailable,
        "APPEND_UNKNOWN",
        "nobody knows whether the command is in the log; ask again with the same id, that is always safe",
    )
    .retry_after(Duration::from_millis(500))
}

/// What a caller hears when nothing was handed over to the log.
pub fn log_fault(error: runledger_eventlog::Error) -> Fault {
    if error.is_weather() {
        Fault::new(
            Kind::Unavailable,
            "LOG_UNAVAILABLE",
            "the log cannot be reached, or is busy; nothing was appended, retry",
        )
        .retry_after(Duration::from_millis(500))
        .because(error)
    } else {
        Fault::internal(error)
    }
}
