//! A process of the group: its worker and the driver of its subscription, which stand still or die
//! together or apart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runledger_domain::log::Family;
use runledger_testkit::Task;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::chance::{Chance, Fault, Watch};
use super::database::Database;
use super::log::{Broker, Client, SESSION};
use super::store::Connection;
use crate::looping::{Companions, Error, Health, Options, Store as _, Weather, follow};

pub(super) struct Process {
    pub(super) instance: String,
    shutdown: CancellationToken,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    worker: Option<Task>,
    /// The last drives, others are ending.
    drivers: Vec<Task>,
    seat: Option<u64>,
}

/// What processes share.
#[derive(Clone)]
pub(super) struct House {
    pub(super) chance: Arc<Chance>,
    pub(super) broker: Arc<Broker>,
    pub(super) database: Arc<Database>,
    pub(super) options: Options,
}

impl House {
    /// Begins a process of this name.
    pub(super) fn start(&self, instance: &str) -> Arc<Process> {
        let process = Arc::new(Process {
            instance: instance.to_owned(),
            shutdown: CancellationToken::new(),
            parts: Mutex::default(),
        });
        let (house, own) = (self.clone(), Arc::clone(&process));
        let worker = self.chance.scheduler.spawn(async move {
            if let Err(error) = house.run(&own).await {
                let told = crate::item::chain(&error);
                house
                    .chance
                    .broke(|| format!("{} stopped: {told}", own.instance));
            }
        });
        process.lock().worker = Some(worker);
        process
    }

    /// As `run` does over Postgres.
    async fn run(&self, process: &Arc<Process>) -> Result<(), Error> {
        let (health, _) = watch::channel(Health::default());
        let shutdown = process.shutdown.clone();
        let weather = Weather::new(health, shutdown.clone());
        let mut store = Connection::new(&self.database, 0);
        let served = || store.served();
        let Some(served) = weather.outlast("read the generation", served).await? else {
            return Ok(());
        };
        store.turn_to(&served);
        let client = Client {
            broker: Arc::clone(&self.broker),
            process: Arc::clone(process),
        };
        let options = Options {
            instance: process.instance.clone(),
            ..self.options.clone()
        };
        let clock = Arc::new(Watch(Arc::clone(&self.chance)));
        let families = &[Family::Run];
        follow(
            Arc::new(client),
            Companions {
                store,
                attendant: (),
            },
            families,
            options,
            clock,
            weather,
            shutdown,
        )
        .await
    }
}

impl Process {
    /// One that only reads the log.
    pub(super) fn bystander() -> Arc<Self> {
        Arc::new(Self {
            instance: "bystander".to_owned(),
            shutdown: CancellationToken::new(),
            parts: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drives(&self, driver: Task) {
        self.lock().drivers.push(driver);
    }

    pub(super) fn sits(&self, seat: Option<u64>) {
        self.lock().seat = seat;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.lock().worker.as_ref().is_some_and(Task::is_alive)
    }

    fn each(&self, worker: bool, drivers: bool, change: fn(&Task)) {
        let parts = self.lock();
        let (of_worker, of_drivers) = (parts.worker.clone(), parts.drivers.clone());
        drop(parts);
        of_worker.iter().filter(|_| worker).for_each(change);
        of_drivers.iter().filter(|_| drivers).for_each(change);
    }

    /// Stands still for a while. A driver that is silent too long is taken for dead.
    pub(super) async fn freeze(&self, broker: &Broker, worker: bool, drivers: bool, for_ms: u64) {
        let whole = Duration::from_millis(for_ms);
        self.each(worker, drivers, Task::freeze);
        if drivers && whole > SESSION {
            sleep(SESSION).await;
            let seat = self.lock().seat;
            if seat.is_some_and(|seat| broker.expel(seat)) {
                broker.chance.saw(Fault::Expelled);
            }
            sleep(whole - SESSION).await;
        } else {
            sleep(whole).await;
        }
        self.each(worker, drivers, Task::thaw);
    }

    /// Ends where it stands; the group hears of it when the session is over.
    pub(super) fn kill(&self, broker: &Arc<Broker>) {
        self.each(true, true, Task::kill);
        if let Some(seat) = self.lock().seat {
            broker.leave(seat);
        }
    }

    pub(super) fn stop(&self) {
        self.shutdown.cancel();
    }
}
