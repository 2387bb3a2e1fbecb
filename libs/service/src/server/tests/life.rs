//! Health, connections, TLS and the end of a server.

use super::*;

#[tokio::test]
async fn health_needs_no_key_and_follows_the_role() {
    let world = World::new().await;
    let mut client = HealthClient::new(world.connect(None).await);
    for service in ["", "directory", Double::NAME] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut changes = client.watch(request).await.unwrap().into_inner();
        world.health.set(false);
        let mut expect = async |status: health_check_response::ServingStatus| {
            while changes.message().await.unwrap().unwrap().status() != status {}
        };
        expect(health_check_response::ServingStatus::NotServing).await;
        world.health.set(true);
        expect(health_check_response::ServingStatus::Serving).await;
    }
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_its_place() {
    let world = World::with(
        Bounds {
            connections_max: 1,
            ..Bounds::default()
        },
        None,
    )
    .await;
    let first = world.connect(Some(world.key(Role::Agent))).await;
    assert!(call(&first, WHO_AM_I, Request::new(text(""))).await.is_ok());
    let second =
        client::connect_lazy(&Options::new(&world.url, Some(world.key(Role::Agent)))).unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { call(&second, WHO_AM_I, Request::new(text(""))).await });
    assert!(call(&first, WHO_AM_I, Request::new(text(""))).await.is_ok());
    assert!(waiting.try_join_next().is_none());
    drop(first);
    assert!(waiting.join_next().await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn stopping_drains_calls_and_cuts_streams() {
    let bounds = Bounds {
        call_timeout: Duration::from_millis(300),
        drain_timeout: Duration::from_secs(4),
        ..Bounds::default()
    };
    let mut world = World::with(bounds, None).await;
    let admin = world.connect(Some(world.key(Role::Admin))).await;
    let mut tail = tail(&admin, Request::new(text(""))).await;
    assert_eq!(tail.message().await.unwrap().unwrap().name(), "first");
    let mut held = JoinSet::new();
    let holder = admin.clone();
    held.spawn(async move { call(&holder, GET_TENANT, Request::new(text(""))).await });
    world.waiting.notified().await;

    world.stop.cancel();
    // The call in flight is answered, here by its own timeout, not by a broken connection.
    let answer = held.join_next().await.unwrap().unwrap();
    assert_eq!(refused(answer), is(Code::Unavailable, "TIMED_OUT"));
    let status = tail.message().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Unavailable, Some("STOPPING"))
    );
    let served = tokio::time::timeout(Duration::from_secs(5), world.running.join_next())
        .await
        .unwrap();
    assert!(served.unwrap().unwrap().is_ok());
    assert!(
        client::connect(&Options::new(&world.url, None))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn reflection_lists_what_is_served_here() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let world = World::new().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(world.connect(None).await);
    let mut answers = client
        .server_reflection_info(stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(
        names.contains(&Double::NAME) && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
    assert!(
        !names.contains(&"runledger.run.v1.RunIngestService"),
        "{names:?}"
    );
}

#[tokio::test]
async fn tls_is_served_when_it_is_configured() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate_file = file("certificate.pem", made.cert.pem());
    let key_file = file("key.pem", made.signing_key.serialize_pem());
    let world = World::with(
        Bounds::default(),
        Some(Tls {
            certificate_file: certificate_file.clone(),
            key_file,
        }),
    )
    .await;

    let mut options = Options::new(&world.url, Some(world.key(Role::Agent)));
    assert!(
        client::connect(&options).await.is_err(),
        "whom nobody vouches for"
    );
    options.ca_file = Some(certificate_file);
    let connection = client::connect(&options).await.unwrap();
    assert!(
        call(&connection, WHO_AM_I, Request::new(text("")))
            .await
            .is_ok()
    );
    let plain = Options::new(world.url.replace("https", "http"), None);
    let plain = client::connect_lazy(&plain).unwrap();
    assert!(
        HealthClient::new(plain)
            .check(HealthCheckRequest::default())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn wrong_tls_files_are_named() {
    let tls = Tls {
        certificate_file: "/nonexistent/certificate.pem".into(),
        key_file: "/nonexistent/key.pem".into(),
    };
    let config = Config {
        tls: Some(tls),
        ..Config::new(([127, 0, 0, 1], 0).into())
    };
    let authenticator = Authenticator::new(Arc::new(Known::default()), &auth::Config::default());
    let error = Server::new(&config, Health::new("directory"), authenticator)
        .bind()
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("certificate.pem"), "{error}");
}
