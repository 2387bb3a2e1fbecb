//! Price lists: what requests publish, and the commands and decisions in the log.

use std::collections::BTreeSet;

use runledger_domain::ids::Name;
use runledger_domain::money::Credits;
use runledger_domain::policy::Change;
use runledger_domain::price::{
    DIMENSION_CHARS_MAX, DIMENSIONS_MAX, METERS_MAX, PriceList, Publish, Published, RULES_MAX,
    Rule, TIERS_MAX, Tier, check,
};

use super::approval::{actor, read};
use super::fields::{Fields, reason};
use super::stored::{Error, bounded};
use crate::price::v1 as wire;
use crate::types;

/// Prices as a caller publishes them.
pub fn publish(wire: wire::PublishPricesRequest, see: &mut Fields<'_>) -> Option<Publish> {
    let publish = publishing(
        wire::PublishPrices {
            effective_at: wire.effective_at,
            rules: wire.rules,
            meters: wire.meters,
            expected_version: wire.expected_version,
        },
        see,
    )?;
    let faults = check(&publish.rules, &publish.meters);
    let faults = faults.into_iter().map(|mut violation| {
        // Amounts on the wire say of what they are.
        if violation.field.ends_with("price") || violation.field.ends_with("minimum") {
            violation.field.push_str("_micros");
        }
        violation
    });
    see.take_over(faults.collect());
    Some(publish)
}

fn publishing(wire: wire::PublishPrices, see: &mut Fields<'_>) -> Option<Publish> {
    let effective_at = see.optional_time("effective_at", wire.effective_at);
    let (rules, meters) = lists(wire.rules, wire.meters, see)?;
    Some(Publish {
        effective_at,
        rules,
        meters,
        expected_version: wire.expected_version,
    })
}

fn lists(
    rules: Vec<wire::PriceRule>,
    meters: Vec<String>,
    see: &mut Fields<'_>,
) -> Option<(Vec<Rule>, BTreeSet<Name>)> {
    for (name, count, most) in [
        ("rules", rules.len(), RULES_MAX),
        ("meters", meters.len(), METERS_MAX),
    ] {
        // Those that are too many are not looked at.
        if count > most && !see.is_stored() {
            let why = format_args!("must have at most {most} entries");
            see.fault(name, reason::TOO_MANY, why);
            return None;
        }
    }
    let rules = rules.into_iter().enumerate();
    let rules: Vec<Option<Rule>> = rules
        .map(|(index, rule)| see.item("rules", index, |see| self::rule(rule, see)))
        .collect();
    let meters = meters.into_iter().enumerate();
    let meters: Vec<Option<Name>> = meters
        .map(|(index, meter)| see.item("meters", index, |see| see.item_id(meter, Name::parse)))
        .collect();
    let rules: Option<Vec<Rule>> = rules.into_iter().collect();
    let meters: Option<BTreeSet<Name>> = meters.into_iter().collect();
    Some((rules?, meters?))
}

fn rule(wire: wire::PriceRule, see: &mut Fields<'_>) -> Option<Rule> {
    let id = see.id("id", wire.id, Name::parse);
    let meter = see.id("meter", wire.meter, Name::parse);
    let dimensions = see.texts(
        "dimensions",
        wire.dimensions,
        DIMENSIONS_MAX,
        DIMENSION_CHARS_MAX,
    );
    if wire.tiers.len() > TIERS_MAX && !see.is_stored() {
        let why = format_args!("must have at most {TIERS_MAX} entries");
        see.fault("tiers", reason::TOO_MANY, why);
        return None;
    }
    let tier = |tier: wire::Tier| Tier {
        up_to: tier.up_to,
        price: Credits::from_micros(tier.price_micros),
    };
    Some(Rule {
        id: id?,
        meter: meter?,
        dimensions,
        unit: wire.unit.max(1),
        included: wire.included,
        tiers: wire.tiers.into_iter().map(tier).collect(),
        minimum: Credits::from_micros(wire.minimum_micros),
    })
}

/// The command to publish prices in a stored payload. `Ok(None)`: of another type, or it says what this
/// version does not understand. It is not checked again: its decision does that.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_publish_prices(type_name: &str, bytes: &[u8]) -> Result<Option<Publish>, Error> {
    if type_name != types::PUBLISH_PRICES {
        return Ok(None);
    }
    bounded(type_name, bytes)?;
    read(type_name, bytes, publishing)
}

/// The decision that prices were published in a stored payload. `Ok(None)`: as in
/// [`stored_publish_prices`]. A list that newer rules would refuse is read as it is.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_prices_published(type_name: &str, bytes: &[u8]) -> Result<Option<Published>, Error> {
    if type_name != types::PRICES_PUBLISHED {
        return Ok(None);
    }
    bounded(type_name, bytes)?;
    read(type_name, bytes, |wire: wire::PricesPublished, see| {
        let list = see.required("list", wire.list)?;
        let effective_at = see.time("effective_at", list.effective_at);
        let at = see.time("recorded_at", list.recorded_at);
        let by = actor("recorded_by", list.recorded_by, see);
        let lists = lists(list.rules, list.meters, see);
        let (rules, meters) = lists?;
        Some(Published {
            list: PriceList {
                version: list.version,
                effective_at: effective_at?,
                recorded: Change { at: at?, by: by? },
                rules,
                meters,
            },
        })
    })
}
