//! `UmaDB`, its own server and its own client, under appends like those of `runledger load`.
//! Prints one line of JSON for each measurement.

mod cpu;
mod load;
mod server;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use load::{Job, Measured};
use server::Server;

const WHO: &str = "umadb 0.7.8";

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to measure; without it, one after the other
    #[arg(long, value_enum)]
    row: Option<Row>,
    /// How long to measure
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Appends a second, each at its moment, whatever the answers take; without it as fast as they are answered
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How long to append before that
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Where the server's data folder is made, and deleted again
    #[arg(long, default_value = ".")]
    data: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// What this program starts for itself
    #[command(hide = true)]
    Serve { listen: SocketAddr, folder: PathBuf },
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Row {
    /// One event an append, 64 callers
    IngestOne,
    /// A hundred events an append, 16 callers
    IngestBatch,
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Self::IngestOne => "ingest_one",
            Self::IngestBatch => "ingest_batch",
        }
    }

    fn job(self, arguments: &Arguments) -> Job {
        let (callers, batch) = match self {
            Self::IngestOne => (64, 1),
            Self::IngestBatch => (16, 100),
        };
        Job {
            callers,
            batch,
            rate: arguments.rate,
            warm_up: Duration::from_secs(arguments.warm_up),
            duration: Duration::from_secs(arguments.seconds),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Serve { listen, folder }) = &arguments.command {
        return server::serve(*listen, folder);
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            let mut hung_up = signal(SignalKind::hangup())?;
            // Dropped in the middle, a measurement kills its server and deletes its folder.
            tokio::select! {
                done = measure_all(&arguments) => done,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
                _ = terminated.recv() => anyhow::bail!("terminated"),
                _ = hung_up.recv() => anyhow::bail!("hung up"),
            }
        })
}

async fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
    let all = [Row::IngestOne, Row::IngestBatch];
    for row in arguments.row.map_or(all.to_vec(), |row| vec![row]) {
        let folder = tempfile::Builder::new()
            .prefix("umadb-")
            .tempdir_in(&arguments.data)
            .with_context(|| format!("a folder in {}", arguments.data.display()))?;
        let server = Server::start(folder.path()).await?;
        let job = row.job(arguments);
        let measured = load::drive(&server, job).await?;
        server.end().await?;
        folder.close()?;
        writeln!(std::io::stdout(), "{}", line(row, job.rate, &measured)?)?;
    }
    Ok(())
}

fn line(row: Row, paced: Option<u32>, measured: &Measured) -> anyhow::Result<serde_json::Value> {
    anyhow::ensure!(measured.events > 0, "nothing was acknowledged");
    let seconds = measured.elapsed.as_secs_f64();
    let events = f64::from(u32::try_from(measured.events)?);
    let micros = |used: Duration| rounded(used.as_secs_f64() * 1e6 / events);
    let percentile = |of| Duration::from_micros(measured.latency.value_at_quantile(of));
    let millis = |of| rounded(percentile(of).as_secs_f64() * 1e3);
    Ok(serde_json::json!({
        "row": row.name(),
        "who": WHO,
        "paced": paced,
        "events": measured.events,
        "seconds": rounded(seconds),
        "rate": rounded(events / seconds),
        "cpu_us_per_event": {
            "server": micros(measured.server_cpu),
            "client": micros(measured.client_cpu),
        },
        "p50_ms": millis(0.5),
        "p99_ms": millis(0.99),
    }))
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
