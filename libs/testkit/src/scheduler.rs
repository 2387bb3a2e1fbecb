//! Many tasks on one thread, in an order and in a time drawn from a seed.
//!
//! Whenever several tasks could go on, lots are drawn; time stands still while any can, and then
//! leaps to the next timer. So every `await` of what is simulated is a place where anything else can
//! come first, and one seed tells one story, bit for bit. What is simulated must take its time from
//! tokio and its chance from here: a clock of the machine, a generator of its own or the order of a
//! `HashMap` would make two stories of one seed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher as _};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout};

/// Most turns of one story: beyond it, tasks wake each other without end and time stands still.
const TURNS_MAX: u64 = 5_000_000;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Draws the lots of one story. Clones share them.
#[derive(Clone)]
pub struct Scheduler {
    state: Arc<Mutex<State>>,
    begun: Instant,
}

struct State {
    lots: StdRng,
    history: DefaultHasher,
    turns: u64,
    tasks: u64,
    /// To be polled for the first time.
    spawned: Vec<(u64, Work)>,
    ready: BTreeSet<u64>,
    frozen: BTreeSet<u64>,
    /// To be dropped where it stands.
    killed: Vec<u64>,
    alive: BTreeSet<u64>,
    /// Who polls all of this; `None` while it does.
    sleeper: Option<Waker>,
}

/// How a story ended.
#[derive(Debug)]
pub struct Told<T> {
    /// `None`: not in the time that it was given.
    pub answer: Option<T>,
    /// Of all that happened, in order: the same whenever the seed is told again.
    pub digest: u64,
    pub turns: u64,
}

/// One task of a story.
#[derive(Clone)]
pub struct Task {
    id: u64,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic ends the story; what is left of it may still look.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scheduler {
    /// Tells the story of a seed: runs what `story` makes to its end, for at most `within` of its own
    /// time. Tasks that are left are dropped then.
    ///
    /// # Panics
    /// When a task does, and when time stands still for ever.
    pub fn tell<T, F>(seed: u64, within: Duration, story: impl FnOnce(Self) -> F) -> Told<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        // Jitter is drawn from the thread's generator.
        fastrand::seed(seed);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.unwrap_or_else(|error| panic!("cannot make a runtime: {error}"));
        runtime.block_on(tokio::task::unconstrained(async move {
            let scheduler = Self::new(seed);
            let answer = Arc::new(Mutex::new(None));
            let (told, whole) = (Arc::clone(&answer), story(scheduler.clone()));
            let main = scheduler.spawn(async move {
                let ended = timeout(within, whole).await.ok();
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            });
            let stage = Stage {
                state: Arc::clone(&scheduler.state),
                begun: scheduler.begun,
                main: main.id,
                tasks: BTreeMap::new(),
            };
            stage.await;
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            let state = lock(&scheduler.state);
            Told {
                answer: answer.flatten(),
                digest: state.history.finish(),
                turns: state.turns,
            }
        }))
    }

    fn new(seed: u64) -> Self {
        let state = State {
            lots: StdRng::seed_from_u64(seed),
            history: DefaultHasher::new(),
            turns: 0,
            tasks: 0,
            spawned: Vec::new(),
            ready: BTreeSet::new(),
            frozen: BTreeSet::new(),
            killed: Vec::new(),
            alive: BTreeSet::new(),
            sleeper: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            begun: Instant::now(),
        }
    }

    /// Begins a task; it ends by itself, by [`Task::kill`] or with the story.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Task {
        let mut state = lock(&self.state);
        let id = state.tasks;
        state.tasks += 1;
        state.alive.insert(id);
        state.spawned.push((id, Box::pin(work)));
        state.wake(id);
        Task {
            id,
            state: Arc::clone(&self.state),
        }
    }

    /// One of these numbers; the first of them if there is none.
    pub fn draw(&self, from: Range<u64>) -> u64 {
        if from.is_empty() {
            return from.start;
        }
        lock(&self.state).lots.random_range(from)
    }

    /// Adds to the history that the digest is of.
    pub fn note(&self, what: impl Hash) {
        what.hash(&mut lock(&self.state).history);
    }

    /// How long the story has been going on, by its own time.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Task {
    /// Drops it where it stands, as a process that is killed.
    pub fn kill(&self) {
        let mut state = lock(&self.state);
        if state.alive.remove(&self.id) {
            state.killed.push(self.id);
            state.wake_sleeper();
        }
    }

    /// Lets it stand still while time passes for everybody else.
    pub fn freeze(&self) {
        lock(&self.state).frozen.insert(self.id);
    }

    pub fn thaw(&self) {
        let mut state = lock(&self.state);
        state.frozen.remove(&self.id);
        state.wake_sleeper();
    }

    pub fn is_alive(&self) -> bool {
        lock(&self.state).alive.contains(&self.id)
    }
}

impl State {
    fn wake(&mut self, id: u64) {
        self.ready.insert(id);
        self.wake_sleeper();
    }

    fn wake_sleeper(&mut self) {
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }

    /// Draws who goes on.
    fn next(&mut self, at: Duration) -> Option<u64> {
        let can = |id: &&u64| !self.frozen.contains(id);
        let count = self.ready.iter().filter(can).count();
        if count == 0 {
            return None;
        }
        let lot = if count == 1 {
            0
        } else {
            self.lots.random_range(0..count)
        };
        let drawn = self.ready.iter().filter(can).nth(lot).copied()?;
        self.ready.remove(&drawn);
        self.turns += 1;
        (drawn, at).hash(&mut self.history);
        Some(drawn)
    }
}

struct Call {
    id: u64,
    state: Arc<Mutex<State>>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.state).wake(self.id);
    }
}

/// Where the tasks are; polls them until the main one has ended.
struct Stage {
    state: Arc<Mutex<State>>,
    begun: Instant,
    main: u64,
    tasks: BTreeMap<u64, (Waker, Work)>,
}

impl Stage {
    /// Takes in who is new and drops who was killed; outside the lock, since both may call back.
    fn change(&mut self) {
        loop {
            let mut state = lock(&self.state);
            let (spawned, killed) = (
                std::mem::take(&mut state.spawned),
                std::mem::take(&mut state.killed),
            );
            drop(state);
            if spawned.is_empty() && killed.is_empty() {
                return;
            }
            for (id, work) in spawned {
                let state = Arc::clone(&self.state);
                let waker = Waker::from(Arc::new(Call { id, state }));
                self.tasks.insert(id, (waker, work));
            }
            for id in killed {
                self.tasks.remove(&id);
            }
        }
    }
}

impl Future for Stage {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            this.change();
            let at = this.begun.elapsed();
            let mut state = lock(&this.state);
            let Some(id) = state.next(at) else {
                state.sleeper = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let turns = state.turns;
            drop(state);
            assert!(
                turns < TURNS_MAX,
                "time stands still after {turns} turns, at {at:?}"
            );
            let Some((waker, work)) = this.tasks.get_mut(&id) else {
                continue; // it has ended, or was killed
            };
            let polled = work.as_mut().poll(&mut Context::from_waker(waker));
            if polled.is_ready() {
                this.tasks.remove(&id);
                lock(&this.state).alive.remove(&id);
                if id == this.main {
                    return Poll::Ready(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    /// The order in which three tasks of ten steps come to their turns.
    fn order(seed: u64) -> (Vec<u64>, u64) {
        let told = Scheduler::tell(seed, LONG, |scheduler| async move {
            let (sender, mut steps) = mpsc::unbounded_channel();
            for task in 0..3 {
                let sender = sender.clone();
                scheduler.spawn(async move {
                    for _ in 0..10 {
                        // All of them can go on at the same moment.
                        sleep(Duration::from_millis(1)).await;
                        sender.send(task).unwrap();
                    }
                });
            }
            drop(sender);
            let mut order = Vec::new();
            while let Some(step) = steps.recv().await {
                order.push(step);
            }
            order
        });
        (told.answer.unwrap(), told.digest)
    }

    #[test]
    fn a_seed_tells_one_story_and_another_seed_another() {
        let stories: BTreeSet<_> = (0..50).map(order).collect();
        assert_eq!(stories.len(), 50);
        assert!((0..50).all(|seed| stories.contains(&order(seed))));
    }

    #[test]
    fn the_frozen_stand_still_and_the_killed_are_dropped_where_they_stand() {
        struct Dropped(mpsc::UnboundedSender<&'static str>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.send("dropped").unwrap();
            }
        }
        let told = Scheduler::tell(7, LONG, |scheduler| async move {
            let (sender, mut said) = mpsc::unbounded_channel();
            let killed = Dropped(sender.clone());
            let killed = scheduler.spawn(async move {
                let _killed = killed;
                std::future::pending().await
            });
            let frozen = scheduler.spawn(async move {
                sleep(Duration::from_secs(1)).await;
                sender.send("woke").unwrap();
            });
            sleep(Duration::from_millis(500)).await;
            frozen.freeze();
            sleep(Duration::from_millis(9_500)).await;
            assert!(said.try_recv().is_err(), "nobody moved");
            killed.kill();
            assert_eq!(said.recv().await, Some("dropped"));
            assert!(!killed.is_alive() && frozen.is_alive());
            frozen.thaw();
            (said.recv().await, scheduler.elapsed())
        });
        let (said, elapsed) = told.answer.unwrap();
        assert_eq!((said, elapsed.as_secs()), (Some("woke"), 10));
    }

    #[test]
    fn a_story_that_does_not_end_is_ended() {
        let longer = LONG + Duration::from_secs(1);
        let told = Scheduler::tell(1, LONG, |_| sleep(longer));
        assert!(told.answer.is_none());
    }
}
