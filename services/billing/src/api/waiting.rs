//! Usage that nobody is charged for yet, because the start of its run or its call was not reported.

use runledger_domain::fault::Fault;
use runledger_domain::ids::RunId;
use runledger_proto::billing::v1 as wire;
use runledger_proto::encode;
use runledger_service::page;
use uuid::Uuid;

use super::{Api, Call, parse};

impl Api {
    pub(super) async fn waiting(
        &self,
        call: Call<wire::ListWaitingUsageRequest>,
    ) -> Result<wire::ListWaitingUsageResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let ((), options) = parse(request.read, |_| Some(()))?;
        let list = page::List::of(&["ListWaitingUsage", &scope.to_string()]);
        let is_run = |(run, ..): &(String, Uuid, i32)| RunId::parse(run.clone()).is_ok();
        let place = list.place_where(&request.page_token, is_run)?;
        if !self.0.clearance.is_given() {
            return Err(super::unavailable());
        }
        let forwarded = &self.0.forwarded;
        let found = forwarded
            .waiting(scope, place, i64::from(size) + 1, &options)
            .await?;
        let mut waiting = found.waiting;
        let more = waiting.len() > size as usize;
        waiting.truncate(size as usize);
        let last = waiting.last().filter(|_| more);
        let next = last.map(|one| list.token(&(&one.run_id, one.source_id, one.ordinal)));
        let waiting = waiting
            .iter()
            .map(|one| wire::list_waiting_usage_response::Waiting {
                run_id: one.run_id.clone(),
                source_id: one.source_id.to_string(),
                meter: one.meter.clone(),
                quantity: super::unsigned(one.quantity),
                used_at: Some(encode::timestamp(one.used_at)),
                waits_for: one.waits_for.clone(),
            });
        Ok(wire::ListWaitingUsageResponse {
            waiting: waiting.collect(),
            total: super::unsigned(found.total),
            next_page_token: next.transpose()?.unwrap_or_default(),
            as_of: Some(encode::as_of(&found.as_of.token, found.as_of.lag)),
        })
    }
}
