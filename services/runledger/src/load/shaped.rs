//! Load like that of people: runs like recorded ones, most of them of some tenants and agents, in bursts, and a few very
//! long. What it is follows from a seed; only when each run happens is now.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::weighted::WeightedIndex;
use rand_distr::{Distribution as _, LogNormal, Zipf};
use runledger_domain::ids::AgentId;
use runledger_domain::time::{Clock as _, SystemClock};
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::driver::micros;
use super::{histogram, millis, rate};
use crate::cli;
use crate::import::{self, Plan, Planned, Run, Sender};
use crate::remote::Remote;
use crate::say::{self, Columns, cell, count};

/// The time is cut into so many pieces, each as busy as chance has it.
const PIECES: usize = 100;
/// How much busier some are than others.
const BURSTS: f64 = 1.5;
/// How much more some tenants and agents have than others.
const FAVOUR: f64 = 1.1;
/// How many times over a run may happen in itself, and how seldom.
const REPEATS_MAX: f64 = 64.0;
const REPEATS: f64 = 2.5;
/// Most events of one run.
const EVENTS_MAX: usize = 10_000;
/// Groups of runs that are told at once.
const IN_FLIGHT_MAX: usize = 64;
/// Runs of a tenant that are due at the same time are told together, up to so many.
const GROUP_MAX: usize = 100;
const TENANTS_MAX: usize = 1_000;

/// What the load is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seed: u64,
    runs: u64,
    tenants: usize,
    agents: u32,
    duration: Duration,
}

/// One run, and when it is told.
#[derive(Clone, Debug, PartialEq)]
struct Due {
    at: Duration,
    tenant: usize,
    id: String,
    run: Run,
}

impl Shape {
    /// All runs, in the order of time.
    fn draw(&self, recorded: &[Run]) -> anyhow::Result<Vec<Due>> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let busy = LogNormal::new(0.0, BURSTS)?;
        let weights: Vec<f64> = (0..PIECES).map(|_| busy.sample(&mut rng)).collect();
        let pieces = WeightedIndex::new(weights)?;
        let tenants = Zipf::new(f64::from(u32::try_from(self.tenants)?), FAVOUR)?;
        let agents = Zipf::new(f64::from(self.agents), FAVOUR)?;
        let repeats = Zipf::new(REPEATS_MAX, REPEATS)?;
        let mut drawn = Vec::new();
        for number in 0..self.runs {
            let piece = u32::try_from(pieces.sample(&mut rng))?;
            let within = f64::from(piece) + rng.random::<f64>();
            let at = self
                .duration
                .mul_f64(within / f64::from(u32::try_from(PIECES)?));
            let run = recorded.choose(&mut rng).context("no recorded run")?;
            drawn.push(Due {
                at,
                tenant: rank(tenants.sample(&mut rng)),
                id: format!("shaped-{}-{number}", self.seed),
                run: Run {
                    agent: agent(rank(agents.sample(&mut rng)))?,
                    events: longer(run, rank(repeats.sample(&mut rng)) + 1),
                    ..run.clone()
                },
            });
        }
        drawn.sort_by_key(|due| due.at);
        Ok(drawn)
    }
}

/// From 0 on.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 1 on"
)]
fn rank(drawn: f64) -> usize {
    (drawn as usize).saturating_sub(1)
}

fn agent(number: usize) -> anyhow::Result<AgentId> {
    Ok(format!("agent-{number}").parse()?)
}

fn longer(run: &Run, times: usize) -> Vec<import::Event> {
    let events = run.events.iter().cycle();
    let wanted = run.events.len().saturating_mul(times).min(EVENTS_MAX);
    events.take(wanted).cloned().collect()
}

/// What it came to. The histogram counts microseconds.
struct Told {
    facts: u64,
    took: Duration,
    runs_of_tenants: Vec<u64>,
    /// From when runs were due to when all of them were acknowledged.
    latency: Histogram<u64>,
}

/// The command.
pub(super) async fn run(remote: &Remote, file: &Path, args: &cli::Load) -> anyhow::Result<()> {
    let recorded = import::read(file)?;
    let remotes = remotes(remote, args.keys.as_deref())?;
    let shape = Shape {
        seed: args.seed,
        runs: args.runs,
        tenants: remotes.len(),
        agents: args.agents,
        duration: args.duration,
    };
    let drawn = shape.draw(&recorded)?;
    let plan = Plan::new(&recorded, args.seed, "");
    let told = tell(&remotes, &plan, drawn).await?;
    report(&told)
}

/// One a tenant.
fn remotes(remote: &Remote, keys: Option<&Path>) -> anyhow::Result<Vec<Remote>> {
    let Some(path) = keys else {
        return Ok(vec![remote.clone()]);
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the keys in {}", path.display()))?;
    let keys = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let remotes: Vec<Remote> = keys
        .map(|key| remote.with_key(SecretString::from(key)))
        .collect();
    if remotes.is_empty() || remotes.len() > TENANTS_MAX {
        bail!(
            "{} has {} keys; 1 to {TENANTS_MAX} are needed",
            path.display(),
            remotes.len()
        );
    }
    Ok(remotes)
}

async fn tell(remotes: &[Remote], plan: &Plan, drawn: Vec<Due>) -> anyhow::Result<Told> {
    let mut senders = Vec::new();
    for remote in remotes {
        senders.push(Sender::new(remote.ingest().await?, None));
    }
    let mut told = Told {
        facts: 0,
        took: Duration::ZERO,
        runs_of_tenants: vec![0; senders.len()],
        latency: histogram()?,
    };
    let (begun, mut telling) = (Instant::now(), JoinSet::new());
    let mut left = drawn.into_iter().peekable();
    while let Some(first) = left.peek() {
        let due = begun + first.at;
        sleep_until(due).await;
        let mut groups: Vec<Vec<Planned>> = vec![Vec::new(); senders.len()];
        let mut taken = 0;
        while let Some(run) = left.next_if(|run| begun + run.at <= Instant::now()) {
            let planned = plan.ending(&run.run, &run.id, SystemClock.now());
            told.facts += u64::try_from(planned.len())?;
            if let (Some(group), Some(runs)) = (
                groups.get_mut(run.tenant),
                told.runs_of_tenants.get_mut(run.tenant),
            ) {
                group.push(planned);
                *runs += 1;
            }
            taken += 1;
            if taken == GROUP_MAX {
                break;
            }
        }
        for (sender, group) in senders.iter().zip(groups) {
            if group.is_empty() {
                continue;
            }
            while telling.len() >= IN_FLIGHT_MAX {
                acknowledged(telling.join_next().await, &mut told)?;
            }
            let sender = sender.clone();
            telling.spawn(async move {
                sender.group(group).await?;
                Ok::<Duration, anyhow::Error>(due.elapsed())
            });
        }
    }
    while !telling.is_empty() {
        acknowledged(telling.join_next().await, &mut told)?;
    }
    told.took = begun.elapsed();
    Ok(told)
}

type Joined = Option<Result<anyhow::Result<Duration>, tokio::task::JoinError>>;

fn acknowledged(joined: Joined, told: &mut Told) -> anyhow::Result<()> {
    if let Some(joined) = joined {
        told.latency.saturating_record(micros(joined??));
    }
    Ok(())
}

fn report(told: &Told) -> anyhow::Result<()> {
    let runs: u64 = told.runs_of_tenants.iter().sum();
    let mut table = Columns::new(&["", ">count", ">a second"]);
    for (name, number) in [("runs", runs), ("facts", told.facts)] {
        let a_second = super::figures::whole(rate(number, told.took));
        table.row([cell(name), cell(count(number)), cell(count(a_second))]);
    }
    table.print()?;
    if let (tenants @ 2.., Some(most)) = (
        told.runs_of_tenants.len(),
        told.runs_of_tenants.iter().max(),
    ) {
        say::line(format_args!(
            "{} of them of the busiest of {tenants} tenants.",
            count(*most)
        ))?;
    }
    let at = |quantile| millis(told.latency.value_at_quantile(quantile));
    say::line(format_args!(
        "From when they were due to the acknowledgement of the last fact: p50 {} ms, p99 {} ms, at most {} ms.",
        at(0.5),
        at(0.99),
        millis(told.latency.max())
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const RECORDED: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/demo/airline-agent-runs.jsonl"
    );

    fn shape(seed: u64) -> Shape {
        Shape {
            seed,
            runs: 5_000,
            tenants: 10,
            agents: 50,
            duration: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_runs_and_another_others() {
        let recorded = import::read(Path::new(RECORDED)).unwrap();
        let drawn = shape(7).draw(&recorded).unwrap();
        assert_eq!(drawn, shape(7).draw(&recorded).unwrap());
        assert_ne!(drawn, shape(8).draw(&recorded).unwrap());
        assert!(drawn.is_sorted_by_key(|due| due.at));
    }

    #[test]
    fn some_have_most_of_it_it_comes_in_bursts_and_some_runs_are_very_long() {
        let recorded = import::read(Path::new(RECORDED)).unwrap();
        let drawn = shape(7).draw(&recorded).unwrap();
        let (mut tenants, mut seconds) = (BTreeMap::new(), BTreeMap::new());
        for due in &drawn {
            assert!(due.tenant < 10 && due.at <= Duration::from_secs(60));
            *tenants.entry(due.tenant).or_insert(0_usize) += 1;
            *seconds.entry(due.at.as_secs()).or_insert(0_usize) += 1;
        }
        // A tenth each, and 83 a second, would be even.
        assert!(tenants[&0] > 3 * tenants[&9], "{tenants:?}");
        assert!(seconds.values().max() > Some(&250), "{seconds:?}");
        let mut lengths: Vec<usize> = drawn.iter().map(|due| due.run.events.len()).collect();
        lengths.sort_unstable();
        let (half, most) = (lengths[lengths.len() / 2], lengths[lengths.len() - 1]);
        assert!(most > 20 * half, "{half} {most}");
    }

    #[test]
    fn a_run_that_ends_now_has_nothing_in_the_future() {
        let recorded = import::read(Path::new(RECORDED)).unwrap();
        let plan = Plan::new(&recorded, 1, "");
        let now = SystemClock.now();
        let planned = plan.ending(&recorded[0], "r", now);
        let last = planned.segments.last();
        let Some(import::Facts::Runs(facts)) = last else {
            panic!("it ends")
        };
        let ended = facts
            .last()
            .and_then(|fact| crate::runs::moment(fact.occurred_at.as_ref()));
        assert_eq!(ended, Some(now));
    }
}
