//! What credits cost: commands about accounts one by one, and charges in bulk, beside the bank of pgbench on the
//! same Postgres, in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_proto::billing::v1 as wire;
use runledger_proto::encode;
use runledger_proto::price::v1 as price;
use runledger_proto::run::v1::{
    RunFact, RunIngestServiceAppendRequest, RunStarted, Trigger, UsageRecorded, run_fact,
};
use runledger_service::ids;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::cpu::Watch;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, ROUNDS, WARM};
use crate::load::driver::CONNECTIONS;
use crate::load::ground::Ground;
use crate::remote::{Billing, For, Refusal, Remote};
use crate::runs::moment;
use crate::say;

const CALLERS: usize = 64;
const ACCOUNTS: u64 = 100;
/// What is charged at one go: so many usages of so many runs.
const USAGES: u64 = 60_000;
const RUNS: u64 = 1_000;
const BATCH: u64 = 500;
/// Longest that a backlog may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const AGAINST: &str = "pgbench TPC-B, 64 clients, prepared";

pub(super) async fn measure(ground: &mut Ground, figures: &Figures) -> anyhow::Result<()> {
    say::aside("Credits: reserved and released, and charged in bulk …");
    let decider = ground.bill().await?;
    let priced_from = publish(&ground.remote).await?;
    for account in 0..=ACCOUNTS {
        grant(&ground.remote, account).await?;
    }
    ground.bank(&["-i", "-q", "-s", "10"]).await?;
    commands(&ground.remote, ACCOUNTS, WARM * 3).await?;
    let (mut many, mut hot, mut bank) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bank.push(tpc_b(ground).await?);
        commands(&ground.remote, ACCOUNTS, WARM).await?;
        many.push(commands(&ground.remote, ACCOUNTS, HALF).await?);
        commands(&ground.remote, 1, WARM).await?;
        hot.push(commands(&ground.remote, 1, HALF).await?);
    }
    for (name, what, ours) in [
        ("ledger", "ledger commands, 64 callers, 100 accounts", many),
        ("ledger_hot", "the same, one hot account", hot),
    ] {
        let row = Row::new(name, what, "commands").side(Is::Ours, ours);
        let row = row.side(Is::Limit, bank.clone());
        figures.push(row.rate_at_least(Is::Limit, 0.5))?;
    }
    let left = priced_from - SystemClock.now();
    sleep(left.to_std().unwrap_or_default()).await;
    decider.end().await?;
    let (mut charged, mut bank) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bank.push(tpc_b(ground).await?);
        charged.push(charges(ground, u64::try_from(round)?).await?);
    }
    let row = Row::new(
        "charges",
        "charges in bulk, priced, 100 accounts",
        "charges",
    );
    let row = row.side(Is::Ours, charged).side(Is::Limit, bank);
    figures.push(row.rate_at_least(Is::Limit, 3.0))
}

/// pgbench's bank.
async fn tpc_b(ground: &Ground) -> anyhow::Result<Sample> {
    let seconds = HALF.as_secs().to_string();
    let arguments = ["-c", "64", "-j", "2", "-M", "prepared", "-T", &seconds];
    let watch = Watch::begin();
    let said = ground.bank(&arguments).await?;
    let spent = watch.end();
    let number = |before: &str| {
        let mut lines = said.lines();
        let rest = lines.find_map(|line| line.strip_prefix(before))?;
        rest.split([' ', '/']).next()?.parse::<f64>().ok()
    };
    let rate = number("tps = ").context("pgbench did not say how fast it was")?;
    let events = number("number of transactions actually processed: ");
    let events = super::whole(events.context("pgbench did not say how much it did")?);
    let sample = Sample::new(AGAINST, events, HALF);
    Ok(Sample { rate, ..sample }.spent(&spent))
}

async fn publish(remote: &Remote) -> anyhow::Result<runledger_domain::time::Timestamp> {
    let rule = price::PriceRule {
        id: "messages".to_owned(),
        meter: "messages".to_owned(),
        unit: 1,
        tiers: vec![price::Tier {
            up_to: None,
            price_micros: 7,
        }],
        ..Default::default()
    };
    let list = price::PublishPricesRequest {
        rules: vec![rule],
        ..Default::default()
    };
    let mut prices = remote.prices(For::Administering).await?;
    let list = crate::credits::publish(&mut prices, list).await?;
    let list = list.context("the prices were not decided in time")?;
    moment(list.effective_at.as_ref()).context("the prices do not say when they take effect")
}

fn account(number: u64) -> String {
    format!("account-{number}")
}

async fn grant(remote: &Remote, number: u64) -> anyhow::Result<()> {
    let mut billing = remote.billing(For::Administering).await?;
    let request = wire::GrantCreditsRequest {
        id: ids::fresh().to_string(),
        account_id: account(number),
        terms: Some(wire::GrantTerms {
            amount_micros: 1_000_000_000_000,
            kind: wire::GrantKind::Paid.into(),
            ..Default::default()
        }),
        reason: String::new(),
    };
    billing
        .grant_credits(request)
        .await
        .map_err(Refusal::from)?;
    Ok(())
}

/// Reserves and releases, turn by turn, for so long.
async fn commands(remote: &Remote, accounts: u64, duration: Duration) -> anyhow::Result<Sample> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(remote.billing(For::Appending).await?);
    }
    let watch = Watch::begin();
    let (begun, decided) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for (number, connection) in (0..CALLERS).zip(connections.iter().cycle()) {
        let account = account(u64::try_from(number)? % accounts);
        let (billing, decided) = (connection.clone(), Arc::clone(&decided));
        callers.spawn(async move {
            while begun.elapsed() < duration {
                turn(billing.clone(), &account).await?;
                decided.fetch_add(2, Ordering::Relaxed);
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(joined) = callers.join_next().await {
        joined??;
    }
    let sample = Sample::new(OURS, decided.load(Ordering::Relaxed), begun.elapsed());
    Ok(sample.spent(&watch.end()))
}

async fn turn(mut billing: Billing, account: &str) -> anyhow::Result<()> {
    let later = SystemClock.now() + Duration::from_secs(600);
    let hold = ids::fresh().to_string();
    let reserve = wire::ReserveCreditsRequest {
        id: hold.clone(),
        account_id: account.to_owned(),
        amount_micros: 1_000,
        expires_at: Some(encode::timestamp(later)),
        spender: None,
    };
    let held = billing.reserve_credits(reserve).await;
    let held = held.map_err(Refusal::from)?.into_inner().answer;
    let is_decided =
        |answer: Option<wire::CommandAnswer>| answer.is_some_and(|one| one.posted.is_some());
    anyhow::ensure!(is_decided(held), "a command was not decided in time");
    let release = wire::ReleaseHoldRequest {
        id: ids::fresh().to_string(),
        account_id: account.to_owned(),
        hold_id: hold,
    };
    let released = billing.release_hold(release).await;
    let released = released.map_err(Refusal::from)?.into_inner().answer;
    anyhow::ensure!(is_decided(released), "a command was not decided in time");
    Ok(())
}

/// Usage is forwarded while nobody charges; then charged at one go.
async fn charges(ground: &Ground, round: u64) -> anyhow::Result<Sample> {
    report(&ground.remote, round).await?;
    let usage = ground.pool_of(&ground.configs.billing_decider.database, "billing")?;
    let forwarder = ground.forwarder()?;
    let before = count(&usage, CHARGED).await?;
    forwarded(ground, round).await?;
    forwarder.end().await?;
    let decider = ground.billing_decider()?;
    let watch = Watch::begin();
    let (first, begun) = until(&usage, before + 1).await?;
    let (last, ended) = until(&usage, before + USAGES).await?;
    let spent = watch.end();
    decider.end().await?;
    anyhow::ensure!(
        last == before + USAGES,
        "{last} charges in place of {}",
        before + USAGES
    );
    let sample = Sample::new(OURS, last - first, ended - begun);
    Ok(Sample {
        cpu_us_per_event: spent.per_event(USAGES),
        ..sample
    })
}

fn run(round: u64, number: u64) -> String {
    format!("billed-{round}-{}", number % RUNS)
}

const CHARGED: &str = "SELECT coalesce(sum(lines), 0)::bigint FROM spending";

async fn count(pool: &PgPool, statement: &'static str) -> anyhow::Result<u64> {
    let count: i64 = sqlx::query_scalar(statement).fetch_one(pool).await?;
    Ok(u64::try_from(count)?)
}

/// Waits until at least so much is charged; how much, and when.
pub(super) async fn until(pool: &PgPool, least: u64) -> anyhow::Result<(u64, Instant)> {
    let begun = Instant::now();
    loop {
        let (found, now) = (count(pool, CHARGED).await?, Instant::now());
        if found >= least {
            return Ok((found, now));
        }
        anyhow::ensure!(
            begun.elapsed() < DRAINED_WITHIN,
            "only {found} of {least} were charged in {DRAINED_WITHIN:?}"
        );
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until all that was reported lies in the streams of its accounts: the highest places where it lies do
/// not move any more once the forwarder has read all.
async fn forwarded(ground: &Ground, round: u64) -> anyhow::Result<()> {
    let pool = ground.pool_of(&ground.configs.billing_decider.database, "usage")?;
    let expected = i64::try_from((round + 1) * (RUNS + USAGES))?;
    let begun = Instant::now();
    loop {
        // Every partition begins with a record of its own.
        let read: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(next_offset - 1), 0)::bigint FROM cursors WHERE next_offset > 0",
        )
        .fetch_one(&pool)
        .await?;
        if read >= expected {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < DRAINED_WITHIN,
            "only {read} of {expected} records were forwarded in {DRAINED_WITHIN:?}"
        );
        sleep(LOOK_EVERY).await;
    }
}

/// Starts runs of all accounts, and says what they have used.
async fn report(remote: &Remote, round: u64) -> anyhow::Result<()> {
    let now = Some(encode::timestamp(SystemClock.now()));
    let fact = |fact| RunFact {
        id: ids::fresh().to_string(),
        occurred_at: now,
        fact: Some(fact),
        ..RunFact::default()
    };
    let started = (0..RUNS).map(|number| {
        fact(run_fact::Fact::RunStarted(RunStarted {
            run_id: run(round, number),
            agent_id: "load".to_owned(),
            account_id: account(number % ACCOUNTS),
            trigger: Trigger::Api.into(),
            ..RunStarted::default()
        }))
    });
    let used = (0..USAGES).map(|number| {
        fact(run_fact::Fact::UsageRecorded(UsageRecorded {
            run_id: run(round, number),
            meter: "messages".to_owned(),
            quantity: 3,
            ..UsageRecorded::default()
        }))
    });
    let facts: Vec<RunFact> = started.chain(used).collect();
    let mut ingest = remote.ingest().await?;
    for facts in facts.chunks(usize::try_from(BATCH)?) {
        let request = RunIngestServiceAppendRequest {
            facts: facts.to_vec(),
        };
        ingest.runs.append(request).await.map_err(Refusal::from)?;
    }
    Ok(())
}
