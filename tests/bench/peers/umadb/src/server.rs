//! The server of `UmaDB`, as its own binary starts it, in a process of its own.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long it may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Serves until it is told to stop, or until whoever started it is gone.
pub(crate) fn serve(listen: SocketAddr, folder: &Path) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        // Our end of the pipe that `Server` holds: it closes when that process ends, however it ends.
        let ended = std::io::stdin().read(&mut [0]);
        std::process::exit(i32::from(ended.is_err()));
    });
    let folder = folder.to_str().context("a path that is text")?;
    let listen = listen.to_string();
    let arguments = ["umadb", "--listen", listen.as_str(), "--db-path", folder];
    let options = umadb::parse_cli_options(arguments).map_err(told)?;
    umadb::start_server_with_cli_options(options).map_err(told)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn told(error: Box<dyn std::error::Error>) -> anyhow::Error {
    anyhow!("{error}")
}

/// Killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// A new one over an empty folder, ready for callers.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await?
            .local_addr()?;
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", &address.to_string()])
            .arg(folder)
            // its options have defaults, which nothing around us should change
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting the server")?;
        let mut server = Self { child, address };
        server.listens().await?;
        Ok(server)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LISTENS_WITHIN;
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("the server does not listen after {LISTENS_WITHIN:?}");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server has ended")
    }

    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("ending the server")
    }
}
