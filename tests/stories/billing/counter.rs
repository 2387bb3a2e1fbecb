//! Those who give, spend and ask, at the counter of an installation.

use std::time::Duration;

use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as wire;
use runledger_proto::billing::v1::billing_service_client::BillingServiceClient;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::encode;
use runledger_proto::price::v1 as price;
use runledger_proto::price::v1::price_service_client::PriceServiceClient;
use runledger_service::client::Connection;
use runledger_service::status;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Tenant};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::approvals::desk::new_id;

/// Prices take effect a minute after they were published.
const IN_FORCE: Duration = Duration::from_secs(90);

/// One caller.
#[derive(Clone)]
pub(super) struct Counter {
    pub(super) billing: BillingServiceClient<Connection>,
    pub(super) prices: PriceServiceClient<Connection>,
}

impl Counter {
    pub(super) fn role(installation: &Installation, tenant: &Tenant, role: Role) -> Self {
        let connection = installation.connection(Kind::Billing, 0, tenant.key(role));
        Self {
            billing: BillingServiceClient::new(connection.clone()),
            prices: PriceServiceClient::new(connection),
        }
    }

    /// Gives an account credits that were paid for.
    pub(super) async fn grant(
        &mut self,
        id: &str,
        account: &str,
        micros: i64,
    ) -> Result<wire::CommandAnswer, Status> {
        let request = wire::GrantCreditsRequest {
            id: id.into(),
            account_id: account.into(),
            terms: Some(paid(micros)),
            reason: "a story".into(),
        };
        let answered = self.billing.grant_credits(request).await?;
        Ok(answered.into_inner().answer.expect("an answer"))
    }

    pub(super) async fn reserve(
        &mut self,
        id: &str,
        account: &str,
        micros: i64,
        lasts: Duration,
    ) -> Result<wire::CommandAnswer, Status> {
        let request = wire::ReserveCreditsRequest {
            id: id.into(),
            account_id: account.into(),
            amount_micros: micros,
            expires_at: Some(in_time(lasts)),
            spender: None,
        };
        let answered = self.billing.reserve_credits(request).await?;
        Ok(answered.into_inner().answer.expect("an answer"))
    }

    pub(super) async fn settle(
        &mut self,
        account: &str,
        hold: &str,
        micros: i64,
    ) -> Result<wire::CommandAnswer, Status> {
        let request = wire::SettleHoldRequest {
            id: new_id(),
            account_id: account.into(),
            hold_id: hold.into(),
            amount_micros: micros,
        };
        let answered = self.billing.settle_hold(request).await?;
        Ok(answered.into_inner().answer.expect("an answer"))
    }

    pub(super) async fn balance(&mut self, account: &str, token: &str) -> wire::GetBalanceResponse {
        let request = wire::GetBalanceRequest {
            account_id: account.into(),
            read: at_least(token),
            ..Default::default()
        };
        let answered = self.billing.get_balance(request).await;
        answered.expect("a balance").into_inner()
    }

    /// Waits until the first prices, published with a token, are in force.
    pub(super) async fn until_in_force(&self, token: &str) {
        let request = price::ListPricesRequest {
            read: at_least(token),
            ..Default::default()
        };
        eventually(IN_FORCE, || {
            let (mut prices, request) = (self.prices.clone(), request.clone());
            async move {
                let listed = prices.list_prices(request).await.expect("prices");
                let versions = listed.into_inner().versions;
                let is_in_force = versions.iter().any(|one| one.version == 1 && one.in_force);
                if is_in_force {
                    Ok(())
                } else {
                    Err("not in force")
                }
            }
        })
        .await;
    }
}

pub(super) fn paid(micros: i64) -> wire::GrantTerms {
    wire::GrantTerms {
        amount_micros: micros,
        kind: wire::GrantKind::Paid.into(),
        ..Default::default()
    }
}

/// The longest that a read waits.
pub(super) fn at_least(token: &str) -> Option<ReadOptions> {
    let tokens = Some(token.to_owned()).filter(|token| !token.is_empty());
    Some(ReadOptions {
        at_least: tokens.into_iter().collect(),
        max_wait: Some(encode::duration(Duration::from_secs(10))),
    })
}

pub(super) fn in_time(later: Duration) -> prost_types::Timestamp {
    let at = runledger_domain::time::Clock::now(&runledger_domain::time::SystemClock) + later;
    encode::timestamp(at)
}

/// Available, held, overdrawn, unpaid.
pub(super) fn micros(balance: Option<&wire::Balance>) -> [i64; 4] {
    let balance = balance.expect("a balance");
    [
        balance.available_micros,
        balance.held_micros,
        balance.overdrawn_micros,
        balance.unpaid_micros,
    ]
}

pub(super) fn refusal<T: std::fmt::Debug>(answered: Result<T, Status>) -> (Code, String) {
    let status = answered.expect_err("a refusal");
    (status.code(), status::reason(&status).unwrap_or_default())
}

/// One price for every unit.
pub(super) fn rule(id: &str, meter: &str, price_micros: i64, unit: u64) -> price::PriceRule {
    price::PriceRule {
        id: id.into(),
        meter: meter.into(),
        unit,
        tiers: vec![price::Tier {
            up_to: None,
            price_micros,
        }],
        ..Default::default()
    }
}

pub(super) fn id_of(number: u128) -> String {
    Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + number).to_string()
}
