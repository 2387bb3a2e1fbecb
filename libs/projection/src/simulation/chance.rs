//! What goes wrong, how often it did, and the first promise that was broken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runledger_domain::time::{Clock, Timestamp};
use runledger_testkit::Scheduler;
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long what happens by chance goes on happening.
const TROUBLE: Duration = Duration::from_secs(30);

/// What is done to the loop, and what of it must be seen to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fault {
    AppendRefused,
    AcknowledgedLate,
    AcknowledgementLost,
    RecordLost,
    LandedLate,
    LogAway,
    DealHeardLate,
    Shuffled,
    ProcessFrozen,
    WorkerFrozen,
    DriverFrozen,
    Killed,
    Restarted,
    Joined,
    ClockSet,
    CallRefused,
    CallSlow,
    CallSilent,
    Aborted,
    AnswerLost,
    CommittedLate,
    CommitSilent,
    TransactionLeft,
    StoreRestarted,
    StoreRestored,
    Switched,
    /// Not done but seen: a cursor did not stand where the loop had it.
    GuardRefused,
    /// Seen: a transaction waited for another's rows.
    WaitedForRow,
    /// Seen: a member was taken for dead while it was not.
    Expelled,
    /// Seen: a record came twice.
    Copied,
    /// Seen: a decision was void.
    Void,
}

impl Fault {
    pub(super) const ALL: [Self; 31] = [
        Self::AppendRefused,
        Self::AcknowledgedLate,
        Self::AcknowledgementLost,
        Self::RecordLost,
        Self::LandedLate,
        Self::LogAway,
        Self::DealHeardLate,
        Self::Shuffled,
        Self::ProcessFrozen,
        Self::WorkerFrozen,
        Self::DriverFrozen,
        Self::Killed,
        Self::Restarted,
        Self::Joined,
        Self::ClockSet,
        Self::CallRefused,
        Self::CallSlow,
        Self::CallSilent,
        Self::Aborted,
        Self::AnswerLost,
        Self::CommittedLate,
        Self::CommitSilent,
        Self::TransactionLeft,
        Self::StoreRestarted,
        Self::StoreRestored,
        Self::Switched,
        Self::GuardRefused,
        Self::WaitedForRow,
        Self::Expelled,
        Self::Copied,
        Self::Void,
    ];
}

pub(super) type Counts = BTreeMap<Fault, u64>;

/// The chance of one story.
pub(super) struct Chance {
    pub(super) scheduler: Scheduler,
    state: Mutex<State>,
    broken: Mutex<Option<String>>,
    told: Notify,
}

struct State {
    /// Nothing goes wrong any more.
    calm: bool,
    /// One in so many; 0: never in this story.
    odds: BTreeMap<Fault, u64>,
    counts: Counts,
    clock_ahead_s: i64,
}

impl Chance {
    /// Each story has its own weather: some faults often, others never.
    pub(super) fn new(scheduler: Scheduler) -> Arc<Self> {
        let drawn = |_: &Fault| match scheduler.draw(0..6) {
            0 | 1 => 0,
            2 => 60,
            3 => 20,
            4 => 8,
            _ => 3,
        };
        let odds = Fault::ALL.into_iter().map(|one| (one, drawn(&one)));
        let state = State {
            calm: false,
            odds: odds.collect(),
            counts: Counts::new(),
            clock_ahead_s: 0,
        };
        Arc::new(Self {
            scheduler,
            state: Mutex::new(state),
            broken: Mutex::default(),
            told: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this goes wrong now.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let is_over = self.lock().calm || self.scheduler.elapsed() > TROUBLE;
        let odds = if is_over { 0 } else { self.odds(fault) };
        let strikes = odds > 0 && self.draw(0..odds) == 0;
        if strikes {
            self.saw(fault);
        }
        strikes
    }

    pub(super) fn odds(&self, fault: Fault) -> u64 {
        self.lock().odds.get(&fault).copied().unwrap_or_default()
    }

    pub(super) fn saw(&self, fault: Fault) {
        *self.lock().counts.entry(fault).or_default() += 1;
        self.scheduler.note((fault, self.scheduler.elapsed()));
    }

    pub(super) fn calm_down(&self) {
        let mut state = self.lock();
        state.calm = true;
        state.clock_ahead_s = 0;
    }

    pub(super) fn set_clock(&self, ahead_s: i64) {
        self.lock().clock_ahead_s = ahead_s;
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    pub(super) fn draw(&self, from: std::ops::Range<u64>) -> u64 {
        self.scheduler.draw(from)
    }

    /// One of them, if there is any.
    pub(super) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.draw(0..from.len() as u64) as usize)
    }

    /// Up to so many milliseconds, most often few.
    pub(super) async fn pause(&self, longest_ms: u64) {
        let longest = longest_ms >> self.draw(0..5);
        let drawn = self.draw(0..longest + 1);
        // A sleep of nothing would still cost a turn.
        if drawn > 0 {
            sleep(Duration::from_millis(drawn)).await;
        }
    }

    pub(super) async fn rest(&self, from_ms: u64, to_ms: u64) {
        sleep(Duration::from_millis(self.draw(from_ms..to_ms))).await;
    }

    /// A promise was broken; the first counts and ends the story.
    pub(super) fn broke(&self, promise: impl FnOnce() -> String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_none() {
            *broken = Some(format!("at {:?}: {}", self.scheduler.elapsed(), promise()));
            self.told.notify_one();
        }
    }

    /// Waits until a promise is broken.
    pub(super) async fn broken(&self) -> String {
        loop {
            self.told.notified().await;
            let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(promise) = broken.clone() {
                return promise;
            }
        }
    }
}

/// The clock of the processes, which may be set.
pub(super) struct Watch(pub(super) Arc<Chance>);

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_secs(self.0.lock().clock_ahead_s.unsigned_abs());
        let now = Timestamp::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let now = now + self.0.scheduler.elapsed();
        if self.0.lock().clock_ahead_s < 0 {
            now - ahead
        } else {
            now + ahead
        }
    }
}
