//! `runledger load`: appends to a local installation, measures it, and sees that what was acknowledged is there.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use tonic::transport::Uri;

use crate::cli;
use crate::remote::Remote;
use crate::say::{self, Columns, Tone, cell, count, toned};

mod asking;
mod bare;
mod copy;
mod driver;
mod figures;
mod ground;
mod nothing;
mod pacing;
mod process;
mod shaped;

use driver::Measured;
use pacing::{Job, Pace};

/// The command.
pub(crate) async fn run(args: &cli::Load) -> anyhow::Result<()> {
    if let Some(address) = args.serve_nothing {
        return nothing::serve(address).await;
    }
    if args.figures.is_some() {
        return Box::pin(figures::run(args)).await;
    }
    let remote = Remote::resolve(&args.server)?;
    for url in [
        &remote.endpoints.ingest,
        &remote.endpoints.runs,
        &remote.endpoints.approvals,
    ] {
        refuse_remote(url)?;
    }
    if let Some(file) = &args.shaped {
        return Box::pin(shaped::run(&remote, file, args)).await;
    }
    let job = Job {
        pace: args.rate.map_or(Pace::Callers(args.callers), Pace::Rate),
        duration: args.duration,
        batch: args.batch,
        records_max: args.records_max,
        check_every: args.check_every,
    };
    let measured = if args.governed {
        asking::ask(&remote, &job).await?
    } else {
        driver::drive(&remote, &job).await?
    };
    report(&job, &measured)?;
    if measured.stale > 0 {
        bail!(
            "{} reads with a token were older than the token: that must never be",
            measured.stale
        );
    }
    if measured.accepted == 0 {
        bail!("nothing was accepted");
    }
    Ok(())
}

/// Load is for the machine it runs on: pointed elsewhere by mistake it would be an attack.
fn refuse_remote(url: &str) -> anyhow::Result<()> {
    let uri: Uri = url
        .parse()
        .with_context(|| format!("{url} is not an address"))?;
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let is_local = host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if is_local {
        Ok(())
    } else {
        bail!("{url} is not this machine; load is for 127.0.0.1, ::1 and localhost")
    }
}

fn report(job: &Job, measured: &Measured) -> anyhow::Result<()> {
    let seconds = measured.elapsed.as_secs_f64();
    let mut table = Columns::new(&["records", ">count", ">a second"]);
    for (name, number, tone) in [
        ("accepted", measured.accepted, Tone::Good),
        ("unknown", measured.unknown, Tone::Busy),
        ("refused", measured.refused, Tone::Bad),
    ] {
        let tone = if number == 0 { Tone::Plain } else { tone };
        table.row([
            cell(name),
            toned(count(number), tone),
            cell(count(per_second(number, measured.elapsed))),
        ]);
    }
    table.print()?;
    for (reason, number) in &measured.reasons {
        say::line(format_args!("{} requests failed: {reason}", count(*number)))?;
    }
    let mut table = Columns::new(&[
        "latency in ms",
        ">p50",
        ">p90",
        ">p99",
        ">p99.9",
        ">max",
        ">samples",
    ]);
    let from = match job.pace {
        Pace::Rate(_) => "answered, from its moment",
        Pace::Callers(_) => "answered",
    };
    for (name, histogram) in [
        (from, &measured.latency),
        ("acknowledged to visible", &measured.visible),
    ] {
        if !histogram.is_empty() {
            let at = |quantile| cell(millis(histogram.value_at_quantile(quantile)));
            let samples = cell(count(histogram.len()));
            table.row([
                cell(name),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                cell(millis(histogram.max())),
                samples,
            ]);
        }
    }
    table.print()?;
    if measured.checks > 0 {
        say::line(format_args!(
            "{} reads with a token: {} showed too little, {} were told that the read model is behind.",
            count(measured.checks),
            count(measured.stale),
            count(measured.behind)
        ))?;
    }
    say::line(format_args!(
        "{seconds:.1} s, {} requests of {} records.",
        count(measured.requests),
        job.batch
    ))?;
    Ok(())
}

/// Microseconds as milliseconds with two digits.
fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate for people, of counts far below 2^52"
)]
fn per_second(number: u64, elapsed: Duration) -> u64 {
    (number as f64 / elapsed.as_secs_f64().max(0.001)).round() as u64
}

/// Microseconds up to a minute, to three digits.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")
}

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(number: u64, elapsed: Duration) -> f64 {
    number as f64 / elapsed.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded() {
        for url in [
            "http://127.0.0.1:7101",
            "http://127.9.9.9",
            "http://localhost:1",
            "https://[::1]:7101",
        ] {
            assert!(refuse_remote(url).is_ok(), "{url}");
        }
        let elsewhere = [
            "http://10.0.0.1:7101",
            "https://ledger.example",
            "http://127.0.0.1.example",
            "http://[::2]",
            "nonsense",
            "",
        ];
        for url in elsewhere {
            assert!(refuse_remote(url).is_err(), "{url}");
        }
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(millis(1_234_567), "1234.56");
        assert_eq!(millis(90), "0.09");
        assert_eq!(per_second(500, Duration::from_millis(250)), 2_000);
    }
}
