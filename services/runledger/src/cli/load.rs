//! The arguments of `load`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use secrecy::SecretString;

use super::Server;
use super::people::duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Records a second, open loop
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// Callers that append as fast as they are answered
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "rate", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) callers: u16,
    /// How long, at most an hour
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = load_duration)]
    pub(crate) duration: Duration,
    /// Records of one request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) batch: u16,
    /// Stop after so many records
    #[arg(long, value_name = "N", default_value_t = 100_000_000)]
    pub(crate) records_max: u64,
    /// Read back after every Nth request, with its token, and see that it is there; 0: never
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) check_every: u64,
    /// Ask for governed calls, one a request, and wait for each decision, instead of appending
    #[arg(long, conflicts_with_all = ["batch", "check_every"])]
    pub(crate) governed: bool,
    /// Runs like those recorded in this file, instead of one and the same fact: some tenants and agents have
    /// most of them, they come in bursts, and a few are very long. All of it follows from --seed
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["rate", "callers", "batch", "records_max", "check_every", "governed"]
    )]
    pub(crate) shaped: Option<PathBuf>,
    /// Of a shaped load: how many runs, over --duration
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "shaped", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) runs: u64,
    /// Of a shaped load: what it all follows from; the same seed tells the same runs again
    #[arg(long, value_name = "N", default_value_t = 1, requires = "shaped")]
    pub(crate) seed: u64,
    /// Of a shaped load: how many agents there are
    #[arg(long, value_name = "N", default_value_t = 50, requires = "shaped", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) agents: u32,
    /// Of a shaped load: a file of agents' keys, one a line, each of a tenant; the first has the most runs
    #[arg(long, value_name = "FILE", requires = "shaped")]
    pub(crate) keys: Option<PathBuf>,
    /// The figures of the README: starts every role in a process of its own on fresh topics and a
    /// fresh database of the dev stack, measures each side in turn, prints a line of JSON a row
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        conflicts_with_all = ["rate", "duration", "batch", "records_max", "check_every", "governed", "shaped"]
    )]
    pub(crate) figures: Option<Figures>,
    /// What --figures compares with: a program that measures what a user would take instead, and prints a line of JSON
    #[arg(long, requires = "figures", value_name = "PROGRAM")]
    pub(crate) peers: Option<PathBuf>,
    /// What --figures compares with: a server whose appends do nothing
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub(crate) serve_nothing: Option<SocketAddr>,
    /// Superuser of the Postgres that --figures makes its database in
    #[arg(
        long,
        env = "RUNLEDGER_ADMIN_POSTGRES",
        hide_env_values = true,
        value_name = "URL",
        default_value = "postgres://runledger_admin:runledger-dev@127.0.0.1:15432",
        action = ArgAction::Set
    )]
    pub(crate) admin_postgres: SecretString,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Which figures are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Figures {
    All,
    /// Appending, projecting, reading
    Load,
    /// Building the read model anew
    Rebuild,
    /// Asking for governed calls
    Governed,
    /// Commands about credits, and charges
    Ledger,
    /// How soon what was acknowledged is counted, charged, and in the queue
    Freshness,
    /// Telling recorded facts again
    Replay,
    /// Judging calls by policies; only with --peers
    Policy,
    /// What an event costs each role at three sizes; not one of `all`
    Capacity,
}

impl Figures {
    pub(crate) fn includes(self, part: Self) -> bool {
        self == part || self == Self::All && part != Self::Capacity
    }
}

fn load_duration(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(3_600);
    let duration = duration(text)?;
    if duration.is_zero() || duration > longest {
        return Err("must be more than nothing and at most 1h".to_owned());
    }
    Ok(duration)
}
