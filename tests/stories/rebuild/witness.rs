use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_proto::run::v1::{GetRunRequest, RunIngestServiceAppendRequest, UsageRecorded};
use runledger_service::client::{Connection, Options, connect_lazy};
use runledger_tests::{Clients, Installation, Kind, Tenant, facts};
use tokio::sync::watch;

/// Writes a run and reads it at once with its token, at every api and as every role; then again.
/// Nothing may be refused, fail or be older than the token.
pub(super) struct Witness {
    name: String,
    clients: Clients,
    /// An agent of one api, a viewer of another.
    readers: Vec<(String, RunsServiceClient<Connection>)>,
    rng: Mutex<StdRng>,
    /// Runs written and read so far.
    seen: watch::Sender<u64>,
    stop: AtomicBool,
    written: AtomicU64,
}

impl Witness {
    /// The installation has to run an api for each of these roles.
    pub(super) fn new(
        installation: &Installation,
        tenant: &Tenant,
        roles: &[Role],
        rng: &mut StdRng,
    ) -> Self {
        let reader = |(number, role): (u32, &Role)| {
            let key = tenant.key(*role).to_owned().into();
            let options = Options::new(installation.url(Kind::Api, number), Some(key));
            let connection = connect_lazy(&options).expect("an address");
            let who = format!("a {role} at api {number}");
            (who, RunsServiceClient::new(connection))
        };
        Self {
            name: facts::id(rng),
            clients: installation.clients(tenant.key(Role::Agent)),
            readers: (0..).zip(roles).map(reader).collect(),
            rng: Mutex::new(StdRng::from_rng(rng)),
            seen: watch::channel(0).0,
            stop: AtomicBool::new(false),
            written: AtomicU64::new(0),
        }
    }

    /// Until told to stop.
    pub(super) async fn testify(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            self.write_and_read().await;
        }
    }

    pub(super) async fn write_and_read(&self) {
        let number = self.written.fetch_add(1, Ordering::SeqCst);
        let run = format!("{}-{number}", self.name);
        let used = UsageRecorded {
            run_id: run.clone(),
            meter: "tokens.output".into(),
            quantity: 7,
            ..UsageRecorded::default()
        };
        let facts = {
            let mut rng = self.rng.lock().expect("nobody has panicked");
            vec![
                facts::run_started(&mut *rng, &run),
                facts::run_fact(&mut *rng, Fact::UsageRecorded(used)),
            ]
        };
        let request = RunIngestServiceAppendRequest { facts };
        let written = self.clients.runs_in.clone().append(request).await;
        let token = written.expect("an acknowledgement").into_inner().token;
        let reads = self.readers.iter().map(|(who, reader)| {
            let (run, token) = (run.clone(), token.clone());
            async move { assert_there(reader.clone(), who, run, vec![token]).await }
        });
        join_all(reads).await;
        self.seen.send_modify(|seen| *seen += 1);
    }

    /// Reads what it has written last, with no token: what was read once does not go away.
    pub(super) async fn still_sees(&self) {
        let number = self.written.load(Ordering::SeqCst) - 1;
        let run = format!("{}-{number}", self.name);
        for (who, reader) in &self.readers {
            assert_there(reader.clone(), who, run.clone(), Vec::new()).await;
        }
    }

    /// Waits until it has written and read another run, begun from now on.
    pub(super) async fn sees_more(&self) {
        let before = *self.seen.borrow();
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| *seen > before + 1)
            .await
            .expect("a witness");
    }

    pub(super) fn stop(&self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        *self.seen.borrow()
    }
}

async fn assert_there(
    mut reader: RunsServiceClient<Connection>,
    who: &str,
    run_id: String,
    at_least: Vec<String>,
) {
    let max_wait = prost_types::Duration {
        seconds: 10,
        nanos: 0,
    };
    let request = GetRunRequest {
        run_id: run_id.clone(),
        read: Some(ReadOptions {
            at_least,
            max_wait: Some(max_wait),
        }),
    };
    let answer = reader.get_run(request).await;
    let answer = answer.unwrap_or_else(|refused| panic!("{run_id}, read by {who}: {refused:?}"));
    let run = answer.into_inner().run.expect("a run");
    let used: Vec<i64> = run.usage.iter().map(|usage| usage.quantity).collect();
    assert_eq!(used, [7], "{run_id}, read by {who}: older than its token");
}
