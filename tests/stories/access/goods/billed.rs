//! What one scope has of prices and credits, and every way to ask for it.

use prost::Message;
use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as wire;
use runledger_proto::billing::v1::billing_service_client::BillingServiceClient;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::price::v1 as price;
use runledger_proto::price::v1::price_service_client::PriceServiceClient;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{RunIngestServiceAppendRequest, UsageRecorded};
use runledger_service::client::Connection;
use runledger_tests::{Clients, Installation, Kind, Tenant, facts};

use super::Ask;

/// An account with a grant, a hold and a threshold, prices, usage that is charged, and usage that waits.
pub(super) struct Billed {
    account_id: String,
    run_id: String,
    grant_id: String,
    hold_id: String,
    tokens: Vec<String>,
}

impl Billed {
    /// `key`: an agent's, of the world in which it is to be; `clients` are of the same.
    pub(super) async fn bill(
        installation: &Installation,
        tenant: &Tenant,
        key: &str,
        clients: &Clients,
        marker: &str,
    ) -> Self {
        let is_sandbox = tenant.sandbox_keys.values().any(|one| one == key);
        let admin = if is_sandbox {
            tenant.sandbox_keys[&Role::Admin].as_str()
        } else {
            tenant.key(Role::Admin)
        };
        let connection = installation.connection(Kind::Billing, 0, admin);
        let mut billed = Self {
            account_id: format!("account-{marker}"),
            run_id: format!("run-{marker}"),
            grant_id: id(),
            hold_id: id(),
            tokens: Vec::new(),
        };
        let mut prices = PriceServiceClient::new(connection.clone());
        for rules in [vec![rule(marker)], Vec::new()] {
            let request = price::PublishPricesRequest {
                id: id(),
                rules,
                ..Default::default()
            };
            let published = prices.publish_prices(request).await.expect("prices");
            billed.tokens.push(published.into_inner().token);
        }
        billed
            .command(&mut BillingServiceClient::new(connection), marker)
            .await;
        billed.use_up(clients, marker).await;
        billed
    }

    async fn command(&mut self, billing: &mut BillingServiceClient<Connection>, marker: &str) {
        let granted = billing.grant_credits(wire::GrantCreditsRequest {
            id: self.grant_id.clone(),
            account_id: self.account_id.clone(),
            terms: Some(wire::GrantTerms {
                amount_micros: 100,
                kind: wire::GrantKind::Paid.into(),
                ..Default::default()
            }),
            reason: format!("of {marker}"),
        });
        granted.await.expect("a grant");
        let below = wire::threshold::Threshold::AvailableBelowMicros(1_000);
        let threshold = wire::Threshold {
            threshold: Some(below),
        };
        let watched = billing.set_thresholds(wire::SetThresholdsRequest {
            id: id(),
            account_id: self.account_id.clone(),
            thresholds: [(marker.to_owned(), threshold)].into(),
        });
        watched.await.expect("thresholds");
        let held = billing.reserve_credits(wire::ReserveCreditsRequest {
            id: self.hold_id.clone(),
            account_id: self.account_id.clone(),
            amount_micros: 5,
            expires_at: Some(prost_types::Timestamp {
                seconds: 4_102_444_800,
                nanos: 0,
            }),
            spender: Some(wire::Spender {
                agent_id: String::new(),
                run_id: self.run_id.clone(),
            }),
        });
        let held = held.await.expect("a hold").into_inner().answer;
        self.tokens.push(held.expect("an answer").token);
    }

    /// Some usage of the run, and some of one that nobody has started.
    async fn use_up(&mut self, clients: &Clients, marker: &str) {
        let used = |run_id: String| {
            let used = UsageRecorded {
                run_id,
                meter: "messages".into(),
                quantity: 1,
                ..UsageRecorded::default()
            };
            facts::run_fact(&mut rand::rng(), Fact::UsageRecorded(used))
        };
        let facts = vec![used(self.run_id.clone()), used(format!("waits-{marker}"))];
        let request = RunIngestServiceAppendRequest { facts };
        let appended = clients.runs_in.clone().append(request).await;
        self.tokens
            .push(appended.expect("usage").into_inner().token);
    }

    fn read(&self) -> Option<ReadOptions> {
        Some(ReadOptions {
            at_least: self.tokens.clone(),
            max_wait: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        })
    }

    /// Every read that leads its owner to them.
    pub(super) fn reads(&self) -> Vec<Ask> {
        let (account_id, read) = (self.account_id.clone(), self.read());
        let always = wire::Range {
            from: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            to: Some(prost_types::Timestamp {
                seconds: 2_000_000_000,
                nanos: 0,
            }),
        };
        let mut asks = ask!["billing.v1.BillingService",
            GetCommandOutcome => wire::GetCommandOutcomeRequest { id: self.grant_id.clone(), account_id: account_id.clone() },
            GetBalance => wire::GetBalanceRequest { account_id: account_id.clone(), read: read.clone(), ..Default::default() },
            ExplainBalance => wire::ExplainBalanceRequest { account_id: account_id.clone(), read: read.clone(), ..Default::default() },
            ListEntries => wire::ListEntriesRequest { account_id: account_id.clone(), read: read.clone(), ..Default::default() },
            GetSpending => wire::GetSpendingRequest {
                range: Some(always), group_by: vec![wire::SpendingGroup::Run.into()], read: read.clone(), ..Default::default()
            },
            GetRunCost => wire::GetRunCostRequest { run_id: self.run_id.clone(), read: read.clone(), ..Default::default() },
            ListCharges => wire::ListChargesRequest { read: read.clone(), ..Default::default() },
            ListHolds => wire::ListHoldsRequest { account_id: account_id.clone(), read: read.clone(), ..Default::default() },
            ListAccounts => wire::ListAccountsRequest { read: read.clone(), ..Default::default() },
            GetAccount => wire::GetAccountRequest { account_id: account_id.clone(), read: read.clone() },
            ListCrossings => wire::ListCrossingsRequest { account_id, read: read.clone(), ..Default::default() },
            ListWaitingUsage => wire::ListWaitingUsageRequest { read: read.clone(), ..Default::default() },
        ];
        asks.extend(ask!["price.v1.PriceService",
            GetPrices => price::GetPricesRequest { version: 1, at: None, read: read.clone() },
            DiffPrices => price::DiffPricesRequest { before: 1, after: 2, read },
        ]);
        asks
    }

    /// What shows its owner no text of his, and every command that has their ids.
    pub(super) fn commands(&self) -> Vec<Ask> {
        let (account_id, hold_id) = (String::from("mine"), self.hold_id.clone());
        let usage = wire::quote_request::QuotedUsage {
            meter: "messages".into(),
            quantity: 1,
            ..Default::default()
        };
        let mut asks = ask!["billing.v1.BillingService",
            GrantCredits => wire::GrantCreditsRequest { id: self.grant_id.clone(), ..Default::default() },
            GrantRecurringCredits => wire::GrantRecurringCreditsRequest { id: self.grant_id.clone(), ..Default::default() },
            VoidGrant => wire::VoidGrantRequest {
                id: id(), account_id: account_id.clone(), grant_id: self.grant_id.clone(), reason: String::new(),
            },
            AdjustCredits => wire::AdjustCreditsRequest { id: self.grant_id.clone(), ..Default::default() },
            RefundCredits => wire::RefundCreditsRequest { id: self.grant_id.clone(), ..Default::default() },
            WriteOffCredits => wire::WriteOffCreditsRequest { id: self.grant_id.clone(), ..Default::default() },
            ReserveCredits => wire::ReserveCreditsRequest { id: hold_id.clone(), ..Default::default() },
            ExtendHold => wire::ExtendHoldRequest { id: id(), account_id: account_id.clone(), hold_id: hold_id.clone(), expires_at: None },
            SettleHold => wire::SettleHoldRequest { id: id(), account_id: account_id.clone(), hold_id: hold_id.clone(), amount_micros: 1 },
            ReleaseHold => wire::ReleaseHoldRequest { id: id(), account_id: account_id.clone(), hold_id },
            SetSpendLimits => wire::SetSpendLimitsRequest { id: id(), account_id: account_id.clone(), limits: None },
            SetTimeZone => wire::SetTimeZoneRequest { id: id(), account_id: account_id.clone(), zone: String::new() },
            SetThresholds => wire::SetThresholdsRequest { id: id(), account_id: account_id.clone(), thresholds: Default::default() },
            Quote => wire::QuoteRequest { account_id, usages: vec![usage], read: None },
        ];
        asks.extend(ask!["price.v1.PriceService",
            PublishPrices => price::PublishPricesRequest { id: String::new(), ..Default::default() },
            ListPrices => price::ListPricesRequest::default(),
        ]);
        asks
    }
}

fn id() -> String {
    uuid::Uuid::from_u128(rand::random()).to_string()
}

fn rule(marker: &str) -> price::PriceRule {
    price::PriceRule {
        id: marker.into(),
        meter: "messages".into(),
        unit: 1,
        tiers: vec![price::Tier {
            up_to: None,
            price_micros: 1,
        }],
        ..Default::default()
    }
}
