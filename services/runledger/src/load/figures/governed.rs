//! What asking first costs: how long a call waits for its decision, and how many are decided a second.

use std::time::Duration;

use tokio::time::Instant;

use super::cpu::Watch;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, ROUNDS, WARM};
use crate::load::driver::{Measured, drive};
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace};
use crate::load::{asking, bare};
use crate::remote::Remote;
use crate::say;

/// Calls a second that agents ask for, whatever the answers take.
const ASKED: u64 = 500;
const ASKED_FOR: Duration = Duration::from_secs(15);
/// p50 and p99 to reach, and p99 under a flood.
const WAITED: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(80));
const WAITED_IN_FLOOD: Duration = Duration::from_millis(120);
/// Facts a second of the flood, and how many come at once.
const FLOOD: u64 = 5_000;
const FLOOD_BATCH: u16 = 100;
const CALLERS: u16 = 64;
/// As `appending::BROKER_WARM`, for all that is asked, decided and read.
const ALL_WARM: Duration = Duration::from_secs(30);
/// Decisions a second to reach, with every role on and with only the two that it takes.
const DECIDED: f64 = 1_200.0;
const DECIDED_ALONE: f64 = 2_500.0;

pub(super) async fn measure(ground: &mut Ground, figures: &Figures) -> anyhow::Result<()> {
    say::aside("Governed calls: asked, decided in the log, answered …");
    let decider = ground.govern().await?;
    let others = [ground.projector()?, ground.audit()?];
    bare::create_topic(&ground.configs.shared.kafka, &ground.bare_topic()).await?;
    asked(&ground.remote, Pace::Callers(CALLERS), ALL_WARM).await?;
    let row = Row::new("governed", "decided, 64 callers, every role on", "calls");
    let row = decided(ground, row).await?;
    let reached = row.our_rate();
    figures.push(row.least("decided a second", reached, DECIDED))?;
    settled(&ground.remote).await?;
    let calm = paced(&ground.remote).await?;
    let row = Row::new(
        "governed_paced",
        "asked → decided at 500 calls/s, every role on",
        "calls",
    );
    let row = row.side(Is::Ours, vec![calm]);
    figures.push(row.waits_at_most(Some(WAITED.0), WAITED.1))?;
    let flooded = flooded(&ground.remote).await?;
    let row = Row::new(
        "governed_flooded",
        "the same beside 5,000 facts/s, by the hundred",
        "calls",
    );
    let row = row.side(Is::Ours, vec![flooded]);
    figures.push(row.waits_at_most(None, WAITED_IN_FLOOD))?;
    for other in others {
        other.end().await?;
    }
    let row = Row::new(
        "governed_alone",
        "decided, 64 callers, api and decider alone",
        "calls",
    );
    let row = decided(ground, row).await?;
    let reached = row.our_rate();
    figures.push(row.least("decided a second", reached, DECIDED_ALONE))?;
    decider.end().await
}

/// Asks slowly for a moment, until what was asked before has been taken in everywhere.
async fn settled(remote: &Remote) -> anyhow::Result<()> {
    asked(remote, Pace::Rate(ASKED), WARM * 2).await?;
    Ok(())
}

async fn asked(remote: &Remote, pace: Pace, duration: Duration) -> anyhow::Result<Measured> {
    let measured = asking::ask(remote, &job(pace, 1, duration)).await?;
    anyhow::ensure!(
        measured.refused == 0 && measured.unknown == 0,
        "{} requests were refused and {} not decided in time: {:?}",
        measured.refused,
        measured.unknown,
        measured.reasons
    );
    Ok(measured)
}

fn job(pace: Pace, batch: u16, duration: Duration) -> Job {
    Job {
        pace,
        duration,
        batch,
        records_max: u64::MAX,
        check_every: 0,
    }
}

/// Asks as often as in the calm, while facts come in that nobody decides about.
async fn flooded(remote: &Remote) -> anyhow::Result<Sample> {
    let flood = job(Pace::Rate(FLOOD), FLOOD_BATCH, ASKED_FOR + WARM);
    let (asked, flood) = tokio::join!(
        async {
            tokio::time::sleep(WARM).await;
            paced(remote).await
        },
        drive(remote, &flood)
    );
    let (asked, flood) = (asked?, flood?);
    anyhow::ensure!(
        flood.refused + flood.unknown == 0,
        "the flood was held up: {:?}",
        flood.reasons
    );
    Ok(asked)
}

async fn paced(remote: &Remote) -> anyhow::Result<Sample> {
    sample(remote, Pace::Rate(ASKED), ASKED_FOR).await
}

async fn sample(remote: &Remote, pace: Pace, duration: Duration) -> anyhow::Result<Sample> {
    let watch = Watch::begin();
    let measured = asked(remote, pace, duration).await?;
    let spent = watch.end();
    let sample = Sample::new(OURS, measured.accepted, measured.elapsed);
    Ok(sample.spent(&spent).waited(&measured.latency))
}

/// In turn with what every decision takes at least: a record appended, and a transaction committed.
async fn decided(ground: &Ground, row: Row) -> anyhow::Result<Row> {
    asked(&ground.remote, Pace::Callers(CALLERS), WARM * 2).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(sample(&ground.remote, Pace::Callers(CALLERS), HALF).await?);
        bare.push(append_and_commit(ground).await?);
    }
    Ok(row.side(Is::Ours, ours).side(Is::Limit, bare))
}

async fn append_and_commit(ground: &Ground) -> anyhow::Result<Sample> {
    let owner = ground.pool(&runledger_postgres::Config {
        connections_max: u32::from(CALLERS),
        ..ground.configs.shared.database.clone()
    })?;
    let (config, topic) = (&ground.configs.ingest.kafka, ground.bare_topic());
    let watch = Watch::begin();
    let begun = Instant::now();
    let latency = bare::append_and_commit(config, &topic, &owner, CALLERS, HALF).await?;
    let took = begun.elapsed();
    let spent = watch.end();
    owner.close().await;
    let sample = Sample::new("an append and a commit, bare", latency.len(), took);
    Ok(sample.spent(&spent).waited(&latency))
}
