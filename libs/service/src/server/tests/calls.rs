//! What a call meets at the gate.

use super::*;

#[tokio::test]
async fn a_key_opens_what_its_role_may() {
    let world = World::new().await;
    let nobody = world.connect(None).await;
    assert_eq!(
        refused(call(&nobody, WHO_AM_I, Request::new(text(""))).await),
        is(Code::Unauthenticated, "KEY_MISSING")
    );
    let stranger = world
        .connect(Some(Key::text(Mode::Live, &[99; 32]).into()))
        .await;
    assert_eq!(
        refused(call(&stranger, WHO_AM_I, Request::new(text(""))).await),
        is(Code::Unauthenticated, "KEY_UNKNOWN")
    );

    let agent = world.connect(Some(world.key(Role::Agent))).await;
    let answer = call(&agent, WHO_AM_I, Request::new(text("")))
        .await
        .unwrap();
    assert_eq!(answer.get_ref().name(), "worker Some(Live)");
    let status = call(&agent, LIST_TENANTS, Request::new(text("")))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::PermissionDenied, Some("ROLE_NOT_ALLOWED"))
    );
    assert!(status.message().contains("operator"));

    let mut options = Options::new(&world.url, Some(world.key(Role::Agent)));
    options.mode = Some(Mode::Sandbox);
    let answer = call(
        &client::connect(&options).await.unwrap(),
        WHO_AM_I,
        Request::new(text("")),
    )
    .await
    .unwrap();
    assert_eq!(answer.get_ref().name(), "worker Some(Sandbox)");
}

#[tokio::test]
async fn an_unknown_path_is_refused() {
    let world = World::new().await;
    let agent = world.connect(Some(world.key(Role::Agent))).await;
    for path in [
        "/x",
        "/runledger.directory.v1.DirectoryService/Whoami",
        "/runledger.directory.v1.DirectoryService/",
    ] {
        assert_eq!(
            refused(call(&agent, path, Request::new(text(""))).await),
            is(Code::Unimplemented, "RPC_UNKNOWN")
        );
    }
    // In the table, but not served here.
    let elsewhere = "/runledger.run.v1.RunIngestService/Append";
    assert_eq!(
        call(&agent, elsewhere, Request::new(text("")))
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );
}

#[tokio::test]
async fn the_request_id_comes_back() {
    let world = World::new().await;
    let agent = world.connect(Some(world.key(Role::Agent))).await;
    let mut request = Request::new(text(""));
    request
        .metadata_mut()
        .insert(REQUEST_ID_HEADER, "mine-1".parse().unwrap());
    let answer = call(&agent, WHO_AM_I, request).await.unwrap();
    assert_eq!(answer.metadata().get(REQUEST_ID_HEADER).unwrap(), "mine-1");
    let status = call(&agent, LIST_TENANTS, Request::new(text("")))
        .await
        .unwrap_err();
    assert_eq!(status.metadata().get(REQUEST_ID_HEADER).unwrap().len(), 36);
}

#[tokio::test]
async fn what_is_too_large_is_refused_clearly() {
    let world = World::new().await;
    let agent = world.connect(Some(world.key(Role::Agent))).await;
    // One byte of key and three of length come before the text.
    let fits = text("x".repeat(MESSAGE_BYTES_MAX - 4));
    assert!(call(&agent, WHO_AM_I, Request::new(fits)).await.is_ok());
    for bytes in [MESSAGE_BYTES_MAX, 3 * MESSAGE_BYTES_MAX] {
        let answer = call(&agent, WHO_AM_I, Request::new(text("x".repeat(bytes)))).await;
        assert_eq!(
            refused(answer),
            is(Code::InvalidArgument, "REQUEST_TOO_LARGE")
        );
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_connection_lives() {
    let world = World::new().await;
    let admin = world.connect(Some(world.key(Role::Admin))).await;
    let status = call(&admin, LIST_KEYS, Request::new(text("")))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::Internal, Some("INTERNAL"))
    );
    assert!(!format!("{status:?}").contains("secret"));
    let mut tail = tail(&admin, Request::new(text("panic"))).await;
    // What was ready together with the panic is lost with it.
    assert_eq!(tail.message().await.unwrap_err().code(), Code::Internal);
    assert!(call(&admin, WHO_AM_I, Request::new(text(""))).await.is_ok());
}

/// The gate alone, without a network: its time can stand still.
async fn through_the_gate<S>(
    service: S,
    path: &str,
    timeout: Option<&str>,
) -> (Option<Status>, Body)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let directory = Arc::new(Known::default());
    let text = Key::text(Mode::Live, &[1; 32]);
    directory.insert(
        Key::parse(&text).unwrap().digest,
        credential(Mode::Live, Role::Admin),
    );
    let authenticator = Authenticator::new(directory, &auth::Config::default());
    let stopping = Stopping(CancellationToken::new());
    let layer = gate::Layer::new(
        authenticator,
        &Bounds::default(),
        stopping,
        CancellationToken::new(),
    );
    let mut request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {text}"));
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let body = Body::new(axum::body::Body::from(Bytes::from_static(&[0; 5])));
    let mut gate = tower::Layer::layer(&layer, service);
    let response = gate.call(request.body(body).unwrap()).await.unwrap();
    (
        Status::from_header_map(response.headers()),
        response.into_body(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_honoured_whoever_sets_it() {
    let double = Double {
        waiting: Arc::default(),
    };
    for (timeout, code, expected, after_ms) in [
        (
            Some("200m"),
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            190,
        ),
        (
            Some("10S"),
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            9_950,
        ),
        (None, Code::Unavailable, "TIMED_OUT", 10_000),
        (Some("nonsense"), Code::Unavailable, "TIMED_OUT", 10_000),
        (Some("99999999H"), Code::Unavailable, "TIMED_OUT", 60_000),
    ] {
        let begun = tokio::time::Instant::now();
        let status = through_the_gate(double.clone(), GET_TENANT, timeout)
            .await
            .0
            .unwrap();
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (code, Some(expected)),
            "{timeout:?}"
        );
        assert_eq!(
            begun.elapsed().as_millis() / 10 * 10,
            after_ms,
            "{timeout:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_callers_deadline_and_no_other() {
    let begun = tokio::time::Instant::now();
    let (None, mut body) = through_the_gate(Tail, TAIL_RUN, Some("90S")).await else {
        panic!("refused")
    };
    let status = loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))
            .await
            .unwrap()
            .unwrap();
        if let Some(trailers) = frame.trailers_ref() {
            break Status::from_header_map(trailers).unwrap();
        }
    };
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED"))
    );
    assert_eq!(begun.elapsed().as_secs(), 89);
}

#[tokio::test]
async fn what_finds_no_room_is_refused_and_health_still_answers() {
    let world = World::with(
        Bounds {
            calls_max: 1,
            ..Bounds::default()
        },
        None,
    )
    .await;
    let admin = world.connect(Some(world.key(Role::Admin))).await;
    let mut held = JoinSet::new();
    let holder = admin.clone();
    held.spawn(async move { call(&holder, GET_TENANT, Request::new(text(""))).await });
    world.waiting.notified().await;
    let status = call(&admin, WHO_AM_I, Request::new(text("")))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::ResourceExhausted, Some("OVERLOADED"))
    );
    assert!(retry_after(&status).is_some());
    assert!(
        HealthClient::new(admin.clone())
            .check(HealthCheckRequest::default())
            .await
            .is_ok()
    );
    held.abort_all();
    while held.join_next().await.is_some() {}
    // The room of a call whose caller went away is free again.
    let freed = async {
        while call(&admin, WHO_AM_I, Request::new(text("")))
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), freed)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_raw_body_of_nonsense_is_no_panic() {
    let world = World::new().await;
    let mut channel = world.connect(Some(world.key(Role::Agent))).await;
    for bytes in [
        &b""[..],
        b"\x00",
        b"\x00\x00\x00\x00\x05ab",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x01\xff",
    ] {
        let body = Body::new(axum::body::Body::from(Bytes::copy_from_slice(bytes)));
        let request = http::Request::post(format!("{}{WHO_AM_I}", world.url))
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap();
        std::future::poll_fn(|cx| channel.poll_ready(cx))
            .await
            .unwrap();
        let response = channel.call(request).await.unwrap();
        assert_eq!(response.status(), http::StatusCode::OK);
        let status = Status::from_header_map(response.headers()).unwrap();
        assert!(
            ![Code::Ok, Code::Unavailable].contains(&status.code()),
            "{bytes:?}: {status:?}"
        );
    }
}
