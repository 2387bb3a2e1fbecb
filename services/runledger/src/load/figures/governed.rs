//! What asking first costs: how long a call waits for its decision, and how many are decided a second.

use std::time::Duration;

use super::{Figure, HALF, ROUNDS, WARM, median, whole};
use crate::load::driver::{Job, Measured, Pace, drive, micros};
use crate::load::ground::Ground;
use crate::load::{asking, histogram, millis, rate};
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

pub(super) async fn measure(ground: &mut Ground, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    say::aside("Governed calls: asked, decided in the log, answered …");
    let decider = ground.govern().await?;
    let others = [ground.projector()?, ground.audit()?];
    asked(&ground.remote, Pace::Callers(CALLERS), ALL_WARM).await?;
    figures.push(decided(ground, "decided/s, 64 callers, every role on", DECIDED).await?);
    settled(&ground.remote).await?;
    let calm = asked(&ground.remote, Pace::Rate(ASKED), ASKED_FOR).await?;
    figures.push(waited(
        "asked → decided at 500 calls/s, every role on, p50 / p99",
        &calm,
        Some(WAITED.0),
        WAITED.1,
    )?);
    let flooded = flooded(&ground.remote).await?;
    figures.push(waited(
        "the same beside 5,000 facts/s, by the hundred",
        &flooded,
        None,
        WAITED_IN_FLOOD,
    )?);
    for other in others {
        other.end().await?;
    }
    figures.push(
        decided(
            ground,
            "decided/s, 64 callers, api and decider alone",
            DECIDED_ALONE,
        )
        .await?,
    );
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
async fn flooded(remote: &Remote) -> anyhow::Result<Measured> {
    let flood = job(Pace::Rate(FLOOD), FLOOD_BATCH, ASKED_FOR + WARM);
    let (asked, flood) = tokio::join!(
        async {
            tokio::time::sleep(WARM).await;
            asked(remote, Pace::Rate(ASKED), ASKED_FOR).await
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

async fn decided(ground: &Ground, what: &'static str, least: f64) -> anyhow::Result<Figure> {
    asked(&ground.remote, Pace::Callers(CALLERS), WARM * 2).await?;
    let (mut rates, mut waits) = (Vec::new(), histogram()?);
    for _ in 0..ROUNDS {
        let measured = asked(&ground.remote, Pace::Callers(CALLERS), HALF).await?;
        rates.push(rate(measured.accepted, measured.elapsed));
        waits.add(&measured.latency)?;
    }
    let reached = median(rates);
    Ok(Figure {
        what,
        ours: format!("{}/s", say::count(whole(reached))),
        theirs: format!(
            "each waited {} / {} ms, p50 / p99",
            millis(waits.value_at_quantile(0.5)),
            millis(waits.value_at_quantile(0.99))
        ),
        ratio: String::new(),
        goal: format!("≥ {}/s", say::count(whole(least))),
        reached: Some(reached >= least),
    })
}

/// `p50`, `p99`: the most that is to be waited.
fn waited(
    what: &'static str,
    measured: &Measured,
    p50: Option<Duration>,
    p99: Duration,
) -> anyhow::Result<Figure> {
    let at = |quantile| measured.latency.value_at_quantile(quantile);
    let goal = match p50 {
        Some(p50) => format!("≤ {} / {} ms", p50.as_millis(), p99.as_millis()),
        None => format!("p99 ≤ {} ms", p99.as_millis()),
    };
    Ok(Figure {
        what,
        ours: format!("{} / {} ms", millis(at(0.5)), millis(at(0.99))),
        theirs: format!("{} calls", say::count(measured.latency.len())),
        ratio: String::new(),
        goal,
        reached: Some(p50.is_none_or(|most| at(0.5) <= micros(most)) && at(0.99) <= micros(p99)),
    })
}
