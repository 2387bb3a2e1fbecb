use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// How long a role may take to drain after it was asked to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// A role of the real binary, with its log in a file. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `runledger <arguments>`.
    ///
    /// # Panics
    /// When the binary is not there.
    pub fn start(
        name: &str,
        arguments: &[&str],
        environment: &[(String, String)],
        folder: &Path,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let child = Command::new(binary())
            .args(arguments)
            .envs(environment.iter().cloned())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary `runledger` beside the tests; `make test` builds it");
        Self {
            name: name.into(),
            child,
            log,
        }
    }

    /// kill -9: no chance to tidy up.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a living process");
    }

    /// Asks it to stop and waits until it has drained.
    ///
    /// # Panics
    /// When it does not, or not cleanly.
    pub async fn stop(mut self) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(DRAIN, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => {}
            other => panic!(
                "{} did not stop cleanly: {other:?}\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// Sends a signal by name, for example `STOP`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a living process");
        crate::signal::send(&id.to_string(), signal).await;
    }

    /// Waits for it to end by itself; returns what it printed.
    pub async fn output(self) -> String {
        let name = self.name.clone();
        let (succeeded, said) = self.end().await;
        assert!(succeeded, "{name} failed:\n{said}");
        said
    }

    /// Waits for it to end by itself; whether it succeeded, and what it printed.
    pub async fn end(self) -> (bool, String) {
        let (status, said) = self.status().await;
        (status == Some(0), said)
    }

    /// The same with its exit status; a signal leaves none.
    pub async fn status(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().await.expect("an end");
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        (status.code(), said)
    }

    /// Fails when it has ended.
    ///
    /// # Panics
    /// When it has ended.
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("its state");
        assert!(
            ended.is_none(),
            "{} ended by itself: {ended:?}\n{}",
            self.name,
            self.tail()
        );
    }

    /// All that it and those of its name before it have logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what it logged.
    pub fn tail(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// The binary that was built beside the tests: `target/<profile>/runledger`.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps");
    profile.join("runledger")
}
