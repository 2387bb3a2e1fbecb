//! The rpcs, each a line to what answers it.

use futures::stream::{self, BoxStream, StreamExt as _};
use runledger_proto::analytics::v1 as wire;
use runledger_proto::analytics::v1::analytics_service_server::AnalyticsService;
use runledger_role::reading::answer;
use runledger_service::status;
use tonic::{Request, Response, Status};

use super::{Api, scope_of};

#[tonic::async_trait]
impl AnalyticsService for Api {
    type ExportQueryStream = BoxStream<'static, Result<wire::ExportQueryResponse, Status>>;

    async fn query(
        &self,
        request: Request<wire::QueryRequest>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(Self::query(self, scope, request.into_inner()).await)
    }

    async fn export_query(
        &self,
        request: Request<wire::ExportQueryRequest>,
    ) -> Result<Response<Self::ExportQueryStream>, Status> {
        let scope = scope_of(&request)?;
        let chunks = self.export(scope, request.into_inner()).await;
        let chunks = chunks.map_err(status::from_fault)?;
        Ok(Response::new(stream::iter(chunks).map(Ok).boxed()))
    }

    async fn compare(
        &self,
        request: Request<wire::CompareRequest>,
    ) -> Result<Response<wire::CompareResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(Self::compare(self, scope, request.into_inner()).await)
    }

    async fn get_run_summary(
        &self,
        request: Request<wire::GetRunSummaryRequest>,
    ) -> Result<Response<wire::GetRunSummaryResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.run_summary(scope, request.into_inner()).await)
    }

    async fn get_records_summary(
        &self,
        request: Request<wire::GetRecordsSummaryRequest>,
    ) -> Result<Response<wire::GetRecordsSummaryResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.records_summary(scope, request.into_inner()).await)
    }

    async fn get_funnel(
        &self,
        request: Request<wire::GetFunnelRequest>,
    ) -> Result<Response<wire::GetFunnelResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.funnel(scope, request.into_inner()).await)
    }

    async fn get_coverage(
        &self,
        request: Request<wire::GetCoverageRequest>,
    ) -> Result<Response<wire::GetCoverageResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.coverage(scope, request.into_inner()).await)
    }

    async fn get_insights(
        &self,
        request: Request<wire::GetInsightsRequest>,
    ) -> Result<Response<wire::GetInsightsResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.insights(scope, request.into_inner()).await)
    }

    async fn diagnose_run(
        &self,
        request: Request<wire::DiagnoseRunRequest>,
    ) -> Result<Response<wire::DiagnoseRunResponse>, Status> {
        let scope = scope_of(&request)?;
        answer(self.diagnose(scope, request.into_inner()).await)
    }
}
