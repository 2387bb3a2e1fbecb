use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};
use std::time::Duration;

use runledger_testkit::{Stack, eventually};
use tokio::process::Command;

use crate::installation::free_port;

/// The checkout.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// How long another run of the same story may keep this one waiting.
const TURN: Duration = Duration::from_secs(600);
/// How long a part of the stack may take to end.
const END: Duration = Duration::from_secs(60);

/// What a stack is made of.
#[derive(Clone, Copy, Debug)]
pub enum Component {
    Kafka,
    Postgres,
}

/// A Kafka and a Postgres of one story's own, to be stopped and killed as it likes. Wiped when
/// dropped; what an interrupted story left is wiped by the next.
pub struct OwnStack {
    root: PathBuf,
    ports: [(&'static str, u16); 3],
    /// Where Kafka's clients are told to find it.
    kafka_advertised: u16,
    /// One story at a time in a checkout.
    _turn: File,
}

impl OwnStack {
    /// Starts them on ports that are free now, with the jars that the other stacks use.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start(story: &str) -> Self {
        Self::start_behind(story, None).await
    }

    /// The same, with a Kafka whose clients are told to find it at another port: a proxy's.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start_behind(story: &str, kafka_advertised: Option<u16>) -> Self {
        let shared = shared_root();
        let (root, jars) = (shared.join(story), shared.join("kafka"));
        std::fs::create_dir_all(&root).expect("a folder for the stack");
        std::fs::create_dir_all(&jars).expect("the folder of the jars");
        let turn = turn(&root).await;
        let link = root.join("kafka");
        if !link.exists() {
            std::os::unix::fs::symlink("../kafka", link).expect("a link to the jars");
        }
        let ports = ["KAFKA", "CONTROLLER", "POSTGRES"].map(|name| (name, free_port()));
        let [(_, kafka), ..] = ports;
        let own = Self {
            root,
            ports,
            kafka_advertised: kafka_advertised.unwrap_or(kafka),
            _turn: turn,
        };
        own.run("wipe").await;
        own.up().await;
        own
    }

    /// Where it listens.
    pub fn addresses(&self) -> Stack {
        let [(_, kafka), _, (_, postgres)] = self.ports;
        let url = format!("postgres://runledger_admin:runledger-dev@127.0.0.1:{postgres}");
        Stack {
            kafka: format!("127.0.0.1:{kafka}"),
            postgres: url.parse().expect("an address"),
        }
    }

    /// Starts what does not run, and waits until it is ready.
    pub async fn up(&self) {
        self.run("up").await;
    }

    pub fn port(&self, component: Component) -> u16 {
        let [(_, kafka), _, (_, postgres)] = self.ports;
        match component {
            Component::Kafka => kafka,
            Component::Postgres => postgres,
        }
    }

    /// Ends it by this signal, and waits until it has ended.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn stop(&self, component: Component, signal: &str) {
        let id = self.pid(component);
        self.signal(component, signal).await;
        eventually(END, async || {
            let asked = Command::new("ps")
                .args(["-o", "stat=", "-p", &id])
                .output()
                .await;
            let said = asked.expect("ps").stdout;
            // One that only waits to be reaped has ended.
            if said.is_empty() || said.starts_with(b"Z") {
                Ok(())
            } else {
                Err(format!("{component:?} still runs"))
            }
        })
        .await;
    }

    /// Copies the files of Postgres, which must be stopped, to be put back later.
    ///
    /// # Panics
    /// When they cannot be copied.
    pub async fn keep_postgres(&self) {
        let home = self.postgres_home();
        copy(&home.join("data"), &home.join("kept")).await;
    }

    /// Puts the files back that were copied last. Postgres must be stopped.
    ///
    /// # Panics
    /// When they cannot be copied.
    pub async fn put_back_postgres(&self) {
        let home = self.postgres_home();
        copy(&home.join("kept"), &home.join("data")).await;
    }

    /// Where the cluster lives, as deploy/dev/stack chose it.
    fn postgres_home(&self) -> PathBuf {
        match std::fs::read_to_string(self.root.join("test/postgres.place")) {
            Ok(elsewhere) => PathBuf::from(elsewhere.trim_end()),
            Err(_) => self.root.join("test/postgres"),
        }
    }

    /// Copies what the two said into a folder, since they are wiped. As far as it can be done.
    pub fn keep_logs(&self, folder: &Path) {
        for (logs, name) in [
            (self.root.join("test/kafka/logs"), "kafka"),
            (self.postgres_home().join("logs"), "postgres"),
        ] {
            let copied = Blocking::new("cp")
                .arg("-R")
                .args([logs, folder.join(name)])
                .status();
            if !copied.is_ok_and(|status| status.success()) {
                eprintln!("the logs of {name} could not be kept");
            }
        }
    }

    fn pid(&self, component: Component) -> String {
        let record = match component {
            Component::Kafka => "test/kafka/process",
            Component::Postgres => "test/postgres.process",
        };
        let record = std::fs::read_to_string(self.root.join(record)).expect("its pid");
        record.split(' ').next().expect("its pid").to_owned()
    }

    /// Sends a signal by name, for example `STOP`.
    pub async fn signal(&self, component: Component, signal: &str) {
        crate::signal::send(&self.pid(component), signal).await;
    }

    async fn run(&self, command: &str) {
        let ended = Command::from(self.command(command))
            .output()
            .await
            .expect("deploy/dev/stack");
        assert!(
            ended.status.success(),
            "stack {command}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }

    fn command(&self, command: &str) -> Blocking {
        let mut stack = Blocking::new(Path::new(CHECKOUT).join("deploy/dev/stack"));
        let port = |(name, port): &(&str, u16)| {
            (
                format!("RUNLEDGER_STACK_TEST_{name}_PORT"),
                port.to_string(),
            )
        };
        stack
            .args([command, "test"])
            .env("RUNLEDGER_STACK_ROOT", &self.root)
            .envs(self.ports.iter().map(port))
            .envs([port(&("KAFKA_ADVERTISED", self.kafka_advertised))])
            .stdin(Stdio::null());
        stack
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        match self.command("wipe").output() {
            Ok(ended) if ended.status.success() => {}
            other => eprintln!("could not wipe {}: {other:?}", self.root.display()),
        }
    }
}

/// Copies a folder with all that belongs to its files, in place of what is there.
async fn copy(from: &Path, to: &Path) {
    for (command, paths) in [("rm", vec![to]), ("cp", vec![from, to])] {
        let option = if command == "rm" { "-rf" } else { "-Rp" };
        let ended = Command::new(command).arg(option).args(paths).output().await;
        let ended = ended.expect("cp and rm");
        assert!(
            ended.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }
}

/// Where stacks of this checkout live, as deploy/dev/stack takes it.
fn shared_root() -> PathBuf {
    let root = std::env::var_os("RUNLEDGER_STACK_ROOT").map(PathBuf::from);
    root.unwrap_or_else(|| Path::new(CHECKOUT).join(".dev"))
}

async fn turn(root: &Path) -> File {
    let file = File::create(root.join("turn")).expect("a lock file");
    eventually(TURN, async || match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err("another run of this story goes on".to_owned()),
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    })
    .await;
    file
}
