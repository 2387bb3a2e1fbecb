//! A trace that a client began goes on through ingest, Kafka and the projector.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::Rng;
use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_proto::run::v1::RunIngestServiceAppendRequest;
use runledger_testkit::eventually;
use runledger_tests::{Clients, Installation, Tenant, facts, seed};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How long spans may take from their end to the collector.
const EXPORTED: Duration = Duration::from_secs(30);
const SERVER_SPAN: &str = "/runledger.run.v1.RunIngestService/Append";

/// Where the processes of the story send their spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn spans(&self) -> Vec<Span> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Listens until the tasks are dropped; returns its address.
    async fn serve(&self, tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tasks.spawn(async { server.await.expect("a collector") });
        format!("http://{address}")
    }
}

/// What a client sends of its own trace.
struct ClientTrace {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

impl ClientTrace {
    fn new(rng: &mut StdRng, sampled: bool) -> Self {
        Self {
            trace: rng.random(),
            span: rng.random(),
            sampled,
        }
    }

    fn header(&self) -> String {
        let [trace, span] = [&self.trace[..], &self.span[..]].map(|bytes| {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>()
        });
        format!("00-{trace}-{span}-{:02x}", u8::from(self.sampled))
    }

    /// Appends as part of it; returns the record's id.
    async fn append(&self, clients: &Clients, rng: &mut StdRng) -> String {
        let fact = facts::run_started(rng, "run-traced");
        let record_id = fact.id.clone();
        let mut request = Request::new(RunIngestServiceAppendRequest { facts: vec![fact] });
        let header = self.header().parse().expect("a header");
        request.metadata_mut().insert("traceparent", header);
        clients
            .runs_in
            .clone()
            .append(request)
            .await
            .expect("an acknowledgement");
        record_id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_client_through_kafka_to_the_read_model() {
    let mut rng = seed("trace");
    let (collector, mut tasks) = (Collector::default(), JoinSet::new());
    let environment = [
        (
            "RUNLEDGER_TELEMETRY__OTLP_ENDPOINT",
            collector.serve(&mut tasks).await,
        ),
        ("RUNLEDGER_TELEMETRY__SAMPLING_RATIO", "1.0".into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".into()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let installation = Installation::start_with("trace", environment.into()).await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));

    let unwanted = ClientTrace::new(&mut rng, false);
    unwanted.append(&clients, &mut rng).await;
    let wanted = ClientTrace::new(&mut rng, true);
    let record_id = wanted.append(&clients, &mut rng).await;
    eventually(EXPORTED, async || {
        check(&collector.spans(), &wanted, &record_id)
    })
    .await;
    // It came first through every process, and would have come first to the collector.
    let spans = collector.spans();
    assert!(
        spans.iter().all(|span| span.trace_id != unwanted.trace),
        "an unsampled trace"
    );
}

/// One trace from the client's span down to the record's, which is linked to its batch.
fn check(spans: &[Span], client: &ClientTrace, record_id: &str) -> Result<(), String> {
    let by_id: BTreeMap<&[u8], &Span> = spans
        .iter()
        .map(|span| (span.span_id.as_slice(), span))
        .collect();
    let ours = |name: &str| {
        let found = spans
            .iter()
            .find(|span| span.trace_id == client.trace && span.name == name);
        found.ok_or_else(|| format!("no span {name:?} among {}", spans.len()))
    };
    let server = ours(SERVER_SPAN)?;
    assert_eq!(server.kind, i32::from(SpanKind::Server));
    assert_eq!(server.parent_span_id, client.span);
    let applied = ours("apply record")?;
    assert_eq!(text(applied, "record_id").as_deref(), Some(record_id));
    let above = |span: &Span| by_id.get(span.parent_span_id.as_slice()).copied();
    let ancestors = std::iter::successors(above(applied), |span| above(span));
    let mut ancestors = ancestors.take_while(|span| span.trace_id == client.trace);
    if !ancestors.any(|span| span.span_id == server.span_id) {
        return Err("the record's span is not below the server's".into());
    }
    let [link] = applied.links.as_slice() else {
        panic!("links: {:?}", applied.links)
    };
    let batch = by_id.get(link.span_id.as_slice());
    let batch = batch.ok_or("the batch's span has not come yet")?;
    assert_eq!(
        (batch.name.as_str(), &batch.trace_id),
        ("batch", &link.trace_id)
    );
    assert_ne!(batch.trace_id, client.trace);
    Ok(())
}

/// The attribute of a span, as text.
fn text(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|one| one.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}
