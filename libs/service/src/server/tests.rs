//! A real server on a port of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use hyper::body::Body as _;
use runledger_domain::scope::{Mode, Role};
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response};

use super::*;
use crate::auth::{self, Key, Known};
use crate::client::{self, Connection, Options};
use crate::fixtures::credential;
use crate::status::{reason, retry_after};

const WHO_AM_I: &str = "/runledger.directory.v1.DirectoryService/WhoAmI";
const LIST_TENANTS: &str = "/runledger.directory.v1.DirectoryService/ListTenants";
const LIST_KEYS: &str = "/runledger.directory.v1.DirectoryService/ListKeys";
const TAIL_RUN: &str = "/runledger.run.v1.RunsService/TailRun";
const GET_TENANT: &str = "/runledger.directory.v1.DirectoryService/GetTenant";

/// Stands where the directory service would: says who calls, panics, or waits, by the method.
#[derive(Clone)]
struct Double {
    waiting: Arc<Notify>,
}

impl NamedService for Double {
    const NAME: &'static str = "runledger.directory.v1.DirectoryService";
}

/// Stands where the runs service would: a tail that never ends by itself.
#[derive(Clone)]
struct Tail;

impl NamedService for Tail {
    const NAME: &'static str = "runledger.run.v1.RunsService";
}

type Text = prost_types::FileDescriptorProto;

fn text(name: impl Into<String>) -> Text {
    Text {
        name: Some(name.into()),
        ..Text::default()
    }
}

struct Handler(Double, String);

impl UnaryService<Text> for Handler {
    type Response = Text;
    type Future = BoxFuture<'static, Result<Response<Text>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let (waiting, path) = (Arc::clone(&self.0.waiting), self.1.clone());
        Box::pin(async move {
            match path.as_str() {
                LIST_KEYS => panic!("a handler's secret"),
                GET_TENANT => {
                    waiting.notify_one();
                    tokio::time::sleep_until(deadline::of(&request) + Duration::from_secs(60))
                        .await;
                }
                _ => {}
            }
            let caller = auth::caller(&request)?;
            Ok(Response::new(text(format!(
                "{} {:?}",
                caller.name,
                caller.scope.map(|scope| scope.mode)
            ))))
        })
    }
}

impl ServerStreamingService<Text> for Tail {
    type Response = Text;
    type ResponseStream = stream::BoxStream<'static, Result<Text, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let panics = request.get_ref().name() == "panic";
        Box::pin(async move {
            let first = stream::iter([Ok(text("first"))]);
            let rest = stream::poll_fn(move |_| {
                if panics {
                    panic!("in the stream")
                } else {
                    Poll::Pending
                }
            });
            Ok(Response::new(first.chain(rest).boxed()))
        })
    }
}

type Answer = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

impl Service<http::Request<Body>> for Double {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let handler = Handler(self.clone(), request.uri().path().to_owned());
        Box::pin(async move {
            Ok(Grpc::new(tonic_prost::ProstCodec::<Text, Text>::default())
                .unary(handler, request)
                .await)
        })
    }
}

impl Service<http::Request<Body>> for Tail {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        Box::pin(async move {
            Ok(Grpc::new(tonic_prost::ProstCodec::<Text, Text>::default())
                .server_streaming(Tail, request)
                .await)
        })
    }
}

struct World {
    url: String,
    health: Health,
    directory: Arc<Known>,
    waiting: Arc<Notify>,
    stop: CancellationToken,
    running: JoinSet<Result<(), Error>>,
}

impl World {
    async fn with(bounds: Bounds, tls: Option<Tls>) -> Self {
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            tls,
            bounds,
        };
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let directory = Arc::new(Known::default());
        let authenticator = Authenticator::new(Arc::clone(&directory), &auth::Config::default());
        let health = Health::new("directory");
        let waiting = Arc::new(Notify::new());
        let server = Server::new(&config, health.clone(), authenticator);
        let bound = server
            .add(Double {
                waiting: Arc::clone(&waiting),
            })
            .add(Tail)
            .bind()
            .await
            .unwrap();
        let url = format!("{scheme}://localhost:{}", bound.address().port());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(bound.serve(stop.clone()));
        Self {
            url,
            health,
            directory,
            waiting,
            stop,
            running,
        }
    }

    async fn new() -> Self {
        Self::with(Bounds::default(), None).await
    }

    fn key(&self, role: Role) -> SecretString {
        let text = Key::text(Mode::Live, &[role as u8; 32]);
        self.directory.insert(
            Key::parse(&text).unwrap().digest,
            credential(Mode::Live, role),
        );
        text.into()
    }

    async fn connect(&self, key: Option<SecretString>) -> Connection {
        client::connect(&Options::new(&self.url, key))
            .await
            .unwrap()
    }
}

async fn call(
    connection: &Connection,
    path: &'static str,
    request: Request<Text>,
) -> Result<Response<Text>, Status> {
    let mut grpc = tonic::client::Grpc::new(connection.clone());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(
        request,
        path,
        tonic_prost::ProstCodec::<Text, Text>::default(),
    )
    .await
}

async fn tail(connection: &Connection, request: Request<Text>) -> tonic::Streaming<Text> {
    let mut grpc = tonic::client::Grpc::new(connection.clone());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(TAIL_RUN);
    let codec = tonic_prost::ProstCodec::<Text, Text>::default();
    grpc.server_streaming(request, path, codec)
        .await
        .unwrap()
        .into_inner()
}

fn refused(answer: Result<Response<Text>, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status).unwrap_or_default())
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

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
