//! The figures of the README. Each row is one work: Runledger, what a user would take instead, and what no system
//! could exceed, measured in turn in one run on one machine. Rows are printed as lines of JSON.

use std::time::Duration;

use runledger_domain::time::{Clock as _, SystemClock};

use super::ground::Ground;
use crate::{cli, say};

mod appending;
mod backlog;
mod capacity;
mod cpu;
mod freshness;
mod governed;
mod ledger;
mod machine;
mod peers;
mod policies;
mod readers;
mod reading;
mod rebuilding;
mod replaying;
mod row;

use machine::Machine;
use peers::Peers;
use row::Row;

/// How often each side is measured.
const ROUNDS: usize = 3;
/// How long each time, and how long before it counts.
const HALF: Duration = Duration::from_secs(5);
const WARM: Duration = Duration::from_secs(2);

/// Where rows go, and whom they are compared with.
struct Figures {
    /// When the run began.
    at: String,
    machine: Machine,
    peers: Peers,
}

impl Figures {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a row that is printed is done"
    )]
    fn push(&self, row: Row) -> anyhow::Result<()> {
        say::aside(row.said());
        say::line(row.line(&self.at, &self.machine)?)?;
        Ok(())
    }
}

/// The command.
pub(super) async fn run(args: &cli::Load) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        say::aside("This is a debug build; figures worth keeping come from `make bench`.");
    }
    let admin = &args.admin_postgres;
    let figures = Figures {
        at: SystemClock.now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        machine: Machine::look(admin).await?,
        peers: Peers::new(args.peers.clone()),
    };
    let part = args.figures.unwrap_or(cli::Figures::All);
    if part.includes(cli::Figures::Policy) {
        policies::measure(&figures).await?;
    }
    if part.includes(cli::Figures::Load) {
        let ground = Ground::prepare(admin).await?;
        let measured = appending::measure(&ground, &figures).await;
        Box::pin(ground.leave(measured)).await?;
        let mut ground = Ground::prepare(admin).await?;
        let measured = Box::pin(reading::measure(&mut ground, &figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Replay) {
        let ground = Ground::prepare(admin).await?;
        let measured = Box::pin(replaying::measure(&ground, &figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Rebuild) {
        let ground = Ground::prepare(admin).await?;
        let measured = rebuilding::measure(&ground, &figures).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Governed) {
        let mut ground = Ground::prepare(admin).await?;
        let measured = governed::measure(&mut ground, &figures).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Ledger) {
        let mut ground = Ground::prepare(admin).await?;
        let measured = Box::pin(ledger::measure(&mut ground, &figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    if part.includes(cli::Figures::Capacity) {
        Box::pin(capacity::measure(admin, &figures)).await?;
    }
    if part.includes(cli::Figures::Freshness) {
        let mut ground = Ground::prepare(admin).await?;
        let measured = Box::pin(freshness::measure(&mut ground, &figures)).await;
        Box::pin(ground.leave(measured)).await?;
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate, at least zero"
)]
pub(super) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
