//! The proxies do to connections what the harness says they do: it would prove nothing if they
//! did not.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use runledger_tests::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_millis(300);

/// A server that sends back what it hears, a proxy before it, and a client of that.
async fn connected() -> (JoinSet<()>, Proxy, TcpStream) {
    let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let upstream = server.local_addr().unwrap().port();
    let mut echo = JoinSet::new();
    echo.spawn(async move {
        while let Ok((mut one, _)) = server.accept().await {
            let (mut from, mut to) = one.split();
            tokio::io::copy(&mut from, &mut to).await.ok();
        }
    });
    let proxy = Proxy::start(Proxy::bind().await, upstream);
    let client = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    (echo, proxy, client)
}

async fn echoed(client: &mut TcpStream, word: &[u8]) -> std::io::Result<()> {
    client.write_all(word).await?;
    let mut heard = vec![0; word.len()];
    client.read_exact(&mut heard).await?;
    assert_eq!(heard, word);
    Ok(())
}

#[tokio::test]
async fn it_carries_both_ways_and_to_the_end() {
    let (_echo, _proxy, mut client) = connected().await;
    echoed(&mut client, &[7; 1 << 20]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_torn_connection_is_reset_and_the_next_is_carried() {
    let (_echo, proxy, mut client) = connected().await;
    echoed(&mut client, b"before").await.unwrap();
    proxy.tear();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut next = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    echoed(&mut next, b"after").await.unwrap();
}

#[tokio::test]
async fn a_delay_is_felt_either_way() {
    let (_echo, proxy, mut client) = connected().await;
    proxy.delay(SOON);
    let began = Instant::now();
    echoed(&mut client, b"slow").await.unwrap();
    assert!(began.elapsed() >= 2 * SOON);
    proxy.delay(Duration::ZERO);
    let began = Instant::now();
    echoed(&mut client, b"fast").await.unwrap();
    assert!(began.elapsed() < 2 * SOON);
}

#[tokio::test]
async fn a_held_answer_comes_when_it_is_let_go() {
    let (_echo, proxy, mut client) = connected().await;
    proxy.hold_answers(true);
    let mut heard = [0; 4];
    client.write_all(b"mute").await.unwrap();
    let waited = tokio::time::timeout(SOON, client.read_exact(&mut heard)).await;
    assert!(waited.is_err(), "heard {heard:?}");
    proxy.hold_answers(false);
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"mute");
}
