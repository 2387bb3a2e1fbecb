//! A part of a measurement in a process of its own: roles share the machine in production, never a runtime.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a process may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// This binary with other arguments. Killed when dropped.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// What it logs is appended to `<folder>/<name>.log`.
    pub(super) fn start(
        name: &str,
        arguments: &[&str],
        environment: &[(&str, String)],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path)?;
        let binary = std::env::current_exe().context("the path of this binary")?;
        let child = Command::new(binary)
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { child, log: path })
    }

    /// Waits until something listens at `address`; fails when the process ends before that.
    pub(super) async fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + LISTENS_WITHIN;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the process for {address} ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("nothing listens at {address} after {LISTENS_WITHIN:?}");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until it has done its work; what it said.
    pub(super) async fn succeeds(mut self) -> anyhow::Result<String> {
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "ended with {status}");
        Ok(tokio::fs::read_to_string(&self.log).await?)
    }

    /// Ends it at once: whatever it was doing, its state is in the log and the database.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("ending a process")
    }
}

/// An address of this machine that is free now.
pub(super) async fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(listener.local_addr()?)
}
