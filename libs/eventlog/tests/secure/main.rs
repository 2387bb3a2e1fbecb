//! Kafka over TLS and with SASL, against a broker that wants them: `make test-tls`.

#![cfg(test)]

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use runledger_domain::log::{Family, Partition};
use runledger_domain::time::SystemClock;
use runledger_eventlog::kafka::{Config, Kafka, Mechanism, Protocol, Security};
use runledger_eventlog::{Error, Log as _};
use runledger_testkit::{eventually, topic_prefix};

const PATIENCE: Duration = Duration::from_secs(20);
const USER: &str = "runledger";
const PASSWORD: &str = "runledger-dev";

/// Where the broker listens, as `deploy/dev/stack run secure` says.
#[expect(
    clippy::disallowed_methods,
    reason = "tests learn from the environment which stack is theirs"
)]
fn said(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make test-tls`"))
}

fn config(brokers: &str, security: Security) -> Config {
    Config {
        brokers: said(brokers),
        prefix: topic_prefix("secure"),
        partitions: 1,
        request_timeout: Duration::from_secs(3),
        security,
        ..Config::default()
    }
}

fn tls() -> Security {
    Security {
        protocol: Protocol::Tls,
        ca_file: Some(PathBuf::from(said("RUNLEDGER_TEST_KAFKA_CA"))),
        ..Security::default()
    }
}

fn signed_in(mechanism: Mechanism, password: &str) -> Security {
    Security {
        protocol: Protocol::SaslTls,
        mechanism: Some(mechanism),
        user: Some(USER.to_owned()),
        password: Some(password.into()),
        ..tls()
    }
}

/// What was logged so far, by all tests of this process.
static LOGGED: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let logged = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer(Arc::clone(&logged));
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    logged
});

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the topics, which appends a first record to each, and reads one back.
async fn is_let_in(config: Config) {
    let log = Kafka::connect(&config).unwrap();
    log.create(&[Family::Run], &SystemClock).await.unwrap();
    let partition = Partition {
        family: Family::Run,
        number: 0,
    };
    assert_eq!(log.read(partition, 0, 10).await.unwrap().len(), 1);
    eventually(PATIENCE, async || {
        if log.healthy() {
            Ok(())
        } else {
            Err("not healthy")
        }
    })
    .await;
}

/// Nothing is made, nobody is told that all is well, and the log says why.
async fn is_kept_out(config: Config, why: &str) {
    let logged = Arc::clone(&LOGGED);
    let log = Kafka::connect(&config).unwrap();
    let refused = log.create(&[Family::Run], &SystemClock).await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(!log.healthy());
    eventually(PATIENCE, async || {
        let logged = String::from_utf8_lossy(&logged.lock().unwrap()).into_owned();
        if logged.contains(why) {
            Ok(())
        } else {
            Err(logged)
        }
    })
    .await;
}

#[tokio::test]
async fn over_tls() {
    is_let_in(config("RUNLEDGER_TEST_KAFKA_TLS", tls())).await;
}

#[tokio::test]
async fn over_tls_with_a_password_that_is_never_sent() {
    let scram = signed_in(Mechanism::ScramSha256, PASSWORD);
    is_let_in(config("RUNLEDGER_TEST_KAFKA_SASL", scram)).await;
}

#[tokio::test]
async fn over_tls_with_a_password() {
    let plain = signed_in(Mechanism::Plain, PASSWORD);
    is_let_in(config("RUNLEDGER_TEST_KAFKA_SASL", plain)).await;
}

#[tokio::test]
async fn a_broker_that_nobody_vouches_for() {
    let trusting_others = Security {
        ca_file: None,
        ..tls()
    };
    let config = config("RUNLEDGER_TEST_KAFKA_TLS", trusting_others);
    is_kept_out(config, "certificate verify failed").await;
}

#[tokio::test]
async fn a_wrong_password() {
    let wrong = signed_in(Mechanism::ScramSha256, "wrong");
    let config = config("RUNLEDGER_TEST_KAFKA_SASL", wrong);
    is_kept_out(config, "SASL authentication error").await;
}

#[tokio::test]
async fn a_client_that_does_not_seal() {
    let config = config("RUNLEDGER_TEST_KAFKA_TLS", Security::default());
    // The broker hangs up; that is all a client without TLS can know.
    is_kept_out(config, "brokers are down").await;
}
