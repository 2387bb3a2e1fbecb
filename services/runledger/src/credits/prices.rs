//! `runledger prices`: publish, show, list, diff.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use runledger_domain::money::Credits;
use runledger_proto::encode;
use runledger_proto::price::v1 as wire;
use runledger_service::ids;
use serde::{Deserialize, Deserializer};

use super::{amount, amounts};
use crate::cli::{PricesCommand, PricesDiff, PricesList, PricesPublish, PricesShow};
use crate::json;
use crate::reading::PAGE;
use crate::remote::{For, Prices, Refusal, Remote};
use crate::runs::{moment, read_options};
use crate::say::{self, Columns, cell};

/// Longest file that is looked at.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How a price file looks; shown by `--help`, and a test reads it.
pub(crate) const EXAMPLE: &str = r#"A price file is TOML:

  meters = ["gpu_seconds"]              # optional: what is priced beside the meters that are built in

  [[rules]]
  id = "calls"                          # unique; the same id in the next list goes on counting units
  meter = "tool_calls"
  price = "0.002"                       # credits of each unit

  [[rules]]
  id = "failed-calls"
  meter = "tool_calls"
  dimensions = { outcome = "failed" }   # of several rules that fit, the one with the most of these counts
  price = "0"

  [[rules]]
  id = "output"
  meter = "tokens_output"
  unit = 1000                           # prices are of so many units
  included = 100000                     # free in each calendar month of the account
  minimum = "0.0001"                    # what a charge is at least
  tiers = [                             # in the place of a price: graduated
    { up_to = 1000000, price = "0.03" },
    { price = "0.02" },
  ]

Meters: tokens_input, tokens_output, tool_calls, run_seconds, server_seconds, export_bytes, agent_inputs,
proxy_bytes, messages. Usage of tools also reports tool_call_milliseconds, to be named under meters.
Dimensions that usage has: agent, model, tool, space, outcome, and what its reporter says."#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    meters: Vec<String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    id: String,
    meter: String,
    #[serde(default)]
    dimensions: BTreeMap<String, String>,
    #[serde(default)]
    unit: u64,
    #[serde(default)]
    included: u64,
    #[serde(default, deserialize_with = "credits")]
    minimum: Option<Credits>,
    #[serde(default, deserialize_with = "credits")]
    price: Option<Credits>,
    #[serde(default)]
    tiers: Vec<Tier>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    up_to: Option<u64>,
    #[serde(deserialize_with = "credits")]
    price: Option<Credits>,
}

/// Amounts are texts: numbers with a point would be floats.
fn credits<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Credits>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl From<Rule> for wire::PriceRule {
    fn from(rule: Rule) -> Self {
        let tier = |up_to: Option<u64>, price: Option<Credits>| wire::Tier {
            up_to,
            price_micros: price.unwrap_or_default().as_micros(),
        };
        let tiers = rule.tiers.into_iter().map(|one| tier(one.up_to, one.price));
        let flat = rule.price.map(|price| tier(None, Some(price)));
        Self {
            id: rule.id,
            meter: rule.meter,
            dimensions: rule.dimensions,
            unit: rule.unit,
            included: rule.included,
            tiers: tiers.chain(flat).collect(),
            minimum_micros: rule.minimum.unwrap_or_default().as_micros(),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<wire::PublishPricesRequest> {
    let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(text.len()).is_ok_and(|len| len > FILE_BYTES_MAX) {
        anyhow::bail!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
    }
    parse(&text).with_context(|| {
        format!(
            "{} is no price file; `runledger prices publish --help` shows one",
            path.display()
        )
    })
}

fn parse(text: &str) -> Result<wire::PublishPricesRequest, toml::de::Error> {
    let file: File = toml::from_str(text)?;
    Ok(wire::PublishPricesRequest {
        rules: file.rules.into_iter().map(Into::into).collect(),
        meters: file.meters,
        ..Default::default()
    })
}

pub(crate) async fn run(command: &PricesCommand) -> anyhow::Result<()> {
    match command {
        PricesCommand::Publish(args) => publish_file(args).await,
        PricesCommand::Show(args) => show(args).await,
        PricesCommand::List(args) => list(args).await,
        PricesCommand::Diff(args) => diff(args).await,
    }
}

/// Publishes prices, under a fresh id where they have none; none, when they are not decided yet.
pub(crate) async fn publish(
    prices: &mut Prices,
    list: wire::PublishPricesRequest,
) -> Result<Option<wire::PriceList>, Refusal> {
    let mut request = list;
    if request.id.is_empty() {
        request.id = ids::fresh().to_string();
    }
    Ok(prices.publish_prices(request).await?.into_inner().list)
}

async fn publish_file(args: &PricesPublish) -> anyhow::Result<()> {
    let id = args.id.unwrap_or_else(ids::fresh);
    let list = wire::PublishPricesRequest {
        id: id.to_string(),
        effective_at: args.from.map(encode::timestamp),
        expected_version: args.after,
        ..read(&args.file)?
    };
    let remote = Remote::resolve(&args.server)?;
    let mut prices = remote.prices(For::Administering).await?;
    let published = publish(&mut prices, list).await;
    let published = published.with_context(|| {
        format!("publishing with --id {id}; asked again with it, nothing is published twice")
    })?;
    match published {
        Some(list) => {
            let from = moment(list.effective_at.as_ref()).map(|at| at.to_rfc3339());
            say::line(format_args!(
                "Version {} of the prices takes effect at {}.",
                list.version,
                from.unwrap_or_default()
            ))?;
        }
        None => say::line(
            "They are in the log and not decided yet; `runledger prices list` shows them soon.",
        )?,
    }
    Ok(())
}

async fn show(args: &PricesShow) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut prices = remote.prices(For::Reading).await?;
    let request = wire::GetPricesRequest {
        version: args.edition,
        at: None,
        read: read_options(&args.reading),
    };
    let found = prices.get_prices(request).await.map_err(Refusal::from)?;
    let list = found.into_inner().list.unwrap_or_default();
    if args.reading.json {
        return Ok(say::line(json::of("runledger.price.v1.PriceList", &list)?)?);
    }
    let from = moment(list.effective_at.as_ref()).map(|at| at.to_rfc3339());
    say::line(format_args!(
        "Version {}, from {} on.",
        list.version,
        from.unwrap_or_default()
    ))?;
    Ok(rules(&list.rules).print()?)
}

fn rules(rules: &[wire::PriceRule]) -> Columns {
    let mut table = amounts(&[
        "rule",
        "meter",
        "of",
        ">included",
        ">up to",
        ">credits",
        ">per",
    ]);
    for rule in rules {
        let dimensions = rule.dimensions.iter();
        let dimensions: Vec<String> = dimensions
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        for (place, tier) in rule.tiers.iter().enumerate() {
            let first = |text: String| if place == 0 { text } else { String::new() };
            let up_to = tier.up_to.map(say::count).unwrap_or_default();
            table.row([
                cell(first(rule.id.clone())),
                cell(first(rule.meter.clone())),
                cell(first(dimensions.join(" "))),
                cell(first(say::count(rule.included))),
                cell(up_to),
                amount(tier.price_micros),
                cell(say::count(rule.unit.max(1))),
            ]);
        }
    }
    table
}

async fn list(args: &PricesList) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut prices = remote.prices(For::Reading).await?;
    let mut request = wire::ListPricesRequest {
        page_size: PAGE,
        read: read_options(&args.reading),
        ..Default::default()
    };
    let mut table = Columns::new(&[">version", "from", "recorded", ">rules", ""]);
    let mut found = Vec::new();
    loop {
        let page = prices.list_prices(request.clone()).await;
        let page = page.map_err(Refusal::from)?.into_inner();
        found.extend(page.versions);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if args.reading.json {
        for version in &found {
            let name = "runledger.price.v1.ListPricesResponse.Version";
            say::line(json::of(name, version)?)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        say::line("No prices were published; `runledger prices publish --help` shows how.")?;
        return Ok(());
    }
    let at = |at| moment(at).map(|at| at.to_rfc3339()).unwrap_or_default();
    for version in &found {
        table.row([
            cell(version.version),
            cell(at(version.effective_at.as_ref())),
            cell(at(version.recorded_at.as_ref())),
            cell(version.rules),
            cell(if version.in_force { "in force" } else { "" }),
        ]);
    }
    Ok(table.print()?)
}

async fn diff(args: &PricesDiff) -> anyhow::Result<()> {
    use wire::diff_prices_response::difference::Difference;
    let remote = Remote::resolve(&args.reading.server)?;
    let mut prices = remote.prices(For::Reading).await?;
    let request = wire::DiffPricesRequest {
        before: args.before,
        after: args.after,
        read: read_options(&args.reading),
    };
    let found = prices.diff_prices(request).await.map_err(Refusal::from)?;
    let found = found.into_inner();
    if args.reading.json {
        let name = "runledger.price.v1.DiffPricesResponse";
        return Ok(say::line(json::of(name, &found)?)?);
    }
    if found.differences.is_empty() {
        say::line("Both price everything alike.")?;
    }
    for difference in found
        .differences
        .into_iter()
        .filter_map(|one| one.difference)
    {
        match difference {
            Difference::MeterAdded(meter) => say::line(format_args!("+ meter {meter}"))?,
            Difference::MeterRemoved(meter) => say::line(format_args!("- meter {meter}"))?,
            Difference::RuleAdded(rule) => {
                say::line(format_args!("+ rule {}", rule.id))?;
                rules(&[rule]).print()?;
            }
            Difference::RuleRemoved(rule) => say::line(format_args!("- rule {}", rule.id))?,
            Difference::RuleChanged(changed) => {
                let both = [changed.before, changed.after];
                let both: Vec<wire::PriceRule> = both.into_iter().flatten().collect();
                say::line("rule before and after")?;
                rules(&both).print()?;
            }
            Difference::RulesReordered(order) => {
                say::line(format_args!("in order: {}", order.after.join(", ")))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_price_file() {
        let body = EXAMPLE.lines().skip(2);
        let body: Vec<&str> = body
            .take_while(|line| !line.starts_with("Meters:"))
            .collect();
        let list = parse(&body.join("\n")).unwrap();
        assert_eq!((list.meters.len(), list.rules.len()), (1, 3));
        let output = &list.rules[2];
        assert_eq!(
            (output.unit, output.included, output.minimum_micros),
            (1_000, 100_000, 100)
        );
        let tiers: Vec<_> = output
            .tiers
            .iter()
            .map(|one| (one.up_to, one.price_micros))
            .collect();
        assert_eq!(tiers, [(Some(1_000_000), 30_000), (None, 20_000)]);
        assert_eq!(list.rules[0].tiers[0].price_micros, 2_000);
    }

    #[test]
    fn floats_and_unheard_fields_are_refused() {
        for text in [
            "[[rules]]\nid = 'a'\nmeter = 'm'\nprice = 0.5",
            "[[rules]]\nid = 'a'\nmeter = 'm'\nprice = 'much'",
            "[[rules]]\nid = 'a'\nmeter = 'm'\nprize = '1'",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
