use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Most bytes carried at once in one direction of a connection.
const CHUNK: usize = 128 * 1024;

/// What the road is like for all connections.
#[derive(Clone, Copy, Debug, Default)]
struct Road {
    /// What each piece of data waits, either way.
    latency: Duration,
    /// What the server answers does not come through.
    answers_held: bool,
    /// How often all connections were torn.
    torn: u64,
}

/// A place of one's own on the way to a server: carries connections there, and does to them what
/// networks do. Of one server and for one story; its connections end with it.
pub struct Proxy {
    port: u16,
    road: watch::Sender<Road>,
    _carrier: JoinSet<()>,
}

impl Proxy {
    /// Carries what comes to `listener` to the port `upstream` of this machine.
    ///
    /// # Panics
    /// When the listener has no address.
    pub fn start(listener: TcpListener, upstream: u16) -> Self {
        let port = listener.local_addr().expect("its address").port();
        let (road, seen) = watch::channel(Road::default());
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
        let mut carrier = JoinSet::new();
        carrier.spawn(accept(listener, upstream, seen));
        Self {
            port,
            road,
            _carrier: carrier,
        }
    }

    /// A listener that is not proxied yet.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn bind() -> TcpListener {
        let port = crate::installation::free_port();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("a free port")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections at once, as a reset; new ones are carried.
    pub fn tear(&self) {
        self.road.send_modify(|road| road.torn += 1);
    }

    /// From now on each piece of data waits so long, either way.
    pub fn delay(&self, latency: Duration) {
        self.road.send_modify(|road| road.latency = latency);
    }

    /// While held, requests come through and their answers do not.
    pub fn hold_answers(&self, held: bool) {
        self.road.send_modify(|road| road.answers_held = held);
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, road: watch::Receiver<Road>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, upstream, road.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection to its end. What befalls it is for its two ends to hear.
async fn carry(mut client: TcpStream, upstream: SocketAddr, mut road: watch::Receiver<Road>) {
    let torn = road.borrow().torn;
    // The server is away: the client sees its connection end.
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return;
    };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let was_torn = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = pump(from_client, to_server, road.clone(), false);
        let answers = pump(from_server, to_client, road.clone(), true);
        tokio::select! {
            _ = async { tokio::try_join!(requests, answers) } => false,
            _ = road.wait_for(|road| road.torn != torn) => true,
        }
    };
    if was_torn {
        // A socket closed like this sends a reset; one that is closed already needs none.
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut road: watch::Receiver<Road>,
    answers: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let latency = road.borrow().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if answers && road.wait_for(|road| !road.answers_held).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
