//! The house on a stack of its own, behind proxies, and what befalls it.

use std::time::{Duration, Instant};

use runledger_domain::log::{Family, Partition};
use runledger_eventlog::Log as _;
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_testkit::eventually;
use runledger_tests::{Component, Installation, Kind, OwnStack, Proxy};

use crate::script::{Fault, Step};

/// Partitions of each topic, as the installation makes them.
pub(crate) const PARTITIONS: u32 = 4;
/// The families that the read model is made of.
const FAMILIES: [Family; 3] = [Family::Run, Family::Message, Family::Schedule];
/// Longer than a member of the group may be silent, so that its partitions go to the other.
const FROZEN: Duration = Duration::from_secs(9);
/// How long the network is slow or mute, and how slow.
const TROUBLE: Duration = Duration::from_secs(3);
const LATENCY: Duration = Duration::from_millis(40);
/// How much history an older Postgres lacks.
const LACKING: Duration = Duration::from_secs(4);
/// How long the read model may take to hold all that is in the log.
const CATCH_UP: Duration = Duration::from_secs(300);

/// What no fault excuses: a panic, an internal fault, a connection that was given back to its pool
/// inside a transaction.
const NEVER: [&str; 3] = [
    "panicked",
    "internal fault",
    "there is already a transaction in progress",
];

pub(crate) struct Stage {
    // Dropped in this order: processes before what they lean on.
    pub(crate) installation: Installation,
    kafka: Proxy,
    postgres: Proxy,
    stack: OwnStack,
    seed: u64,
}

impl Stage {
    /// Starts all of it: two projectors, two apis, one ingest, one directory.
    pub(crate) async fn set(seed: u64) -> Self {
        let began = Instant::now();
        let (to_kafka, to_postgres) = (Proxy::bind().await, Proxy::bind().await);
        let advertised = to_kafka.local_addr().expect("its address").port();
        let stack = OwnStack::start_behind("faults", Some(advertised)).await;
        let kafka = Proxy::start(to_kafka, stack.port(Component::Kafka));
        let postgres = Proxy::start(to_postgres, stack.port(Component::Postgres));
        // The roles go through the proxies; who judges them does not.
        let extra = [
            (
                "RUNLEDGER_KAFKA__BROKERS",
                format!("127.0.0.1:{}", kafka.port()),
            ),
            ("RUNLEDGER_DATABASE__PORT", postgres.port().to_string()),
            ("RUNLEDGER_KEYS__PORT", postgres.port().to_string()),
        ];
        let extra = extra.map(|(name, value)| (name.to_owned(), value));
        let addresses = stack.addresses();
        let mut installation = Installation::start_on(addresses, "faults", extra.to_vec()).await;
        installation.run(Kind::Projector, 1);
        installation.run(Kind::Api, 1);
        installation.serves(Kind::Api, 1).await;
        crate::at(began, "the house stands");
        Self {
            installation,
            kafka,
            postgres,
            stack,
            seed,
        }
    }

    /// Lets one fault befall the house. Whatever is taken away is back when this returns, though
    /// it may not have recovered.
    pub(crate) async fn befall(&mut self, step: &Step) {
        let Step { target, lasts, .. } = *step;
        match step.fault {
            Fault::IngestKilled => self.kill(Kind::Ingest, 0, lasts).await,
            Fault::DirectoryKilled => self.kill(Kind::Directory, 0, lasts).await,
            Fault::ProjectorKilled => self.kill(Kind::Projector, target, lasts).await,
            Fault::ApiKilled => self.kill(Kind::Api, target, lasts).await,
            Fault::ProjectorFrozen => {
                self.installation
                    .signal(Kind::Projector, target, "STOP")
                    .await;
                tokio::time::sleep(FROZEN).await;
                self.installation
                    .signal(Kind::Projector, target, "CONT")
                    .await;
            }
            Fault::KafkaKilled => self.restart(Component::Kafka, "KILL").await,
            Fault::KafkaRestarted => self.restart(Component::Kafka, "TERM").await,
            Fault::PostgresRestarted => self.restart(Component::Postgres, "INT").await,
            Fault::PostgresCrashed => self.restart(Component::Postgres, "QUIT").await,
            Fault::KafkaTorn => self.kafka.tear(),
            Fault::PostgresTorn => self.postgres.tear(),
            Fault::KafkaSlow => slow(&self.kafka).await,
            Fault::PostgresSlow => slow(&self.postgres).await,
            Fault::KafkaMute => mute(&self.kafka).await,
            Fault::PostgresMute => mute(&self.postgres).await,
            Fault::PostgresPutBack => {
                self.stack.stop(Component::Postgres, "INT").await;
                self.stack.keep_postgres().await;
                self.stack.up().await;
                tokio::time::sleep(LACKING).await;
                self.stack.stop(Component::Postgres, "INT").await;
                self.stack.put_back_postgres().await;
                self.stack.up().await;
            }
        }
    }

    async fn kill(&mut self, kind: Kind, number: u32, away: Duration) {
        self.installation.take(kind, number).kill().await;
        tokio::time::sleep(away).await;
        self.installation.run(kind, number);
    }

    async fn restart(&self, component: Component, signal: &str) {
        self.stack.stop(component, signal).await;
        self.stack.up().await;
    }

    /// Lets ingest put away what is under way, and waits until the read model holds all that is in
    /// the log. Nothing can come to be there after that.
    pub(crate) async fn settle(&mut self) {
        self.installation.take(Kind::Ingest, 0).stop().await;
        let config = Config {
            brokers: format!("127.0.0.1:{}", self.stack.port(Component::Kafka)),
            prefix: self.installation.prefix().to_owned(),
            ..Config::default()
        };
        let log = Kafka::connect(&config).expect("a log");
        let database = self.installation.database.admin();
        for family in FAMILIES {
            for number in 0..PARTITIONS {
                let partition = Partition { family, number };
                eventually(CATCH_UP, async || {
                    let end = log
                        .watermark(partition)
                        .await
                        .map_err(|error| error.to_string())?;
                    let next: Option<i64> = sqlx::query_scalar(
                        "SELECT next_offset FROM runs.cursors WHERE (family, partition) = ($1, $2)",
                    )
                    .bind(family.as_str())
                    .bind(i32::try_from(number).expect("a small number"))
                    .fetch_optional(&database)
                    .await
                    .map_err(|error| error.to_string())?;
                    match next {
                        Some(next) if u64::try_from(next) == Ok(end) => Ok(()),
                        _ => Err(format!(
                            "{partition} ends at {end}, the cursor is at {next:?}"
                        )),
                    }
                })
                .await;
            }
        }
    }

    /// What the processes said that none of them should ever say, and nothing a client sees tells.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.installation.folder.path()).expect("the logs");
        let mut complaints = Vec::new();
        for entry in folder {
            let path = entry.expect("a log").path();
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            for never in NEVER {
                if let Some(line) = said.lines().find(|line| line.contains(never)) {
                    let name = path.file_name().unwrap_or_default().display();
                    complaints.push(format!("{name} says: {line}"));
                }
            }
        }
        complaints
    }

    /// How often a projector was refused because another had moved its cursor.
    pub(crate) fn refusals(&self) -> usize {
        let refused = |number: u32| {
            let log = self
                .installation
                .folder
                .path()
                .join(format!("projector-{number}.log"));
            let said = std::fs::read_to_string(log).unwrap_or_default();
            said.matches("another process has moved this cursor")
                .count()
        };
        refused(0) + refused(1)
    }
}

impl Drop for Stage {
    /// A failed story leaves all logs, and says how to tell it again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.stack.keep_logs(self.installation.folder.path());
            crate::say(format_args!("RUNLEDGER_FAULTS_SEED={}", self.seed));
        }
    }
}

async fn slow(proxy: &Proxy) {
    proxy.delay(LATENCY);
    tokio::time::sleep(TROUBLE).await;
    proxy.delay(Duration::ZERO);
}

/// Answers are held back and then lost: what they say was done all the same.
async fn mute(proxy: &Proxy) {
    proxy.hold_answers(true);
    tokio::time::sleep(TROUBLE).await;
    proxy.tear();
    proxy.hold_answers(false);
}
