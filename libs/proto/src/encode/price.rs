use prost::Message as _;
use runledger_domain::ids::Name;
use runledger_domain::price as domain;

use super::{actor, timestamp};
use crate::price::v1 as wire;
use crate::types;

/// The type name and the encoded payload of the command to publish prices, as they are stored.
pub fn publish_prices(publish: &domain::Publish) -> (&'static str, Vec<u8>) {
    let message = wire::PublishPrices {
        effective_at: publish.effective_at.map(timestamp),
        rules: publish.rules.iter().map(Into::into).collect(),
        meters: publish.meters.iter().map(Name::to_string).collect(),
        expected_version: publish.expected_version,
    };
    (types::PUBLISH_PRICES, message.encode_to_vec())
}

/// The type name and the encoded payload of the decision that prices were published.
pub fn prices_published(published: &domain::Published) -> (&'static str, Vec<u8>) {
    let message = wire::PricesPublished {
        list: Some((&published.list).into()),
    };
    (types::PRICES_PUBLISHED, message.encode_to_vec())
}

impl From<&domain::PriceList> for wire::PriceList {
    fn from(list: &domain::PriceList) -> Self {
        Self {
            version: list.version,
            effective_at: Some(timestamp(list.effective_at)),
            recorded_at: Some(timestamp(list.recorded.at)),
            recorded_by: Some(actor(&list.recorded.by)),
            rules: list.rules.iter().map(Into::into).collect(),
            meters: list.meters.iter().map(Name::to_string).collect(),
        }
    }
}

impl From<&domain::Rule> for wire::PriceRule {
    fn from(rule: &domain::Rule) -> Self {
        let dimensions = rule.dimensions.iter();
        let dimensions = dimensions.map(|(key, value)| (key.to_string(), value.clone()));
        let tier = |tier: &domain::Tier| wire::Tier {
            up_to: tier.up_to,
            price_micros: tier.price.as_micros(),
        };
        Self {
            id: rule.id.to_string(),
            meter: rule.meter.to_string(),
            dimensions: dimensions.collect(),
            unit: rule.unit,
            included: rule.included,
            tiers: rule.tiers.iter().map(tier).collect(),
            minimum_micros: rule.minimum.as_micros(),
        }
    }
}

impl From<&domain::Difference<'_>> for wire::diff_prices_response::Difference {
    fn from(difference: &domain::Difference<'_>) -> Self {
        use wire::diff_prices_response::difference::Difference as Wire;
        use wire::diff_prices_response::{Changed, Reordered};
        let ids = |ids: &[&Name]| ids.iter().map(ToString::to_string).collect();
        let difference = match difference {
            domain::Difference::MeterAdded(meter) => Wire::MeterAdded(meter.to_string()),
            domain::Difference::MeterRemoved(meter) => Wire::MeterRemoved(meter.to_string()),
            domain::Difference::RuleAdded(rule) => Wire::RuleAdded((*rule).into()),
            domain::Difference::RuleRemoved(rule) => Wire::RuleRemoved((*rule).into()),
            domain::Difference::RuleChanged { before, after } => Wire::RuleChanged(Changed {
                before: Some((*before).into()),
                after: Some((*after).into()),
            }),
            domain::Difference::RulesReordered { before, after } => {
                Wire::RulesReordered(Reordered {
                    before: ids(before),
                    after: ids(after),
                })
            }
        };
        Self {
            difference: Some(difference),
        }
    }
}
