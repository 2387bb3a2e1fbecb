//! One story: who writes, what goes wrong and when, and what must be true in the end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use runledger_domain::ids::{PrincipalId, RecordId, RunId};
use runledger_domain::log::{Author, Kind, Record, Stream};
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::Timestamp;
use runledger_eventlog::{Entry, Log as _, Outcome};
use runledger_testkit::{Scheduler, Told};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::book;
use super::chance::{Chance, Counts, Fault};
use super::database::Database;
use super::log::{Broker, Client, partition};
use super::process::{House, Process};
use super::switch::switch;
use crate::looping::Options;

/// How long a story may take by its own time.
const STORY: Duration = Duration::from_secs(3_600);
/// How long what goes wrong goes on, in milliseconds.
const TROUBLE_MS: u64 = 20_000;
/// How long after the last trouble the loop may take to read all there is. A silent database alone
/// is listened to for a minute.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(200);
const STOPS_WITHIN: Duration = Duration::from_secs(100);
/// Most processes of one name each.
const INSTANCES: [&str; 4] = ["a", "b", "c", "d"];

/// What was seen, or the first promise that was broken.
pub(super) type Ending = Result<Counts, String>;

pub(super) fn tell(seed: u64) -> Told<Ending> {
    Scheduler::tell(seed, STORY, |scheduler| async move {
        let chance = Chance::new(scheduler);
        let plot = Plot::new(&chance);
        tokio::select! {
            biased;
            promise = chance.broken() => Err(promise),
            () = plot.play() => Ok(chance.counts()),
        }
    })
}

struct Plot {
    house: House,
    cast: Mutex<Vec<Arc<Process>>>,
    acknowledged: Mutex<BTreeSet<(u32, book::Identity)>>,
}

impl Plot {
    fn new(chance: &Arc<Chance>) -> Self {
        let broker = Broker::new(Arc::clone(chance));
        let options = Options {
            name: "simulated".to_owned(),
            instance: String::new(),
            batch_records: *chance.pick(&[1, 4, 8, 30]).unwrap_or(&8),
            batch_bytes: 1 << 20,
            gather: Duration::from_millis(*chance.pick(&[0, 2, 30]).unwrap_or(&0)),
            queue_records: *chance.pick(&[2, 10, 100]).unwrap_or(&10),
            queue_bytes: 1 << 20,
            parked_records_max: 0,
            parked_streams_max: 0,
        };
        let house = House {
            chance: Arc::clone(chance),
            database: Database::new(Arc::clone(&broker)),
            broker,
            options,
        };
        Self {
            house,
            cast: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }

    async fn play(&self) {
        let (chance, database) = (&self.house.chance, &self.house.database);
        let count = chance.draw(1..4) as usize;
        for instance in INSTANCES.iter().take(count) {
            self.enter(instance);
        }
        let trouble = join_all(self.troubles());
        let work = join_all(self.works());
        tokio::join!(trouble, work);
        chance.calm_down();
        for instance in INSTANCES.iter().take(1) {
            if !self.is_on_stage(instance) {
                self.enter(instance);
            }
        }
        let deadline = Instant::now() + CATCHES_UP_WITHIN;
        while let Some(behind) = database.behind() {
            if Instant::now() > deadline {
                chance.broke(|| format!("not caught up after {CATCHES_UP_WITHIN:?}: {behind}"));
            }
            sleep(Duration::from_millis(500)).await;
        }
        let cast = std::mem::take(&mut *self.cast());
        cast.iter().for_each(|process| process.stop());
        let stopped = async {
            while cast.iter().any(|process| process.is_alive()) {
                sleep(Duration::from_millis(500)).await;
            }
        };
        if timeout(STOPS_WITHIN, stopped).await.is_err() {
            chance.broke(|| format!("not stopped after {STOPS_WITHIN:?}"));
        }
        self.check();
    }

    fn check(&self) {
        let (chance, database) = (&self.house.chance, &self.house.database);
        database.check_rows();
        let acknowledged = self.acknowledged.lock();
        for (number, identity) in &*acknowledged.unwrap_or_else(PoisonError::into_inner) {
            if !database.has_kept(partition(*number), identity) {
                chance.broke(|| format!("{} was acknowledged and is not there", identity.1));
            }
        }
    }

    fn cast(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Process>>> {
        self.cast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on_stage(&self, instance: &str) -> bool {
        let mut cast = self.cast();
        cast.retain(|process| process.is_alive());
        cast.iter().any(|process| process.instance == instance)
    }

    fn enter(&self, instance: &str) {
        let process = self.house.start(instance);
        self.cast().push(process);
    }

    fn anyone(&self) -> Option<Arc<Process>> {
        let mut cast = self.cast();
        cast.retain(|process| process.is_alive());
        self.house.chance.pick(&cast).cloned()
    }
}

/// What goes wrong.
impl Plot {
    fn troubles(&self) -> Vec<BoxFuture<'_, ()>> {
        let chance = &self.house.chance;
        let staged = [
            Fault::LogAway,
            Fault::Shuffled,
            Fault::ProcessFrozen,
            Fault::WorkerFrozen,
            Fault::DriverFrozen,
            Fault::Killed,
            Fault::Restarted,
            Fault::Joined,
            Fault::ClockSet,
            Fault::StoreRestarted,
            Fault::StoreRestored,
            Fault::Switched,
        ];
        let often: Vec<Fault> = staged
            .into_iter()
            .filter(|fault| chance.odds(*fault) > 0)
            .collect();
        let count = chance.draw(0..12);
        let drawn = (0..count).filter_map(|_| chance.pick(&often).copied());
        drawn
            .map(|fault| (fault, chance.draw(0..TROUBLE_MS)))
            .map(|(fault, at)| -> BoxFuture<'_, ()> {
                Box::pin(async move {
                    sleep(Duration::from_millis(at)).await;
                    self.trouble(fault).await;
                })
            })
            .collect()
    }

    async fn trouble(&self, fault: Fault) {
        let House {
            chance,
            broker,
            database,
            ..
        } = &self.house;
        match fault {
            Fault::LogAway => {
                chance.saw(fault);
                broker.set_away(true);
                chance.rest(0, 8_000).await;
                broker.set_away(false);
            }
            Fault::Shuffled => {
                for _ in 0..chance.draw(1..8) {
                    chance.saw(fault);
                    broker.shuffle();
                    chance.pause(2_000).await;
                }
            }
            Fault::ClockSet => {
                chance.saw(fault);
                let off = i64::try_from(chance.draw(0..7_200)).unwrap_or_default();
                chance.set_clock(off - 3_600);
            }
            Fault::StoreRestarted => {
                chance.saw(fault);
                database.set_away(true);
                chance.rest(0, 5_000).await;
                database.set_away(false);
            }
            Fault::StoreRestored => {
                database.back_up();
                chance.rest(100, 10_000).await;
                database.set_away(true);
                chance.rest(0, 2_000).await;
                if database.restore() {
                    chance.saw(fault);
                }
                database.set_away(false);
            }
            Fault::Switched => switch(&self.house, &Process::bystander()).await,
            Fault::Joined => {
                let name = chance.pick(&INSTANCES).copied().unwrap_or_default();
                if !self.is_on_stage(name) {
                    chance.saw(fault);
                    self.enter(name);
                }
            }
            _ => self.trouble_with_one(fault).await,
        }
    }

    async fn trouble_with_one(&self, fault: Fault) {
        let Some(process) = self.anyone() else {
            return;
        };
        let House { chance, broker, .. } = &self.house;
        chance.saw(fault);
        let for_ms = chance.draw(50..15_000);
        match fault {
            Fault::ProcessFrozen => process.freeze(broker, true, true, for_ms).await,
            Fault::WorkerFrozen => process.freeze(broker, true, false, for_ms).await,
            Fault::DriverFrozen => process.freeze(broker, false, true, for_ms).await,
            Fault::Killed => {
                process.kill(broker);
                chance.rest(0, 15_000).await;
            }
            _ => process.stop(),
        }
        if matches!(fault, Fault::Killed | Fault::Restarted) {
            while process.is_alive() {
                sleep(Duration::from_millis(50)).await;
            }
            if !self.is_on_stage(&process.instance) {
                self.enter(&process.instance);
            }
        }
    }
}

/// Who writes.
impl Plot {
    fn works(&self) -> Vec<BoxFuture<'_, ()>> {
        let chance = &self.house.chance;
        let rounds = chance.draw(3..20);
        let pace_ms = chance.draw(1..1_000);
        let mut works: Vec<BoxFuture<'_, ()>> = Vec::new();
        for writer in 0..3 {
            works.push(Box::pin(self.write(writer, rounds, pace_ms)));
        }
        for rival in 0..2 {
            works.push(Box::pin(self.decide(rival, rounds / 2, pace_ms)));
        }
        works
    }

    /// Facts of two streams, and now and then a command; each until it is acknowledged.
    async fn write(&self, writer: u64, rounds: u64, pace_ms: u64) {
        let chance = &self.house.chance;
        for round in 0..rounds {
            let count = chance.draw(1..4);
            let entry = |ordinal: u64| {
                let kind = match chance.draw(0..8) {
                    0 => Kind::Command,
                    _ => Kind::Fact,
                };
                // The same ids in every stream: identity is stream and id.
                let id = (round * 10 + ordinal).into();
                record(&format!("{writer}-{}", ordinal % 2), kind, id)
            };
            let entries = (0..count).map(entry).map(|record| Entry {
                record,
                prev: None,
                trace: None,
            });
            self.append(entries.collect()).await;
            if chance.draw(0..100) == 0 {
                self.house.broker.begin(0);
            }
            chance.pause(pace_ms).await;
        }
    }

    /// One of two who decide on what they have read, and so against each other.
    async fn decide(&self, rival: u64, rounds: u64, pace_ms: u64) {
        let chance = &self.house.chance;
        for round in 0..rounds {
            let id = u128::from(rival * 1_000 + round);
            let record = record("contested", Kind::Decision, id);
            let prev = self.house.broker.chain_head(Broker::number_of(&record));
            chance.pause(pace_ms).await;
            let entry = Entry {
                record,
                prev,
                trace: None,
            };
            self.append(vec![entry]).await;
        }
    }

    async fn append(&self, mut entries: Vec<Entry>) {
        let client = Client {
            broker: Arc::clone(&self.house.broker),
            process: Process::bystander(),
        };
        while !entries.is_empty() {
            let handed = client.append(entries.clone(), Instant::now()).await;
            let outcomes = handed.unwrap_or_else(|_| vec![Outcome::Unknown; entries.len()]);
            let mut outcomes = outcomes.into_iter();
            entries.retain(|entry| match outcomes.next() {
                Some(Outcome::Accepted(_)) => {
                    self.acknowledge(&entry.record);
                    false
                }
                _ => true,
            });
            if !entries.is_empty() {
                self.house.chance.pause(400).await;
            }
        }
    }

    fn acknowledge(&self, record: &Record) {
        // A decision may be void, and a command changes nothing.
        if record.kind == Kind::Fact {
            let identity = (
                record.stream.key(record.scope).into_bytes(),
                record.id.as_uuid(),
            );
            let acknowledged = self.acknowledged.lock();
            let mut acknowledged = acknowledged.unwrap_or_else(PoisonError::into_inner);
            acknowledged.insert((Broker::number_of(record), identity));
        }
    }
}

fn record(run: &str, kind: Kind, id: u128) -> Record {
    let run = RunId::parse(run.to_owned()).expect("a run's id");
    Record {
        id: RecordId::new(Uuid::from_u128(id)),
        scope: Scope {
            tenant: "0192f0c4-0000-7000-8000-000000000001"
                .parse()
                .expect("an id"),
            mode: Mode::Live,
        },
        stream: Stream::run(&run),
        kind,
        type_name: "simulated".into(),
        occurred_at: Timestamp::UNIX_EPOCH,
        recorded_at: Timestamp::UNIX_EPOCH,
        author: Author {
            principal: PrincipalId::new(Uuid::nil()),
            kind: None,
            role: None,
        },
        cause: None,
        request_digest: [0; 32],
        key: None,
        payload: vec![1, 2, 3],
        terms: None,
    }
}
