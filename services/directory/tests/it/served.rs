//! The role as it is started, over TCP.

use std::sync::Arc;
use std::time::Duration;

use runledger_directory::{Addresses, Config, DEFAULTS, serve};
use runledger_domain::time::SystemClock;
use runledger_eventlog::Log;
use runledger_eventlog::memory::Memory;
use runledger_proto::common::v1::{Mode, Role};
use runledger_proto::directory::v1::directory_service_client::DirectoryServiceClient;
use runledger_proto::directory::v1::*;
use runledger_service::client::{self, Connection, Options};
use runledger_service::config::{Source, load_with};
use runledger_service::supervisor::{self, Supervisor};
use runledger_testkit::eventually;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{World, refusal};

pub(crate) struct Served {
    addresses: Addresses,
    stop: CancellationToken,
    running: JoinSet<Result<(), supervisor::Error>>,
}

/// Stands between the role and its database, or its log, and can go away.
pub(crate) struct Road {
    port: u16,
    to: String,
    running: JoinSet<()>,
}

impl Road {
    pub(crate) async fn open(world: &World) -> Self {
        let config = world.database.config("runledger_directory");
        Self::to(format!("{}:{}", config.host, config.port)).await
    }

    pub(crate) async fn to(to: String) -> Self {
        let mut road = Self {
            port: 0,
            to,
            running: JoinSet::new(),
        };
        road.reopen().await;
        road
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends every connection; new ones are refused.
    pub(crate) async fn close(&mut self) {
        self.running.shutdown().await;
    }

    pub(crate) async fn reopen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let to = self.to.clone();
        self.running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let to = to.clone();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
    }
}

pub(crate) async fn start(world: &World, road: &Road, log: Arc<dyn Log>) -> Served {
    let source = Source {
        defaults: DEFAULTS,
        file: None,
    };
    let mut config: Config = load_with(source, []).unwrap();
    config.server.listen.set_port(0);
    config.metrics.listen.set_port(0);
    config.database = world.database.config("runledger_directory");
    config.keys = world.database.config("runledger_keys");
    config.database.port = road.port;
    config.keys.port = road.port;
    config.directory.health_interval = Duration::from_millis(200);
    config.relay.poll_interval = Duration::from_millis(20);
    config.relay.standby_interval = Duration::from_millis(50);
    config.relay.batch_rows = 16;
    let mut supervisor = Supervisor::new(Duration::from_secs(5));
    let addresses = serve(&config, log, Arc::new(SystemClock), &mut supervisor)
        .await
        .unwrap();
    let stop = supervisor.stopper();
    let mut running = JoinSet::new();
    running.spawn(supervisor.run());
    Served {
        addresses,
        stop,
        running,
    }
}

impl Served {
    async fn connect(&self, key: Option<&str>) -> Connection {
        let url = format!("http://{}", self.addresses.grpc);
        let options = Options::new(url, key.map(Into::into));
        client::connect(&options).await.unwrap()
    }

    async fn client(&self, key: &str) -> DirectoryServiceClient<Connection> {
        DirectoryServiceClient::new(self.connect(Some(key)).await)
    }

    /// Waits until health says `wanted`.
    pub(crate) async fn healthy(&self, wanted: ServingStatus) {
        let connection = self.connect(None).await;
        eventually(Duration::from_secs(20), || {
            let mut health = HealthClient::new(connection.clone());
            async move {
                let request = HealthCheckRequest::default();
                let status = health
                    .check(request)
                    .await
                    .map_err(|status| status.to_string())?;
                let status = status.into_inner().status();
                (status == wanted)
                    .then_some(())
                    .ok_or_else(|| format!("{status:?}"))
            }
        })
        .await;
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_stands_before_every_rpc() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let road = Road::open(&world).await;
    let role = start(&world, &road, Arc::new(Memory::new(1))).await;
    role.healthy(ServingStatus::Serving).await;

    let mut nobody = DirectoryServiceClient::new(role.connect(None).await);
    let status = nobody.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(
        refusal(&status),
        (Code::Unauthenticated, "KEY_MISSING".into())
    );

    let viewer = world
        .principal(&home.admin, "", "viewer", Role::Viewer)
        .await;
    let (key_id, key) = world.key(&home.admin, &viewer, Mode::Live).await;
    let mut viewer = role.client(&key).await;
    let me = viewer
        .who_am_i(WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(me.key_id, key_id);
    let status = viewer
        .list_keys(ListKeysRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        refusal(&status),
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED".into())
    );

    let mut admin = role.client(&home.admin).await;
    let status = admin
        .list_tenants(ListTenantsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        refusal(&status),
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED".into())
    );
    admin.revoke_key(RevokeKeyRequest { key_id }).await.unwrap();
    let closed = eventually(Duration::from_secs(1), || {
        let mut viewer = viewer.clone();
        async move {
            viewer
                .who_am_i(WhoAmIRequest {})
                .await
                .err()
                .ok_or("still open")
        }
    })
    .await;
    assert_eq!(
        refusal(&closed),
        (Code::Unauthenticated, "KEY_UNKNOWN".into())
    );
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_false_while_the_database_is_away() {
    let world = World::new().await;
    let mut road = Road::open(&world).await;
    let role = start(&world, &road, Arc::new(Memory::new(1))).await;
    role.healthy(ServingStatus::Serving).await;
    let mut operator = role.client(&world.operator).await;
    operator
        .list_tenants(ListTenantsRequest::default())
        .await
        .unwrap();

    road.close().await;
    role.healthy(ServingStatus::NotServing).await;
    // A key seen valid lately still opens; there is nothing to read behind it.
    let status = operator
        .list_tenants(ListTenantsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    road.reopen().await;
    role.healthy(ServingStatus::Serving).await;
    operator
        .list_tenants(ListTenantsRequest::default())
        .await
        .unwrap();
    role.stop().await;
}
