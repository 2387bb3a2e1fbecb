//! `runledger credits` and `runledger prices`: what usage costs and who pays, as people look at it.

use anyhow::Context as _;
use runledger_domain::money::Credits;
use runledger_proto::billing::v1 as wire;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::encode;
use runledger_service::ids;

use crate::cli::{
    CreditsAccount, CreditsBalance, CreditsCommand, CreditsGrant, CreditsHistory, CreditsQuote,
    CreditsRun,
};
use crate::json;
use crate::reading::PAGE;
use crate::remote::{Billing, For, Refusal, Remote};
use crate::runs::read_options;
use crate::say::{self, Columns, cell};

mod prices;
pub(crate) mod view;

pub(crate) use prices::{EXAMPLE, publish, run as prices};

pub(crate) async fn run(command: &CreditsCommand) -> anyhow::Result<()> {
    match command {
        CreditsCommand::Balance(args) => balance(args).await,
        CreditsCommand::History(args) => history(args).await,
        CreditsCommand::Explain(args) => explain(args).await,
        CreditsCommand::Grant(args) => grant(args).await,
        CreditsCommand::Quote(args) => quote(args).await,
        CreditsCommand::Holds(args) => holds(args).await,
        CreditsCommand::Run(args) => cost(args).await,
    }
}

async fn billing(of: &CreditsAccount) -> anyhow::Result<Billing> {
    Remote::resolve(&of.reading.server)?
        .billing(For::Reading)
        .await
}

async fn balance(args: &CreditsBalance) -> anyhow::Result<()> {
    let of = &args.of;
    let request = wire::GetBalanceRequest {
        account_id: of.account.clone(),
        at: args.at.map(encode::timestamp),
        read: read_options(&of.reading),
        ..Default::default()
    };
    let found = billing(of).await?.get_balance(request).await;
    let found = found.map_err(Refusal::from)?.into_inner();
    if of.reading.json {
        let name = "runledger.billing.v1.GetBalanceResponse";
        return Ok(say::line(json::of(name, &found)?)?);
    }
    view::balance(&found)
}

async fn history(args: &CreditsHistory) -> anyhow::Result<()> {
    let of = &args.of;
    let mut billing = billing(of).await?;
    let mut request = wire::ListEntriesRequest {
        account_id: of.account.clone(),
        read: read_options(&of.reading),
        ..Default::default()
    };
    let (mut left, mut found) = (args.limit, Vec::new());
    while left > 0 {
        request.page_size = left.min(PAGE);
        let page = billing.list_entries(request.clone()).await;
        let page = page.map_err(Refusal::from)?.into_inner();
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        found.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if of.reading.json {
        for entry in &found {
            say::line(json::of("runledger.billing.v1.Entry", entry)?)?;
        }
        return Ok(());
    }
    view::entries(&found).print()?;
    if !request.page_token.is_empty() {
        say::line(format_args!(
            "There are more; --limit shows more than {}.",
            args.limit
        ))?;
    }
    Ok(())
}

async fn explain(args: &CreditsBalance) -> anyhow::Result<()> {
    let of = &args.of;
    let request = wire::ExplainBalanceRequest {
        account_id: of.account.clone(),
        at: args.at.map(encode::timestamp),
        page_size: 20,
        read: read_options(&of.reading),
        ..Default::default()
    };
    let found = billing(of).await?.explain_balance(request).await;
    let found = found.map_err(Refusal::from)?.into_inner();
    if of.reading.json {
        let name = "runledger.billing.v1.ExplainBalanceResponse";
        return Ok(say::line(json::of(name, &found)?)?);
    }
    view::explanation(&found)
}

async fn grant(args: &CreditsGrant) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.server)?;
    let mut billing = remote.billing(For::Administering).await?;
    let id = args.id.unwrap_or_else(ids::fresh);
    let terms = wire::GrantTerms {
        amount_micros: args.amount.as_micros(),
        kind: wire::GrantKind::from(args.kind).into(),
        priority: args.priority,
        effective_at: None,
        expires_at: args.expires.map(encode::timestamp),
    };
    let request = wire::GrantCreditsRequest {
        id: id.to_string(),
        account_id: args.account.clone(),
        terms: Some(terms),
        reason: args.reason.clone(),
    };
    let answer = billing.grant_credits(request).await;
    let answer = answer.map_err(Refusal::from).with_context(|| {
        format!("granting with --id {id}; asked again with it, nothing is given twice")
    })?;
    let answer = answer.into_inner().answer.context("the answer is empty")?;
    if answer.posted.is_none() {
        say::line(format_args!(
            "It is in the log and not decided yet; ask again with --id {id}, which gives nothing twice."
        ))?;
        return Ok(());
    }
    say::line(format_args!("Grant {id} of {} credits.", args.amount))?;
    let balance = answer.balance.unwrap_or_default();
    view::totals(&balance).print()?;
    say::line(format_args!("token  {}", answer.token))?;
    Ok(())
}

async fn quote(args: &CreditsQuote) -> anyhow::Result<()> {
    let of = &args.of;
    let usage = |(meter, quantity): &(String, String)| -> anyhow::Result<_> {
        let quantity = quantity.parse();
        Ok(wire::quote_request::QuotedUsage {
            meter: meter.clone(),
            quantity: quantity.with_context(|| format!("the quantity of {meter} is no number"))?,
            dimensions: args.dimensions.iter().cloned().collect(),
            spender: None,
        })
    };
    let usages: anyhow::Result<Vec<_>> = args.usage.iter().map(usage).collect();
    let request = wire::QuoteRequest {
        account_id: of.account.clone(),
        usages: usages?,
        read: read_options(&of.reading),
    };
    let found = billing(of).await?.quote(request).await;
    let found = found.map_err(Refusal::from)?.into_inner();
    if of.reading.json {
        let name = "runledger.billing.v1.QuoteResponse";
        return Ok(say::line(json::of(name, &found)?)?);
    }
    view::quote(&found)
}

async fn holds(args: &CreditsAccount) -> anyhow::Result<()> {
    let mut billing = billing(args).await?;
    let mut request = wire::ListHoldsRequest {
        account_id: args.account.clone(),
        page_size: PAGE,
        read: read_options(&args.reading),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = billing.list_holds(request.clone()).await;
        let page = page.map_err(Refusal::from)?.into_inner();
        all.extend(page.holds);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if args.reading.json {
        for hold in &all {
            say::line(json::of("runledger.billing.v1.Hold", hold)?)?;
        }
        return Ok(());
    }
    if all.is_empty() {
        say::line("Nothing is held.")?;
        return Ok(());
    }
    Ok(view::holds(&all).print()?)
}

async fn cost(args: &CreditsRun) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut billing = remote.billing(For::Reading).await?;
    let found = run_cost(&mut billing, &args.run, read_options(&args.reading)).await?;
    if args.reading.json {
        for charge in &found.charges {
            say::line(json::of("runledger.billing.v1.Charge", charge)?)?;
        }
        return Ok(());
    }
    view::charges(&found.charges).print()?;
    say::line(format_args!(
        "{} credits in {} lines, {} of them without a price.",
        Credits::from_micros(found.total_micros),
        found.total_lines,
        found.unpriced_lines
    ))?;
    Ok(())
}

/// What a run has cost, with every line.
pub(crate) async fn run_cost(
    billing: &mut Billing,
    run: &str,
    read: Option<ReadOptions>,
) -> Result<wire::GetRunCostResponse, Refusal> {
    let mut request = wire::GetRunCostRequest {
        run_id: run.to_owned(),
        page_size: PAGE,
        read,
        ..Default::default()
    };
    let mut all = wire::GetRunCostResponse::default();
    loop {
        let page = billing.get_run_cost(request.clone()).await?.into_inner();
        let before = std::mem::take(&mut all.charges);
        all = wire::GetRunCostResponse {
            charges: before.into_iter().chain(page.charges).collect(),
            ..page
        };
        request.page_token = std::mem::take(&mut all.next_page_token);
        if request.page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// A column of amounts.
fn amount(micros: i64) -> comfy_table::Cell {
    cell(Credits::from_micros(micros))
}

/// A table that begins with what an amount is of.
fn amounts(names: &[&str]) -> Columns {
    Columns::new(names)
}
