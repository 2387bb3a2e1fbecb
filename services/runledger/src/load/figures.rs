//! The figures of the README, each as a ratio of two things measured in turn in one run on one machine.

use std::time::Duration;

use secrecy::SecretString;

use super::ground::{self, Ground};
use crate::{cli, say};

mod appending;
mod backlog;
mod freshness;
mod governed;
mod ledger;
mod readers;
mod reading;
mod rebuilding;

/// How often each pair is measured.
const ROUNDS: usize = 3;
/// How long each half of a pair, how long before it counts.
const HALF: Duration = Duration::from_secs(5);
const WARM: Duration = Duration::from_secs(2);

/// One line of the table.
struct Figure {
    what: &'static str,
    ours: String,
    theirs: String,
    ratio: String,
    goal: String,
    /// `None`: nothing was to be reached.
    reached: Option<bool>,
}

/// The command.
pub(super) async fn run(args: &cli::Load) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        say::aside("This is a debug build; figures worth keeping come from `make bench`.");
    }
    let admin = &args.admin_postgres;
    let mut figures = Vec::new();
    let part = args.figures.unwrap_or(cli::Figures::All);
    if part.includes(cli::Figures::Load) {
        let ground = Ground::prepare(admin).await?;
        let measured = appending::measure(&ground, &mut figures).await;
        let unary = Box::pin(ground.leave(measured)).await?;
        let ground = Ground::prepare(admin).await?;
        let measured = reading::measure(&ground, &mut figures, unary).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Rebuild) {
        let ground = Ground::prepare(admin).await?;
        let measured = rebuilding::measure(&ground, &mut figures).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Governed) {
        let mut ground = Ground::prepare(admin).await?;
        let measured = governed::measure(&mut ground, &mut figures).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Ledger) {
        let mut ground = Ground::prepare(admin).await?;
        let measured = Box::pin(ledger::measure(&mut ground, &mut figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Freshness) {
        let mut ground = Ground::prepare(admin).await?;
        let measured = Box::pin(freshness::measure(&mut ground, &mut figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    print(&figures, &machine(admin).await)
}

/// `least`: the ratio to reach, if there is one.
fn pair(what: &'static str, ours: f64, against: &str, theirs: f64, least: Option<f64>) -> Figure {
    let ratio = ours / theirs.max(f64::MIN_POSITIVE);
    Figure {
        what,
        ours: format!("{}/s", say::count(whole(ours))),
        theirs: format!("{}/s ({against})", say::count(whole(theirs))),
        ratio: format!("{ratio:.2}"),
        goal: least.map_or_else(String::new, |least| format!("≥ {least}")),
        reached: least.map(|least| ratio >= least),
    }
}

fn print(figures: &[Figure], machine: &str) -> anyhow::Result<()> {
    say::line(
        "| figure | Runledger | against | ratio | goal | |\n| --- | --- | --- | --- | --- | --- |",
    )?;
    for one in figures {
        let reached = match one.reached {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        say::line(format_args!(
            "| {} | {} | {} | {} | {} | {reached} |",
            one.what, one.ours, one.theirs, one.ratio, one.goal
        ))?;
    }
    say::line(format_args!("\n{machine}"))?;
    Ok(())
}

/// The machine and the versions, in one sentence.
async fn machine(admin: &SecretString) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or_else(
            || "unknown".to_owned(),
            |kib| format!("{} GiB", kib.div_ceil(1 << 20)),
        );
    let kernel = read("/proc/sys/kernel/osrelease");
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let postgres = ground::postgres_version(admin)
        .await
        .unwrap_or_else(|_| "of unknown version".to_owned());
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    format!(
        "Medians of {ROUNDS} rounds, each pair in turn; clients, servers, Kafka and Postgres together on {cores} cores \
         and {memory} of memory, {} {}, kernel {}; runledger {} ({build} build), librdkafka {librdkafka}, Postgres {postgres}; \
         one Kafka node, records of about 1 KB.",
        std::env::consts::OS,
        std::env::consts::ARCH,
        kernel.trim().split('-').next().unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate, at least zero"
)]
pub(super) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn a_ratio_is_held_to_its_goal() {
        let reached = |ours, least| pair("", ours, "", 100.0, least).reached;
        assert_eq!(reached(45.0, Some(0.45)), Some(true));
        assert_eq!(reached(44.0, Some(0.45)), Some(false));
        assert_eq!(reached(44.0, None), None);
    }
}
