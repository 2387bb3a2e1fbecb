//! The rpcs of both services, each a line to what answers it.

use runledger_proto::billing::v1 as wire;
use runledger_proto::billing::v1::billing_service_server::BillingService;
use runledger_proto::price::v1 as price;
use runledger_proto::price::v1::price_service_server::PriceService;
use tonic::{Request, Response, Status};

use super::{Api, answer};

#[tonic::async_trait]
impl BillingService for Api {
    async fn grant_credits(
        &self,
        request: Request<wire::GrantCreditsRequest>,
    ) -> Result<Response<wire::GrantCreditsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::GrantCreditsResponse { answer }))
    }

    async fn grant_recurring_credits(
        &self,
        request: Request<wire::GrantRecurringCreditsRequest>,
    ) -> Result<Response<wire::GrantRecurringCreditsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::GrantRecurringCreditsResponse { answer }))
    }

    async fn void_grant(
        &self,
        request: Request<wire::VoidGrantRequest>,
    ) -> Result<Response<wire::VoidGrantResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::VoidGrantResponse { answer }))
    }

    async fn adjust_credits(
        &self,
        request: Request<wire::AdjustCreditsRequest>,
    ) -> Result<Response<wire::AdjustCreditsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::AdjustCreditsResponse { answer }))
    }

    async fn refund_credits(
        &self,
        request: Request<wire::RefundCreditsRequest>,
    ) -> Result<Response<wire::RefundCreditsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::RefundCreditsResponse { answer }))
    }

    async fn write_off_credits(
        &self,
        request: Request<wire::WriteOffCreditsRequest>,
    ) -> Result<Response<wire::WriteOffCreditsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::WriteOffCreditsResponse { answer }))
    }

    async fn reserve_credits(
        &self,
        request: Request<wire::ReserveCreditsRequest>,
    ) -> Result<Response<wire::ReserveCreditsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::ReserveCreditsResponse { answer }))
    }

    async fn extend_hold(
        &self,
        request: Request<wire::ExtendHoldRequest>,
    ) -> Result<Response<wire::ExtendHoldResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::ExtendHoldResponse { answer }))
    }

    async fn settle_hold(
        &self,
        request: Request<wire::SettleHoldRequest>,
    ) -> Result<Response<wire::SettleHoldResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::SettleHoldResponse { answer }))
    }

    async fn release_hold(
        &self,
        request: Request<wire::ReleaseHoldRequest>,
    ) -> Result<Response<wire::ReleaseHoldResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::ReleaseHoldResponse { answer }))
    }

    async fn set_spend_limits(
        &self,
        request: Request<wire::SetSpendLimitsRequest>,
    ) -> Result<Response<wire::SetSpendLimitsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::SetSpendLimitsResponse { answer }))
    }

    async fn set_time_zone(
        &self,
        request: Request<wire::SetTimeZoneRequest>,
    ) -> Result<Response<wire::SetTimeZoneResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::SetTimeZoneResponse { answer }))
    }

    async fn set_thresholds(
        &self,
        request: Request<wire::SetThresholdsRequest>,
    ) -> Result<Response<wire::SetThresholdsResponse>, Status> {
        let answered = self.order(self.call(request)?).await;
        answer(answered.map(|answer| wire::SetThresholdsResponse { answer }))
    }

    async fn get_command_outcome(
        &self,
        request: Request<wire::GetCommandOutcomeRequest>,
    ) -> Result<Response<wire::GetCommandOutcomeResponse>, Status> {
        answer(self.outcome(self.call(request)?).await)
    }

    async fn get_balance(
        &self,
        request: Request<wire::GetBalanceRequest>,
    ) -> Result<Response<wire::GetBalanceResponse>, Status> {
        answer(self.balance(self.call(request)?).await)
    }

    async fn explain_balance(
        &self,
        request: Request<wire::ExplainBalanceRequest>,
    ) -> Result<Response<wire::ExplainBalanceResponse>, Status> {
        answer(self.explain(self.call(request)?).await)
    }

    async fn list_entries(
        &self,
        request: Request<wire::ListEntriesRequest>,
    ) -> Result<Response<wire::ListEntriesResponse>, Status> {
        answer(self.entries(self.call(request)?).await)
    }

    async fn get_spending(
        &self,
        request: Request<wire::GetSpendingRequest>,
    ) -> Result<Response<wire::GetSpendingResponse>, Status> {
        answer(self.spending(self.call(request)?).await)
    }

    async fn get_run_cost(
        &self,
        request: Request<wire::GetRunCostRequest>,
    ) -> Result<Response<wire::GetRunCostResponse>, Status> {
        answer(self.run_cost(self.call(request)?).await)
    }

    async fn list_charges(
        &self,
        request: Request<wire::ListChargesRequest>,
    ) -> Result<Response<wire::ListChargesResponse>, Status> {
        answer(self.charges(self.call(request)?).await)
    }

    async fn list_holds(
        &self,
        request: Request<wire::ListHoldsRequest>,
    ) -> Result<Response<wire::ListHoldsResponse>, Status> {
        answer(self.holds(self.call(request)?).await)
    }

    async fn list_accounts(
        &self,
        request: Request<wire::ListAccountsRequest>,
    ) -> Result<Response<wire::ListAccountsResponse>, Status> {
        answer(self.accounts(self.call(request)?).await)
    }

    async fn get_account(
        &self,
        request: Request<wire::GetAccountRequest>,
    ) -> Result<Response<wire::GetAccountResponse>, Status> {
        answer(self.account(self.call(request)?).await)
    }

    async fn list_crossings(
        &self,
        request: Request<wire::ListCrossingsRequest>,
    ) -> Result<Response<wire::ListCrossingsResponse>, Status> {
        answer(self.crossings(self.call(request)?).await)
    }

    async fn quote(
        &self,
        request: Request<wire::QuoteRequest>,
    ) -> Result<Response<wire::QuoteResponse>, Status> {
        answer(self.quoted(self.call(request)?).await)
    }

    async fn list_waiting_usage(
        &self,
        request: Request<wire::ListWaitingUsageRequest>,
    ) -> Result<Response<wire::ListWaitingUsageResponse>, Status> {
        answer(self.waiting(self.call(request)?).await)
    }
}

#[tonic::async_trait]
impl PriceService for Api {
    async fn publish_prices(
        &self,
        request: Request<price::PublishPricesRequest>,
    ) -> Result<Response<price::PublishPricesResponse>, Status> {
        answer(self.publish(self.call(request)?).await)
    }

    async fn get_prices(
        &self,
        request: Request<price::GetPricesRequest>,
    ) -> Result<Response<price::GetPricesResponse>, Status> {
        answer(self.prices(self.call(request)?).await)
    }

    async fn list_prices(
        &self,
        request: Request<price::ListPricesRequest>,
    ) -> Result<Response<price::ListPricesResponse>, Status> {
        answer(self.price_versions(self.call(request)?).await)
    }

    async fn diff_prices(
        &self,
        request: Request<price::DiffPricesRequest>,
    ) -> Result<Response<price::DiffPricesResponse>, Status> {
        answer(self.price_differences(self.call(request)?).await)
    }
}
