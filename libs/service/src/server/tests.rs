//! A real server on a port of its own.

mod calls;
mod life;

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
