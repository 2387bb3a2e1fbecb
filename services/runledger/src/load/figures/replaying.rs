//! How fast recorded facts are told again, beside the same facts coming in by the hundred for the first time.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::appending::sample;
use super::cpu::Watch;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, ROUNDS};
use crate::load::driver::drive;
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace};
use crate::say;

/// What is recorded and told again.
const FACTS: u64 = 200_000;
const BATCH: u16 = 100;
const CALLERS: Pace = Pace::Callers(16);
/// As for appends: until the broker's code is compiled.
const WARM: Duration = Duration::from_secs(20);

/// What `runledger replay --json` says.
#[derive(Deserialize)]
struct Replayed {
    told: u64,
    seconds: f64,
    arrived: Arrived,
}

#[derive(Deserialize)]
struct Arrived {
    facts: u64,
}

pub(super) async fn measure(ground: &Ground, figures: &Figures) -> anyhow::Result<()> {
    say::aside("Recorded facts told again, and batches …");
    let job = Job {
        pace: CALLERS,
        duration: Duration::from_secs(60),
        batch: BATCH,
        records_max: FACTS,
        check_every: 0,
    };
    let appended = drive(&ground.remote, &job).await?;
    let tenant = ground.tenant().await?;
    let file = ground.file("facts");
    ground
        .upkeep(&["record", &file, "--tenant", &tenant])
        .await?;
    sample(OURS, &ground.remote, CALLERS, BATCH, WARM).await?;
    let (mut ours, mut batches, mut arrived) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let (told, found) = replay(ground, &file, round).await?;
        arrived += found;
        ours.push(told);
        batches.push(sample("our batch ingest", &ground.remote, CALLERS, BATCH, HALF).await?);
    }
    let expected = appended.accepted * u64::try_from(ROUNDS)?;
    let row = Row::new("replay", "recorded facts told again, flat out", "facts")
        .side(Is::Ours, ours)
        .side(Is::Limit, batches)
        .rate_at_least(Is::Limit, 0.8)
        .found(expected, arrived);
    figures.push(row)
}

/// One telling into the sandbox, under ids of its own; and how many facts the proof found in the log.
async fn replay(ground: &Ground, file: &str, round: usize) -> anyhow::Result<(Sample, u64)> {
    let (prefix, credentials) = (format!("round-{round}-"), ground.file("credentials.toml"));
    let arguments = [
        "replay",
        file,
        "--json",
        "--sandbox",
        "--prefix",
        &prefix,
        "--credentials",
        &credentials,
    ];
    let watch = Watch::begin();
    let said = ground.upkeep(&arguments).await?;
    let spent = watch.end();
    let told = said
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok());
    let Replayed {
        told,
        seconds,
        arrived,
    } = told.context("a replay that said nothing")?;
    let sample = Sample::new(OURS, told, Duration::from_secs_f64(seconds));
    Ok((sample.spent(&spent), arrived.facts))
}
