//! Everybody who writes, reads and follows, from the first to the last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use runledger_domain::ids::TenantId;
use runledger_domain::scope::{Mode, Role, Scope};
use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_service::client::{Options, connect_lazy};
use runledger_tests::{Kind, Tenant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::history::{History, Reads, Tail, Writer};
use crate::probe::Probe;
use crate::readers::{Asked, read};
use crate::scene::{Caller, Shared};
use crate::stage::Stage;
use crate::tails::follow;
use crate::writers::Reporter;

const TENANTS: usize = 3;
/// Reads that wait for one reader; more are not asked.
const ASKED_MAX: usize = 32;

/// How much is going on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) writers: u16,
    /// Between two batches of one writer.
    pub(crate) pace: Duration,
    pub(crate) readers: usize,
    pub(crate) tails_at_once: usize,
    pub(crate) tails_max: usize,
    pub(crate) acknowledged_min: u64,
}

impl Size {
    pub(crate) const LONG: Self = Self {
        writers: 24,
        pace: Duration::from_millis(450),
        readers: 8,
        tails_at_once: 6,
        tails_max: 200,
        acknowledged_min: 1_000_000,
    };
    pub(crate) const SHORT: Self = Self {
        writers: 12,
        pace: Duration::from_millis(500),
        readers: 4,
        tails_at_once: 3,
        tails_max: 20,
        acknowledged_min: 20_000,
    };
}

/// The load, while it goes on.
pub(crate) struct Load {
    nonce: u32,
    scopes: Vec<Scope>,
    shared: Shared,
    writers: JoinSet<(u16, Writer)>,
    readers: JoinSet<Reads>,
    followers: JoinSet<Vec<Tail>>,
}

impl Load {
    /// Makes tenants and their keys, and starts everybody. The probe is a writer too, the last.
    pub(crate) async fn start(stage: &Stage, size: Size, rng: &mut StdRng) -> (Self, Probe) {
        let (scopes, callers) = callers(stage).await;
        let mut load = Self {
            nonce: rng.random(),
            scopes,
            shared: Shared::default(),
            writers: JoinSet::new(),
            readers: JoinSet::new(),
            followers: JoinSet::new(),
        };
        let asked: Vec<mpsc::Sender<Asked>> =
            (0..size.readers).map(|_| load.start_reader(rng)).collect();
        // Nobody waits for a follower: a run is followed when one is at leisure.
        let (offer, offered) = mpsc::channel(1);
        let following = follow(
            offered,
            size.tails_at_once,
            size.tails_max,
            StdRng::from_rng(rng),
            Arc::clone(&load.shared),
        );
        load.followers.spawn(following);
        for number in 0..size.writers {
            let scope = usize::from(number) % load.scopes.len();
            let reporter = Reporter {
                number,
                nonce: load.nonce,
                caller: callers[scope].clone(),
                rng: StdRng::from_rng(rng),
                history: Writer::new(scope),
                shared: Arc::clone(&load.shared),
                readers: asked[usize::from(number) % asked.len()].clone(),
                followers: offer.clone(),
            };
            load.writers
                .spawn(async move { (number, reporter.report(size.pace).await) });
        }
        let probe = Probe {
            number: size.writers,
            nonce: load.nonce,
            scope: load.scopes[0],
            caller: callers[0].clone(),
            rng: StdRng::from_rng(rng),
            history: Writer::new(0),
            shared: Arc::clone(&load.shared),
            next_run: 0,
        };
        (load, probe)
    }

    fn start_reader(&mut self, rng: &mut StdRng) -> mpsc::Sender<Asked> {
        let (ask, asked) = mpsc::channel(ASKED_MAX);
        let shared = Arc::clone(&self.shared);
        self.readers
            .spawn(read(asked, StdRng::from_rng(rng), shared));
        ask
    }

    /// Goes on until so much is acknowledged.
    ///
    /// # Panics
    /// When it takes longer than that.
    pub(crate) async fn reach(&self, acknowledged_min: u64, within: Duration) {
        let deadline = Instant::now() + within;
        let mut look = interval(Duration::from_millis(100));
        while self.shared.acknowledged() < acknowledged_min {
            look.tick().await;
            assert!(
                Instant::now() < deadline,
                "only {} of {acknowledged_min} records were acknowledged",
                self.shared.acknowledged()
            );
        }
    }

    /// Ends the load and waits for everybody: what they were told.
    pub(crate) async fn end(mut self, probe: Probe) -> History {
        self.shared.stop();
        let mut numbered = vec![(probe.number, probe.history)];
        while let Some(ended) = self.writers.join_next().await {
            numbered.push(ended.expect("a writer"));
        }
        numbered.sort_by_key(|(number, _)| *number);
        let mut reads = Reads::default();
        while let Some(ended) = self.readers.join_next().await {
            reads.merge(ended.expect("a reader"));
        }
        let mut tails = Vec::new();
        while let Some(ended) = self.followers.join_next().await {
            tails.extend(ended.expect("followers"));
        }
        History {
            nonce: self.nonce,
            scopes: self.scopes,
            writers: numbered.into_iter().map(|(_, writer)| writer).collect(),
            reads,
            tails,
            surprises: self.shared.surprises(),
        }
    }
}

/// The scopes, and a caller of each.
async fn callers(stage: &Stage) -> (Vec<Scope>, Vec<Caller>) {
    let (mut scopes, mut callers) = (Vec::new(), Vec::new());
    for number in 0..TENANTS {
        let tenant = Tenant::create(&stage.installation, &format!("story {number}")).await;
        let id = TenantId::new(tenant.id.parse().expect("a tenant's id"));
        let keys = [
            (Mode::Live, tenant.key(Role::Agent)),
            (Mode::Sandbox, tenant.sandbox_keys[&Role::Agent].as_str()),
        ];
        for (mode, key) in keys {
            scopes.push(Scope { tenant: id, mode });
            callers.push(caller(stage, key));
        }
    }
    (scopes, callers)
}

fn caller(stage: &Stage, key: &str) -> Caller {
    let api = |number| {
        let options = Options {
            connect_timeout: Duration::from_secs(2),
            ..Options::new(
                stage.installation.url(Kind::Api, number),
                Some(key.to_owned().into()),
            )
        };
        RunsServiceClient::new(connect_lazy(&options).expect("an address"))
    };
    Caller {
        clients: stage.installation.clients(key),
        apis: [api(0), api(1)],
    }
}
