//! What single appends are measured against: an rpc that takes the same requests, gives answers of the same size
//! and does nothing. What is left of the difference is ours: keys, limits, judging, hashing, and the log.

use std::net::SocketAddr;
use std::pin::Pin;

use futures::Stream;
use futures::stream;
use runledger_proto::common::v1::append_result::{Accepted, Outcome};
use runledger_proto::common::v1::{AppendResult, Position};
use runledger_proto::run::v1::tool_call_ingest_service_server::{
    ToolCallIngestService, ToolCallIngestServiceServer,
};
use runledger_proto::run::v1::{
    ToolCallIngestServiceAppendRequest, ToolCallIngestServiceAppendResponse,
    ToolCallIngestServiceAppendStreamRequest, ToolCallIngestServiceAppendStreamResponse,
};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// As long as a token of one position.
const TOKEN_CHARS: usize = 64;

/// Serves until it is killed.
pub(super) async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind(address)?.with_nodelay(Some(true));
    Server::builder()
        .add_service(ToolCallIngestServiceServer::new(Idle))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

struct Idle;

#[tonic::async_trait]
impl ToolCallIngestService for Idle {
    async fn append(
        &self,
        request: Request<ToolCallIngestServiceAppendRequest>,
    ) -> Result<Response<ToolCallIngestServiceAppendResponse>, Status> {
        let accepted = |id| AppendResult {
            id,
            outcome: Some(Outcome::Accepted(Accepted {
                position: Some(Position::default()),
            })),
        };
        let facts = request.into_inner().facts;
        Ok(Response::new(ToolCallIngestServiceAppendResponse {
            results: facts.into_iter().map(|fact| accepted(fact.id)).collect(),
            token: "0".repeat(TOKEN_CHARS),
        }))
    }

    type AppendStreamStream = Pin<
        Box<
            dyn Stream<Item = Result<ToolCallIngestServiceAppendStreamResponse, Status>>
                + Send
                + 'static,
        >,
    >;

    async fn append_stream(
        &self,
        _: Request<Streaming<ToolCallIngestServiceAppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }
}
