//! The fault harness: real roles over a Kafka and a Postgres of their own, under load, while a
//! seeded script kills, freezes, restarts and cuts off all of them; then a checker judges what the
//! clients were told by what the read model holds. P1 and P3 of ARCHITECTURE.md.
//!
//! `make proof` tells the long version, `make test` a short one. `RUNLEDGER_FAULTS_SEED` tells one
//! again; what the processes make of the same script still differs from run to run.
#![expect(clippy::panic, reason = "a story that is not true is a panic")]

mod batch;
mod check;
mod found;
mod history;
mod load;
#[cfg(test)]
mod network;
mod probe;
mod readers;
mod reading;
mod scene;
mod script;
mod stage;
mod table;
mod tails;
mod writers;

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use runledger_tests::{is_proof, seed_from};

use crate::check::{Checker, Verdict};
use crate::history::History;
use crate::load::{Load, Size};
use crate::probe::Probe;
use crate::script::{Step, script};
use crate::stage::Stage;
use crate::table::Table;

/// How long the house may take to recover from a fault.
const RECOVERY: Duration = Duration::from_secs(120);
/// How long the load may go on behind the script to reach its size.
const EXTRA: Duration = Duration::from_secs(240);
/// Where the outcome is left for whoever ran this.
const OUTCOME: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/faults.txt");

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_outlives_every_fault() {
    let seed = seed_from("RUNLEDGER_FAULTS_SEED");
    say(format_args!("faults: RUNLEDGER_FAULTS_SEED={seed}"));
    let size = if is_proof() { Size::LONG } else { Size::SHORT };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut stage = Stage::set(seed).await;
    let (load, mut probe) = Load::start(&stage, size, &mut rng).await;
    let mut table = Table::default();
    let began = Instant::now();
    settled(&mut probe, began).await;
    for step in script(seed, is_proof()) {
        tell(&mut stage, &mut probe, step, &mut table, began).await;
    }
    load.reach(size.acknowledged_min, EXTRA).await;
    let mut history = load.end(probe).await;
    let spent = began.elapsed();
    at(began, "the load has ended");
    stage.settle().await;
    at(began, "the read model holds all of the log");
    stage.installation.assert_unharmed();
    history.surprises.extend(rebuilt(&stage, began).await);
    history.surprises.extend(stage.complaints());
    let verdict = judge(&stage, &history).await;
    at(began, "the history is judged");
    conclude(&table, &stage, &history, &verdict, spent);
    assert!(
        verdict.is_kept(),
        "RUNLEDGER_FAULTS_SEED={seed}: {}",
        verdict
            .broken
            .first()
            .map_or("a promise was broken", String::as_str)
    );
}

/// One step of the script, and how long it took to recover from it.
async fn tell(stage: &mut Stage, probe: &mut Probe, step: Step, table: &mut Table, began: Instant) {
    tokio::time::sleep(step.pause).await;
    let Step { fault, target, .. } = step;
    at(began, format_args!("{fault} ({target})"));
    stage.befall(&step).await;
    let recovery = if step.recovers {
        Some(settled(probe, began).await)
    } else {
        None
    };
    table.note(fault, recovery);
}

/// Waits until a fresh write is visible.
async fn settled(probe: &mut Probe, began: Instant) -> Duration {
    let recovery = probe.recovery(RECOVERY).await;
    let took = recovery.unwrap_or_else(|| {
        panic!("a fresh write was not visible within {RECOVERY:?}");
    });
    let acknowledged = probe.shared.acknowledged();
    at(
        began,
        format_args!("a fresh write is visible after {took:.1?}; {acknowledged} acknowledged"),
    );
    took
}

/// Verifies the read model and builds it anew, as people do; what they would have been told if it
/// were not what the log says. What the rebuild has made is served afterwards.
async fn rebuilt(stage: &Stage, began: Instant) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, command) in [["verify", "runs"], ["rebuild", "runs"]].iter().enumerate() {
        let number = u32::try_from(number).expect("a small number");
        let (succeeded, said) = stage.installation.command(number, command).await;
        at(began, said.trim_end());
        if !succeeded {
            complaints.push(format!("{command:?}: {said}"));
        }
    }
    complaints
}

/// Compares what the clients were told with what is served.
async fn judge(stage: &Stage, history: &History) -> Verdict {
    let mut checker = Checker::new(history);
    let database = stage.installation.database.admin();
    found::read(&database, &mut checker)
        .await
        .expect("the read model");
    checker.verdict()
}

/// Shows what happened and leaves it in a file; its last line is the outcome.
fn conclude(table: &Table, stage: &Stage, history: &History, verdict: &Verdict, spent: Duration) {
    let reads = &history.reads;
    let items: usize = history.tails.iter().map(|tail| tail.items.len()).sum();
    let mut text = table.print();
    text += &format!(
        "{:.0} s under load; {} records unknown to their clients, of which {} are there; a projector was refused \
         {} times where another had gone on\n",
        spent.as_secs_f64(),
        verdict.unknown,
        verdict.unknown_present,
        stage.refusals(),
    );
    text += &format!(
        "{} reads with tokens, {} given up; {} tails of {items} items\n",
        reads.answered,
        reads.unanswered,
        history.tails.len(),
    );
    for broken in &verdict.broken {
        text += &format!("BROKEN: {broken}\n");
    }
    if verdict.otherwise > 0 {
        text += &format!("{} promises broken in another way\n", verdict.otherwise);
    }
    text += &format!(
        "acknowledged {}, lost {}, doubled {}, stale {}",
        verdict.acknowledged, verdict.lost, verdict.doubled, verdict.stale
    );
    say(&text);
    std::fs::write(Path::new(OUTCOME), text + "\n").expect("a file for the outcome");
}

fn at(began: Instant, what: impl Display) {
    say(format_args!(
        "{:7.1} s  {what}",
        began.elapsed().as_secs_f64()
    ));
}

/// Past the test harness, which shows what a test printed only when it failed.
fn say(what: impl Display) {
    writeln!(std::io::stderr(), "{what}").ok();
}
