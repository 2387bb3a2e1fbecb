use std::time::Duration;

use futures::stream;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use runledger_domain::scope::Role;
use runledger_service::access::{self, Access};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataKey};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use crate::{Installation, Kind};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// An rpc that the protos describe, by its path alone.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// `/package.Service/Method`.
    pub path: String,
    /// The role that serves it.
    pub served_by: Kind,
    /// The principals' roles that may call it.
    pub roles: &'static [Role],
}

impl Rpc {
    /// Every rpc of every service that the protos describe.
    ///
    /// # Panics
    /// When one has no row in the access table, or no process is known to serve it.
    pub fn all() -> Vec<Self> {
        let described = prost_types::FileDescriptorSet::decode(runledger_proto::DESCRIPTORS)
            .expect("the descriptors");
        let mut all = Vec::new();
        for file in &described.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let methods = service.method.iter();
                all.extend(methods.map(|method| Self::of(&name, method.name())));
            }
        }
        all
    }

    fn of(service: &str, method: &str) -> Self {
        let path = format!("/{service}/{method}");
        let served_by = match service.rsplit('.').next() {
            Some("DirectoryService") => Kind::Directory,
            Some("RunsService") => Kind::Api,
            Some("ApprovalService" | "PolicyService" | "SimulationService") => Kind::Approvals,
            Some("AuditService") => Kind::Audit,
            Some("AnalyticsService") => Kind::Analytics,
            Some("BillingService" | "PriceService") => Kind::Billing,
            Some("DeadLetterService") => Kind::Ingest,
            Some(name) if name.ends_with("IngestService") => Kind::Ingest,
            other => panic!("which process serves {other:?}? say so here"),
        };
        let rule = access::rule(&path).unwrap_or_else(|| panic!("{path} has no row"));
        let Access::Roles(roles) = rule.access else {
            panic!("{path} is open to everybody")
        };
        Self {
            path,
            served_by,
            roles,
        }
    }
}

/// A call made by hand: any bytes, any metadata.
#[derive(Clone, Debug)]
pub struct Asking {
    url: String,
    path: String,
    metadata: Vec<(&'static str, String)>,
    body: Vec<u8>,
    messages_max: usize,
}

impl Asking {
    /// To the process that serves it, without a key and with an empty message.
    pub fn new(installation: &Installation, rpc: &Rpc) -> Self {
        Self {
            url: installation.url(rpc.served_by, 0),
            path: rpc.path.clone(),
            metadata: Vec::new(),
            body: Vec::new(),
            messages_max: usize::MAX,
        }
    }

    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.with("authorization", format!("Bearer {key}"))
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((name, value.into()));
        self
    }

    /// The bytes of the message that is sent.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Goes away after so many messages of the answer.
    #[must_use]
    pub fn take(mut self, messages: usize) -> Self {
        self.messages_max = messages;
        self
    }

    /// The messages of the answer, as they came.
    ///
    /// # Errors
    /// What the server says instead, or after them.
    pub async fn call(self) -> Result<Vec<Bytes>, Status> {
        let channel = Endpoint::from_shared(self.url)
            .expect("an address")
            .connect_lazy();
        let mut request = Request::new(stream::iter([self.body]));
        request.set_timeout(TIMEOUT);
        for (name, value) in self.metadata {
            let name = MetadataKey::<Ascii>::from_static(name);
            let value = value.parse().expect("metadata");
            request.metadata_mut().insert(name, value);
        }
        let mut client = Grpc::new(channel);
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(self.path).expect("a path");
        // On the wire a unary call is a stream of one message.
        let mut answer = client.streaming(request, path, Bare).await?.into_inner();
        let mut messages = Vec::new();
        while messages.len() < self.messages_max {
            match answer.message().await? {
                Some(message) => messages.push(message),
                None => break,
            }
        }
        Ok(messages)
    }
}

/// Messages as bytes.
#[derive(Clone, Copy)]
struct Bare;

impl Codec for Bare {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
