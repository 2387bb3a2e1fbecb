use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use runledger_service::client::{Connection, Options, connect_lazy};
use runledger_testkit::{Database, Stack, eventually, topic_prefix};
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::{Clients, Process};

const START: Duration = Duration::from_secs(60);

/// A role, as the binary names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Ingest,
    Directory,
    Projector,
    Api,
    Decider,
    Approvals,
    AuditProjector,
    Audit,
    Forwarder,
    BillingDecider,
    Billing,
    AnalyticsProjector,
    Analytics,
}

impl Kind {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Ingest => &["ingest"],
            Self::Directory => &["directory"],
            Self::Projector => &["runs", "projector"],
            Self::Api => &["runs", "api"],
            Self::Decider => &["approvals", "decider"],
            Self::Approvals => &["approvals", "api"],
            Self::AuditProjector => &["audit", "projector"],
            Self::Audit => &["audit", "api"],
            Self::Forwarder => &["billing", "forwarder"],
            Self::BillingDecider => &["billing", "decider"],
            Self::Billing => &["billing", "api"],
            Self::AnalyticsProjector => &["analytics", "projector"],
            Self::Analytics => &["analytics", "api"],
        }
    }
}

/// All roles as processes of their own, over topics and a database of this story's own.
pub struct Installation {
    processes: BTreeMap<(Kind, u32), Process>,
    ports: BTreeMap<(Kind, u32), u16>,
    pub database: Database,
    prefix: String,
    stack: Stack,
    /// Environment added to every process started from now on.
    pub extra: Vec<(String, String)>,
    /// Logs and working directories.
    pub folder: TempDir,
    /// The first operator's key.
    pub operator: String,
}

impl Installation {
    /// Migrates, bootstraps and starts one process of each role.
    pub async fn start(story: &str) -> Self {
        Self::start_with(story, Vec::new()).await
    }

    /// The same, with more environment for every process.
    pub async fn start_with(story: &str, extra: Vec<(String, String)>) -> Self {
        Self::start_on(Stack::get(), story, extra).await
    }

    /// The same, over this stack.
    pub async fn start_on(stack: Stack, story: &str, extra: Vec<(String, String)>) -> Self {
        let mut installation = Self {
            processes: BTreeMap::new(),
            ports: BTreeMap::new(),
            database: Database::fresh_on(&stack).await,
            prefix: topic_prefix(story),
            stack,
            extra,
            folder: TempDir::with_prefix("runledger-story-").expect("a folder"),
            operator: String::new(),
        };
        installation
            .once("migrate", &["migrate"], "runledger_migrator")
            .await;
        let said = installation
            .once(
                "bootstrap",
                &["directory", "bootstrap"],
                "runledger_directory",
            )
            .await;
        let key = said
            .split_whitespace()
            .find(|word| word.starts_with("rl_live_"));
        installation.operator = key
            .unwrap_or_else(|| panic!("bootstrap printed no key:\n{said}"))
            .to_owned();
        for kind in [Kind::Directory, Kind::Ingest, Kind::Projector, Kind::Api] {
            installation.run(kind, 0);
        }
        for kind in [Kind::Directory, Kind::Ingest, Kind::Api] {
            installation.serves(kind, 0).await;
        }
        installation
    }

    /// Starts the roles of governed calls: so many deciders, and apis.
    pub async fn govern(&mut self, deciders: u32, apis: u32) {
        for number in 0..deciders {
            self.run(Kind::Decider, number);
        }
        for number in 0..apis {
            self.run(Kind::Approvals, number);
        }
        for number in 0..apis {
            self.serves(Kind::Approvals, number).await;
        }
    }

    /// Starts the roles of the audit.
    pub async fn audit(&mut self) {
        self.run(Kind::AuditProjector, 0);
        self.run(Kind::Audit, 0);
        self.serves(Kind::Audit, 0).await;
    }

    /// Starts the roles of billing: so many forwarders and deciders, and an api.
    pub async fn bill(&mut self, forwarders: u32, deciders: u32) {
        for number in 0..forwarders {
            self.run(Kind::Forwarder, number);
        }
        for number in 0..deciders {
            self.run(Kind::BillingDecider, number);
        }
        self.run(Kind::Billing, 0);
        self.serves(Kind::Billing, 0).await;
    }

    /// A connection to a process of a role, with this key.
    pub fn connection(&self, kind: Kind, number: u32, key: &str) -> Connection {
        let options = Options {
            connect_timeout: Duration::from_secs(2),
            ..Options::new(self.url(kind, number), Some(key.to_owned().into()))
        };
        connect_lazy(&options).expect("an address")
    }

    /// Starts a process of a role; `number` tells it from others of the same role, and keeps its
    /// port and its name in the group over restarts.
    pub fn run(&mut self, kind: Kind, number: u32) {
        let mut environment = self.environment(user(kind));
        let port = *self.ports.entry((kind, number)).or_insert_with(free_port);
        if kind == Kind::Projector {
            environment.push(("RUNLEDGER_PROJECTION__NAME".into(), self.projection()));
            environment.push(("RUNLEDGER_PROJECTION__INSTANCE".into(), number.to_string()));
        } else if kind == Kind::Decider {
            environment.push(("RUNLEDGER_BOOKS__NAME".into(), self.decider()));
            environment.push(("RUNLEDGER_BOOKS__INSTANCE".into(), number.to_string()));
        } else if kind == Kind::BillingDecider {
            environment.push(("RUNLEDGER_LEDGER__NAME".into(), self.ledger()));
            environment.push(("RUNLEDGER_LEDGER__INSTANCE".into(), number.to_string()));
        } else if kind == Kind::Forwarder {
            environment.push(("RUNLEDGER_FORWARDING__NAME".into(), self.forwarding()));
            environment.push(("RUNLEDGER_FORWARDING__INSTANCE".into(), number.to_string()));
        } else if kind == Kind::AuditProjector {
            environment.push(("RUNLEDGER_AUDIT__NAME".into(), self.audit_projection()));
            environment.push(("RUNLEDGER_AUDIT__INSTANCE".into(), number.to_string()));
        } else if kind == Kind::AnalyticsProjector {
            environment.push((
                "RUNLEDGER_ANALYTICS__NAME".into(),
                self.analytics_projection(),
            ));
            environment.push(("RUNLEDGER_ANALYTICS__INSTANCE".into(), number.to_string()));
        } else {
            environment.push((
                "RUNLEDGER_SERVER__LISTEN".into(),
                format!("127.0.0.1:{port}"),
            ));
        }
        let name = format!("{kind:?}-{number}").to_lowercase();
        let process = Process::start(&name, kind.arguments(), &environment, self.folder.path());
        self.processes.insert((kind, number), process);
    }

    /// Takes a process out, to be killed, stopped or signalled.
    ///
    /// # Panics
    /// When it is not running.
    pub fn take(&mut self, kind: Kind, number: u32) -> Process {
        self.processes
            .remove(&(kind, number))
            .expect("a running process")
    }

    /// What a running process, and those of its number before it, have logged.
    pub fn said(&self, kind: Kind, number: u32) -> String {
        self.processes[&(kind, number)].said()
    }

    /// Sends a signal by name to a process, for example `STOP`.
    pub async fn signal(&self, kind: Kind, number: u32, signal: &str) {
        self.processes[&(kind, number)].signal(signal).await;
    }

    /// Waits until the role says that it can do its work.
    pub async fn serves(&self, kind: Kind, number: u32) {
        let process = self
            .processes
            .get(&(kind, number))
            .expect("a running process");
        let options = Options::new(self.url(kind, number), None);
        let health = HealthClient::new(connect_lazy(&options).expect("an address"));
        eventually(START, || async {
            let asked = health.clone().check(HealthCheckRequest::default()).await;
            match asked.map(|answer| answer.into_inner().status()) {
                Ok(ServingStatus::Serving) => Ok(()),
                other => Err(format!("{kind:?}: {other:?}\n{}", process.tail())),
            }
        })
        .await;
    }

    /// Fails when a process has ended by itself or any has panicked.
    pub fn assert_unharmed(&mut self) {
        self.processes
            .values_mut()
            .for_each(Process::assert_running);
        for entry in std::fs::read_dir(self.folder.path()).expect("the logs") {
            let path = entry.expect("a log").path();
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            let panicked = said.lines().find(|line| line.contains("panicked"));
            assert_eq!(panicked, None, "{}", path.display());
        }
    }

    /// The prefix of its topics, which is a part of its groups' names too.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn url(&self, kind: Kind, number: u32) -> String {
        format!("http://127.0.0.1:{}", self.ports[&(kind, number)])
    }

    /// Clients of all services with this key.
    pub fn clients(&self, key: &str) -> Clients {
        Clients::new(self, Some(key))
    }

    /// Name of the projection of runs.
    pub fn projection(&self) -> String {
        format!("{}.runs", self.prefix)
    }

    /// What topics are called, and where Kafka is, for those who append to them by hand.
    pub fn kafka(&self) -> (&str, &str) {
        (&self.stack.kafka, &self.prefix)
    }

    /// Runs a people's command, as the projector is configured; whether it succeeded, and what it
    /// printed.
    pub async fn command(&self, number: u32, arguments: &[&str]) -> (bool, String) {
        self.begin(number, arguments).end().await
    }

    /// Begins such a command.
    pub fn begin(&self, number: u32, arguments: &[&str]) -> Process {
        let mut environment = self.environment(user(Kind::Projector));
        environment.push(("RUNLEDGER_PROJECTION__NAME".into(), self.projection()));
        let name = format!("command-{number}");
        Process::start(&name, arguments, &environment, self.folder.path())
    }

    /// Runs a people's command, as the decider is configured; whether it succeeded, and what it
    /// printed.
    pub async fn decider_command(&self, number: u32, arguments: &[&str]) -> (bool, String) {
        let mut environment = self.environment(user(Kind::Decider));
        environment.push(("RUNLEDGER_BOOKS__NAME".into(), self.decider()));
        let name = format!("command-{number}");
        Process::start(&name, arguments, &environment, self.folder.path())
            .end()
            .await
    }

    /// Runs a people's command, as billing's writers are configured; whether it succeeded, and what it
    /// printed.
    pub async fn billing_command(&self, number: u32, arguments: &[&str]) -> (bool, String) {
        let mut environment = self.environment(user(Kind::BillingDecider));
        environment.push(("RUNLEDGER_LEDGER__NAME".into(), self.ledger()));
        environment.push(("RUNLEDGER_FORWARDING__NAME".into(), self.forwarding()));
        let name = format!("command-{number}");
        Process::start(&name, arguments, &environment, self.folder.path())
            .end()
            .await
    }

    fn ledger(&self) -> String {
        format!("{}.billing", self.prefix)
    }

    fn forwarding(&self) -> String {
        format!("{}.billing-forwarder", self.prefix)
    }

    /// Runs a people's command, as the audit's projector is configured; whether it succeeded, and what
    /// it printed.
    pub async fn audit_command(&self, number: u32, arguments: &[&str]) -> (bool, String) {
        let (status, said) = self.audit_status(number, arguments).await;
        (status == Some(0), said)
    }

    /// The same with its exit status.
    pub async fn audit_status(&self, number: u32, arguments: &[&str]) -> (Option<i32>, String) {
        let mut environment = self.environment(user(Kind::AuditProjector));
        environment.push(("RUNLEDGER_AUDIT__NAME".into(), self.audit_projection()));
        let name = format!("command-{number}");
        Process::start(&name, arguments, &environment, self.folder.path())
            .status()
            .await
    }

    /// Starts the roles of analytics.
    pub async fn analytics(&mut self) {
        self.run(Kind::AnalyticsProjector, 0);
        self.run(Kind::Analytics, 0);
        self.serves(Kind::Analytics, 0).await;
    }

    /// Runs a command of people with this key; whether it succeeded, and what it printed.
    pub async fn people(&self, number: u32, arguments: &[&str], key: &str) -> (bool, String) {
        let mut environment = self.environment(user(Kind::Projector));
        environment.push(("RUNLEDGER_KEY".to_owned(), key.to_owned()));
        let database = self.database.config("runledger_admin");
        environment.push((
            "RUNLEDGER_ADMIN_POSTGRES".to_owned(),
            format!(
                "postgres://{}:runledger-dev@{}:{}/{}",
                database.user, database.host, database.port, database.database
            ),
        ));
        for (variable, kind) in [
            ("RUNLEDGER_INGEST_URL", Kind::Ingest),
            ("RUNLEDGER_DIRECTORY_URL", Kind::Directory),
            ("RUNLEDGER_RUNS_URL", Kind::Api),
        ] {
            environment.push((variable.to_owned(), self.url(kind, 0)));
        }
        let name = format!("people-{number}");
        let command = Process::start(&name, arguments, &environment, self.folder.path());
        let (status, said) = command.status().await;
        (status == Some(0), said)
    }

    /// Runs a people's command, as the projector of analytics is configured; whether it succeeded, and
    /// what it printed.
    pub async fn analytics_command(&self, number: u32, arguments: &[&str]) -> (bool, String) {
        let mut environment = self.environment(user(Kind::AnalyticsProjector));
        environment.push((
            "RUNLEDGER_ANALYTICS__NAME".into(),
            self.analytics_projection(),
        ));
        let name = format!("command-{number}");
        let command = Process::start(&name, arguments, &environment, self.folder.path());
        let (status, said) = command.status().await;
        (status == Some(0), said)
    }

    fn analytics_projection(&self) -> String {
        format!("{}.analytics", self.prefix)
    }

    fn audit_projection(&self) -> String {
        format!("{}.audit", self.prefix)
    }

    /// Name of the decider's projection.
    fn decider(&self) -> String {
        format!("{}.approvals", self.prefix)
    }

    /// Migrates again; whether it succeeded, and what it printed.
    pub async fn migrate(&self) -> (bool, String) {
        let environment = self.environment("runledger_migrator");
        let folder = self.folder.path();
        Process::start("migrate-again", &["migrate"], &environment, folder)
            .end()
            .await
    }

    /// Runs a command of the binary to its end; returns what it printed.
    async fn once(&self, name: &str, arguments: &[&str], user: &str) -> String {
        Process::start(name, arguments, &self.environment(user), self.folder.path())
            .output()
            .await
    }

    fn environment(&self, user: &str) -> Vec<(String, String)> {
        let database = self.database.config(user);
        let mut environment = vec![
            ("RUNLEDGER_KAFKA__BROKERS".into(), self.stack.kafka.clone()),
            ("RUNLEDGER_KAFKA__PREFIX".into(), self.prefix.clone()),
            ("RUNLEDGER_DATABASE__PORT".into(), database.port.to_string()),
            (
                "RUNLEDGER_DATABASE__DATABASE".into(),
                database.database.clone(),
            ),
            ("RUNLEDGER_METRICS__LISTEN".into(), "127.0.0.1:0".into()),
            ("RUNLEDGER_KEYS__PORT".into(), database.port.to_string()),
            ("RUNLEDGER_KEYS__DATABASE".into(), database.database.clone()),
            ("RUNLEDGER_OWNER__PORT".into(), database.port.to_string()),
            ("RUNLEDGER_OWNER__DATABASE".into(), database.database),
        ];
        if user == "runledger_migrator" {
            environment.push(("RUNLEDGER_KAFKA__PARTITIONS".into(), "4".into()));
        }
        environment.extend(self.extra.iter().cloned());
        environment
    }
}

impl Drop for Installation {
    /// A failed story leaves its logs, and says where.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("logs are kept in {}", self.folder.path().display());
        }
    }
}

fn user(kind: Kind) -> &'static str {
    match kind {
        Kind::Ingest => "runledger_keys",
        Kind::Directory => "runledger_directory",
        Kind::Projector => "runledger_runs_writer",
        Kind::Api => "runledger_runs_reader",
        Kind::Decider => "runledger_approvals_writer",
        Kind::Approvals => "runledger_approvals_reader",
        Kind::AuditProjector => "runledger_audit_writer",
        Kind::Audit => "runledger_audit_reader",
        Kind::Forwarder | Kind::BillingDecider => "runledger_billing_writer",
        Kind::Billing => "runledger_billing_reader",
        Kind::AnalyticsProjector => "runledger_analytics_writer",
        Kind::Analytics => "runledger_analytics_reader",
    }
}

/// A port that is free now. Below those that systems give to outgoing connections: whoever is down
/// for a while must find his port free when he comes back.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..25_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
