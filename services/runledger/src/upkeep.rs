//! `runledger verify` and `runledger rebuild`.

use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use runledger_analytics::{RetireError, Retirement};
use runledger_approvals::{ReadModel, Rules};
use runledger_decider::Books;
use runledger_projection::Projection;
use runledger_runs::Runs;
use runledger_runs::rebuild::{
    DifferenceKind, Parked, ParkedStream, Progress, Report, Step, Upkeep, Verdict,
};
use runledger_service::telemetry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::say::{self, count};
use crate::{cli, roles};

/// The read model is not what the log says.
#[derive(Debug, thiserror::Error)]
#[error("the read model is not what the log says")]
pub(crate) struct Differs;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);
/// How often a line says so where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// `runledger verify`.
pub(crate) async fn verify(args: &cli::Verify) -> anyhow::Result<()> {
    match args.model {
        cli::Model::Runs => match open_runs(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => verify_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Approvals => match open_approvals(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => verify_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Audit => match open_audit(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => verify_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Billing => match open_billing(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => verify_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Usage => match open_usage(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => verify_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Analytics => match open_analytics(&args.role, args.workers).await? {
            Some((upkeep, _telemetry)) => verify_with(&upkeep, args).await,
            None => Ok(()),
        },
    }
}

async fn verify_with<P: Projection>(upkeep: &Upkeep<P>, args: &cli::Verify) -> anyhow::Result<()> {
    let verdict = shown(upkeep, upkeep.verify()).await?;
    let whole = verdict.discontinuity.is_none() && verdict.difference.is_none();
    if args.json {
        say::line(as_json(&verdict))?;
    } else {
        print(&verdict)?;
    }
    if whole { Ok(()) } else { Err(Differs.into()) }
}

/// `runledger rebuild`.
pub(crate) async fn rebuild(args: &cli::Rebuild) -> anyhow::Result<()> {
    match args.model {
        cli::Model::Runs => match open_runs(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => rebuild_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Approvals => match open_approvals(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => rebuild_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Audit => match open_audit(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => rebuild_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Billing => match open_billing(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => rebuild_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Usage => match open_usage(&args.role, args.workers)? {
            Some((upkeep, _telemetry)) => rebuild_with(&upkeep, args).await,
            None => Ok(()),
        },
        cli::Model::Analytics => match open_analytics(&args.role, args.workers).await? {
            Some((upkeep, _telemetry)) => rebuild_with(&upkeep, args).await,
            None => Ok(()),
        },
    }
}

async fn rebuild_with<P: Projection>(
    upkeep: &Upkeep<P>,
    args: &cli::Rebuild,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let model = args.model;
    if args.finish {
        let dropped = shown(upkeep, upkeep.finish()).await?;
        say::line(format_args!(
            "Dropped {dropped} generations that were not served."
        ))?;
        return Ok(());
    }
    let report = if args.rollback {
        shown(upkeep, upkeep.rollback()).await?
    } else {
        shown(upkeep, upkeep.rebuild(args.fresh)).await?
    };
    say::line(format_args!(
        "Generation {} is served now: {} records applied in {:.1} s, {}.",
        report.generation,
        count(report.records),
        begun.elapsed().as_secs_f64(),
        rows(&report)
    ))?;
    if args.rollback {
        say::line(format_args!(
            "What was served before is kept. `runledger rebuild {model}` switches to it again, with --fresh builds anew, --finish drops it."
        ))?;
    } else {
        say::line(format_args!(
            "What was served before is kept. `runledger rebuild {model} --rollback` goes back to it, --finish drops it."
        ))?;
    }
    Ok(())
}

type Opened<P> = anyhow::Result<Option<(Upkeep<P>, telemetry::Guard)>>;

fn open_runs(role: &cli::Role, workers: u16) -> Opened<Runs> {
    let Some(config) =
        roles::load::<runledger_runs::UpkeepConfig>(role, runledger_runs::UPKEEP_DEFAULTS)?
    else {
        return Ok(None);
    };
    let guard = telemetry::init(&config.telemetry, "upkeep")?;
    let (workers, shutdown) = (usize::from(workers), CancellationToken::new());
    let upkeep = runledger_runs::upkeep(&config, roles::clock(), workers, shutdown)?;
    Ok(Some((upkeep, guard)))
}

fn open_approvals(role: &cli::Role, workers: u16) -> Opened<Books<Rules, ReadModel>> {
    let Some(config) = roles::load::<runledger_approvals::UpkeepConfig>(
        role,
        runledger_approvals::UPKEEP_DEFAULTS,
    )?
    else {
        return Ok(None);
    };
    let guard = telemetry::init(&config.telemetry, "upkeep")?;
    let (workers, shutdown) = (usize::from(workers), CancellationToken::new());
    let upkeep = runledger_approvals::upkeep(&config, roles::clock(), workers, shutdown)?;
    Ok(Some((upkeep, guard)))
}

fn open_audit(role: &cli::Role, workers: u16) -> Opened<runledger_audit::Audit> {
    let Some(config) =
        roles::load::<runledger_audit::UpkeepConfig>(role, runledger_audit::UPKEEP_DEFAULTS)?
    else {
        return Ok(None);
    };
    let guard = telemetry::init(&config.telemetry, "upkeep")?;
    let (workers, shutdown) = (usize::from(workers), CancellationToken::new());
    let upkeep = runledger_audit::upkeep(&config, roles::clock(), workers, shutdown)?;
    Ok(Some((upkeep, guard)))
}

async fn open_analytics(role: &cli::Role, workers: u16) -> Opened<runledger_analytics::Analytics> {
    let Some(config) = roles::load::<runledger_analytics::UpkeepConfig>(
        role,
        runledger_analytics::UPKEEP_DEFAULTS,
    )?
    else {
        return Ok(None);
    };
    let guard = telemetry::init(&config.telemetry, "upkeep")?;
    let (workers, shutdown) = (usize::from(workers), CancellationToken::new());
    // What a retirement that was cut short has left is in no new generation.
    match Retirement::new(&config)?.sweep().await {
        // The one who is busy says so again, in words that fit what was asked for.
        Ok(_) | Err(RetireError::Busy) => {}
        Err(error) => return Err(error.into()),
    }
    let upkeep = runledger_analytics::upkeep(&config, roles::clock(), workers, shutdown)?;
    Ok(Some((upkeep, guard)))
}

fn open_billing(
    role: &cli::Role,
    workers: u16,
) -> Opened<Books<runledger_billing::Rules, runledger_billing::ReadModel>> {
    let Some(config) =
        roles::load::<runledger_billing::UpkeepConfig>(role, runledger_billing::UPKEEP_DEFAULTS)?
    else {
        return Ok(None);
    };
    let guard = telemetry::init(&config.telemetry, "upkeep")?;
    let (workers, shutdown) = (usize::from(workers), CancellationToken::new());
    let upkeep = runledger_billing::upkeep(&config, roles::clock(), workers, shutdown)?;
    Ok(Some((upkeep, guard)))
}

fn open_usage(role: &cli::Role, workers: u16) -> Opened<runledger_billing::Forwarder> {
    let Some(config) = roles::load::<runledger_billing::ForwarderUpkeepConfig>(
        role,
        runledger_billing::FORWARDER_UPKEEP_DEFAULTS,
    )?
    else {
        return Ok(None);
    };
    let guard = telemetry::init(&config.telemetry, "upkeep")?;
    let (workers, shutdown) = (usize::from(workers), CancellationToken::new());
    let upkeep = runledger_billing::forwarder_upkeep(&config, roles::clock(), workers, shutdown)?;
    Ok(Some((upkeep, guard)))
}

/// Waits for the work, and shows how far it is.
async fn shown<P: Projection, T, E>(
    upkeep: &Upkeep<P>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut display = Display::new(upkeep.progress.subscribe());
    let mut tick = interval(TICK);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                display.end();
                if done.is_ok() {
                    display.sum_up();
                }
                return done;
            }
            _ = tick.tick() => display.show(),
        }
    }
}

/// A bar on a terminal, now and then a line elsewhere; in the end, how long each step took.
struct Display {
    progress: watch::Receiver<Progress>,
    bar: Option<ProgressBar>,
    step: Option<Step>,
    /// When the step began.
    since: Instant,
    /// How long the steps before took, in the order in which they were first taken.
    took: Vec<(&'static str, Duration)>,
    /// Records applied when the step began.
    base: u64,
    said: Instant,
}

impl Display {
    fn new(progress: watch::Receiver<Progress>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            // A template that is wrong costs the beauty of the bar, nothing else.
            if let Ok(style) = ProgressStyle::with_template(
                "{msg:20} {bar:32} {human_pos} of {human_len} records  {per_sec}  {eta} left",
            ) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            progress,
            bar,
            step: None,
            since: Instant::now(),
            took: Vec::new(),
            base: 0,
            said: Instant::now(),
        }
    }

    fn show(&mut self) {
        let progress = self.progress.borrow_and_update().clone();
        let applied = progress.applied.load(Ordering::Relaxed);
        if self.step != Some(progress.step) {
            self.leave_step();
            self.step = Some(progress.step);
            self.base = applied;
            if let Some(bar) = &self.bar {
                bar.reset();
                bar.set_message(say_step(progress.step));
            }
        }
        let done = applied.saturating_sub(self.base);
        match &self.bar {
            Some(bar) => {
                bar.set_length(progress.missing.max(done));
                bar.set_position(done);
            }
            None if self.said.elapsed() >= SAY_EVERY => {
                self.said = Instant::now();
                let step = say_step(progress.step);
                if progress.missing > 0 {
                    let (done, all) = (count(done), count(progress.missing));
                    say::aside(format_args!("{step}: {done} of {all} records"));
                } else {
                    say::aside(step);
                }
            }
            None => {}
        }
    }

    fn leave_step(&mut self) {
        let Some(step) = self.step else {
            return;
        };
        let (name, spent) = (name(step), self.since.elapsed());
        self.since = Instant::now();
        match self.took.iter_mut().find(|(taken, _)| *taken == name) {
            Some((_, took)) => *took += spent,
            None => self.took.push((name, spent)),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn sum_up(&mut self) {
        self.leave_step();
        let took = |(name, took): &(&str, Duration)| format!("{name} {:.1} s", took.as_secs_f64());
        let steps: Vec<String> = self.took.iter().map(took).collect();
        if !steps.is_empty() {
            say::aside(steps.join(", "));
        }
    }
}

const fn name(step: Step) -> &'static str {
    match step {
        Step::ReadingLog => "reading the log",
        Step::Building => "building",
        Step::Indexing => "making indexes",
        Step::Comparing(_) => "comparing",
        Step::Switching => "switching",
    }
}

fn say_step(step: Step) -> String {
    match step {
        Step::Comparing(table) => format!("{} {table}", name(step)),
        _ => name(step).to_owned(),
    }
}

fn rows(report: &Report) -> String {
    let sum = report.rows.iter().map(|(_, rows)| rows).sum();
    format!("{} rows compared", count(sum))
}

fn print(verdict: &Verdict) -> anyhow::Result<()> {
    print_parked(&verdict.parked)?;
    if let Some(discontinuity) = &verdict.discontinuity {
        return Ok(say::line(format_args!("DIFFERS: {discontinuity}"))?);
    }
    if let Some(difference) = &verdict.difference {
        say::line(format_args!("DIFFERS: {difference}"))?;
        for (whose, row) in [
            ("served", &difference.served),
            ("by the log", &difference.rebuilt),
        ] {
            if let Some(row) = row {
                say::line(format_args!("  {whose}: {row}"))?;
            }
        }
        return Ok(());
    }
    let all = if verdict.parked == Parked::default() {
        "All"
    } else {
        "All else"
    };
    say::line(format_args!(
        "{all} is as the log says: {} records, {} checkpoints, {}.",
        count(verdict.report.records),
        count(verdict.checkpoints),
        rows(&verdict.report)
    ))?;
    Ok(())
}

/// What is parked is not in the read model, and nothing that was compared.
fn print_parked(parked: &Parked) -> anyhow::Result<()> {
    if *parked == Parked::default() {
        return Ok(());
    }
    say::line(format_args!(
        "PARKED: {} records of {} streams could not be applied; they are in the log, and not in the read model.",
        count(parked.records),
        count(parked.streams)
    ))?;
    for one in &parked.first {
        let ParkedStream {
            stream,
            family,
            partition,
            log_offset,
            records,
            reason,
        } = one;
        say::line(format_args!(
            "  {stream}: {records} records from offset {log_offset} of {family}/{partition} on: {reason}"
        ))?;
    }
    say::line(
        "  `runledger dead-letters redrive --all --dry-run` tells whether they can be applied by now.",
    )?;
    Ok(())
}

fn as_json(verdict: &Verdict) -> Value {
    let parsed = |row: &Option<String>| -> Value {
        row.as_deref()
            .and_then(|row| serde_json::from_str(row).ok())
            .unwrap_or_default()
    };
    json!({
        "whole": verdict.discontinuity.is_none() && verdict.difference.is_none(),
        "records": verdict.report.records,
        "checkpoints": verdict.checkpoints,
        "rows": verdict.report.rows.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        "parked": {
            "streams": verdict.parked.streams,
            "records": verdict.parked.records,
            "first": verdict.parked.first.iter().map(|one| json!({
                "stream": one.stream,
                "family": one.family,
                "partition": one.partition,
                "offset": one.log_offset,
                "records": one.records,
                "reason": one.reason,
            })).collect::<Vec<_>>(),
        },
        "discontinuity": verdict.discontinuity.as_ref().map(|found| json!({
            "family": found.partition.family.as_str(),
            "partition": found.partition.number,
            "next_offset": found.next_offset,
            "what": found.what,
        })),
        "difference": verdict.difference.as_ref().map(|found| json!({
            "table": found.table,
            "key": found.key,
            "kind": match found.kind {
                DifferenceKind::Missing => "missing",
                DifferenceKind::Unaccounted => "unaccounted",
                DifferenceKind::Altered => "altered",
            },
            "served": parsed(&found.served),
            "rebuilt": parsed(&found.rebuilt),
        })),
    })
}
