//! The demo's third part: what the recorded runs would cost, in runs of their own, charged to an account.
//!
//! Prices price what is used after they were published, and take effect a minute later. So the demo
//! publishes them first, and uses them last. Every id and every moment is derived from the file and from
//! the prices: run again, it changes nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use runledger_domain::digest;
use runledger_domain::money::Credits;
use runledger_domain::time::{Clock as _, SystemClock, Timestamp};
use runledger_eventlog::token::Token;
use runledger_proto::billing::v1 as wire;
use runledger_proto::encode;
use runledger_proto::price::v1 as price;
use runledger_proto::run::v1::{
    RunEnded, RunFact, RunOutcome, RunStarted, ToolCallEnded, ToolCallFact, ToolCallStarted,
    Trigger, UsageRecorded, WorkStatus, run_fact, tool_call_fact,
};
use uuid::Uuid;

use crate::credits::{self, view};
use crate::import::{self, Event, Facts, Planned, Run};
use crate::reading;
use crate::remote::{Billing, For, Refusal, Remote};
use crate::runs::moment;
use crate::say::{self, Columns, cell};

const MAKER: &[u8] = b"runledger.demo.billed.v1";
pub(super) const ACCOUNT: &str = "demo";
const PREFIX: &str = "billed-";
/// What the account is given.
const GRANTED: Credits = Credits::from_micros(10_000_000);
/// How many runs are shown.
const SHOWN: u32 = 3;

/// Characters of messages, tool calls, and nothing for calls that failed.
fn prices() -> price::PublishPricesRequest {
    let rule = |id: &str, meter: &str, unit: u64, price_micros: i64| price::PriceRule {
        id: id.to_owned(),
        meter: meter.to_owned(),
        unit,
        tiers: vec![price::Tier {
            up_to: None,
            price_micros,
        }],
        ..Default::default()
    };
    let failed = price::PriceRule {
        dimensions: [("outcome".to_owned(), "failed".to_owned())].into(),
        ..rule("failed-calls", "tool_calls", 1, 0)
    };
    price::PublishPricesRequest {
        rules: vec![
            rule("calls", "tool_calls", 1, 2_000),
            failed,
            rule("characters", "message_chars", 1_000, 10_000),
        ],
        meters: vec!["message_chars".to_owned()],
        expected_version: Some(0),
        ..Default::default()
    }
}

/// Publishes prices, unless there are any, and gives the account credits: before they are used, since no
/// grant pays for what was used before it. When the prices take effect.
pub(super) async fn publish(remote: &Remote) -> anyhow::Result<Timestamp> {
    grant(remote).await?;
    let mut service = remote.prices(For::Administering).await?;
    let first = price::GetPricesRequest {
        version: 1,
        ..Default::default()
    };
    let list = match service.get_prices(first).await {
        Ok(found) => found.into_inner().list,
        Err(none) if none.code() == tonic::Code::NotFound => {
            credits::publish(&mut service, prices()).await?
        }
        Err(refused) => return Err(Refusal::from(refused).into()),
    };
    let list = list.context("the prices are not decided yet; run the demo again")?;
    moment(list.effective_at.as_ref()).context("the prices do not say when they take effect")
}

/// Waits for the prices, tells of the runs again, and shows what they cost. The token of what was told.
pub(super) async fn tour(remote: &Remote, file: &Path, from: Timestamp) -> anyhow::Result<Token> {
    let left = from - SystemClock.now();
    if left > TimeDelta::zero() {
        say::line(format_args!(
            "\nPrices take effect a minute after they are published: {} s to go.",
            left.num_seconds() + 1
        ))?;
        tokio::time::sleep(left.to_std().unwrap_or_default() + Duration::from_millis(50)).await;
    }
    let recorded = import::read(file)?;
    let planned: Vec<Planned> = recorded.iter().map(|run| planned(run, from)).collect();
    let token = import::send(remote.ingest().await?, planned).await?;
    let mut billing = remote.billing(For::Reading).await?;
    show(&mut billing, &token, from).await?;
    Ok(token)
}

async fn grant(remote: &Remote) -> anyhow::Result<()> {
    let mut billing = remote.billing(For::Administering).await?;
    let request = wire::GrantCreditsRequest {
        id: id(ACCOUNT, 0),
        account_id: ACCOUNT.to_owned(),
        terms: Some(wire::GrantTerms {
            amount_micros: GRANTED.as_micros(),
            kind: wire::GrantKind::Paid.into(),
            ..Default::default()
        }),
        reason: "for the demo".to_owned(),
    };
    billing
        .grant_credits(request)
        .await
        .map_err(Refusal::from)?;
    Ok(())
}

async fn show(billing: &mut Billing, token: &Token, from: Timestamp) -> anyhow::Result<()> {
    let read = reading::at_least(token);
    let balance = reading::patiently(|| {
        let (mut billing, read) = (billing.clone(), read.clone());
        let request = wire::GetBalanceRequest {
            account_id: ACCOUNT.to_owned(),
            read,
            ..Default::default()
        };
        async move { billing.get_balance(request).await }
    })
    .await?;
    say::heading("What the recorded runs cost")?;
    view::balance(&balance)?;
    let request = wire::GetSpendingRequest {
        account_id: ACCOUNT.to_owned(),
        range: Some(wire::Range {
            from: Some(encode::timestamp(from)),
            to: Some(encode::timestamp(from + TimeDelta::hours(1))),
        }),
        group_by: vec![wire::SpendingGroup::Run.into()],
        order: wire::SpendingOrder::Cost.into(),
        page_size: SHOWN,
        ..Default::default()
    };
    let spending = billing.get_spending(request).await.map_err(Refusal::from)?;
    let spending = spending.into_inner();
    say::line(format_args!(
        "{} credits in {} charges. The most costly runs:",
        Credits::from_micros(spending.total_micros),
        say::count(spending.total_lines)
    ))?;
    let mut table = Columns::new(&["run", ">charges", ">credits"]);
    for row in &spending.rows {
        table.row([
            cell(row.keys.join(" ")),
            cell(say::count(row.lines)),
            cell(Credits::from_micros(row.amount_micros)),
        ]);
    }
    table.print()?;
    let dearest = spending.rows.first().and_then(|row| row.keys.first());
    if let Some(run) = dearest {
        explain(billing, run).await?;
    }
    Ok(())
}

/// The dearest line of a run: what was used, by which rule it was priced, and who paid.
async fn explain(billing: &mut Billing, run: &str) -> anyhow::Result<()> {
    let cost = credits::run_cost(billing, run, None).await?;
    let amount = |charge: &&wire::Charge| charge.line.as_ref().map_or(0, |line| line.amount_micros);
    let Some(charge) = cost.charges.iter().max_by_key(amount) else {
        return Ok(());
    };
    say::line("Its dearest charge, and the record that says so:")?;
    view::charges(std::slice::from_ref(charge)).print()?;
    say::line(format_args!(
        "record {} of {}",
        charge.source_id, charge.source_stream
    ))?;
    Ok(())
}

/// What to try.
pub(super) fn next(program: &str) -> anyhow::Result<()> {
    for what in [
        "credits explain --account demo",
        "credits quote tool_calls=100 message_chars=20000 --account demo",
        "prices show",
    ] {
        say::line(format_args!("  {program} {what}"))?;
    }
    Ok(())
}

fn id(run: &str, ordinal: u64) -> String {
    let hash = digest::of_parts(&[MAKER, run.as_bytes(), &ordinal.to_be_bytes()]);
    let [bytes @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash;
    Uuid::new_v8(bytes).to_string()
}

/// Tells one run again, a millisecond a fact.
struct Teller {
    run: String,
    ordinal: u64,
    from: Timestamp,
}

impl Teller {
    fn next(&mut self) -> (String, Option<prost_types::Timestamp>) {
        self.ordinal += 1;
        let later = TimeDelta::milliseconds(i64::try_from(self.ordinal).unwrap_or_default());
        let at = encode::timestamp(self.from + later);
        (id(&self.run, self.ordinal), Some(at))
    }

    fn of_run(&mut self, fact: run_fact::Fact) -> Facts {
        let (id, occurred_at) = self.next();
        Facts::Runs(vec![RunFact {
            id,
            occurred_at,
            fact: Some(fact),
            ..RunFact::default()
        }])
    }

    fn of_call(&mut self, fact: tool_call_fact::Fact) -> Facts {
        let (id, occurred_at) = self.next();
        Facts::ToolCalls(vec![ToolCallFact {
            id,
            occurred_at,
            fact: Some(fact),
            ..ToolCallFact::default()
        }])
    }

    fn event(&mut self, event: &Event) -> Vec<Facts> {
        match event {
            Event::Message { chars, .. } => {
                let used = UsageRecorded {
                    run_id: self.run.clone(),
                    meter: "message_chars".to_owned(),
                    quantity: i64::try_from(*chars).unwrap_or(i64::MAX),
                    ..UsageRecorded::default()
                };
                vec![self.of_run(run_fact::Fact::UsageRecorded(used))]
            }
            Event::ToolCall(call) => {
                let tool_call_id = format!("call-{}", self.ordinal);
                let started = ToolCallStarted {
                    run_id: self.run.clone(),
                    tool_call_id: tool_call_id.clone(),
                    tool: call.tool.to_string(),
                    ..ToolCallStarted::default()
                };
                let status = if call.failed {
                    WorkStatus::Failed
                } else {
                    WorkStatus::Succeeded
                };
                let ended = ToolCallEnded {
                    run_id: self.run.clone(),
                    tool_call_id,
                    status: status.into(),
                    ..ToolCallEnded::default()
                };
                let started = self.of_call(tool_call_fact::Fact::ToolCallStarted(started));
                let ended = self.of_call(tool_call_fact::Fact::ToolCallEnded(ended));
                vec![started, ended]
            }
        }
    }
}

fn planned(run: &Run, from: Timestamp) -> Planned {
    let mut teller = Teller {
        run: format!("{PREFIX}{}", run.run),
        ordinal: 0,
        from,
    };
    let started = RunStarted {
        run_id: teller.run.clone(),
        agent_id: run.agent.to_string(),
        account_id: ACCOUNT.to_owned(),
        model: run.model.clone(),
        trigger: Trigger::Message.into(),
        task: format!("task {}, trial {}", run.task, run.trial),
        ..RunStarted::default()
    };
    let mut segments = vec![teller.of_run(run_fact::Fact::RunStarted(started))];
    for event in &run.events {
        segments.extend(teller.event(event));
    }
    let ended = RunEnded {
        run_id: teller.run.clone(),
        outcome: if run.succeeded {
            RunOutcome::Succeeded.into()
        } else {
            RunOutcome::Failed.into()
        },
        ..RunEnded::default()
    };
    segments.push(teller.of_run(run_fact::Fact::RunEnded(ended)));
    let mut planned = Planned::default();
    for segment in segments {
        planned.push(segment);
    }
    planned
}
