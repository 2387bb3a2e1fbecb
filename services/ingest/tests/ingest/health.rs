//! Health follows the log.

use std::time::Duration;

use runledger_eventlog::Log;
use runledger_testkit::eventually;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::world::World;

async fn becomes<L: Log>(world: &World<L>, wanted: ServingStatus) {
    let endpoint = Endpoint::from_shared(world.url()).expect("a url");
    let channel = endpoint.connect().await.expect("it listens");
    eventually(Duration::from_secs(20), || {
        let mut client = HealthClient::new(channel.clone());
        async move {
            let request = HealthCheckRequest {
                service: "ingest".into(),
            };
            let answer = client
                .check(request)
                .await
                .map_err(|status| status.to_string())?;
            let status = answer.into_inner().status();
            if status == wanted {
                Ok(())
            } else {
                Err(format!("it is {status:?}"))
            }
        }
    })
    .await;
}

pub(crate) async fn becomes_healthy<L: Log>(world: &World<L>) {
    becomes(world, ServingStatus::Serving).await;
}

#[tokio::test]
async fn the_role_is_healthy_while_the_log_can_be_appended_to() {
    let world = World::new().await;
    becomes(&world, ServingStatus::Serving).await;
    world.log.set_away(true);
    becomes(&world, ServingStatus::NotServing).await;
    world.log.set_away(false);
    becomes(&world, ServingStatus::Serving).await;
}
