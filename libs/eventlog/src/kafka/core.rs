//! What Kafka, its keeper and its subscriptions share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use runledger_domain::log::{Family, Genesis, Partition};

use super::config::Config;
use super::producer::Producer;
use super::reader::{self, Reader};
use crate::error::Error;

/// How often the keeper looks after a connection that is in trouble.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the same kind of trouble is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Core {
    pub(super) config: Config,
    pub(super) topics: Topics,
    /// Replaced when it fails for good.
    producer: RwLock<Arc<Producer>>,
    genesis: Mutex<BTreeMap<Family, Arc<[Genesis]>>>,
    reachable: AtomicBool,
    closing: AtomicBool,
    pub(super) bell: Bell,
}

impl Core {
    /// Makes the producer, and starts the keeper: the thread that notices when Kafka is away or
    /// back, and replaces a producer that failed for good.
    pub(super) fn start(config: Config) -> Result<Arc<Self>, Error> {
        config.check()?;
        let (bell, rings) = Bell::new();
        let producer = Producer::new(&config, bell.clone())?;
        let core = Arc::new(Self {
            topics: Topics::new(&config.prefix),
            producer: RwLock::new(Arc::new(producer)),
            genesis: Mutex::default(),
            reachable: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            bell,
            config,
        });
        let kept = Arc::clone(&core);
        std::thread::Builder::new()
            .name("log-keeper".into())
            .spawn(move || kept.keep(&rings))
            .map_err(|error| Error::Refused {
                doing: "starting the log's keeper",
                source: error.into(),
            })?;
        Ok(core)
    }

    /// Lets the keeper end, which lets the producer finish.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.reachable.load(Ordering::Acquire) && !self.producer().is_dead()
    }

    pub(super) fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn known_genesis(&self, family: Family) -> Option<Arc<[Genesis]>> {
        self.genesis
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&family)
            .cloned()
    }

    /// Reads the Genesis records of a family, whether they are known or not. Blocks.
    pub(super) fn load_genesis(&self, family: Family) -> Result<Arc<[Genesis]>, Error> {
        let genesis = Reader::new(&self.config)?.genesis(self.topics.name(family))?;
        let mut known = self.genesis.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(family, Arc::clone(&genesis));
        if before.is_some_and(|before| before != genesis) {
            tracing::error!(%family, "the topic was made anew: cursors and tokens of the old one no longer hold");
        }
        Ok(genesis)
    }

    /// The next offset to be written. Blocks.
    pub(super) fn watermark(&self, partition: Partition) -> Result<u64, Error> {
        let topic = self.topics.name(partition.family);
        let known = self.known_genesis(partition.family);
        if known.is_some_and(|genesis| partition.number as usize >= genesis.len()) {
            return Err(Error::NoPartition(partition));
        }
        let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
        match self
            .producer()
            .watermarks(topic, number, self.config.request_timeout)
        {
            Ok((_, high)) => Ok(u64::try_from(high).unwrap_or_default()),
            Err(error) => Err(reader::fault("reading the watermark", topic, error)),
        }
    }

    fn forget_genesis(&self) {
        self.genesis
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn keep(&self, rings: &Receiver<()>) {
        let mut looked: Option<Instant> = None;
        while !self.closing.load(Ordering::Acquire) {
            if self.producer().is_dead() {
                self.replace_producer();
            }
            if self.producer().takes_stale() {
                self.forget_genesis();
            }
            // Callers in a hurry can ring without end.
            let due = looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
            if due {
                self.look_after();
                looked = Some(Instant::now());
            }
            if due && self.is_healthy() {
                rings.recv().ok();
            } else {
                rings.recv_timeout(LOOK_EVERY).ok();
            }
        }
        self.producer().finish();
    }

    fn replace_producer(&self) {
        self.forget_genesis();
        let new = match Producer::new(&self.config, self.bell.clone()) {
            Ok(new) => Arc::new(new),
            Err(error) => {
                tracing::error!(%error, "no new producer in place of the one that failed; trying again");
                return;
            }
        };
        let old = std::mem::replace(
            &mut *self
                .producer
                .write()
                .unwrap_or_else(PoisonError::into_inner),
            new,
        );
        metrics::counter!("eventlog_producers_replaced_total").increment(1);
        old.give_up();
    }

    fn look_after(&self) {
        let found = self.look();
        let reachable = found == Look::Whole;
        let before = self.reachable.swap(reachable, Ordering::AcqRel);
        if before != reachable {
            tracing::info!(?found, "Kafka or its topics came or went");
        }
        if found == Look::Away {
            // Who knows which Kafka comes back: nobody appends before its Genesis is read.
            self.forget_genesis();
        }
    }

    /// Asks the leaders of all partitions that are known, or of the first if none is, until one
    /// fails: each that hangs takes as long as a request may.
    fn look(&self) -> Look {
        let mut partitions = self.known_partitions();
        if partitions.is_empty() {
            partitions.push(Partition {
                family: Family::Run,
                number: 0,
            });
        }
        let fails = |partition: &Partition| self.watermark(*partition).is_err();
        match partitions.iter().position(fails) {
            None => Look::Whole,
            Some(0) => Look::Away,
            Some(_) => Look::Torn,
        }
    }

    fn known_partitions(&self) -> Vec<Partition> {
        let known = self.genesis.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .flat_map(|(family, genesis)| {
                genesis.iter().map(|genesis| Partition {
                    family: *family,
                    number: genesis.partition,
                })
            })
            .collect()
    }
}

/// What the keeper finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Every leader answers.
    Whole,
    /// Some do.
    Torn,
    /// The first does not.
    Away,
}

/// The names of the topics.
pub(super) struct Topics(Vec<(Family, String)>);

impl Topics {
    fn new(prefix: &str) -> Self {
        Self(
            Family::ALL
                .iter()
                .map(|family| (*family, format!("{prefix}.{family}.v1")))
                .collect(),
        )
    }

    pub(super) fn name(&self, family: Family) -> &str {
        self.0
            .iter()
            .find(|(one, _)| *one == family)
            .map_or("", |(_, name)| name)
    }

    pub(super) fn family(&self, name: &str) -> Option<Family> {
        self.0
            .iter()
            .find(|(_, one)| one == name)
            .map(|(family, _)| *family)
    }
}

/// Wakes the keeper; rung twice before it wakes is rung once.
#[derive(Clone)]
pub(super) struct Bell(SyncSender<()>);

impl Bell {
    fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Self(sender), receiver)
    }

    pub(super) fn ring(&self) {
        self.0.try_send(()).ok();
    }
}

/// Says yes once in a while: for logging trouble that comes in floods.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub(super) fn now(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
